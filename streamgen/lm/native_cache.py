"""Keys and values as the native kernels read them: a row's lie in memory of its own, so growing moves nothing.

In bytes, with what they are multiples of, or in floats: `kernels/native/attention.h` says how they are laid out.

Rules: as in `cache`, whose twin this is; computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.kernels import Kernels
from streamgen.lm.cache import CacheRows, RowRange

__all__ = ["NativeCache", "native_positions"]

_POSITIONS = 16  # lie together in a row's memory
_KEYS_TOGETHER = 4  # bytes of a position's key side by side there: four numbers in bytes, or one float


def native_positions(config: DecoderConfig) -> int:
    """Return how many positions a row's memory has room for: whole blocks."""
    return -(-config.positions // _POSITIONS) * _POSITIONS


@dataclass(frozen=True)
class _RowsCopy:
    """A snapshot of a block's first positions.

    Attributes:
        length: how many.
        rows: for each row its keys and values, and the scales of bytes, as far as they reach.
    """

    length: int
    rows: tuple[tuple[Tensor, ...], ...]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(part.nbytes for row in self.rows for part in row)


class NativeCache(CacheRows[_RowsCopy]):
    """Keys and values in bytes or floats, a piece of memory for each row, taken when it is first used.

    Args:
        config: decoder shape.
        library: whose huge pages to use.
        rows: to start with; their memory is the system's to give before the music begins, not in its midst.
        exact: keep them in floats.
        max_rows: refuse to grow past it.
    """

    def __init__(
        self, config: DecoderConfig, library: Kernels, rows: int, *, exact: bool = False, max_rows: int = 256
    ) -> None:
        super().__init__(rows, max_rows)
        self._config, self._library, self._least = config, library, rows
        width = config.head_dim  # bytes of a position's key, value, and their scales
        self._kinds = (4 * width, 4 * width) if exact else (width, width, 2, 2)
        self.positions = native_positions(config)
        self._memory: list[Tensor] = []
        self._grow_to(rows)
        for memory in self._memory:
            memory.zero_()

    def row_address(self, row: int) -> int:
        """Return where a row's memory lies."""
        return self._memory[row].data_ptr()

    def _grow_to(self, rows: int) -> None:
        size = self._config.num_layers * self._config.num_heads * self.positions * sum(self._kinds)
        self._memory += [self._library.empty(size) for _ in range(rows - len(self._memory))]

    def give_back(self) -> None:
        """Give back the memory of the last rows, if they are free; those to start with stay."""
        rows = max(self.rows - self._free_at_the_end(), self._least)
        del self._memory[rows:], self._free[rows:]

    def _parts(self, row: int, length: int) -> tuple[Tensor, ...]:
        """Views of what a row's first positions take: keys, values, their scales; each [layers, heads, bytes]."""
        whole = -(-length // _POSITIONS) * _POSITIONS
        memory = self._memory[row].view(self._config.num_layers, self._config.num_heads, -1)
        parts = memory.split([self.positions * kind for kind in self._kinds], dim=-1)
        return tuple(part[..., : whole * kind] for part, kind in zip(parts, self._kinds, strict=True))

    def fill(self, block: RowRange) -> None:
        """Write something into all of a block, of the size of music's: to attend to nothing takes another time."""
        count = self.positions * self._config.head_dim
        floats, whole = torch.randn(count, dtype=torch.float32), torch.randint(0, 256, (count,), dtype=torch.uint8)
        scales = (0.01 + torch.rand(self.positions) / 100).bfloat16()
        numbers = (floats,) * 2 if len(self._kinds) == 2 else (whole, whole, scales, scales)
        for row in range(block.start, block.stop):
            for part, some in zip(self._parts(row, self.positions), numbers, strict=True):
                part.copy_(some.view(torch.uint8))

    def holds(self, copy: _RowsCopy, length: int, rows: int) -> bool:
        """Tell whether a clone, from a file, is one of so many rows and positions of this cache."""
        wanted = [[part.shape for part in self._parts(0, length)]] * rows
        return copy.length == length <= self.positions and [[part.shape for part in row] for row in copy.rows] == wanted

    @torch.inference_mode()
    def remember_as(self, rows: Sequence[int], others: Sequence[int], places: Sequence[int]) -> None:
        """Let each of some rows have at its place the keys and values that another has there."""
        for row, other, place in zip(rows, others, places, strict=True):
            for mine, theirs in zip(self._at(row, place), self._at(other, place), strict=True):
                mine.copy_(theirs)

    def _at(self, row: int, place: int) -> Iterator[Tensor]:
        """Views of what a row's one place takes, as `_parts` has it: keys lie together by `_POSITIONS`."""
        keys, *others = self._parts(row, self.positions)
        blocks = keys.view(*keys.shape[:2], self.positions // _POSITIONS, -1, _POSITIONS, _KEYS_TOGETHER)
        yield blocks[:, :, place // _POSITIONS, :, place % _POSITIONS]
        for part, kind in zip(others, self._kinds[1:], strict=True):
            yield part[..., place * kind : (place + 1) * kind]

    @torch.inference_mode()
    def copy_out(self, block: RowRange, length: int) -> _RowsCopy:
        """Clone the first `length` positions of a block."""
        rows = range(block.start, block.stop)
        return _RowsCopy(length, tuple(tuple(part.clone() for part in self._parts(row, length)) for row in rows))

    @torch.inference_mode()
    def copy_in(self, block: RowRange, copy: _RowsCopy, rows: Sequence[int] | None = None) -> None:
        """Write a clone back; `rows` chooses, for each row of the block, which row of the clone it gets."""
        for at, row in enumerate(range(block.start, block.stop)):
            saved = at if rows is None else rows[at]
            for part, clone in zip(self._parts(row, copy.length), copy.rows[saved], strict=True):
                part.copy_(clone)
