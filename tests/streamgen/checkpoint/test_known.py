"""The list of checkpoints, and that it costs neither torch nor a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from streamgen.checkpoint import list_checkpoints


def test_the_list_has_the_shipped_one_first_and_meta_s_with_their_licence() -> None:
    rows = list_checkpoints()
    assert [row.name for row in rows[:2]] == ["pocket", "facebook/musicgen-small"]
    assert len({row.name for row in rows}) == len(rows) == 11
    for row in rows[1:]:
        assert row.licence.startswith("CC-BY-NC-4.0")
        assert row.stereo == ("stereo" in row.name)
        assert row.melody == ("melody" in row.name)
        assert row.parameters == ("300M" if "small" in row.name else "3.3B" if "large" in row.name else "1.5B")


def test_a_cached_one_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--facebook--musicgen-large"
    folder = repository / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    rows = {row.name: row for row in list_checkpoints()}
    assert rows["facebook/musicgen-large"].cached
    assert rows["facebook/musicgen-large"].folder == folder
    assert rows["facebook/musicgen-large"].size_bytes == 1002
    assert not rows["facebook/musicgen-small"].cached
    assert rows["facebook/musicgen-small"].size_bytes is None


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from streamgen.checkpoint import list_checkpoints; list_checkpoints(); "
        "sys.exit(int('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0
