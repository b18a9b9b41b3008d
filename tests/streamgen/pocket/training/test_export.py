from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import MusicgenForConditionalGeneration

from streamgen import pocket
from streamgen.checkpoint import load_checkpoint
from streamgen.pocket.training.codec import new_codec, sound_to_codes
from streamgen.pocket.training.export import graft
from streamgen.pocket.training.playing import CHANGE_CONTEXT_SECONDS, GUIDANCE_SCALE, LEAST_MOVEMENT, TEMPERATURE, TOP_K
from streamgen.pocket.training.widening import widened


def test_what_is_exported_names_its_settings_and_matches_its_hashes(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_checkpoint(str(exported)).defaults
    assert (found.guidance_scale, found.temperature, found.top_k) == (GUIDANCE_SCALE, TEMPERATURE, TOP_K)
    assert found.change_context_seconds == CHANGE_CONTEXT_SECONDS
    assert found.least_movement == LEAST_MOVEMENT
    monkeypatch.setattr(pocket, "pocket_folder", lambda: exported)
    pocket.verify_pocket()


@pytest.mark.slow
def test_a_wider_codec_is_grafted_and_the_language_model_stays_bit_for_bit(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = widened(new_codec(seed=1), 20)
    graft(exported, codec, tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (exported, tmp_path))
    assert before.keys() == after.keys()
    kept = [name for name in before if not name.startswith("audio_encoder.")]
    assert all(torch.equal(before[name], after[name]) for name in kept)
    monkeypatch.setattr(pocket, "pocket_folder", lambda: tmp_path)
    pocket.verify_pocket()
    model = MusicgenForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    pcm = (np.random.default_rng(0).standard_normal(20 * 640) * 3000).astype(np.int16)
    assert torch.equal(sound_to_codes(model.audio_encoder, pcm), sound_to_codes(codec.half().float(), pcm))
    assert load_checkpoint(str(tmp_path)).codec.config.num_filters == 20
