"""Audio that is made and not final yet, and the ways back through it.

    committed │ piece │ piece │ piece │          each piece: its samples, and a mark of the stream from before they
              mark    mark    mark               were drawn; a change at a sample takes back the pieces behind it

Rules: plain data; knows no clock, no model.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from streamgen.stream.snapshots import StreamMark

__all__ = ["Lead", "Piece"]


@dataclass(frozen=True)
class Piece:
    """One piece of audio ahead.

    Attributes:
        samples: float32 [2, n].
        start: session sample of its first one.
        mark: the stream before it was made.
        lands: session sample at which a change made at the mark is heard.
    """

    samples: NDArray[np.float32]
    start: int
    mark: StreamMark
    lands: int

    @property
    def end(self) -> int:
        """Session sample behind its last one."""
        return self.start + int(self.samples.shape[1])


class Lead:
    """The pieces ahead, oldest first."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._pieces)

    @property
    def samples(self) -> int:
        """Samples in all pieces."""
        return sum(piece.end - piece.start for piece in self._pieces)

    @property
    def end(self) -> int | None:
        """Session sample behind the newest piece; None without pieces."""
        return self._pieces[-1].end if self._pieces else None

    def add(self, piece: Piece) -> None:
        """Append what was made next."""
        self._pieces.append(piece)

    def take(self, before_sample: float | None = None) -> Piece | None:
        """Take the oldest piece out, or None: there is none, or it does not start before a sample."""
        if not self._pieces or (before_sample is not None and self._pieces[0].start >= before_sample):
            return None
        return self._pieces.popleft()

    def revoke(self, from_sample: int) -> StreamMark | None:
        """Drop pieces until a change can land at a sample: no further, so that the rest of the lead survives.

        Returns:
            The mark to rewind the stream to; None if there was nothing to drop.
        """
        mark = None
        while self._pieces:
            piece = self._pieces.pop()
            mark = piece.mark
            if piece.lands <= from_sample:
                break
        return mark

    def clear(self) -> None:
        """Drop everything."""
        self._pieces.clear()
