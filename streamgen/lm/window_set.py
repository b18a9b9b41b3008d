"""The windows of one stream that are open, and the closed ones that a rewind may still reach: who holds which rows.

    open ─► leader (and successor) ─ closed ─► kept for `keep_frames` ─► rows given back
              ▲                                         │
              └──────────────── rewind ─────────────────┘

Rules: owns blocks of the cache and which text each of their rows attends to; does not know when a window is due
(`token_stream`), feeds nothing (`engine`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamgen.lm.cache import AnyCopy, CacheRows, RowRange
from streamgen.lm.cross import CrossCache
from streamgen.lm.step import Rows, StepSettings, Window
from streamgen.lm.windows import WindowPlan

__all__ = ["WindowPlace", "SavedWindow", "WindowSet"]


@dataclass(frozen=True)
class WindowPlace:
    """Where a window is to stand.

    Attributes:
        start_frame: the first frame it knows.
        start_position: position of its first vector.
        window: the open window that stands there already; None opens one.
    """

    start_frame: int
    start_position: int
    window: Window | None = None


@dataclass(frozen=True)
class SavedWindow:
    """A window and a clone of what its block held."""

    window: Window
    copy: AnyCopy


class WindowSet:
    """The windows of one stream.

    Args:
        cache: where their rows lie.
        cross: which text each row attends to.
        keep_frames: how far back `rewind` must reach; closed windows are kept that long.

    Attributes:
        open: leader first, then the successor while one is warmed.
        keep_frames: as given.
    """

    def __init__(self, cache: CacheRows[Any], cross: CrossCache, keep_frames: int = 0) -> None:
        self._cache, self._cross = cache, cross
        self.open: list[Window] = []
        self.keep_frames = keep_frames
        self._closed: list[tuple[int, Window]] = []  # (head at which it was closed, window), oldest first

    def arrange(self, places: Sequence[WindowPlace], rows: Rows, sources: Sequence[int] | None, head: int) -> None:
        """Open, close and move windows until they stand as asked: all of it or nothing.

        Args:
            places: leader first; open windows that are not among them are closed.
            rows: what they all run.
            sources: for each row, the old row whose past the open windows continue; None: they stay where they are.
            head: of now.

        Raises:
            CapacityError: no room; nothing is changed then.
        """
        moving = [] if sources is None else [place.window for place in places if place.window is not None]
        staying = [place.window for place in places if sources is None and place.window is not None]
        leaving = [window for window in self.open if not any(window is one for one in staying)]
        copies = [self._cache.copy_out(window.block, window.fed) for window in moving]
        blocks = iter(self._exchange(leaving, [rows.count] * (len(places) - len(staying)), head))
        self.open = [
            place.window
            if place.window is not None and sources is None
            else Window(next(blocks), place.start_frame, place.start_position)
            for place in places
        ]
        for window, old, copy in zip(self.open, moving, copies, strict=False):  # the windows that move come first
            self._cache.copy_in(window.block, copy, sources)
            window.fed = old.fed
        self.attach_texts(rows)

    def _exchange(self, leaving: Sequence[Window], counts: Sequence[int], head: int) -> list[RowRange]:
        """Take blocks in the place of some windows', which stay as long as a rewind can reach them."""
        blocks = self._cache.exchange([] if self.keep_frames else [window.block for window in leaving], counts)
        for window in leaving:
            self._detach_texts(window.block)
            if self.keep_frames:
                self._closed.append((head, replace(window)))
        return blocks

    def attach_texts(self, rows: Rows) -> None:
        """Let every open window attend to the texts of these rows."""
        for window in self.open:
            for row, text in enumerate(rows.texts):
                self._cross.set(window.block.start + row, text)

    def _detach_texts(self, block: RowRange) -> None:
        for row in range(block.start, block.stop):
            self._cross.set(row, None)

    def forget(self, before_head: float) -> None:
        """Give back the rows of windows closed before a head."""
        while self._closed and self._closed[0][0] < before_head:
            self._cache.release(self._closed.pop(0)[1].block)

    def close(self) -> None:
        """Give all rows back."""
        for window in self.open:
            self._detach_texts(window.block)
            self._cache.release(window.block)
        self.open.clear()
        self.forget(math.inf)

    # -- rewind and snapshot --------------------------------------------------------------------------------------

    def mark(self) -> tuple[Window, ...]:
        """Copy the open windows' places, for `rewind`."""
        return tuple(replace(window) for window in self.open)

    def rewind(self, windows: Sequence[Window], rows: Rows, head: int) -> None:
        """Go back to the windows that were open at a head: those opened since are given back."""
        wanted = {window.block for window in windows}
        held = [*self.open, *(window for _, window in self._closed)]
        self._closed = [(at, w) for at, w in self._closed if at < head and w.block not in wanted]
        kept = wanted | {window.block for _, window in self._closed}
        for window in held:
            self._detach_texts(window.block)
            if window.block not in kept:
                self._cache.release(window.block)
        self.open = [replace(window) for window in windows]
        self.attach_texts(rows)

    def snapshot(self) -> tuple[SavedWindow, ...]:
        """Clone the open windows and what their rows hold."""
        return tuple(SavedWindow(replace(w), self._cache.copy_out(w.block, w.fed)) for w in self.open)

    def check(self, saved: Sequence[SavedWindow], settings: StepSettings, head: int, limit: int) -> None:
        """Refuse windows that do not hold together, or lead out of the cache.

        Raises:
            ValueError: they do.
        """
        rows, plan = settings.rows, settings.plan
        counts = {len(rows.names), len(rows.texts), len(rows.coefficients)}
        if len(saved) not in (1, 2) or head < -1 or len(counts) > 1 or plan.limit > limit:
            raise ValueError(
                f"{len(saved)} windows of {rows.count} rows at frame {head}, within {plan.limit} positions"
            )
        if settings.guidance_interval < 1 or not math.isclose(sum(rows.coefficients), 1, rel_tol=0, abs_tol=1e-6):
            raise ValueError(f"guidance of every {settings.guidance_interval}th frame, of shares {rows.coefficients}")
        if any(text.keys.shape != text.values.shape for text in rows.texts):
            raise ValueError("a text has keys and values of other lengths")
        WindowPlan(plan.limit, plan.context_frames, plan.start_position, plan.prefix)  # whose limits it checks itself
        for one in saved:
            window = one.window
            numbers = (window.start_frame, window.start_position, window.fed, plan.prefix)
            age = head + plan.prefix - window.start_frame  # a successor reads its prefix before its first frame
            if min(numbers) < 0 or window.start_position + window.fed > plan.limit or not -1 <= age < 2 * plan.limit:
                raise ValueError(f"a window of {window.fed} vectors from position {window.start_position}")
            if not self._cache.holds(one.copy, window.fed, rows.count):
                raise ValueError(f"what a window of {window.fed} vectors remembers is of another length")

    def restore(self, saved: Sequence[SavedWindow], rows: Rows) -> None:
        """Go back to a snapshot, which stays valid.

        Raises:
            CapacityError: no room for its rows; nothing is changed then.
        """
        held = [window.block for window in (*self.open, *(window for _, window in self._closed))]
        blocks = self._cache.exchange(held, [rows.count] * len(saved))
        for block in held:
            self._detach_texts(block)
        self._closed.clear()
        self.open = [replace(one.window, block=block) for one, block in zip(saved, blocks, strict=True)]
        for window, one in zip(self.open, saved, strict=True):
            self._cache.copy_in(window.block, one.copy)
        self.attach_texts(rows)
