from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from streamgen.pocket.training.lean_decoder import even
from streamgen.pocket.training.weight_norm import norm_pair, round_evenly, set_weight


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
