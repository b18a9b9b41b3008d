"""Matrices as the native step reads them: tiles of 32 outputs, rounded in groups of 32 inputs, or as they are.

Rules: packs and holds; the layout is drawn in `native/matrix.h`. A tensor belongs to whoever holds the PackedMatrix.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamgen.kernels.library import Kernels, Matrix, Pool, address

__all__ = [
    "BITS",
    "GROUP",
    "LAYOUT",
    "TILE",
    "PackedMatrix",
    "elu_",
    "gate_order",
    "head_order",
    "multiply",
    "narrowest",
    "pack",
    "pack_exactly",
    "padded_bias",
    "run_lstm",
]

TILE, GROUP = 32, 32  # outputs, inputs
_FEW = 8  # outputs that are multiplied each by itself
BITS = (4, 6, 8)  # and for the codec 16 and 32: bfloat16 and float32
_AS_THEY_ARE = {torch.float16: 1, torch.bfloat16: 2, torch.float32: 3}  # in the place of bits
LAYOUT = "1"  # of the tiles, and how weights are rounded: what is kept on disk goes by it


@dataclass(frozen=True)
class PackedMatrix:
    """A matrix in the native layout.

    Attributes:
        tiles: uint8, its bytes.
        outputs: rows, a multiple of 32: the last ones are zeros if it had fewer. Those of few outputs are as many.
        inputs: columns.
        bits: of a weight; or a number below 4 for weights that are kept as they are.
    """

    tiles: Tensor
    outputs: int
    inputs: int
    bits: int

    @property
    def as_argument(self) -> Matrix:
        """The same as C sees it."""
        return Matrix(address(self.tiles), self.outputs, self.inputs, self.bits)

    @property
    def dtype(self) -> torch.dtype | None:
        """In what weights lie that are kept as they are; None if they are rounded."""
        return next((dtype for dtype, bits in _AS_THEY_ARE.items() if bits == self.bits), None)


def pack(library: Kernels, pool: Pool, weight: Tensor, bits: int, order: Sequence[int] | None = None) -> PackedMatrix:
    """Lay a matrix out, its weights rounded.

    Few outputs of 32 bits would fill little of a tile, so they lie row by row.

    Args:
        library: to be read by; all lay out alike.
        pool: whose threads do it.
        weight: [out, in]; with fewer bits than 16, `in` is a multiple of 32.
        bits: one of BITS, 16 or 32.
        order: for each output the row of the weight that it is; None keeps them.
    """
    if bits == 32 and len(weight) <= _FEW:
        plain = weight.detach().float().flatten().view(torch.uint8)
        return PackedMatrix(plain, len(weight), weight.shape[1], bits)
    rows = torch.arange(len(weight)) if order is None else torch.tensor(order)
    missing = -len(rows) % TILE
    chosen = torch.cat([rows, torch.full((missing,), -1)]).to(torch.int32)
    full, outputs, inputs = weight.detach().float().contiguous(), len(chosen), weight.shape[1]
    tiles = torch.empty(library.call.packed_bytes(outputs, inputs, bits), dtype=torch.uint8)
    library.call.pack(pool.handle, address(full), address(chosen), outputs, inputs, bits, address(tiles))
    return PackedMatrix(tiles, outputs, inputs, bits)


def narrowest(weight: Tensor) -> Tensor:
    """Return a tensor in the narrowest of float16, bfloat16 and float32 that holds every number of it without loss.

    Meta's weights were published in float16 first, so a float32 file of them says no more than half its bytes do.
    """
    for dtype in (torch.float16, torch.bfloat16):
        if weight.dtype in (dtype, torch.float32):
            narrow = weight.to(dtype)
            if narrow.isfinite().all() and torch.equal(narrow.float(), weight.float()):
                return narrow
    return weight.float()


def pack_exactly(weight: Tensor, order: Sequence[int] | None = None) -> PackedMatrix:
    """Lay a matrix out whose weights are kept as they are, in as few bytes as hold them.

    Args:
        weight: [out, in].
        order: for each output the row of the weight that it is; None keeps them.
    """
    kept = narrowest(weight.detach())
    rows = torch.nn.functional.pad(kept if order is None else kept[list(order)], (0, 0, 0, -len(kept) % TILE))
    tiles = rows.view(-1, TILE, rows.shape[1]).transpose(1, 2).contiguous()
    return PackedMatrix(tiles.view(torch.uint8).flatten(), len(rows), rows.shape[1], _AS_THEY_ARE[kept.dtype])


def head_order(heads: int, head_dim: int) -> list[int]:
    """Order queries, keys and values, stacked [3 · heads · head_dim], by heads: one head's three side by side."""
    width = heads * head_dim
    return [part * width + head * head_dim + i for head in range(heads) for part in range(3) for i in range(head_dim)]


