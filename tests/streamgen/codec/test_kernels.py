"""Kernels against torch's plain convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from streamgen.codec.kernels import Convolution


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize(
    ("into", "out", "kernel", "dilation"),
    [(4, 6, 1, 1), (4, 1, 7, 1), (4, 6, 3, 9), (128, 96, 7, 1), (256, 128, 2, 4), (1, 3, 2, 1)],
)
def test_convolution(batch: int, steps: int, into: int, out: int, kernel: int, dilation: int) -> None:
    weight, bias = torch.randn(out, into, kernel) / (into * kernel) ** 0.5, torch.randn(out)
    convolution = Convolution(weight, bias, dilation)
    x = torch.randn(batch, steps + convolution.span - 1, into)
    wanted = F.conv1d(x.transpose(1, 2), weight, bias, dilation=dilation).transpose(1, 2)
    torch.testing.assert_close(convolution(x), wanted, atol=1e-5, rtol=0)
    assert convolution(x).shape == (batch, steps, out)
