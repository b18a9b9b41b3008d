"""Convolution kernels on time-major audio [B, T, C], each with its weights in the layout that is fast here.

Rules: pure functions of their input; no stream, no padding. The same arithmetic on every device; only layouts differ.

Why time-major: a window of k steps is then one contiguous row of k·C numbers, and the output of a transposed
convolution, [B, T, s·C], *is* the upsampled audio [B, T·s, C] without a move.

Why two kernels for a convolution: oneDNN's own repacks its weights in every call, which large ones pay dearly for; as
rows times a packed matrix they are read once. With small weights copying the windows for that costs more than it saves
(docs/measurements.md, "EnCodec, piece by piece").
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.linear import Linear

__all__ = ["Convolution"]

# From this many numbers on a weight matrix is worth copying windows for.
_MATRIX_NUMEL = 1 << 16


class Convolution:
    """A stride-1 convolution without padding.

    Attributes:
        span: inputs that one output sees, (kernel - 1) · dilation + 1.
        in_channels, out_channels: widths.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> None:
        """Take weight [out, in, kernel] and bias [out]."""
        self.out_channels, self.in_channels, self._kernel = weight.shape
        self._dilation = dilation
        self.span = (self._kernel - 1) * dilation + 1
        self._matrix: Linear | None = None
        self._bias = bias
        if self._kernel == 1 or weight.numel() >= _MATRIX_NUMEL or weight.device.type != "cpu":
            self._matrix = Linear(weight.transpose(1, 2).reshape(self.out_channels, -1), bias)
        else:  # [out, in, 1, kernel] with channels innermost, as the input has them
            self._filter = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)

    def __call__(self, x: Tensor) -> Tensor:
        """Return [B, T - span + 1, out] for x, contiguous [B, T, in] with T >= span."""
        if self._matrix is not None:
            batch, steps = x.shape[0], x.shape[1] - self.span + 1
            return self._matrix(self._windows(x, steps)).view(batch, steps, self.out_channels)
        image = x.transpose(1, 2).unsqueeze(2)
        return F.conv2d(image, self._filter, self._bias, dilation=(1, self._dilation)).squeeze(2).transpose(1, 2)

    def _windows(self, x: Tensor, steps: int) -> Tensor:
        """Copy every output's inputs into one row: [B · steps, kernel · in]."""
        batch, length, channels = x.shape
        if self._kernel == 1:
            return x.view(batch * length, channels)
        shape = (batch, steps, self._kernel, channels)
        strides = (length * channels, channels, self._dilation * channels, 1)
        return x.as_strided(shape, strides).reshape(batch * steps, self._kernel * channels)
