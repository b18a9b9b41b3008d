"""Convolution kernels on time-major audio [B, T, C], each with its weights in the layout that is fast here.

Rules: pure functions of their input; no stream, no padding. The same arithmetic on every device; only layouts differ.

Why time-major: a window of k steps is then one contiguous row of k·C numbers, and the output of a transposed
convolution, [B, T, s·C], *is* the upsampled audio [B, T·s, C] without a move.

Why two kernels for a convolution: oneDNN's own repacks its weights in every call, which large ones pay dearly for; as
rows times a packed matrix they are read once. With small weights copying the windows for that costs more than it saves
(docs/measurements.md, "EnCodec, piece by piece").
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.kernels import Kernels, PackedMatrix, Pool, elu_, gate_order, multiply, pack, padded_bias, run_lstm
from streamgen.kernels.library import Matrix, Stage, address
from streamgen.linear import Linear

__all__ = ["StageRunner", "Convolution", "Native", "NativeLstm", "elu_in_place"]

# From this many numbers on a weight matrix is worth copying windows for.
_MATRIX_NUMEL = 1 << 16
# From here on reading the weights takes longer than multiplying: the native kernels keep them in bfloat16.
_LARGE_NUMEL = 1 << 20
_FEW, _MANY = 8, 16  # outputs that they make one by one, at most, and a tile at once, at least


@dataclass(frozen=True)
class Native:
    """The native kernels and the threads that run them: convolutions in floats, an LSTM's matrices in 8 bits."""

    library: Kernels
    pool: Pool

    def pack(self, weight: Tensor, bits: int, order: list[int] | None = None) -> PackedMatrix:
        """Lay a matrix [out, in] out."""
        return pack(self.library, self.pool, weight, bits, order)

    def multiply(
        self,
        matrix: PackedMatrix,
        rows: Tensor,
        outputs: int,
        bias: Tensor | None,
        elu: bool = False,
        added: Tensor | None = None,
    ) -> Tensor:
        """Multiply rows [n, in], which may overlap: [n, outputs]. An ELU may follow, then something may be added."""
        return multiply(self.library, self.pool, matrix, rows, outputs, bias=bias, elu=elu, added=added)


def elu_in_place(x: Tensor, native: Native | None) -> Tensor:
    """Apply ELU in place, by whoever makes the products: so the same bits come, whether a chain makes them or not."""
    return F.elu_(x) if native is None else elu_(native.library, x.contiguous())


class Convolution:
    """A stride-1 convolution without padding.

    Attributes:
        span: inputs that one output sees, (kernel - 1) · dilation + 1.
        in_channels, out_channels: widths.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int = 1, native: Native | None = None) -> None:
        """Take weight [out, in, kernel] and bias [out]; with `native`, the kernels do it where they can."""
        self.out_channels, self.in_channels, self._kernel = weight.shape
        self._dilation = dilation
        self.span = (self._kernel - 1) * dilation + 1
        self._matrix: Linear | None = None
        dense = dilation == 1 or self._kernel == 1
        fits = self.out_channels <= _FEW or self.out_channels >= _MANY
        self._bias, self.native = bias, native if dense and fits else None
        if self.native is not None:
            bits = 16 if weight.numel() >= _LARGE_NUMEL else 32
            self._packed = self.native.pack(weight.transpose(1, 2).reshape(self.out_channels, -1), bits)
            self._padded = None if bias is None else padded_bias(bias, self._packed)
        elif self._kernel == 1 or weight.numel() >= _MATRIX_NUMEL or weight.device.type != "cpu":
            self._matrix = Linear(weight.transpose(1, 2).reshape(self.out_channels, -1), bias)
        else:  # [out, in, 1, kernel] with channels innermost, as the input has them
            self._filter = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)

    def __call__(self, x: Tensor, *, elu: bool = False, added: Tensor | None = None) -> Tensor:
        """Return [B, T - span + 1, out] for x, contiguous [B, T, in] with T >= span.

        An ELU may follow, then as much may be added.
        """
        if self.native is not None:
            return self._by_kernels(self.native, x, elu, added)
        out = self._by_torch(x)
        out = F.elu_(out) if elu else out
        return out if added is None else out.add_(added)

    def _by_kernels(self, native: Native, x: Tensor, elu: bool, added: Tensor | None) -> Tensor:
        """All streams as one: where one ends and the next begins, a few outputs see both and are left out."""
        batch, length, channels = x.shape
        if added is not None:
            assert self._kernel == 1, "no caller adds to another"
            return torch.stack(
                [
                    native.multiply(self._packed, rows, self.out_channels, self._bias, elu, more)
                    for rows, more in zip(x, added, strict=True)
                ]
            )
        rows = x.as_strided((batch * length - self.span + 1, self._kernel * channels), (channels, 1))
        out = native.multiply(self._packed, rows, self.out_channels, self._bias, elu)
        if batch == 1:
            return out[None]
        strides = (length * self.out_channels, self.out_channels, 1)
        return out.as_strided((batch, length - self.span + 1, self.out_channels), strides).contiguous()

    def _by_torch(self, x: Tensor) -> Tensor:
        if self._matrix is not None:
            batch, steps = x.shape[0], x.shape[1] - self.span + 1
            return self._matrix(self._windows(x, steps)).view(batch, steps, self.out_channels)
        image = x.transpose(1, 2).unsqueeze(2)
        return F.conv2d(image, self._filter, self._bias, dilation=(1, self._dilation)).squeeze(2).transpose(1, 2)

    def stage(self, at: int, *, elu: bool, stride: int = 1, left: int = -1) -> Stage:
        """Describe it to a chain; `at` as in `Layer.stages`; `left`: where a residual block's shortcut meets it."""
        return Stage(
            self._packed.as_argument, Matrix(), address(self._padded), None, at, 0,
            self._kernel, self.in_channels, self.out_channels, stride, left, elu, 0,
        )  # fmt: skip

    def _windows(self, x: Tensor, steps: int) -> Tensor:
        """Copy every output's inputs into one row: [B · steps, kernel · in]."""
        batch, length, channels = x.shape
        if self._kernel == 1:
            return x.view(batch * length, channels)
        shape = (batch, steps, self._kernel, channels)
        strides = (length * channels, channels, self._dilation * channels, 1)
        return x.as_strided(shape, strides).reshape(batch * steps, self._kernel * channels)

    def add_to(self, stage: Stage) -> Stage:
        """Make a stage a residual block's, which this pointwise convolution ends."""
        stage.second, stage.second_bias = self._packed.as_argument, address(self._padded)
        stage.outputs = self.out_channels
        return stage


