"""Weights of weight-normed convolutions: read apart, written whole, and rounded so that float16 keeps their sums.

Rules: torch's parametrisation along the first axis, as transformers' codec has it.
"""

from typing import Any

import torch
from torch import Tensor

HALF_STEPS = 2047  # float16 holds every whole number up to 2,048


def norm_pair(conv: Any) -> tuple[Tensor, Tensor]:
    """The magnitude [n, 1, 1] and the direction [n, m, k] of a weight-normed convolution."""
    pair = conv.parametrizations.weight
    return pair.original0, pair.original1


@torch.no_grad()
def set_weight(conv: Any, weight: Tensor) -> None:
    """Give a convolution this weight [n, m, k]; a row of zeros gets the magnitude 0 and some direction."""
    magnitude, direction = norm_pair(conv)
    length = weight.flatten(1).norm(dim=1)[:, None, None]
    magnitude.copy_(length)
    direction.copy_(torch.where(length > 0, weight, torch.ones_like(weight)))


@torch.no_grad()
def round_evenly(conv: Any) -> None:
    """Make the directions of an even upsampling kernel whole numbers, which float16 keeps, with even sums as before.

    Rounded one by one, the sums of a kernel's phases differ in their eleventh bit, and the comb is back at -70 dB.
    """
    _, direction = norm_pair(conv)
    stride = direction.shape[2] // 2
    largest = direction.abs().amax((1, 2), keepdim=True)
    whole = direction * ((HALF_STEPS - 1) / largest)  # one to spare: a late tap is a difference of two rounded numbers
    early = whole[..., :stride].round()
    sums = (whole[..., :stride] + whole[..., stride:]).mean(-1, keepdim=True).round()
    direction.copy_(torch.cat([early, sums - early], dim=2))
