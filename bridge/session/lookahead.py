"""Audio that is made and not final yet, the ways back through it, and how fast it is made.

    committed │ piece │ piece │ piece │          each piece: its samples, and a mark of the stream from before they
              mark    mark    mark               were drawn; a change at a sample takes back the pieces behind it

Rules: plain data; knows no clock, no model. Positions count the model's own samples.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from streamgen import StreamMark

__all__ = ["Lookahead", "Loudness", "Pace", "Piece"]

_FAST_ENOUGH, _QUICK = 1.2, 4.0  # × real time
_LONGEST_SECONDS = 1.0  # a machine that takes longer for a block is lost anyway
_NEWEST = 0.1  # share of the newest block: about its last ten count


@dataclass(frozen=True)
class Loudness:
    """By how many dB music is louder than a checkpoint's other styles, and from which position on it plays."""

    begins: int = 0
    db: float = 0.0


@dataclass(frozen=True)
class Piece:
    """One piece of audio ahead.

    Attributes:
        samples: float32 [2, n].
        start: position of its first one.
        mark: the stream before it was made; None once a part of it was committed: that cannot be taken back.
        lands: position at which a change made at the mark is heard.
        loudness: how loud the music is that was drawn last, as a checkpoint tells it of its styles.
    """

    samples: NDArray[np.float32]
    start: int
    mark: StreamMark | None
    lands: int
    loudness: Loudness = Loudness()

    @property
    def end(self) -> int:
        """Position behind its last sample."""
        return self.start + int(self.samples.shape[1])


class Lookahead:
    """The pieces ahead, oldest first."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._pieces)

    @property
    def samples(self) -> int:
        """Samples in all pieces; from any thread."""
        return sum(piece.end - piece.start for piece in tuple(self._pieces))

    def add(self, piece: Piece) -> None:
        """Append what was made next."""
        self._pieces.append(piece)

    def take(self, most: int) -> Piece | None:
        """Take the oldest piece, or its first samples, at most so many; None if there is no piece."""
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        if piece.samples.shape[1] > most:
            self._pieces.appendleft(
                replace(piece, samples=piece.samples[:, most:], start=piece.start + most, mark=None)
            )
        return replace(piece, samples=piece.samples[:, :most])

    def revoke(self, from_sample: int) -> StreamMark | None:
        """Drop pieces until a change can land at a sample: no further, so that the rest survives.

        Returns:
            The mark to rewind the stream to; None if there was nothing to drop.
        """
        mark = None
        while self._pieces and self._pieces[-1].mark is not None:
            piece = self._pieces.pop()
            mark = piece.mark
            if piece.lands <= from_sample:
                break
        return mark

    @property
    def oldest_mark(self) -> StreamMark | None:
        """The earliest place that `revoke` may name; None if nothing can be taken back."""
        return next((piece.mark for piece in self._pieces if piece.mark is not None), None)

    def clear(self) -> None:
        """Drop everything."""
        self._pieces.clear()


class Pace:
    """How fast blocks are made, against real time: a running mean.

    Attributes:
        factor: seconds of audio made in a second; 0 before the first block.
    """

    def __init__(self) -> None:
        self.factor = 0.0

    def note(self, audio_seconds: float, wall_seconds: float) -> None:
        """Count a block."""
        factor = audio_seconds / max(wall_seconds, 1e-9)
        self.factor = factor if self.factor == 0 else (1 - _NEWEST) * self.factor + _NEWEST * factor

    @property
    def fast_enough(self) -> bool:
        """Whether a short lead is enough to go on from: it will grow."""
        return self.factor > _FAST_ENOUGH

    @property
    def quick(self) -> bool:
        """Whether what is taken back is made anew before anybody misses it."""
        return self.factor > _QUICK

    def wall_seconds(self, audio_seconds: float) -> float:
        """Return how long making some audio takes, real time before it is known."""
        return min(audio_seconds / self.factor, _LONGEST_SECONDS) if self.factor else audio_seconds
