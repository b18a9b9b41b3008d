"""One endless stream of code frames: its windows, its codes, and what each step needs of them.

    begin_step(settings) ─► Step ─ LmEngine.step ─► codes ─► finish_step(codes)

    head −1   feed the opening column (all padding)      → draw column of head 0
    head  0   feed codes of head 0                       → draw column of head 1 …
    a frame is complete when its last codebook is drawn: `frames_done`

Settings are an argument of every step. Where they differ from the last step's, windows and rows follow, all of it or,
where there is no room, nothing:

    rows of other names        the windows' rows move; each goes on from the past of its namesake
    another melody prefix      a fresh window reads its context again: a prefix stands at the beginning
    another dominant prompt    a fresh window reads what survives, and what was before it is dropped for good

Rules: decides when windows open and close; its codes are in a CodeRing, its cache rows in a WindowSet. No PCM, no
text, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from streamgen.lm.cache import CacheRows
from streamgen.lm.cross import CrossCache
from streamgen.lm.delay import CodeRing, DelayPattern
from streamgen.lm.step import Feed, Rows, Step, StepSettings, Unread, Window
from streamgen.lm.window_set import SavedWindow, WindowPlace, WindowSet
from streamgen.lm.windows import WindowPlan

__all__ = ["TokenMark", "TokenSnapshot", "TokenStream"]


@dataclass(frozen=True)
class _TokenState:
    """What a stream remembers besides codes and windows; all of it is immutable."""

    head: int
    settings: StepSettings
    rollovers: int
    origin: int
    downbeat: int | None


@dataclass(frozen=True)
class TokenSnapshot:
    """A stream's tokens at one moment; all tensors are clones."""

    state: _TokenState
    codes: Tensor
    windows: tuple[SavedWindow, ...]


@dataclass(frozen=True)
class TokenMark:
    """A place to rewind to: no clone, for the cache is only ever appended to."""

    state: _TokenState
    windows: tuple[Window, ...]

    @property
    def head(self) -> int:
        """Head of the stream then."""
        return self.state.head


