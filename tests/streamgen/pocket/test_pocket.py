from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamgen import pocket
from streamgen.errors import CheckpointError
from streamgen.pocket.training.export import write_hashes


def folder_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "config.json").write_text("{}")
    write_hashes(tmp_path)
    monkeypatch.setattr(pocket, "pocket_folder", lambda: tmp_path)
    return tmp_path


def test_an_untouched_folder_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with(tmp_path, monkeypatch)
    pocket.verify_pocket()


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, monkeypatch)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        pocket.verify_pocket()


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, monkeypatch)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="no file"):
        pocket.verify_pocket()
    (folder / pocket.HASH_FILE).unlink()
    with pytest.raises(CheckpointError, match="missing"):
        pocket.verify_pocket()


def test_the_package_imports_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import streamgen.pocket as p; print(p.pocket_folder().name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "weights", done.stderr


@pytest.mark.skipif(not pocket.pocket_folder().exists(), reason="no weights in this checkout")
def test_the_shipped_weights_are_what_their_hashes_say() -> None:
    pocket.verify_pocket()
    size = sum(path.stat().st_size for path in pocket.pocket_folder().iterdir())
    assert size < 60e6
