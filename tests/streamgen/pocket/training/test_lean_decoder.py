from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from streamgen.pocket.training.codec import new_codec
from streamgen.pocket.training.lean_decoder import LeanDecoder, even, norm_pair, round_evenly, set_weight


@pytest.fixture
def decoder() -> Any:
    return new_codec().eval().decoder


def heard(decoder: Any, latents: Tensor) -> Tensor:
    with torch.no_grad():
        made = decoder(latents)
    return made[:, 0] if made.dim() == 3 else made


def test_it_makes_the_same_sound_from_the_same_weights(decoder: Any) -> None:
    latents = torch.randn(2, 64, 12)
    wanted = heard(decoder, latents)
    torch.testing.assert_close(heard(LeanDecoder(decoder), latents), wanted, atol=1e-5 * float(wanted.std()), rtol=1e-4)


def test_what_it_learned_is_written_back(decoder: Any) -> None:
    lean, latents = LeanDecoder(decoder), torch.randn(1, 64, 12)
    with torch.no_grad():
        for weight in lean.parameters():
            weight.mul_(1.1)
    before = heard(decoder, latents)
    lean.write(decoder)
    torch.testing.assert_close(heard(decoder, latents), heard(lean, latents), atol=1e-5, rtol=1e-3)
    assert not torch.allclose(heard(decoder, latents), before, rtol=0.01)


def test_what_stands_still_leaves_a_pattern_until_the_kernels_are_even(decoder: Any) -> None:
    """The period of the comb is 80 samples, the later upsamplings of the first one's 400 Hz."""
    constant = torch.randn(1, 64, 1).expand(-1, -1, 60)
    lean = LeanDecoder(decoder)
    with torch.no_grad():
        for layer in list(lean.layers)[::-1]:
            if hasattr(layer, "own"):
                layer.own.bias.normal_(0, 0.1)  # else a decoder at rest is silent
    pattern = heard(lean, constant)[0, -640:]
    lean.even()
    evened = heard(lean, constant)[0, -640:]
    assert pattern.std() > 1e-3
    assert evened.std() < 1e-4 * pattern.std()


def test_the_nearest_even_kernel_is_taken() -> None:
    weight = torch.randn(3, 2, 10)
    before = weight.clone()
    even(weight, 5)
    sums = weight[..., :5] + weight[..., 5:]
    torch.testing.assert_close(sums, sums.mean(-1, keepdim=True).expand_as(sums), atol=1e-6, rtol=0)
    torch.testing.assert_close(sums.mean(-1), (before[..., :5] + before[..., 5:]).mean(-1), atol=1e-6, rtol=0)
    moved = weight.clone()
    even(moved, 5)
    torch.testing.assert_close(moved, weight, atol=1e-6, rtol=0)  # an even kernel stays


def test_a_weight_is_written_whole_zeros_too() -> None:
    conv, weight = weight_norm(nn.Conv1d(3, 4, 5)), torch.randn(4, 3, 5)
    weight[2] = 0
    set_weight(conv, weight)
    torch.testing.assert_close(conv.weight, weight, atol=1e-6, rtol=0)
    assert torch.isfinite(conv.weight).all()


def test_rounded_kernels_sum_evenly_in_float16_and_are_nearly_the_same() -> None:
    conv, weight = weight_norm(nn.ConvTranspose1d(16, 8, 10, 5)), torch.randn(16, 8, 10)
    even(weight, 5)
    set_weight(conv, weight)
    round_evenly(conv)
    _, direction = norm_pair(conv)
    assert torch.equal(direction.half().float(), direction), "float16 holds every tap"
    sums = direction[..., :5] + direction[..., 5:]
    assert (sums == sums[..., :1]).all()
    error = (conv.weight - weight).pow(2).mean().sqrt() / weight.pow(2).mean().sqrt()
    assert error < 2e-3
