from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from streamgen.pocket import pocket_folder
from streamgen.pocket.training.codec import new_codec, sound_to_codes
from streamgen.pocket.training.lean_encoder import CodeReader, LeanEncoder
from streamgen.pocket.training.restart import load_whole


@pytest.fixture
def encoder() -> Any:
    return new_codec().eval().encoder


def said(encoder: Any, audio: Tensor) -> Tensor:
    with torch.no_grad():
        latents: Tensor = encoder(audio)
    return latents


def test_it_says_the_same_by_the_same_weights(encoder: Any) -> None:
    audio = torch.randn(2, 12 * 640)
    wanted = said(encoder, audio[:, None])
    torch.testing.assert_close(said(LeanEncoder(encoder), audio), wanted, atol=1e-5 * float(wanted.std()), rtol=1e-4)


def test_what_it_learned_is_written_back(encoder: Any) -> None:
    lean, audio = LeanEncoder(encoder), torch.randn(1, 12 * 640)
    before = said(encoder, audio[:, None])
    with torch.no_grad():
        for weight in lean.parameters():
            weight.mul_(1.1)
    lean.write(encoder)
    torch.testing.assert_close(said(encoder, audio[:, None]), said(lean, audio), atol=1e-5, rtol=1e-3)
    assert not torch.allclose(said(encoder, audio[:, None]), before, rtol=0.01)


def test_codes_are_read_as_transformers_reads_them() -> None:
    """Of the shipped codec, half of whose first filters are silent."""
    codec = load_whole(pocket_folder()).audio_encoder
    time = np.arange(20 * 640) / 32_000
    tones = sum(np.sin(2 * np.pi * hz * time) for hz in (110, 277.2, 659.3, 1480)) + np.random.default_rng(0).normal(
        0, 0.3, len(time)
    )
    pcm = (tones / np.abs(tones).max() * 20_000).astype(np.int16)
    theirs, ours = sound_to_codes(codec, pcm), CodeReader(codec)(pcm)
    assert ours.shape == theirs.shape == (4, 20)
    assert (ours == theirs).float().mean() > 0.97, "but for ties"
    assert len({*ours.flatten().tolist()}) > 20
