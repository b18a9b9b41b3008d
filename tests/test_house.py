"""The house keeps its own order: tests mirror the packages, exports exist, the README is true."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import tomllib
from pathlib import Path

import grimp
import pytest

from bridge.cli import main as cli

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("streamgen", "bridge")
    for path in (ROOT / package).rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
README = (ROOT / "README.md").read_text()

# Parts that another file's tests drive, with the values they make.
TESTED_ELSEWHERE = {
    "bridge/session/generator.py": "tests/bridge/session/test_player.py",
    "streamgen/checkpoint/audiocraft_settings.py": "tests/streamgen/checkpoint/test_audiocraft_format.py",
    "streamgen/checkpoint/parts.py": "tests/streamgen/checkpoint/test_transformers_format.py",
    "streamgen/checkpoint/write_audiocraft.py": "tests/streamgen/checkpoint/test_convert.py",
    "streamgen/stream/sound_stream.py": "tests/streamgen/stream/test_stream.py",
    "streamgen/testing/tiny_style.py": "tests/streamgen/checkpoint/test_audiocraft_style.py",
    "streamgen/testing/tiny_vocabulary.py": "tests/streamgen/testing/test_tiny.py",
    "streamgen/testing/tiny_weights.py": "tests/streamgen/testing/test_tiny.py",
}
LONGEST_FILE, SHORTEST_FILE = 400, 50  # lines; beyond, a file holds two ideas, or no more than part of one
SHORT = {
    "bridge/cli/convert.py": "one file a command",
    "bridge/errors.py": "the tree of errors, below every room",
    "streamgen/asynchronous.py": "the only one that knows streams and event loops",
}


def dotted(path: Path) -> str:
    """What a module is called when it is imported."""
    return ".".join(path.with_suffix("").parts)


TESTS = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_file_has_its_tests() -> None:
    imported = {name for text in TESTS.values() for name in re.findall(r"^from (\S+) import", text, re.MULTILINE)}
    for module in MODULES:
        mirror = Path(TESTED_ELSEWHERE.get(str(module), Path("tests") / module.parent / f"test_{module.name}"))
        used = dotted(module) in imported  # types and errors: by many
        assert mirror in TESTS or used, f"{module} wants {mirror}"


def test_a_file_holds_one_idea() -> None:
    """`__init__.py` are maps, as short as they may be."""
    for module in MODULES:
        lines = len((ROOT / module).read_text().splitlines())
        assert lines <= LONGEST_FILE, f"split {module} by idea"
        short = lines >= SHORTEST_FILE or str(module) in SHORT
        assert short, f"join {module} with what it is read with, or say why not"


def test_what_a_module_exports_is_there() -> None:
    modules = [importlib.import_module(dotted(path)) for path in MODULES]
    assert [
        f"{module.__name__}.{word}"
        for module in modules
        for word in getattr(module, "__all__", ())
        if not hasattr(module, word)
    ] == []


def test_every_path_the_readme_links_to_exists() -> None:
    """Anchors, and the links of all other pages, are checked where the site is built."""
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(links) > 20
    assert [path for path in links if not (ROOT / path).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150, "details belong on the pages below docs/"


def test_the_readme_has_its_two_commands_and_every_command_of_the_cli() -> None:
    assert re.findall(r"^<!-- command: (\w+) -->\n```bash$", README, re.MULTILINE) == ["music", "tests"]
    for name in cli._COMMANDS:
        assert f"| `streamgen {name}" in README


def test_the_package_ships_its_checkpoint() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "weights/**" in settings["tool"]["setuptools"]["package-data"]["streamgen.pocket"]


def test_examples_are_short() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        assert len(path.read_text().splitlines()) < 100, path


def test_an_editable_install_is_one_that_type_checkers_follow() -> None:
    files = importlib.metadata.files("streamgen") or []
    editable = [Path(str(path.locate())).read_text() for path in files if path.match("__editable__*.pth")]
    if not editable:
        pytest.skip("not installed with `pip install -e`")
    assert [text.strip() for text in editable] == [str(ROOT)], "a path, not an import hook"


def test_no_module_imports_itself_by_way_of_another() -> None:
    """Imports for type checkers alone are counted too."""
    graph = grimp.build_graph("streamgen", "bridge", exclude_type_checking_imports=False)
    imports = [(module, other) for module in graph.modules for other in graph.find_modules_directly_imported_by(module)]
    circles = [pair for pair in imports if graph.chain_exists(importer=pair[1], imported=pair[0])]
    assert circles == []
