"""Rows times a fixed matrix, in the layout that this machine multiplies fastest, and what stands between two of them.

Decoding multiplies few rows (2 to 8) by large matrices: it is bound by reading the weights once. On a CPU oneDNN's
blocked layout is read at the memory's speed, and what torch's `F.linear` takes is not; elsewhere it is `F.linear`.

With `int8` a matrix is kept as 8-bit multiples of a scale for each output: half of bfloat16's memory, so a row or two
take half its time. A row's result is the same whatever rows are beside it, up to 16; more are multiplied by the widened
matrix, since widening each weight anew for every row costs more then. Figures: docs/measurements.md, "Matrices on a
CPU".

Rules: callers see `Linear(weight)(rows)`; int4 layouts belong here too and change no caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Linear", "activation"]


def _gelu_new(x: Tensor) -> Tensor:
    """As transformers writes it out, which torch's own tanh approximation equals but for the last bits."""
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


# The usual ones, as transformers has them; its table of the others takes seconds to import.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _gelu_new,
    "relu": F.relu,
    "silu": F.silu,
}

# Layouts chosen for 2 to 16 rows are the same, and good for 1 to 64; the one for a single row is slow for more.
_PACK_ROWS = 2
# Smaller matrices lie in the cache, where calling oneDNN costs more than its layout saves.
_PACK_NUMEL = 1 << 16
_INT8_ROWS = 16  # at most
_INT8_STRIDE = 32  # the kernel reads that many inputs at a time, and past the end of others


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation function that transformers calls so.

    Raises:
        KeyError: it knows none of that name.
    """
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    from transformers.activations import ACT2FN  # seconds, for the few that need it

    others: Any = ACT2FN
    function: Callable[[Tensor], Tensor] = others[name]
    return function


def _is_large_on_cpu(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.numel() >= _PACK_NUMEL


def _packs(weight: Tensor) -> bool:
    return (
        _is_large_on_cpu(weight)
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def _fits_int8(weight: Tensor) -> bool:
    return _is_large_on_cpu(weight) and weight.dtype == torch.bfloat16 and weight.shape[1] % _INT8_STRIDE == 0


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round [out, in] to int8 multiples of a bfloat16 scale for each output [out]."""
    scales = (weight.float().abs().amax(dim=1) / 127).clamp_min(1e-20).bfloat16()
    return (weight.float() / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8), scales


class Linear:
    """A matrix and, if there is one, a bias. A large matrix is kept in a layout for few rows only.

    Attributes:
        packed: True if the matrix is in oneDNN's layout.
        bytes: what one call with few rows reads of the matrix.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, int8: bool = False) -> None:
        """Take weight [out, in] and bias [out]; `int8` rounds a large bfloat16 matrix without bias to 8 bits."""
        weight, self._bias, self.packed = weight.contiguous(), bias, False
        self._scales: Tensor | None = None
        if int8 and _fits_int8(weight):
            assert bias is None, "no caller has one"
            self._weight, self._scales = _to_int8(weight)
        elif _packs(weight):
            self._weight, self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, _PACK_ROWS), True
        else:
            self._weight = weight
        self.bytes = weight.numel() * (weight.element_size() if self._scales is None else 1)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return [n, in] times the transposed weight, plus the bias: [n, out], fresh memory."""
        if self._scales is not None:
            return self._times_int8(rows, self._scales)
        if not self.packed:
            return F.linear(rows, self._weight, self._bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")
        return out

    def _times_int8(self, rows: Tensor, scales: Tensor) -> Tensor:
        if rows.shape[0] > _INT8_ROWS:
            return F.linear(rows, self._weight.to(rows.dtype)) * scales
        out: Tensor = torch.ops.aten._weight_int8pack_mm(rows, self._weight, scales)
        return out
