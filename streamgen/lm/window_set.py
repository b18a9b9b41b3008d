"""The windows of one stream that are open, and the closed ones that a rewind may still reach: who holds which rows.

    open ─► leader (and successor) ─ retire ─► kept for `keep_frames` ─► rows given back
              ▲                                         │
              └──────────────── rewind ─────────────────┘

Rules: owns blocks of the cache and which text each of their rows attends to; does not know when a window is due
(`windows`), feeds nothing (`engine`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from streamgen.lm.cache import Block, BlockCopy, KVCache
from streamgen.lm.cross import CrossCache, TextKV

__all__ = ["Rows", "SavedWindow", "Window", "WindowSet"]


@dataclass(frozen=True)
class Rows:
    """The decoder rows of a stream: one per prompt, the null or negative one last.

    Attributes:
        texts: keys and values to attend to, per row.
        coefficients: share of each row's logits in the guided logits.
        prefixes: float32 [P, D] per row for melody checkpoints, else None.
    """

    texts: tuple[TextKV, ...]
    coefficients: tuple[float, ...]
    prefixes: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.texts)

    @property
    def prefix(self) -> int:
        """Positions of the prefix."""
        return 0 if self.prefixes is None else self.prefixes.shape[1]


@dataclass
class Window:
    """One window's place.

    Attributes:
        block: its rows in the cache.
        start_frame: the first frame it knows.
        start_position: position of its first vector.
        fed: vectors fed so far.
    """

    block: Block
    start_frame: int
    start_position: int
    fed: int = 0

    @property
    def position(self) -> int:
        """Position of the next vector."""
        return self.start_position + self.fed


@dataclass(frozen=True)
class SavedWindow:
    """A window and a clone of what its block held."""

    window: Window
    copy: BlockCopy


class WindowSet:
    """The windows of one stream.

    Args:
        cache: where their rows lie.
        cross: which text each row attends to.

    Attributes:
        open: leader first, then the successor while one is warmed.
        keep_frames: how far back `rewind` must reach; closed windows are kept that long.
    """

    def __init__(self, cache: KVCache, cross: CrossCache) -> None:
        self._cache, self._cross = cache, cross
        self.open: list[Window] = []
        self.keep_frames = 0
        self._retired: list[tuple[int, Window]] = []  # (head at which it was closed, window), oldest first

    def add(self, rows: Rows, start_frame: int, start_position: int) -> None:
        """Open one more window.

        Raises:
            CapacityError: no room for it; nothing is changed then.
        """
        window = Window(self._cache.allocate(rows.count), start_frame, start_position)
        self._attach_texts(window.block, rows)
        self.open.append(window)

    def _attach_texts(self, block: Block, rows: Rows) -> None:
        for row, text in enumerate(rows.texts):
            self._cross.set(block.start + row, text)

    def attach_texts(self, rows: Rows) -> None:
        """Let every open window attend to the texts of these rows."""
        for window in self.open:
            self._attach_texts(window.block, rows)

    def _detach_texts(self, block: Block) -> None:
        for row in range(block.start, block.stop):
            self._cross.set(row, None)

    def retire_leader(self, head: int) -> None:
        """Stop feeding the leader at a head; its rows are given back once no rewind can reach it."""
        window = self.open.pop(0)
        self._detach_texts(window.block)
        if self.keep_frames:
            self._retired.append((head, window))
        else:
            self._cache.release(window.block)

    def forget(self, before_head: float) -> None:
        """Give back the rows of windows closed before a head."""
        while self._retired and self._retired[0][0] < before_head:
            self._cache.release(self._retired.pop(0)[1].block)

    def close(self) -> None:
        """Give all rows back."""
        for window in self.open:
            self._detach_texts(window.block)
            self._cache.release(window.block)
        self.open.clear()
        self.forget(math.inf)

    # -- other rows -----------------------------------------------------------------------------------------------

    def move(self, rows: Rows, sources: list[int], head: int) -> None:
        """Give every window new rows.

        Args:
            rows: the new ones.
            sources: for each of them, the old row whose past it continues.
            head: of now.

        Raises:
            CapacityError: no room for them; nothing is changed then.
        """
        copies = [self._cache.copy_out(window.block, window.fed) for window in self.open]
        blocks = self._exchange([rows.count] * len(self.open), head)
        for window, block, copy in zip(self.open, blocks, copies, strict=True):
            window.block = block
            self._cache.copy_in(block, copy, sources)
        self.attach_texts(rows)

    def begin_anew(self, rows: Rows, start_frame: int, start_position: int, head: int) -> Window:
        """Replace all windows by an empty one.

        Raises:
            CapacityError: no room for it; nothing is changed then.
        """
        (block,) = self._exchange([rows.count], head)
        self.open = [Window(block, start_frame, start_position)]
        self.attach_texts(rows)
        return self.open[0]

    def _exchange(self, counts: list[int], head: int) -> list[Block]:
        """Take blocks in the place of the windows', which stay as long as a rewind can reach them."""
        blocks = self._cache.exchange([] if self.keep_frames else [window.block for window in self.open], counts)
        for window in self.open:
            self._detach_texts(window.block)
            if self.keep_frames:
                self._retired.append((head, replace(window)))
        return blocks

    # -- rewind and snapshot --------------------------------------------------------------------------------------

    def mark(self) -> tuple[Window, ...]:
        """Copy the open windows' places, for `rewind`."""
        return tuple(replace(window) for window in self.open)

    def rewind(self, windows: Sequence[Window], rows: Rows, head: int) -> None:
        """Go back to the windows that were open at a head: those opened since are given back."""
        wanted = {window.block for window in windows}
        held = [*self.open, *(window for _, window in self._retired)]
        self._retired = [(at, w) for at, w in self._retired if at < head and w.block not in wanted]
        kept = wanted | {window.block for _, window in self._retired}
        for window in held:
            self._detach_texts(window.block)
            if window.block not in kept:
                self._cache.release(window.block)
        self.open = [replace(window) for window in windows]
        self.attach_texts(rows)

    def snapshot(self) -> tuple[SavedWindow, ...]:
        """Clone the open windows and what their rows hold."""
        return tuple(SavedWindow(replace(w), self._cache.copy_out(w.block, w.fed)) for w in self.open)

    def restore(self, saved: Sequence[SavedWindow], rows: Rows) -> None:
        """Go back to a snapshot, which stays valid.

        Raises:
            CapacityError: no room for its rows; nothing is changed then.
        """
        held = [window.block for window in (*self.open, *(window for _, window in self._retired))]
        blocks = self._cache.exchange(held, [rows.count] * len(saved))
        for block in held:
            self._detach_texts(block)
        self._retired.clear()
        self.open = [replace(one.window, block=block) for one, block in zip(saved, blocks, strict=True)]
        for window, one in zip(self.open, saved, strict=True):
            self._cache.copy_in(window.block, one.copy)
        self.attach_texts(rows)
