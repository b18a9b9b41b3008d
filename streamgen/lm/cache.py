"""Static KV memory: rows allocated once, written in place, handed out in contiguous blocks.

A row is one sequence of the batch (a prompt's or the null prompt's) with room for every position of a window. Blocks
are contiguous so that attention works on views, never on gathered copies. Nothing is cleared: a place is
always written before it is read, or masked. Places count from a window's first vector, whatever its position.

Rules: owns tensors and the free list; knows no prompt and no stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.errors import CapacityError
from streamgen.graphs import sent

__all__ = ["AnyCopy", "RowRange", "RowsCopy", "CacheRows", "KVCache", "attention_dtype"]

Copy = TypeVar("Copy", bound="AnyCopy")


class AnyCopy(Protocol):
    """A snapshot of a block's first positions, of whatever cache."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        ...


def attention_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return in what keys and values are kept.

    On a CPU float32 for rows of fewer bits too: torch attends to bfloat16 ones far slower, but where the processor
    multiplies tiles of them; `halves` is faster than both (docs/measurements.md, "Keys and values on a CPU").
    """
    on_tiles = dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    return torch.float32 if device.type == "cpu" and not on_tiles else dtype


@dataclass(frozen=True)
class RowRange:
    """Rows `start` … `stop` − 1 of the cache."""

    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    def slice(self) -> slice:
        """Return the rows as a slice."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class RowsCopy:
    """A snapshot of a block's first positions.

    Attributes:
        keys, values: [layers, rows, heads, length, head_dim] clones, or as the cache lays them out.
    """

    keys: Tensor
    values: Tensor

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.keys.nbytes + self.values.nbytes


class CacheRows(Generic[Copy]):
    """Which rows of a cache are taken. Where they lie is said by those who hold them: `KVCache`, `NativeCache`.

    Args:
        rows: to start with.
        max_rows: refuse to grow past it.
    """

    def __init__(self, rows: int, max_rows: int) -> None:
        self.max_rows = max_rows
        self._free = [True] * rows

    @property
    def rows(self) -> int:
        """Rows allocated."""
        return len(self._free)

    def allocate(self, rows: int) -> RowRange:
        """Take `rows` contiguous rows, growing the memory when none are left.

        Raises:
            CapacityError: more than `max_rows` would be needed.
        """
        start = self._first_fit(rows)
        if start is None:
            start = self.rows - self._free_at_the_end()
            self._grow(start + rows)
        self._free[start : start + rows] = [False] * rows
        return RowRange(start, start + rows)

    def release(self, block: RowRange) -> None:
        """Give a block back; its contents may be overwritten at once."""
        self._free[block.start : block.stop] = [True] * block.rows

    def exchange(self, given: Sequence[RowRange], rows: Sequence[int]) -> list[RowRange]:
        """Give blocks back and take others, which may lie over them: all or nothing.

        Raises:
            CapacityError: as in `allocate`; the given blocks are still the caller's then.
        """
        before = list(self._free)
        for block in given:
            self.release(block)
        try:
            return [self.allocate(count) for count in rows]
        except CapacityError:
            self._free = before + [True] * (self.rows - len(before))
            raise

    def give_back(self) -> None:
        """Give back the memory of rows that are free, as far as no others have to be moved for it."""

    def fill(self, block: RowRange) -> None:
        """Write something into all of a block, for a measurement."""
        raise NotImplementedError

    def copy_out(self, block: RowRange, length: int) -> Copy:
        """Clone the first `length` positions of a block."""
        raise NotImplementedError

    def copy_in(self, block: RowRange, copy: Copy, rows: Sequence[int] | None = None) -> None:
        """Write a clone back; `rows` chooses, for each row of the block, which row of the clone it gets."""
        raise NotImplementedError

    def remember_as(self, rows: Sequence[int], others: Sequence[int], places: Sequence[int]) -> None:
        """Let each of some rows have at its place the keys and values that another has there."""
        raise NotImplementedError

    def spoil(self, block: RowRange) -> None:
        """Note that a block may hold what is no number: nothing to whom only reads what it wrote."""

    def holds(self, copy: Copy, length: int, rows: int) -> bool:
        """Tell whether a clone, from a file, is one of so many rows and positions of this cache."""
        raise NotImplementedError

    def _free_at_the_end(self) -> int:
        taken = (at for at, free in enumerate(reversed(self._free)) if not free)
        return next(taken, self.rows)

    def _first_fit(self, rows: int) -> int | None:
        run = 0
        for row, free in enumerate(self._free):
            run = run + 1 if free else 0
            if run == rows:
                return row - rows + 1
        return None

    def _grow(self, rows: int) -> None:
        remedy = "close a stream or use fewer prompts"
        if rows > self.max_rows:
            raise CapacityError(f"{rows} rows needed, the limit is {self.max_rows}; {remedy}")
        reserved = min(self._with_reserve(rows), self.max_rows)
        if not any(self._grew_to(count) for count in (reserved, rows)):
            raise CapacityError(f"there is no memory for {rows} rows; {remedy}")

    def _grew_to(self, rows: int) -> bool:
        """Make room for so many rows in all; tell whether there was memory for them."""
        try:
            self._grow_to(rows)
        except torch.OutOfMemoryError:
            return False
        self._free += [True] * (rows - self.rows)
        return True

    def _with_reserve(self, rows: int) -> int:
        """Return how many rows to have where so many are needed."""
        return rows

    def _grow_to(self, rows: int) -> None:
        """Make room for so many rows in all."""
        raise NotImplementedError