class StageRunner:
    """Runs stages in one call: waking a thread for each, and memory for what lies between them, costs as much again.

    Args:
        native: the kernels.
        stages: one on the outputs of the other.
    """

    def __init__(self, native: Native, stages: Sequence[Stage]) -> None:
        self._native, self._handle = native, native.library.call.chain()
        self._stages, self._count = (Stage * len(stages))(*stages), len(stages)
        self._rate = math.prod(stage.stride for stage in stages)
        self._channels = stages[-1].outputs // stages[-1].stride

    def __del__(self) -> None:
        """Give the library's part back."""
        self._native.library.call.chain_end(self._handle)

    def __call__(self, x: Tensor, memories: Sequence[Tensor]) -> Tensor:
        """Run them on x, contiguous float32 [B, n, in of the first], and update what the states remember.

        Args:
            x: the states' rows, as many of each.
            memories: of the states, in their order; see `CodecState.memory`.

        Returns:
            float32 [B, n · their strides, channels of the last].
        """
        batch, steps = x.shape[:2]
        out = torch.empty(batch, steps * self._rate, self._channels, dtype=torch.float32)
        places = (ctypes.c_void_p * len(memories))(*[memory.data_ptr() for memory in memories])
        self._native.library.call.decode(
            self._native.pool.handle, self._handle, self._stages, self._count, places, len(memories),
            batch // len(memories), address(x), steps, address(out),
        )  # fmt: skip
        return out


class NativeLstm:
    """One layer of an LSTM, its two matrices in 8 bits."""

    def __init__(self, native: Native, into: Tensor, again: Tensor, bias: Tensor) -> None:
        """Take what the inputs and the last outputs are multiplied by, [4 · H, …], and the bias [4 · H]."""
        self._native, self._bias = native, bias
        self._into = native.pack(into, 8)
        self._again = native.pack(again, 8, gate_order(again.shape[1]))
        self._padded = padded_bias(bias, self._into)

    @staticmethod
    def fits(width: int) -> bool:
        """Tell whether the kernels run an LSTM of this width."""
        return width % 32 == 0

    def __call__(self, x: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """Run [B, n, H] and update hidden and cell [B, H] in place: [B, n, H]."""
        batch, steps, width = x.shape
        driven = self._native.multiply(self._into, x.reshape(batch * steps, width), 4 * width, self._bias).view(
            batch, steps, 4 * width
        )
        return run_lstm(self._native.library, self._native.pool, self._again, driven, hidden, cell)

    def stage(self, hidden: int, cell: int, *, last: bool) -> Stage:
        """Describe it to a chain.

        Args:
            hidden: numbers of a stream's memory before its last outputs.
            cell: the same before its cells.
            last: whether it is the last of its stack, so that what the stack was given is added to its outputs.
        """
        width = self._again.inputs
        return Stage(
            self._into.as_argument, self._again.as_argument, address(self._padded), None, hidden, cell,
            1, width, width, 1, -1, 0, 2 if last else 1,
        )  # fmt: skip