class TokenStream:
    """State of one stream's tokens.

    Args:
        pattern: delays.
        settings: to begin with.
        cache: where rows lie.
        cross: which text each row attends to.
        keep_frames: how far back `rewind` must reach.
        total_frames: a known end, or None for endless.
        limit: positions that a window may ever use, whatever is read first in it; None is the settings' own.

    Attributes:
        settings: of the last step.
        head: undelayed frame of the column that is fed next.
        rollovers: handovers so far.
        origin: first frame that may be read again: 0, or where the context was last dropped.
        downbeat: first frame of the first bar; None after an audio prompt, whose bars nobody knows.
        prompt_frames: frames of the audio prompt it began with.

    Raises:
        CapacityError: no room for its rows.
    """

    def __init__(
        self,
        pattern: DelayPattern,
        settings: StepSettings,
        cache: CacheRows[Any],
        cross: CrossCache,
        *,
        keep_frames: int = 0,
        total_frames: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.pattern, self.settings, self.total_frames = pattern, settings, total_frames
        self.head, self.rollovers, self.prompt_frames, self.origin = -1, 0, 0, 0
        self.downbeat: int | None = 0
        self._delays = pattern.offsets()
        self._bias_table: Tensor | None = None
        self._bias_places = 0
        self._biases: dict[int, Tensor] = {}
        self._limit = settings.plan.limit if limit is None else limit
        # frames of one window and the delayed tail, before all that may be revoked: what can be asked for again; as
        # long whatever is read first, so that a file's codes fit
        self._ring = CodeRing(pattern, self._limit + 8 + keep_frames, total_frames)
        self._set = WindowSet(cache, cross, keep_frames)
        self._set.arrange([WindowPlace(0, 0)], settings.rows, None, self.head)

    @property
    def windows(self) -> list[Window]:
        """Leader first, then the successor while one is warmed."""
        return self._set.open

    @property
    def keep_frames(self) -> int:
        """How far back `rewind` reaches."""
        return self._set.keep_frames

    def begin_with(self, codes: Tensor) -> None:
        """Start from an audio prompt: frames 0 … F − 1 are given; the head moves to the last of them.

        Args:
            codes: int64 [K, F].
        """
        assert self.head == -1, "an audio prompt comes first"
        self.prompt_frames, self.downbeat = codes.shape[1], None
        self._ring.give(codes)
        self.head = codes.shape[1] - 1

    # -- a step ---------------------------------------------------------------------------------------------------

    def begin_step(self, settings: StepSettings) -> Step:
        """Bring windows and rows up to this head and these settings, and return what to feed.

        A step that was begun and not finished may be begun again.

        Raises:
            CapacityError: no room for the rows, or for the next window. Nothing is changed then.
        """
        self._set.forget(self.head - self.keep_frames)
        if settings is not self.settings or self._window_is_due():
            self._arrange(settings)
        unread, feeds = self.unread(), [self._feed(window) for window in self.windows]
        column = self.head + 1 - (self.origin if settings.recalls else 0)
        shares = self._coefficients(settings, feeds, column)
        return Step(unread, feeds, settings.rows, shares, settings.sampling, column, self._bias(settings.rows.bias))

    @staticmethod
    def _coefficients(settings: StepSettings, feeds: Sequence[Feed], column: int) -> tuple[float, ...]:
        """Of the rows that run: without guidance, where a column is left out of it, and nothing but music is read."""
        guided = column % settings.guidance_interval == 0 or any(feed.prefix is not None for feed in feeds)
        return settings.rows.coefficients if guided else settings.rows.unguided

    def _bias(self, table: Tensor | None) -> Tensor | None:
        """Of each codebook the row for the place of its frame in the bar, [K, V]: a column holds several frames."""
        if table is None or self.downbeat is None:
            return None
        if table is not self._bias_table:
            self._bias_table, self._bias_places, self._biases = table, len(table), {}
        place = (self.head + 1 - self.downbeat) % self._bias_places
        if place not in self._biases:  # every bar has the same ones
            self._biases[place] = table[(place - self._delays) % self._bias_places, torch.arange(len(self._delays))]
        return self._biases[place]

    def finish_step(self, codes: Tensor) -> None:
        """Take the column that was drawn, int64 [K], and move on."""
        for window in self.windows:  # only now: a step that fails or is interrupted can be done again
            window.fed += 1
        self._ring.write(self.head + 1, codes, self._settled_frames)
        self.head += 1

    def unread(self) -> list[Unread]:
        """Return what windows have to read before the next step: all that a new one knows, or nothing."""
        return [self._unread(window) for window in self.windows if window.fed < self._due(window)]

    def _due(self, window: Window) -> int:
        """Vectors that a window knows before a step at this head: prefix, opening column, frames up to the last."""
        return self.settings.rows.prefix + self.head + 1 - window.start_frame

    def _unread(self, window: Window) -> Unread:
        rows, fed, due = self.settings.rows, window.fed, self._due(window)
        prefixes = None
        if rows.prefixes is not None and fed < rows.prefix:
            prefixes = rows.prefixes.of(window.start_frame)[:, fed : min(rows.prefix, due)]
        first = window.start_frame - 1 + max(fed - rows.prefix, 0)
        return Unread(window, prefixes, self._ring.columns(first, self.head, window.start_frame))

    def _feed(self, window: Window) -> Feed:
        prefixes = self.settings.rows.prefixes
        if prefixes is not None and self._due(window) < prefixes.length:
            return Feed(window, None, prefixes.of(window.start_frame)[:, self._due(window)])
        return Feed(window, self.column(self.head, window.start_frame), None)

    # -- other settings, and windows that are due -----------------------------------------------------------------

    def _window_is_due(self) -> bool:
        """Tell whether the leader is full, or has no successor though it is time to warm one."""
        plan, leader = self.settings.plan, self.windows[0]
        handover = plan.handover(leader.start_frame, leader.start_position)
        return self.head >= (handover if len(self.windows) > 1 else plan.warming_start(handover))

    def _arrange(self, settings: StepSettings) -> None:
        """Bring windows, rows and settings up to this head: all of it or, where that raises, nothing."""
        dropped = self._dropped_start(settings)
        places, handovers = self._rolled_over(self._standing(settings, dropped), settings.plan)
        self._set.arrange(places, settings.rows, self._sources(settings.rows), self.head)
        if dropped is not None:
            # The finer codebooks of the last frames before it are not drawn yet, and the new window could only guess
            # them from padding: noise. Held for as long, they go unnoticed beneath a new beginning.
            self._ring.hold(self.head, self._settled_frames, dropped)
            self.origin = dropped
            if dropped > self.head:  # nothing is left of the music before: this is the beginning of another
                self.downbeat = dropped
        self.settings, self.rollovers = settings, self.rollovers + handovers

    def _standing(self, settings: StepSettings, dropped: int | None) -> list[WindowPlace]:
        """Where windows stand under these settings: as they do, or one alone that begins anew."""
        if dropped is not None:
            return [self._fresh(dropped, settings.plan)]
        if settings is not self.settings and self._has_other_prefixes(settings.rows):
            start = max(self.head + 1 - settings.plan.context_frames, self.origin)
            return [self._fresh(start, settings.plan)]
        return [WindowPlace(window.start_frame, window.start_position, window) for window in self.windows]

    def _fresh(self, start: int, plan: WindowPlan) -> WindowPlace:
        opening = start > self.head or (start == 0 and self.rollovers == 0)
        return WindowPlace(start, 0 if opening else plan.start_position)

    def _rolled_over(self, places: list[WindowPlace], plan: WindowPlan) -> tuple[list[WindowPlace], int]:
        """Return the places without leaders that are full, with a successor that is due; and how many were full."""
        full, handover = 0, plan.handover(places[0].start_frame, places[0].start_position)
        while self.head == handover:
            assert len(places) == 2, "the successor is warmed before its leader is full"
            places, full = places[1:], full + 1
            handover = plan.handover(places[0].start_frame, places[0].start_position)
        if len(places) == 1 and self.head >= plan.warming_start(handover) and self._outlives(handover):
            # a context lengthened in mid-stream cannot reach back before this head: nothing older was fed
            start = max(plan.successor_start(handover), self.head + 1 + plan.prefix)
            places = [*places, WindowPlace(start, plan.start_position)]
        return places, full

    def _outlives(self, handover: int) -> bool:
        return self.total_frames is None or self.total_frames + self.pattern.max_delay > handover + 1

    def _sources(self, rows: Rows) -> list[int] | None:
        """For each row the old one whose past it continues; None where all stay in their places, or begin anew."""
        if rows.prefixes is not None:
            return None
        sources = rows.sources(self.settings.rows)
        same = rows.count == self.settings.rows.count and sources == list(range(rows.count))
        return None if same else sources

    def _has_other_prefixes(self, rows: Rows) -> bool:
        """Tell whether other texts stand at the windows' beginning, or the same ones with the melody elsewhere."""
        old = self.settings.rows
        if rows.prefixes is None or old.prefixes is None:
            return False
        return rows.names != old.names or rows.prefixes != old.prefixes

    def _dropped_start(self, settings: StepSettings) -> int | None:
        """Return the frame before which context is dropped: another prompt dominates, and there is some to drop."""
        if settings is self.settings or settings.dominant == self.settings.dominant:
            return None
        plan, frames = settings.plan, settings.surviving_frames
        if not self.knows_beyond(frames):
            return None
        if plan.prefix:  # a melody's window is read again as long as its context is, whatever would survive
            frames = min(frames, plan.context_frames)
        return self.head + 1 - min(frames, plan.longest_prompt() - plan.start_position)  # room to warm a successor

    def knows_beyond(self, frames: int) -> bool:
        """Tell whether there is a complete frame, and the leader knows more than the newest `frames`."""
        return self.frames_done > 0 and self.head + 1 - self.windows[0].start_frame > frames

    # -- codes ----------------------------------------------------------------------------------------------------

    def column(self, head: int, start_frame: int = 0) -> Tensor:
        """Return the codes of a column that is still remembered, int64 [K]; padding before `start_frame`."""
        return self._ring.column(head, start_frame)

    @property
    def _settled_frames(self) -> int:
        """Frames whose codes are given or held, whatever is drawn."""
        return max(self.prompt_frames, self.origin)

    @property
    def frames_done(self) -> int:
        """Complete frames so far, the audio prompt's included."""
        return max(self.head + 1 - self.pattern.max_delay, 0)

    def frames(self, start: int, stop: int) -> Tensor:
        """Return complete frames that are still remembered, int64 [K, stop − start]."""
        assert stop <= max(self.frames_done, self.prompt_frames), (start, stop, self.frames_done)
        return self._ring.frames(start, stop)

    # -- rewind and snapshot --------------------------------------------------------------------------------------

    def mark(self) -> TokenMark:
        """Remember this place; `rewind` can return to it while it is at most `keep_frames` back."""
        return TokenMark(self._state(), self._set.mark())

    def rewind(self, mark: TokenMark) -> None:
        """Go back to a mark: what was drawn since is forgotten, nothing is computed."""
        assert self.head - mark.head <= self.keep_frames, (self.head, mark.head, self.keep_frames)
        self._set.rewind(mark.windows, mark.state.settings.rows, mark.head)
        self._go_to(mark.state)

    def forget_before(self, mark: TokenMark) -> None:
        """Give back the rows that only a rewind to before a mark would need."""
        self._set.forget(mark.head)

    def snapshot(self) -> TokenSnapshot:
        """Clone everything."""
        return TokenSnapshot(self._state(), self._ring.snapshot(), self._set.snapshot())

    def check(self, saved: TokenSnapshot) -> None:
        """Refuse a snapshot, of a file that was changed, whose numbers lead out of this stream's memory or codes.

        Raises:
            ValueError: they do.
        """
        self._ring.check(saved.codes)
        self._set.check(saved.windows, saved.state.settings, saved.state.head, self._limit)

    def restore(self, saved: TokenSnapshot) -> None:
        """Go back to a snapshot; it stays valid and can be restored again.

        Raises:
            CapacityError: no room for its rows; nothing is changed then.
        """
        self._set.restore(saved.windows, saved.state.settings.rows)
        self._ring.restore(saved.codes)
        self._go_to(saved.state)

    def close(self) -> None:
        """Give all rows back."""
        self._set.close()

    def _state(self) -> _TokenState:
        return _TokenState(self.head, self.settings, self.rollovers, self.origin, self.downbeat)

    def _go_to(self, state: _TokenState) -> None:
        self.head, self.settings = state.head, state.settings
        self.rollovers, self.origin, self.downbeat = state.rollovers, state.origin, state.downbeat