class KVCache(CacheRows[RowsCopy]):
    """Keys and values of every layer, [layers, rows, heads, positions, head_dim].

    Args:
        config: decoder shape.
        rows: rows to start with.
        max_rows: refuse to grow past it.
    """

    def __init__(
        self, config: DecoderConfig, rows: int, *, dtype: torch.dtype, device: torch.device, max_rows: int = 256
    ) -> None:
        super().__init__(rows, max_rows)
        self._shape = (config.num_layers, config.num_heads, config.positions, config.head_dim)
        self._dtype, self._device = dtype, device
        self._spoilt: set[int] = set()
        self.keys, self.values = self._empty(rows)

    def _empty(self, rows: int) -> tuple[Tensor, Tensor]:
        layers, heads, positions, head_dim = self._shape
        # zeros, not empty: a masked read of a position never written must be finite
        keys, values = (
            torch.zeros(layers, rows, heads, positions, head_dim, dtype=self._dtype, device=self._device)
            for _ in range(2)
        )
        return keys, values

    def _with_reserve(self, rows: int) -> int:
        """Twice as many as before on a GPU, whose graphs are of one memory: each growth captures them anew."""
        return rows if self._device.type == "cpu" else max(rows, 2 * self.rows)

    def _reach(self, length: int) -> int:
        """Return how far along their fourth dimension so many positions' keys reach."""
        return length

    @torch.inference_mode(False)  # written inside it and out
    def _grow_to(self, rows: int) -> None:
        grown = self._empty(rows)
        for new, old in zip(grown, (self.keys, self.values), strict=True):
            new[:, : self.rows] = old
        self.keys, self.values = grown

    def fill(self, block: RowRange) -> None:
        """Write something into all of a block, of the size of music's."""
        for memory in (self.keys, self.values):
            memory[:, block.slice()] = torch.randn(memory.shape[2:], dtype=torch.float32).to(memory)

    @torch.inference_mode()
    def remember_as(self, rows: Sequence[int], others: Sequence[int], places: Sequence[int]) -> None:
        """Let each of some rows have at its place the keys and values that another has there: all in two calls."""
        mine, theirs, at = sent(torch.tensor([list(rows), list(others), list(places)]), self._device).unbind()
        self._remember_as(mine, theirs, at)

    def _remember_as(self, mine: Tensor, theirs: Tensor, at: Tensor) -> None:
        for memory in (self.keys, self.values):
            memory[:, mine, :, at] = memory[:, theirs, :, at]

    def spoil(self, block: RowRange) -> None:
        """Note that a block may hold what is no number: whoever gets its rows next finds zeros there.

        Else it would hear of it, where masked attention multiplies by nothing what lies ahead of it.
        """
        self._spoilt.update(range(block.start, block.stop))

    @torch.inference_mode()
    def allocate(self, rows: int) -> RowRange:
        """Take `rows` contiguous rows. Errors as of `CacheRows.allocate`."""
        block = super().allocate(rows)
        for row in self._spoilt.intersection(range(block.start, block.stop)):
            self._spoilt.remove(row)
            self.keys[:, row], self.values[:, row] = 0, 0
        return block

    def holds(self, copy: RowsCopy, length: int, rows: int) -> bool:
        """Tell whether a clone, from a file, is one of so many rows and positions of this cache."""
        pairs = (self.keys, copy.keys, self._reach(length)), (self.values, copy.values, length)
        return length <= self._shape[2] and all(
            clone.shape == (memory.shape[0], rows, memory.shape[2], reach, *memory.shape[4:])
            for memory, clone, reach in pairs
        )

    @torch.inference_mode()
    def copy_out(self, block: RowRange, length: int) -> RowsCopy:
        """Clone the first `length` positions of a block."""
        keys, values = self.keys[:, block.slice(), :, : self._reach(length)], self.values[:, block.slice(), :, :length]
        return RowsCopy(keys.clone(), values.clone())

    @torch.inference_mode()
    def copy_in(self, block: RowRange, copy: RowsCopy, rows: Sequence[int] | None = None) -> None:
        """Write a clone back; `rows` chooses, for each row of the block, which row of the clone it gets."""
        chosen = slice(None) if rows is None else torch.tensor(list(rows), device=self._device)
        for memory, saved in zip((self.keys, self.values), (copy.keys, copy.values), strict=True):
            memory[:, block.slice(), :, : saved.shape[3]] = saved[:, chosen]
