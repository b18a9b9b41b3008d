"""The pages are the code's: each table has every row, each word is of what exists, every link leads somewhere."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType

import pytest

import streamgen
from bridge.cli import main as cli
from bridge.doors.access import Access
from bridge.doors.http import oscquery, site
from bridge.doors.native import answers, door, frames, requests
from bridge.doors.osc import codec, namespace
from bridge.doors.radio import door as radio
from bridge.doors.radio import encoders
from bridge.errors import WireError
from bridge.session.commands import Action
from bridge.session.events import PlayerState
from bridge.session.parameters import session_table
from bridge.settings import reference
from streamgen.config import CONTROLS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NATIVE = "\n".join(path.read_text() for path in (ROOT / "bridge/doors/native").glob("*.py"))


@pytest.fixture(scope="module")
def pages() -> Iterator[ModuleType]:
    """What makes the tables; it lies beside the pages, as mkdocs' hooks do."""
    sys.path.insert(0, str(DOCS))
    import pages

    yield pages
    sys.path.remove(str(DOCS))


def strings(code: CodeType) -> set[str]:
    """Every text that stands in a function."""
    found = {constant for constant in code.co_consts if isinstance(constant, str)}
    return found | {text for constant in code.co_consts if isinstance(constant, tuple) for text in constant}


def test_nobody_is_sent_to_another_projects_package() -> None:
    """On PyPI `streamgen` is another project's, which its extras would bring from outside this environment."""
    rooms = [path for room in ("bridge", "streamgen", "docs", "examples") for path in (ROOT / room).rglob("*.*")]
    files = [path for path in (*rooms, *ROOT.glob("*.md")) if path.suffix in (".py", ".md", ".js", ".html")]
    assert [
        path for path in files if re.search(r"pip install [^\n]*streamgen\[", path.read_text(encoding="utf-8"))
    ] == []


def test_every_table_is_on_a_page_and_every_page_s_table_is_there(pages: ModuleType) -> None:
    wanted = [
        name for path in DOCS.rglob("*.md") for name in re.findall(r"<!-- generated: (\S+) -->", path.read_text())
    ]
    assert sorted(wanted) == sorted(pages.TABLES)


def test_parameters_settings_and_controls_have_every_row(pages: ModuleType) -> None:
    told = pages.parameters()
    assert [name for name in session_table() if f"\n| `{name}` |" not in told] == []
    assert "| `guidance_scale` | float | 0 … 20 | `3` | `1` |" in told, "pocket's own default stands beside"
    assert [row.key for row in reference() if f"| `{row.key}` |" not in pages.settings()] == []
    assert [name for name in CONTROLS if f"\n| `{name}` |" not in pages.controls()] == []


def test_every_command_has_its_help(pages: ModuleType) -> None:
    told = pages.commands()
    assert [name for name in cli._COMMANDS if f"usage: streamgen {name} [-h]" not in told] == []
    assert "--change-context-seconds X" in told


def test_every_message_action_state_and_codec_of_the_websocket_is_told(pages: ModuleType) -> None:
    with pytest.raises(WireError) as told:
        requests.parse('{"type": "?"}', {}, 48_000, 1, "test")
    assert set(pages.REQUESTS) == set(str(told.value).partition("there are: ")[2].split(", "))
    assert set(pages.EVENTS) == set(answers._KINDS.values())
    assert set(pages.ACTIONS) == set(Action)
    assert set(pages.STATES) == set(PlayerState)
    assert set(pages.CODECS) == set(frames.CODECS)
    assert [name for name in frames.FORMAT_FIELDS if f"`{name}`" not in pages.requests()] == []
    assert [word for word in ("hello", "ack", "error") if f"| `{word}` |" not in pages.answers()] == []
    assert "| 28 | u32 | `frame_count` |" in pages.header()
    assert set(pages.FIELDS) == set(re.findall(r"^\| `(\w+)` \|", pages.answer_fields(), re.MULTILINE))


def test_every_code_that_a_client_can_meet_is_told(pages: ModuleType) -> None:
    assert set(pages.ERROR_CODES) == set(re.findall(r'WireError\(\s*"(\w+)"', NATIVE)) - {
        "unreachable"
    }  # a client's own
    closed = set(re.findall(r"\b(?:close|fail)\(\s*(?:code=)?(\d{4})", NATIVE)) | {"1009", "1013"}
    assert closed | {str(refusal_code())} == {str(code) for code in pages.CLOSE_CODES}


def refusal_code() -> int:
    refusal = Access(token="right").refuses_token("wrong")
    assert refusal is not None
    return refusal.close_code


