"""`streamgen plugins`: scanned, listed, shown; with plugins that a fake host loads in a child."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.audio.plugins import spawn
from bridge.audio.plugins.engine import NO_EFFECT, Reference
from bridge.audio.plugins.scan import ScannedPlugin
from bridge.cli import plugins
from bridge.session.rack_keeper import scan_file

Run = Callable[..., Any]
ILL = Path(__file__).parents[1] / "audio" / "plugins"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of plugins, one of which cannot be loaded."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    host = partial(spawn.HostSettings, engine="ill_engine:IllEngine", python_path=(str(ILL),))
    monkeypatch.setattr(plugins, "HostSettings", host)
    monkeypatch.setattr(plugins, "engine_missing", lambda: "")
    where = tmp_path / "vst3"
    where.mkdir()
    (where / "well.vst3").write_text("")
    (where / "dies.vst3").write_text("on-load segfault")
    return where


def test_what_a_scan_finds_is_listed_and_shown(run: Run, folder: Path) -> None:
    answer = run("plugins", "scan", folder, "--json")
    assert answer.code == 0, answer.err
    assert {row["name"]: bool(row["reason"]) for row in answer.fields["plugins"]} == {"Ill": False, "dies": True}
    assert f"1 plugins, 1 that cannot be used; kept in {scan_file()}" in answer.err
    answer = run("plugins", "list", "--json")
    assert "signal 11" in answer.err
    assert "reverb" in answer.fields["built_in"]
    answer = run("plugins", "show", "Ill", "--json")
    assert answer.code == 0, answer.err
    rows = {row["name"]: row for row in answer.fields["parameters"]}
    assert (rows["gain"]["min"], rows["gain"]["max"]) == (0, 4)
    assert "latency: 0.0 ms" in answer.err
    assert run("plugins", "show", "reverb").code == 0
    assert "there is no effect 'nothing'" in run("plugins", "show", "nothing").error_line


def test_what_is_no_effect_is_counted_and_what_fails_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = [f"it has 0 inputs and {outputs} outputs: {NO_EFFECT}" for outputs in (1, 2)] + ["it died"]
    found = [ScannedPlugin(Reference(f"/p{i}"), "", reason=why) for i, why in enumerate(reasons)]
    monkeypatch.setattr(plugins, "load_cache", lambda _: found)
    answer = run("plugins", "list", "--json")
    assert "cannot be used: p2: it died" in answer.err
    assert "2 more are no effects for audio" in answer.err
    assert NO_EFFECT not in answer.err
    assert [row["reason"] for row in answer.fields["plugins"]] == reasons


def test_a_scan_of_another_folder_forgets_nothing_that_is_still_there(run: Run, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "well.vst3").write_text("")
    assert run("plugins", "scan", folder).code == 0
    answer = run("plugins", "scan", other, "--json")
    assert [row["name"] for row in answer.fields["plugins"]] == ["Ill (fake)"]

    def listed() -> dict[str, str]:
        rows = run("plugins", "list", "--json").fields["plugins"]
        return {row["name"]: row["path"] for row in rows if not row["reason"]}

    assert listed() == {"Ill": str(folder / "well.vst3"), "Ill (fake)": str(other / "well.vst3")}
    (folder / "well.vst3").unlink()
    assert run("plugins", "scan", other).code == 0
    assert listed() == {"Ill": str(other / "well.vst3")}


def test_what_cannot_be_is_one_line(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = run("plugins", "scan", tmp_path / "nowhere")
    assert answer.code == 2
    assert "there is no such folder" in answer.error_line
    (tmp_path / "empty").mkdir()
    answer = run("plugins", "scan", tmp_path / "empty")
    assert answer.code == 1
    assert "no VST3, LV2 or AU plugins" in answer.error_line
    monkeypatch.setattr(plugins, "engine_missing", lambda: "plugins need the extra")
    assert run("plugins", "scan", folder).code == 2
    assert run("plugins").code == 2


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn.importlib.util, "find_spec", lambda name: None)
    assert "pip install minihost" in spawn.engine_missing()
    ours = spawn.HostSettings(Path("x"), engine="mine:Engine")
    assert spawn.engine_missing(ours) == ""
