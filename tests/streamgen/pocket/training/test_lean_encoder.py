from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from streamgen.pocket.training.codec import new_codec
from streamgen.pocket.training.lean_encoder import LeanEncoder


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
