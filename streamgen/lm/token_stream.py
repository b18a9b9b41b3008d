"""One endless stream of code frames: its windows, its rows, its draws. What an engine step needs from it and gives it.

A step: `inputs()` says which vectors to feed (leader, and successor while one is warmed), the engine runs the pass,
`accept()` gets the leader's logits, draws the next column and moves the head on.

    head −1   feed the opening column (all padding)      → draw column of head 0
    head  0   feed codes of head 0                       → draw column of head 1 …
    a frame is complete when its last codebook is drawn: `frames_done`

Rules: decides when windows open and close; its codes are in a CodeRing, its cache rows in a WindowSet. No PCM, no
text, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from streamgen.conditioning.prompt_mix import combine
from streamgen.lm.cache import KVCache
from streamgen.lm.code_ring import CodeRing
from streamgen.lm.cross import CrossCache
from streamgen.lm.delay import DelayPattern
from streamgen.lm.sampling import Sampling, sample
from streamgen.lm.window_set import Rows, SavedWindow, Window, WindowSet
from streamgen.lm.windows import WindowPlan

__all__ = ["Feed", "TokenMark", "TokenSnapshot", "TokenStream"]


@dataclass(frozen=True)
class Feed:
    """What one window is fed in this step: a prefix vector per row, or one column for all rows."""

    window: Window
    column: Tensor | None
    prefix: Tensor | None


@dataclass(frozen=True)
class _Place:
    """What a stream remembers besides codes and windows; all of it is immutable."""

    head: int
    rows: Rows
    sampling: Sampling
    plan: WindowPlan
    rollovers: int
    origin: int


@dataclass(frozen=True)
class TokenSnapshot:
    """A stream's tokens at one moment; all tensors are clones."""

    place: _Place
    codes: Tensor
    windows: tuple[SavedWindow, ...]


@dataclass(frozen=True)
class TokenMark:
    """A place to rewind to: no clone, for the cache is only ever appended to."""

    place: _Place
    windows: tuple[Window, ...]

    @property
    def head(self) -> int:
        """Head of the stream then."""
        return self.place.head


