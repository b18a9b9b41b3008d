"""Audio that waits with its position, and weights over positions: paths of different latency, mixed sample by sample.

    path A  ░░░░░░████████████│          positions up to which each path has come; what is mixed
    path B  ░░░░░░██████│                is what all of them have: here up to B's end
                  ▲ taken up to here

Rules: numpy only; positions are the music's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.effect import Pcm

__all__ = ["Ramp", "PendingAudio"]


class PendingAudio:
    """Samples of one path that are not mixed yet.

    Args:
        position: of the first sample that will come.

    Attributes:
        start, end: positions of the first sample that waits, and behind the last one.
    """

    def __init__(self, position: int) -> None:
        self.start = self.end = position
        self._held: Pcm | None = None

    def append(self, block: Pcm) -> None:
        """Add the next float32 [2, n]."""
        self._held = block if self.start == self.end or self._held is None else np.concatenate((self._held, block), 1)
        self.end += block.shape[1]

    def take(self, until: int) -> Pcm:
        """Take out what waits before a position: float32 [2, until − start]."""
        assert self.start <= until <= self.end, (self.start, until, self.end)
        count, held = until - self.start, self._held
        if held is None:
            return np.zeros((2, 0), np.float32)
        self.start, self._held = until, held[:, count:] if until < self.end else None
        return held[:, :count]

    def drop(self, until: int) -> None:
        """Forget what waits before a position, as far as there is any."""
        if until > self.start:
            self.take(min(until, self.end))


@dataclass(frozen=True)
class Ramp:
    """A weight that turns from one value into another between two positions, without a corner.

    Attributes:
        start, end: positions between which it turns.
        first, last: its values before and after.
    """

    start: int
    end: int
    first: float
    last: float

    @classmethod
    def constant(cls, value: float) -> Ramp:
        """Never turn."""
        return cls(0, 0, value, value)

    def over(self, position: int, count: int) -> float | NDArray[np.float32]:
        """Return the weights of some samples: one number where they are all the same."""
        if self.first == self.last or position >= self.end:
            return self.last
        if position + count <= self.start:
            return self.first
        share = np.clip((np.arange(position, position + count) - self.start) / (self.end - self.start), 0.0, 1.0)
        return (self.first + (self.last - self.first) * share * share * (3 - 2 * share)).astype(np.float32)

    def at(self, position: int) -> float:
        """Return the weight of one sample."""
        return float(np.asarray(self.over(position, 1)).flat[0])

    def turned(self, start: int, end: int, last: float) -> Ramp:
        """Return one that goes on from here to another value."""
        return Ramp(start, end, self.at(start), last) if end > start else Ramp.constant(last)
