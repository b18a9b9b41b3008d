"""One step of one stream, as data: what it is made with, which vectors it feeds, what its draw depends on.

    StepSettings ─ TokenStream.begin_step ─► Step ─ LmEngine.step ─► codes ─ TokenStream.finish_step

A `Rows` names its rows, so that a stream whose prompts change knows which row goes on from which past; what the names
are is the caller's business.

Rules: plain data; knows no cache's tensors, no stream.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from streamgen.lm.cache import RowRange
from streamgen.lm.cross import TextKV
from streamgen.lm.sampling import Sampling
from streamgen.lm.windows import WindowPlan

__all__ = ["Feed", "Prefixes", "Rows", "Step", "StepSettings", "Unread", "Window"]


class Prefixes(Protocol):
    """What each row reads before the music, in every window; equal ones compare as equal."""

    @property
    def length(self) -> int:
        """Positions P that it takes."""
        ...

    def of(self, start_frame: int) -> Tensor:
        """Return the prefix of a window that begins at a frame, float32 [rows, P, D]."""
        ...


@dataclass(frozen=True)
class Rows:
    """The decoder rows of a stream: one per prompt, the null or negative one last.

    Attributes:
        names: of the rows.
        texts: keys and values to attend to, per row.
        coefficients: share of each row's logits in the guided logits, sum 1.
        prefixes: of checkpoints that read melody or style and text first, else None.
        bias: float32 [M, K, V]: row f % M is added to the guided logits of frame f after the downbeat; None for none.
    """

    names: tuple[Hashable, ...]
    texts: tuple[TextKV, ...]
    coefficients: tuple[float, ...]
    prefixes: Prefixes | None = None
    bias: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.texts)

    @property
    def unguided(self) -> tuple[float, ...]:
        """Shares of the rows that run where guidance is left out, sum 1: all but the last that count against others."""
        count = self.count
        while count > 1 and self.coefficients[count - 1] < 0:
            count -= 1
        if count == self.count:
            return self.coefficients
        total = sum(self.coefficients[:count])
        return tuple(coefficient / total for coefficient in self.coefficients[:count])

    @property
    def prefix(self) -> int:
        """Positions of the prefix."""
        return 0 if self.prefixes is None else self.prefixes.length

    def on(self, device: torch.device) -> Rows:
        """Return them with their texts on a device."""
        return replace(self, texts=tuple(TextKV(text.keys.to(device), text.values.to(device)) for text in self.texts))

    def sources(self, old: Rows) -> list[int]:
        """Choose for each row the old row whose past it continues: its namesake, its own place's, the heaviest."""
        heaviest = max(range(old.count), key=lambda row: old.coefficients[row])
        same_places = old.count == self.count
        return [
            old.names.index(name) if name in old.names else (row if same_places else heaviest)
            for row, name in enumerate(self.names)
        ]


@dataclass(frozen=True)
class StepSettings:
    """What a step is made with. Every step is given it, so a stream changes when the next step has another.

    Attributes:
        rows: to run.
        sampling: how codes are drawn.
        plan: where windows end.
        dominant: name of the heaviest prompt, with take and opening where they are not the first. Where that changes,
            the context before it is dropped.
        surviving_frames: but for so many of its newest frames.
        recalls: draws are counted from where the context was last dropped, so that what begins anew under the same
            settings is the same again.
        guidance_interval: columns from one that is guided to the next.
    """

    rows: Rows
    sampling: Sampling
    plan: WindowPlan
    dominant: Hashable | tuple[Hashable, int, int] = None
    surviving_frames: int = 0
    recalls: bool = False
    guidance_interval: int = 1


@dataclass
class Window:
    """One window's place.

    Attributes:
        block: its rows in the cache.
        start_frame: the first frame it knows.
        start_position: position of its first vector.
        fed: vectors fed so far.
    """

    block: RowRange
    start_frame: int
    start_position: int
    fed: int = 0

    @property
    def position(self) -> int:
        """Position of the next vector."""
        return self.start_position + self.fed


@dataclass(frozen=True)
class Feed:
    """What one window is fed in a step: a prefix vector per row, or one column for all rows.

    Attributes:
        window: whose.
        column: int64 [K], or None.
        prefix: float32 [rows, D], or None.
    """

    window: Window
    column: Tensor | None
    prefix: Tensor | None


@dataclass(frozen=True)
class Unread:
    """What a window has to read before the step: of a new window all it shall know.

    Attributes:
        window: whose.
        prefixes: float32 [rows, n, D], read first; None for checkpoints without.
        columns: int64 [m, K], for all rows.
    """

    window: Window
    prefixes: Tensor | None
    columns: Tensor

    @property
    def length(self) -> int:
        """Vectors per row."""
        return len(self.columns) + (0 if self.prefixes is None else self.prefixes.shape[1])


@dataclass(frozen=True)
class Step:
    """One step of one stream.

    Attributes:
        unread: what to read before it, in passes of its own.
        feeds: leader first, then the successor while one is warmed.
        rows: of each window.
        coefficients: of the leader's rows that run, sum 1: all of them or, without guidance, the first.
        sampling: how the codes are drawn.
        column: number of the column that they are for.
        bias: float32 [K, V], added to the guided logits; None adds nothing.
    """

    unread: Sequence[Unread]
    feeds: Sequence[Feed]
    rows: Rows
    coefficients: tuple[float, ...]
    sampling: Sampling
    column: int
    bias: Tensor | None = None

    @property
    def count(self) -> int:
        """Rows of each window that run."""
        return len(self.coefficients)
