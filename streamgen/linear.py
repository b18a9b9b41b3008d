"""Rows times a fixed matrix, in the layout that this machine multiplies fastest. The room that knows about precision.

Decoding multiplies few rows (2 to 8) by large matrices: it is bound by reading the weights once. On a CPU torch's
`F.linear` reads them two to three times slower than oneDNN's blocked layout: 12 matrices of 4096×1024 take 23 ms for 2
rows against 6.5 in float32, 7.6 against 4.0 in bfloat16 (one Zen 5 core). Elsewhere it is `F.linear`.

With `int8`, one to three rows read 8-bit weights, each output with a scale of its own, and bfloat16 rows as they are:
the 25 matrices of a small decoder take 1.0 ms instead of 2.0. With more rows widening every weight costs more than
reading half of the bytes saves (8 rows times 4096×1024: 1.5 ms against .7), so they take the same numbers in bfloat16.

Rules: callers see `Linear(weight)(rows)`; int4 layouts belong here too and change no caller.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Linear"]

# Layouts chosen for 2 to 16 rows are the same, and good for 1 to 64; the one for a single row is slow for more.
_PACK_ROWS = 2
# Smaller matrices lie in the cache, and oneDNN's 11 µs a call cost more than its layout saves.
_PACK_NUMEL = 1 << 16
_INT8_ROWS = 3  # at most


def _packs(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and weight.numel() >= _PACK_NUMEL
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round [out, in] to int8 multiples of a bfloat16 scale for each output [out]."""
    scales = (weight.float().abs().amax(dim=1) / 127).clamp_min(1e-20).bfloat16()
    return (weight.float() / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8), scales


class Linear:
    """A matrix and, if there is one, a bias. A large matrix is kept in layouts for few rows only.

    Attributes:
        packed: True if the matrix is in oneDNN's layout.
        bytes: what one call with one or two rows reads of the matrix.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, int8: bool = False) -> None:
        """Take weight [out, in] and bias [out]; `int8` rounds a large bfloat16 matrix without bias to 8 bits."""
        self.packed = _packs(weight)
        self._int8: tuple[Tensor, Tensor] | None = None
        if int8 and self.packed:
            assert weight.dtype == torch.bfloat16, weight.dtype
            assert bias is None, "no caller has one"
            self._int8 = _to_int8(weight)
            weight = (self._int8[0] * self._int8[1].float()[:, None]).bfloat16()
        self.bytes = weight.numel() * (1 if self._int8 else weight.element_size())
        weight = weight.contiguous()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _PACK_ROWS) if self.packed else weight
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        """Return [n, in] times the transposed weight, plus the bias: [n, out], fresh memory."""
        if self._int8 is not None and rows.shape[0] <= _INT8_ROWS:
            return torch.ops.aten._weight_int8pack_mm(rows, *self._int8)  # type: ignore[no-any-return]
        if not self.packed:
            return F.linear(rows, self._weight, self._bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")
        return out
