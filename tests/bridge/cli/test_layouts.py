"""`streamgen layouts`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bridge.doors.osc.layouts import LAYOUTS


def test_every_layout_is_written_and_none_is_written_over(run: Callable[..., Any], tmp_path: Path) -> None:
    answer = run("layouts", tmp_path / "new", "--host", "10.0.0.7", "--json")
    assert answer.code == 0, answer.err
    assert sorted(answer.fields["files"]) == sorted(str(tmp_path / "new" / name) for name in LAYOUTS)
    assert "10.0.0.7 8712" in (tmp_path / "new" / "streamgen.pd").read_text()
    assert len(answer.err.splitlines()) == len(LAYOUTS)
    again = run("layouts", tmp_path / "new")
    assert again.code == 2
    assert "is there already: choose another FOLDER, or --force" in again.error_line
    assert run("layouts", tmp_path / "new", "--force").code == 0


def test_a_folder_that_cannot_be_is_one_line(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = run("layouts", tmp_path / "file")
    assert answer.code == 1
    assert "cannot be written" in answer.error_line
