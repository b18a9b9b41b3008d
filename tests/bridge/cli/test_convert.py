"""The command; what it writes is tested in streamgen/checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.cli.main import main
from streamgen.checkpoint import load_checkpoint
from streamgen.testing import tiny_checkpoint


def test_it_converts_there_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tiny_checkpoint("mono")), str(tmp_path / "out")]) == 0
    assert "is audiocraft's" in "".join(capsys.readouterr())
    assert load_checkpoint(str(tmp_path / "out")).format == "audiocraft"


def test_a_wrong_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
