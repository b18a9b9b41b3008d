"""MIDI clock, 24 a beat: beats out of clocks that come a little early or late.

    clocks    | |  | | |   | | |     each up to some milliseconds off
    a line      ───────────────      of least squares through the newest of them: tempo, and which beat it is when

A clock says neither tempo nor number. Start makes the next one beat 0, a song position another sixteenth. Where the
newest clocks lie off the line one after another, the tempo has changed: then only these count.

No fit of n clocks with a Gaussian jitter of σ seconds knows their pace better than σ·√(12/n³), so the tempo of a fast
clock is sure only after some beats. A jitter that has a limit, as that of a program which sends its clocks once a
block, tells more: then a young clock's line is the one by which all clocks keep within the limit. What is measured
stands in docs/measurements.md.

Rules: seconds of one monotonic clock, given with each message; no I/O.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLOCKS_A_BEAT", "ClockIn"]

CLOCKS_A_BEAT = 24
_SIXTEENTH = 6  # clocks
_LEAST, _MOST = 12, 32 * CLOCKS_A_BEAT
_YOUNG = range(3 * CLOCKS_A_BEAT, 16 * CLOCKS_A_BEAT)  # clocks: before, no limit is to be seen; later, all is sure
_LIMITED = (2 * math.pi * math.e) ** 0.5  # standard deviations of clocks, from first to last; where there are fewer, a
# limit is likelier than a Gaussian: 3.5 lie between limits within which all is as likely, 5 in a hundred of a Gaussian
_REACH = 6.0  # standard deviations of the pace within which another is looked for
_TRIED = np.linspace(-1, 1, 33)
_OFF_SECONDS, _OFF_IN_A_ROW = 0.005, 4
_LOST_SECONDS = 0.5  # 20 bpm have a clock every eighth of a second

_SLOWEST, _FASTEST = 60 / (CLOCKS_A_BEAT * 4), 60 / (CLOCKS_A_BEAT * 1_000)  # seconds a clock, of 4 and 1,000 bpm

Floats = NDArray[np.float64]


class ClockIn:
    """What comes in from one clock.

    Attributes:
        running: whether it was started, and not stopped since.
    """

    def __init__(self) -> None:
        self.running = False
        self._clocks: deque[float] = deque(maxlen=_MOST)  # seconds, one after the other
        self._next = 0  # number of the clock to come
        self._off = 0  # clocks in a row that lie off the line, with their sign
        self._fitted: tuple[float, float] | None = None  # seconds of clock 0, and of one clock

    def clock(self, seconds: float) -> None:
        """Take a clock."""
        if self._clocks and seconds - self._clocks[-1] > _LOST_SECONDS:
            self._clocks.clear()
            self._fitted = None
        self._look_for_another_tempo(seconds)
        self._clocks.append(seconds)
        self._next += 1
        if len(self._clocks) >= _LEAST:
            self._fit()

    def start(self) -> None:
        """Let the next clock be beat 0."""
        self.running = True
        self._renumber(0)

    def go_on(self) -> None:
        """Go on from where it stands, or from the song position."""
        self.running = True

    def stop(self) -> None:
        """Stop; clocks that come all the same still tell the tempo."""
        self.running = False

    def position(self, sixteenths: int) -> None:
        """Let the next clock be that of a song position."""
        self._renumber(sixteenths * _SIXTEENTH)

    def lost(self, seconds: float) -> bool:
        """Tell whether the clock has gone."""
        return not self._clocks or seconds - self._clocks[-1] > _LOST_SECONDS

    def line(self) -> tuple[float, float, float] | None:
        """Return its beats as (seconds, the beat there, bpm); None before there are enough clocks."""
        if self._fitted is None:
            return None
        zero, pace = self._fitted
        newest = self._next - 1
        return zero + newest * pace, newest / CLOCKS_A_BEAT, 60 / (CLOCKS_A_BEAT * pace)

    def _renumber(self, number: int) -> None:
        shift, self._next = number - self._next, number
        if self._fitted is not None:
            zero, pace = self._fitted
            self._fitted = zero - shift * pace, pace

    def _look_for_another_tempo(self, seconds: float) -> None:
        if self._fitted is None or len(self._clocks) < _LEAST:
            return
        zero, pace = self._fitted
        off = seconds - (zero + self._next * pace)
        side = 0 if abs(off) < _OFF_SECONDS else 1 if off > 0 else -1
        self._off = self._off + side if side * self._off > 0 else side
        if abs(self._off) >= _OFF_IN_A_ROW:
            while len(self._clocks) >= _OFF_IN_A_ROW:
                self._clocks.popleft()
            self._off = 0

    def _fit(self) -> None:
        """Fit the line: numbers count evenly, so their mean and their variance are known."""
        count, newest = len(self._clocks), self._next - 1
        seconds = np.fromiter(self._clocks, np.float64, count)
        places: Floats = np.arange(count, dtype=np.float64) - (count - 1) / 2
        pace = float(places @ (seconds - seconds[0])) / (count * (count * count - 1) / 12)
        middle = float(seconds.mean())
        if count in _YOUNG:
            more_pace, later = _within_limits(places, seconds - middle - pace * places)
            pace, middle = pace + more_pace, middle + later
        if _FASTEST <= pace <= _SLOWEST:  # clocks that come all at once are a storm, and no tempo
            self._fitted = middle - (newest - (count - 1) / 2) * pace, pace


def _within_limits(places: Floats, off: Floats) -> tuple[float, float]:
    """Return by how much a line of least squares is to change where what is off it has a limit; 0, 0 where it has none.

    Where everything within limits is as likely, n clocks that lie w apart across a line make it as likely as w^(1-n):
    the mean over all lines is the best there is (Pitman's estimator).
    """
    count, spread = len(off), float(off.std())
    reach = _REACH * spread * (12 / count**3) ** 0.5
    paces = reach * _TRIED
    for _ in range(2):  # around least squares, then around what was found
        left = off[:, None] - places[:, None] * paces
        high, low = left.max(axis=0), left.min(axis=0)
        width = high - low
        least = float(width.min())
        if not 0 < least < _LIMITED * spread:
            break
        likely = (width / least) ** (1 - count)
        likely /= likely.sum()
        pace, later = float(likely @ paces), float(likely @ (high + low)) / 2
        near = 4 * float(likely @ np.square(paces - pace)) ** 0.5
        paces = pace + max(near, 2 * reach / len(_TRIED)) * _TRIED
    else:
        return pace, later
    return 0.0, 0.0
