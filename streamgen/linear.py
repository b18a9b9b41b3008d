"""Rows times a fixed matrix, in the layout that this machine multiplies fastest. The room that knows about precision.

Decoding multiplies few rows (2 to 8) by large matrices: it is bound by reading the weights once. On a CPU torch's
`F.linear` reads them two to three times slower than oneDNN's blocked layout: 12 matrices of 4096×1024 take 23 ms for 2
rows against 6.5 in float32, 7.6 against 4.0 in bfloat16 (one Zen 5 core). Elsewhere it is `F.linear`.

Rules: callers see `Linear(weight)(rows)`; int8 and int4 layouts belong here too and change no caller.
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


def _packs(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and weight.numel() >= _PACK_NUMEL
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


class Linear:
    """A matrix and, if there is one, a bias. A large matrix is kept in oneDNN's layout only.

    Attributes:
        packed: True if the matrix is in oneDNN's layout.
        bytes: what one call reads of the matrix.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Take weight [out, in] and bias [out]."""
        self.packed = _packs(weight)
        self.bytes = weight.numel() * weight.element_size()
        weight = weight.contiguous()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _PACK_ROWS) if self.packed else weight
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        """Return [n, in] times the transposed weight, plus the bias: [n, out], fresh memory."""
        if not self.packed:
            return F.linear(rows, self._weight, self._bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")
        return out
