"""What a user installs: the checkpoint and no code that trained it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The files that a wheel of this checkout holds, as setuptools lists them."""
    setuptools = pytest.importorskip("setuptools", minversion="77")
    monkeypatch.chdir(ROOT)  # pyproject.toml is read from here
    distribution = setuptools.dist.Distribution({"script_name": "setup.py"})
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    return {str(Path(path).relative_to(command.build_lib)) for path in command.get_outputs(include_bytecode=False)}


def test_the_wheel_holds_the_checkpoint(wheel: set[str]) -> None:
    weights = ROOT / "streamgen" / "pocket" / "weights"
    assert {f"streamgen/pocket/weights/{path.name}" for path in weights.iterdir()} <= wheel
    assert {"streamgen/pocket/__init__.py", "streamgen/pocket/README.md", "streamgen/py.typed"} <= wheel


def test_the_wheel_leaves_training_out(wheel: set[str]) -> None:
    assert not [path for path in wheel if path.startswith("streamgen/pocket/training")]
