"""One endless stream of code frames: its windows, its rows, its draws. What an engine step needs from it and gives it.

A step: `inputs()` says which vectors to feed (leader, and successor while one is warmed), the engine runs the pass,
`accept()` gets the leader's logits, draws the next column and moves the head on.

    head −1   feed the opening column (all padding)      → draw column of head 0
    head  0   feed codes of head 0                       → draw column of head 1 …
    a frame is complete when its last codebook is drawn: `frame_ready`

Rules: everything a stream remembers about its tokens is here and in its cache blocks; no PCM, no text, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from streamgen.conditioning.mix import combine
from streamgen.lm.cache import Block, BlockCopy, KVCache
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.delay import DelayPattern
from streamgen.lm.sampling import Sampling, sample
from streamgen.lm.windows import WindowPlan

__all__ = ["Feed", "Rows", "TokenMark", "TokenSnapshot", "TokenStream", "Window"]


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
class Feed:
    """What one window is fed in this step: a prefix vector per row, or one column for all rows."""

    window: Window
    column: Tensor | None
    prefix: Tensor | None


@dataclass(frozen=True)
class TokenSnapshot:
    """A stream's tokens at one moment; all tensors are clones."""

    head: int
    ring: Tensor
    rows: Rows
    sampling: Sampling
    plan: WindowPlan
    windows: tuple[tuple[int, int, int, BlockCopy], ...]
    rollovers: int


@dataclass(frozen=True)
class TokenMark:
    """A place to rewind to: no clone, for the cache is only ever appended to.

    Attributes:
        head, rows, sampling, plan, rollovers: as they were.
        windows: copies of the windows then.
    """

    head: int
    rows: Rows
    sampling: Sampling
    plan: WindowPlan
    rollovers: int
    windows: tuple[Window, ...]