class TokenStream:
    """State of one stream's tokens.

    Args:
        pattern: delays.
        plan: where windows end.
        rows: prompt rows to begin with.
        sampling: draw settings to begin with.
        cache: where rows lie.
        cross: which text each row attends to.
        total_frames: a known end, or None for endless.

    Attributes:
        plan, rows, sampling: in force.
        head: undelayed frame of the column that is fed next.
        rollovers: handovers so far.
        origin: first frame that may be read again: 0, or where the music last let go of what was before.
        prompt_frames: frames of the audio prompt it began with.
    """

    def __init__(
        self,
        pattern: DelayPattern,
        plan: WindowPlan,
        rows: Rows,
        sampling: Sampling,
        cache: KVCache,
        cross: CrossCache,
        total_frames: int | None = None,
    ) -> None:
        self.pattern, self.total_frames = pattern, total_frames
        self.plan, self.rows, self.sampling = plan, rows, sampling
        self.head, self.rollovers, self.prompt_frames, self.origin = -1, 0, 0, 0
        self._set = WindowSet(cache, cross)
        self.keep_frames = 0
        self._set.add(rows, 0, 0)

    @property
    def windows(self) -> list[Window]:
        """Leader first, then the successor while one is warmed."""
        return self._set.open

    @property
    def keep_frames(self) -> int:
        """How far back `rewind` must reach; set before the first step."""
        return self._set.keep_frames

    @keep_frames.setter
    def keep_frames(self, frames: int) -> None:
        assert self.head == -1, self.head
        self._set.keep_frames = frames
        # frames of one window and the delayed tail, before all that may be revoked: what a re-read can ask for
        self._ring = CodeRing(self.pattern, self.plan.limit + 8 + frames, self.total_frames)

    # -- what to feed ---------------------------------------------------------------------------------------------

    def inputs(self) -> list[Feed]:
        """Return what each window is fed at this head, after opening or retiring windows that are due."""
        self._set.forget(self.head - self.keep_frames)
        self._roll_over()
        return [self._feed(window) for window in self.windows]

    def _roll_over(self) -> None:
        leader = self.windows[0]
        handover = self.plan.handover(leader.start_frame, leader.start_position)
        if self.head == handover:
            assert len(self.windows) == 2, "the successor is warmed before its leader is full"
            self._set.retire_leader(self.head)
            self.rollovers += 1
            self._roll_over()
        elif len(self.windows) == 1 and self.head >= self.plan.warming_start(handover) and self._outlives(handover):
            # a context lengthened in mid-stream cannot reach back before this head: nothing older was fed
            start = max(self.plan.successor_start(handover), self.head + 1 + self.plan.prefix)
            self._set.add(self.rows, start, self.plan.start_position)

    def _outlives(self, handover: int) -> bool:
        return self.total_frames is None or self.total_frames + self.pattern.max_delay > handover + 1

    def _feed(self, window: Window) -> Feed:
        if window.fed < self.rows.prefix:
            assert self.rows.prefixes is not None
            return Feed(window, None, self.rows.prefixes[:, window.fed])
        return Feed(window, self.column(self.head, window.start_frame), None)

    def column(self, head: int, start_frame: int = 0) -> Tensor:
        """Return the codes of a column that is still remembered, int64 [K]; padding before `start_frame`."""
        return self._ring.column(head, start_frame)

    # -- what comes back ------------------------------------------------------------------------------------------

    def accept(self, logits: Tensor) -> None:
        """Draw the next column from the leader's logits and move on.

        Args:
            logits: float32 [rows, K, V] of the leader's rows.
        """
        guided = combine(logits, self.rows.coefficients)
        codes = sample(guided, self.sampling, self.head + 1).cpu()
        for window in self.windows:  # only now: a step that fails or is interrupted can be done again
            window.fed += 1
        self._ring.write(self.head + 1, codes, self._settled_frames)
        self.head += 1

    @property
    def _settled_frames(self) -> int:
        """Frames whose codes are given or held, whatever is drawn."""
        return max(self.prompt_frames, self.origin)

    @property
    def frames_done(self) -> int:
        """Complete frames so far, the audio prompt's included."""
        return max(self.head + 1 - self.pattern.max_delay, 0)

    @property
    def finished(self) -> bool:
        """True once `total_frames` are complete."""
        return self.total_frames is not None and self.frames_done >= self.total_frames

    def frames(self, start: int, stop: int) -> Tensor:
        """Return complete frames that are still remembered, int64 [K, stop − start]."""
        assert stop <= max(self.frames_done, self.prompt_frames), (start, stop, self.frames_done)
        return self._ring.frames(start, stop)

    # -- beginnings and other rows --------------------------------------------------------------------------------

    def begin_with(self, codes: Tensor) -> None:
        """Start from an audio prompt: frames 0 … F − 1 are given; the head moves to the last of them.

        Args:
            codes: int64 [K, F].
        """
        assert self.head == -1, "an audio prompt comes first"
        self.prompt_frames = codes.shape[1]
        self._ring.give(codes)
        self.head = codes.shape[1] - 1

    def set_rows(self, rows: Rows, sources: list[int] | None = None) -> None:
        """Change prompts in mid-stream (checkpoints with cross-attention): the next step attends to the new texts.

        Args:
            rows: the new rows.
            sources: for each new row, the old row whose past it continues; None keeps the order.

        Raises:
            CapacityError: no room for them; nothing is changed then.
        """
        if rows.count != self.rows.count or (sources or []) != list(range(len(sources or []))):
            assert sources is not None, "a new number of rows needs their sources"
            self._set.move(rows, sources, self.head)
        else:
            self._set.attach_texts(rows)
        self.rows = rows

    def fresh_window(self, rows: Rows, plan: WindowPlan) -> Window:
        """Replace all windows by one that must be re-read from this head: what a new melody prefix needs.

        Returns:
            The new leader, with nothing fed; its caller prefills `reread(window)` into it.

        Raises:
            CapacityError: no room for it; nothing is changed then.
        """
        return self._begin_anew(rows, plan, max(self.head + 1 - plan.context_frames, self.origin))

    def _begin_anew(self, rows: Rows, plan: WindowPlan, start: int) -> Window:
        opening = start > self.head or (start == 0 and self.rollovers == 0)
        window = self._set.begin_anew(rows, start, 0 if opening else plan.start_position, self.head)
        self.rows, self.plan = rows, plan
        return window

    def knows_beyond(self, frames: int) -> bool:
        """Tell whether there is a complete frame, and the leader knows more than the newest `frames`."""
        return self.frames_done > 0 and self.head + 1 - self.windows[0].start_frame > frames

    def let_go(self, rows: Rows, plan: WindowPlan, frames: int) -> Window:
        """Replace all windows by one that knows only the newest frames; no later one reads what was before them.

        Args:
            rows: of the new window.
            plan: of it.
            frames: how many, fewer than the leader knows; cut to what leaves room to warm a successor.

        Returns:
            The new leader, with nothing fed; its caller prefills `reread(window)` into it.

        Raises:
            CapacityError: no room for it; nothing is changed then.
        """
        assert self.knows_beyond(frames), (frames, self.head)
        start = self.head + 1 - min(frames, plan.longest_prompt() - plan.start_position)
        window = self._begin_anew(rows, plan, start)
        # The finer codebooks of the last frames before it are not drawn yet, and the new window could only guess them
        # from padding: 60 ms of noise. Held for as long, they are not heard beneath a new beginning.
        self._ring.hold(self.head, self._settled_frames, start)
        self.origin = start
        return window

    def reread(self, window: Window) -> Tensor:
        """Return the columns that a window has to know before the next step, int64 [n, K]: opening column first."""
        return self._ring.columns(window.start_frame - 1, self.head, window.start_frame)

    def close(self) -> None:
        """Give all rows back."""
        self._set.close()

    # -- rewind and snapshot --------------------------------------------------------------------------------------

    def mark(self) -> TokenMark:
        """Remember this place; `rewind` can return to it while it is at most `keep_frames` back."""
        return TokenMark(self._place(), self._set.mark())

    def rewind(self, mark: TokenMark) -> None:
        """Go back to a mark: what was drawn since is forgotten, nothing is computed."""
        assert self.head - mark.head <= self.keep_frames, (self.head, mark.head, self.keep_frames)
        self._set.rewind(mark.windows, mark.place.rows, mark.head)
        self._go_to(mark.place)

    def snapshot(self) -> TokenSnapshot:
        """Clone everything."""
        return TokenSnapshot(self._place(), self._ring.snapshot(), self._set.snapshot())

    def restore(self, saved: TokenSnapshot) -> None:
        """Go back to a snapshot; it stays valid and can be restored again.

        Raises:
            CapacityError: no room for its rows; nothing is changed then.
        """
        self._set.restore(saved.windows, saved.place.rows)
        self._ring.restore(saved.codes)
        self._go_to(saved.place)

    def _place(self) -> _Place:
        return _Place(self.head, self.rows, self.sampling, self.plan, self.rollovers, self.origin)

    def _go_to(self, place: _Place) -> None:
        self.head, self.rows, self.sampling = place.head, place.rows, place.sampling
        self.plan, self.rollovers, self.origin = place.plan, place.rollovers, place.origin
