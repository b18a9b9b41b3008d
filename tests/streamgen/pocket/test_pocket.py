from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamgen import load_model, pocket
from streamgen.errors import CheckpointError, PromptError
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


@pytest.mark.skipif(not pocket.pocket_folder().exists(), reason="no weights in this checkout")
def test_the_shipped_checkpoint_tells_what_it_hears_its_bars_and_what_it_was_not_made_for() -> None:
    model = load_model("pocket", device="cpu", precision="fp32")
    heard = model.heard("chill beats to study to")
    assert heard is not None
    assert (heard.style, heard.tempo_bpm, heard.key) == ("lofi", 94, "A minor")
    for wrong in (3, b"house", ["house"], " ", "x" * 2_001):
        with pytest.raises(PromptError):
            model.heard(wrong)  # type: ignore[arg-type]
    specs, heard_house = model.control_specs, model.heard("house").prompt
    assert not specs["guidance_scale"].supported
    assert not specs["negative_prompt"].supported
    assert specs["temperature"].supported
    with (
        model.open_stream("house", seed=1, audition=1) as one,
        model.open_stream(heard_house, seed=1, audition=1) as other,
    ):
        np.testing.assert_array_equal(one.read(6_400).samples, other.read(6_400).samples)
        assert one.set(prompt="techno") == 96 * model.hop_samples, "on the next bar line"


@pytest.mark.skipif(not pocket.pocket_folder().exists(), reason="no weights in this checkout")
def test_two_prompts_that_the_shipped_checkpoint_hears_as_one_are_different_music() -> None:
    model = load_model("pocket", device="cpu", precision="fp32")

    def opening(prompt: str) -> list[list[int]]:
        with model.open_stream(prompt, seed=1, audition=2) as stream:
            return stream.tokens(25).tolist()

    castle = opening("Haunted castle, 125 bpm")
    assert castle != opening("christmas song")
    with model.open_stream("christmas song", seed=1, audition=2) as stream:
        stream.tokens(10)
        at = stream.set(prompt="haunted castle") // model.hop_samples
        stream.tokens(at - 10)
        assert stream.tokens(25).tolist() == castle, "wherever it begins"