@dataclass
class TokenStream:
    """State of one stream's tokens.

    Attributes:
        pattern: delays.
        plan: where windows end.
        rows: prompt rows in force.
        sampling: draw settings in force.
        total_frames: a known end, or None for endless.
        head: undelayed frame of the column that is fed next.
        windows: leader first, then the successor while one is warmed.
        rollovers: handovers so far.
        keep_frames: how far back `rewind` must reach; closed windows are kept that long.
    """

    pattern: DelayPattern
    plan: WindowPlan
    rows: Rows
    sampling: Sampling
    cache: KVCache
    cross: CrossCache
    total_frames: int | None = None
    head: int = -1
    windows: list[Window] = field(default_factory=list)
    rollovers: int = 0
    keep_frames: int = 0

    def __post_init__(self) -> None:
        """Open the first window."""
        self._offsets = self.pattern.offsets()
        self._codebooks = torch.arange(len(self._offsets))
        # frames of one window and the delayed tail: all that a re-read can ask for
        self.ring = torch.full((len(self._offsets), self.plan.limit + 8), self.pattern.pad)
        self.prompt_frames = 0
        self._retired: list[tuple[int, Window]] = []  # (head at which it was closed, window), oldest first
        self.windows.append(self._open_window(0, 0))

    # -- what to feed ---------------------------------------------------------------------------------------------

    def inputs(self) -> list[Feed]:
        """Return what each window is fed at this head, after opening or retiring windows that are due."""
        self._release_retired(self.head - self.keep_frames)
        self._roll_over()
        return [self._feed(window) for window in self.windows]

    def _roll_over(self) -> None:
        leader = self.windows[0]
        handover = self.plan.handover(leader.start_frame, leader.start_position)
        if self.head == handover:
            assert len(self.windows) == 2, "the successor is warmed before its leader is full"
            self._retire(self.windows.pop(0))
            self.rollovers += 1
            self._roll_over()
        elif len(self.windows) == 1 and self.head >= self.plan.warming_start(handover) and self._outlives(handover):
            # a context lengthened in mid-stream cannot reach back before this head: nothing older was fed
            start = max(self.plan.successor_start(handover), self.head + 1 + self.plan.prefix)
            self.windows.append(self._open_window(start, self.plan.start_position))

    def _outlives(self, handover: int) -> bool:
        return self.total_frames is None or self.total_frames + self.pattern.max_delay > handover + 1

    def _feed(self, window: Window) -> Feed:
        if window.fed < self.rows.prefix:
            assert self.rows.prefixes is not None
            return Feed(window, None, self.rows.prefixes[:, window.fed])
        return Feed(window, self.column(self.head, window.start_frame), None)

    def column(self, head: int, start_frame: int = 0) -> Tensor:
        """Return the codes of a column that is still remembered, int64 [K]; padding before `start_frame`."""
        frames = head - self._offsets
        codes = self.ring[self._codebooks, frames % self.ring.shape[1]]
        valid = self.pattern.valid(head, start_frame, self.total_frames)
        return torch.where(valid, codes, self.pattern.pad)

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
        self._write(self.head + 1, codes)
        self.head += 1

    def _write(self, head: int, codes: Tensor) -> None:
        frames = head - self._offsets
        fresh = (frames >= self.prompt_frames) & (frames >= 0)  # an audio prompt's codes are given, not drawn
        at = frames % self.ring.shape[1]
        self.ring[self._codebooks[fresh], at[fresh]] = codes[fresh]

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
        return self.ring[:, torch.arange(start, stop) % self.ring.shape[1]]

    # -- windows and rows -----------------------------------------------------------------------------------------

    def _open_window(self, start_frame: int, start_position: int) -> Window:
        block = self.cache.allocate(self.rows.count)
        self._attach_texts(block)
        return Window(block, start_frame, start_position)

    def _attach_texts(self, block: Block) -> None:
        for row, text in enumerate(self.rows.texts):
            self.cross.set(block.start + row, text)

    def _detach_texts(self, block: Block) -> None:
        for row in range(block.start, block.stop):
            self.cross.set(row, None)

    def _retire(self, window: Window) -> None:
        """Stop feeding a window; its rows are given back once no rewind can reach it."""
        self._detach_texts(window.block)
        if self.keep_frames:
            self._retired.append((self.head, window))
        else:
            self.cache.release(window.block)

    def _release_retired(self, before_head: float) -> None:
        while self._retired and self._retired[0][0] < before_head:
            self.cache.release(self._retired.pop(0)[1].block)

    def close(self) -> None:
        """Give all rows back."""
        for window in self.windows:
            self._detach_texts(window.block)
            self.cache.release(window.block)
        self.windows.clear()
        self._release_retired(math.inf)

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
            self._move_rows(sources)
        self.rows = rows
        for window in self.windows:
            self._attach_texts(window.block)

    def _move_rows(self, sources: list[int]) -> None:
        copies = [self.cache.copy_out(window.block, window.fed) for window in self.windows]
        blocks = self._exchange([len(sources)] * len(self.windows))
        for window, block, copy in zip(self.windows, blocks, copies, strict=True):
            window.block = block
            self.cache.copy_in(block, copy, sources)

    def _exchange(self, rows: list[int]) -> list[Block]:
        """Take blocks in the place of the windows', which stay as long as a rewind can reach them."""
        blocks = self.cache.exchange([] if self.keep_frames else [window.block for window in self.windows], rows)
        for window in self.windows:
            self._detach_texts(window.block)
            if self.keep_frames:
                self._retired.append((self.head, replace(window)))
        return blocks

    def fresh_window(self, rows: Rows, plan: WindowPlan) -> Window:
        """Replace all windows by one that must be re-read from this head: what a new melody prefix needs.

        Returns:
            The new leader, with nothing fed; its caller prefills `reread(window)` into it.

        Raises:
            CapacityError: no room for it; nothing is changed then.
        """
        (block,) = self._exchange([rows.count])
        self.rows, self.plan = rows, plan
        self._attach_texts(block)
        start = max(self.head + 1 - plan.context_frames, 0)
        at_origin = start == 0 and self.rollovers == 0
        self.windows = [Window(block, start, 0 if at_origin else plan.start_position)]
        return self.windows[0]

    def reread(self, window: Window) -> Tensor:
        """Return the columns that a window has to know before the next step, int64 [n, K]: opening column first."""
        heads = range(window.start_frame - 1, self.head)
        columns = [self.column(head, window.start_frame) for head in heads]
        return torch.stack(columns) if columns else torch.empty(0, len(self._offsets), dtype=torch.int64)

    def begin_with(self, codes: Tensor) -> None:
        """Start from an audio prompt: frames 0 … F − 1 are given; the head moves to the last of them.

        Args:
            codes: int64 [K, F].
        """
        assert self.head == -1, "an audio prompt comes first"
        self.prompt_frames = codes.shape[1]
        self.ring[:, : codes.shape[1]] = codes
        self.head = codes.shape[1] - 1

    # -- rewind and snapshot --------------------------------------------------------------------------------------

    def mark(self) -> TokenMark:
        """Remember this place; `rewind` can return to it while it is at most `keep_frames` back."""
        windows = tuple(replace(window) for window in self.windows)
        return TokenMark(self.head, self.rows, self.sampling, self.plan, self.rollovers, windows)

    def rewind(self, mark: TokenMark) -> None:
        """Go back to a mark: what was drawn since is forgotten, nothing is computed."""
        assert self.head - mark.head <= self.keep_frames, (self.head, mark.head, self.keep_frames)
        wanted = {window.block for window in mark.windows}
        held = [*self.windows, *(window for _, window in self._retired)]
        self._retired = [(head, w) for head, w in self._retired if head < mark.head and w.block not in wanted]
        kept = wanted | {window.block for _, window in self._retired}
        for window in held:
            self._detach_texts(window.block)
            if window.block not in kept:  # opened since
                self.cache.release(window.block)
        self.head, self.rows, self.sampling = mark.head, mark.rows, mark.sampling
        self.plan, self.rollovers = mark.plan, mark.rollovers
        self.windows = [replace(window) for window in mark.windows]
        for window in self.windows:
            self._attach_texts(window.block)

    def snapshot(self) -> TokenSnapshot:
        """Clone everything."""
        windows = tuple(
            (w.start_frame, w.start_position, w.fed, self.cache.copy_out(w.block, w.fed)) for w in self.windows
        )
        ring = self.ring.clone()
        return TokenSnapshot(self.head, ring, self.rows, self.sampling, self.plan, windows, self.rollovers)

    def restore(self, saved: TokenSnapshot) -> None:
        """Go back to a snapshot; it stays valid and can be restored again.

        Raises:
            CapacityError: no room for its rows; nothing is changed then.
        """
        held = [window.block for window in (*self.windows, *(window for _, window in self._retired))]
        blocks = self.cache.exchange(held, [saved.rows.count] * len(saved.windows))
        for block in held:
            self._detach_texts(block)
        self._retired.clear()
        self.head, self.rows, self.sampling = saved.head, saved.rows, saved.sampling
        self.plan, self.rollovers = saved.plan, saved.rollovers
        self.ring = saved.ring.clone()
        self.windows = [Window(block, *place) for block, (*place, _) in zip(blocks, saved.windows, strict=True)]
        for window, (*_, copy) in zip(self.windows, saved.windows, strict=True):
            self.cache.copy_in(window.block, copy)
            self._attach_texts(window.block)
