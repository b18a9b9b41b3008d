"""A session's blocks as pieces of one length, each to leave when it is due. Sans-I/O.

    blocks  ├────────────┼────────────┼─────
    pieces  ├──┼──┼──┼──┼┼──┼──┼──┼──┼┼──┼──     each waits until its first sample is due

Rules: knows no socket and no session; the clock is given, in any unit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Packet", "Packetizer"]


@dataclass(frozen=True)
class Packet:
    """What goes into one packet.

    Attributes:
        samples: float32 [2, n].
        position: of the first of them in the session.
        due: when that is due.
    """

    samples: NDArray[np.float32]
    position: int
    due: float


class Packetizer:
    """Cuts what comes, and keeps it until it is due.

    Args:
        frames: in a piece.
        due_at: when a sample is due.
        most: pieces that wait, at most; the oldest are dropped.
    """

    def __init__(self, frames: int, due_at: Callable[[float], float], most: int = 2_000) -> None:
        self._frames, self._due_at = frames, due_at
        self._pending = np.zeros((2, 0), np.float32)
        self._position = 0  # of the first frame that is pending
        self._waiting = deque[Packet](maxlen=most)

    def take(self, samples: NDArray[np.float32], start_sample: int) -> None:
        """Take the next samples, float32 [2, n]; where they do not follow on, what is pending goes first."""
        if self._pending.shape[1] and start_sample != self._position + self._pending.shape[1]:
            self._queue(self._pending.shape[1])
        if not self._pending.shape[1]:
            self._position = start_sample
        self._pending = np.concatenate((self._pending, samples), axis=1)
        while self._pending.shape[1] >= self._frames:
            self._queue(self._frames)

    def _queue(self, count: int) -> None:
        samples, self._pending = self._pending[:, :count], self._pending[:, count:]
        self._waiting.append(Packet(samples, self._position, self._due_at(self._position)))
        self._position += count

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._pending = self._pending[:, :0]

    @property
    def next_due(self) -> float:
        """When the next piece is due; infinite where none waits."""
        return self._waiting[0].due if self._waiting else math.inf

    def due(self, now: float) -> list[Packet]:
        """Take out what is due by now."""
        out = []
        while self._waiting and self._waiting[0].due <= now:
            out.append(self._waiting.popleft())
        return out