def test_every_address_of_osc_is_told_and_none_that_is_not_there(pages: ModuleType) -> None:
    told = pages.osc_parameters()
    assert [name for name in session_table() if f"\n| `{namespace.PREFIX}{name}` |" not in told] == []
    words = strings(namespace._service.__code__) - {"stats/"}
    asked = {word for word in words if re.fullmatch(r"[a-z]+(/[a-z]+)?", word)}
    states = {address.removeprefix(namespace.PREFIX) for address in (*namespace.STATES, namespace.HEARD)}
    rack = {f"rack/{action}" for action in namespace._RACK_FORMS}
    rack |= {path.removeprefix(namespace.PREFIX) for path in (namespace.RACK, namespace.EFFECTS, namespace.PRESETS)}
    assert set(pages.OSC_ASKED) == asked | states | rack | set(Action) | set(namespace._LIGHTS) | {"prompt"}
    assert set(pages.OSC_TOLD) == {*namespace._SENT_ONLY, "stats/…"}
    book = namespace.Namespace(session_table())
    for word in pages.OSC_ASKED:
        kinds = namespace._RACK_FORMS.get(word.removeprefix("rack/"), ((),))[0]
        kinds = (int,) if word in namespace._LIGHTS else kinds
        named = ("x",) if word in ("token", "preset/save", "preset/recall") else ()
        book.interpret(codec.Message(namespace.PREFIX + word, named or tuple(kind(1) for kind in kinds)))


def test_every_path_of_http_is_told(pages: ModuleType) -> None:
    found = strings(site.Site._get.__code__) | strings(door.NativeDoor._leads_anywhere.__code__)
    paths = {text for text in found if text.startswith("/")}
    paths |= {f"{radio.PATH}{suffix}" for suffix in (*encoders.CODECS, *radio.PLAYLISTS)}
    told = pages.http()
    assert [path for path in {*paths, "/", answers.PATH, oscquery.ROOT, "/app.js"} if f"`{path}`" not in told] == []


def test_every_metric_is_told_in_words(pages: ModuleType) -> None:
    shown = set(re.findall(r"^# TYPE (\w+)", pages._counted().text(), re.MULTILINE))
    told = set(re.findall(r"^\| `(\w+)` \|", pages.metrics(), re.MULTILINE))
    assert shown == told
    assert [name for name in pages.COUNTED if f"streamgen_{name}" not in told] == []
    assert "as the door" not in pages.metrics()


def test_python_has_every_public_name_and_method(pages: ModuleType) -> None:
    told = pages.python()
    assert [
        name for name in streamgen.__all__ if not re.search(rf"^## {name}$|^\| `{name}` \|", told, re.MULTILINE)
    ] == []
    for thing in (streamgen.Model, streamgen.Stream):
        members = {name for name, member in vars(thing).items() if inspect.isfunction(member) and name[0] != "_"}
        assert [name for name in members - set(pages.STEPWISE) if f"### {thing.__name__}.{name}\n" not in told] == []


def test_paths_on_the_map_exist() -> None:
    architecture = (DOCS / "topics" / "architecture.md").read_text()
    named = [
        path
        for path in re.findall(r"`([\w./-]+)`", architecture)
        if path.split("/")[0] in ("streamgen", "bridge", "tests", "docs", ".ci")
    ]
    assert len(named) > 80
    assert [path for path in named if not (ROOT / path).exists()] == []


DOORS = {"page", "WebSocket", "HTTP", "OSC", "sound card", "commands", "Python"}
ROOMS = {"Link", "MIDI", "multicast DNS"}  # whose faults are seldom another's


def test_every_fault_is_tried_at_its_doors_by_tests_that_exist() -> None:
    rows = re.findall(r"^\| (.+) \| (`.+) \| (.+) \| (.+) \|$", (DOCS / "topics/faults.md").read_text(), re.MULTILINE)
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) > 20
    for fault, mended, tried, elsewhere in rows:
        assert all((ROOT / path).exists() for path in re.findall(r"`(.+?)`", mended)), fault
        tests = re.findall(r"`(test_\w+)`", tried)
        assert [name for name in tests if f"def {name}(" not in sources] == [], fault
        doors = {door for door in DOORS if door in re.sub(r"`test_\w+`", "", tried)}
        assert tests, fault
        assert doors or any(room in tried for room in ROOMS), fault
        assert elsewhere.strip() or doors == DOORS, f"{fault}: nothing is said of {DOORS - doors}"


@pytest.mark.slow
def test_the_site_builds_without_a_dead_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "parameters.html").read_text()
    assert "guidance_scale" in page
    from_elsewhere = [
        link
        for path in tmp_path.rglob("*.html")
        for link in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', path.read_text())
    ]
    assert from_elsewhere == [], "a page fetches nothing from other hosts"