def gate_order(width: int) -> list[int]:
    """Order an LSTM's four gates, stacked [4 · width], by 32 units: their four gates side by side."""
    return [gate * width + unit + i for unit in range(0, width, TILE) for gate in range(4) for i in range(TILE)]


def multiply(
    library: Kernels,
    pool: Pool,
    matrix: PackedMatrix,
    rows: Tensor,
    outputs: int,
    *,
    bias: Tensor | None = None,
    elu: bool = False,
    added: Tensor | None = None,
) -> Tensor:
    """Multiply rows by a matrix; those of 8 bits and fewer round the rows to bytes first.

    Args:
        library: that does it.
        pool: whose threads do.
        matrix: packed.
        rows: float32 [n, in]; they may overlap, each lies in one piece.
        outputs: how many the matrix had before it was packed.
        bias: float32 [outputs] or None.
        elu: whether an ELU follows; after floats only.
        added: float32 [n, outputs], added to that, each row in one piece; after floats only.

    Returns:
        float32 [n, outputs].
    """
    assert rows.stride(1) == 1, rows.stride()
    assert rows.shape[1] == matrix.inputs, (rows.shape, matrix.inputs)
    assert matrix.bits >= 16 or not (elu or added is not None), "no caller has it"
    padded = None if bias is None else padded_bias(bias, matrix)
    out = torch.empty(len(rows), outputs, dtype=torch.float32)
    more, stride = (None, 0) if added is None else (added.data_ptr(), added.stride(0))
    library.call.multiply(
        pool.handle, ctypes.byref(matrix.as_argument), rows.data_ptr(), rows.stride(0), len(rows),
        address(padded), outputs, elu, more, stride, address(out),
    )  # fmt: skip
    return out


def padded_bias(bias: Tensor, matrix: PackedMatrix) -> Tensor:
    """Return a bias [outputs] with zeros for the outputs that fill a matrix's last tile."""
    return torch.nn.functional.pad(bias.float(), (0, matrix.outputs - len(bias)))


def elu_(library: Kernels, x: Tensor) -> Tensor:
    """Apply ELU to contiguous float32 in place, bit for bit as the products do; returns it."""
    library.call.elu(address(x), x.numel(), address(x))
    return x


def run_lstm(library: Kernels, pool: Pool, again: PackedMatrix, driven: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
    """Run an LSTM.

    Args:
        library: that does it.
        pool: whose threads do.
        again: its recurrent matrix in `gate_order`, 8 bits.
        driven: float32 [B, n, 4 · H]: what the inputs and the biases add to the gates (input, forget, new, output).
        hidden: float32 [B, H], updated in place.
        cell: the same.

    Returns:
        float32 [B, n, H].
    """
    streams, steps, _ = driven.shape
    out = torch.empty(streams, steps, again.inputs, dtype=torch.float32)
    library.call.lstm(
        pool.handle, ctypes.byref(again.as_argument), address(driven), streams, steps,
        address(hidden), address(cell), address(out),
    )  # fmt: skip
    return out
