"""Which beat falls on which sample: the session's own lines of beats, or the line of a source that it follows.

    internal   beats count samples: a tempo, or the music's own bars     line │ line │ line ►     each from a sample on
    followed   beats count seconds: Ableton Link, MIDI clock             ────── line ──────►     whatever the music does

A bar has four beats. Beat 0 begins bar 0.

Rules: plain arithmetic, no clock. Lines are replaced in one assignment, so that any thread may read them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["BAR_BEATS", "INTERNAL", "QUANTA", "USUAL_BPM", "Beats", "Line", "next_multiple"]

BAR_BEATS = 4
USUAL_BPM = 120.0
INTERNAL = "internal"
QUANTA = {"off": 0, "beat": 1, "bar": 4, "2 bars": 8, "4 bars": 16, "8 bars": 32}
"""What `quantize` may be, in beats."""
_MOST_LINES = 64  # behind the newest: more than lie between what is played and what is made
_NEAR_BEATS = 1e-6  # a beat that was computed from its own sample is that beat


@dataclass(frozen=True)
class Line:
    """Beats at an even pace.

    Attributes:
        at: where: a sample, or monotonic seconds.
        beat: there.
        pace: beats a sample, or a second.
    """

    at: float
    beat: float
    pace: float

    def beat_at(self, at: float) -> float:
        """Return the beat somewhere on the line."""
        return self.beat + (at - self.at) * self.pace

    def where(self, beat: float) -> float:
        """Return where a beat is; the inverse of `beat_at`."""
        return self.at + (beat - self.beat) / self.pace


class Beats:
    """The session's own beats, in samples.

    Args:
        rate_hz: of the samples.
    """

    def __init__(self, rate_hz: int) -> None:
        self._lines: tuple[Line, ...] = (Line(0.0, 0.0, USUAL_BPM / 60 / rate_hz),)

    def line(self, sample: float) -> Line:
        """Return the line in force at a sample."""
        lines = self._lines
        return next((line for line in reversed(lines) if line.at <= sample), lines[0])

    def sample(self, beat: float) -> float:
        """Return the sample of a beat; where the count skips it, that at which it is skipped."""
        lines, ends = self._lines, math.inf
        for line in reversed(lines):
            if line.beat <= beat:
                return min(line.where(beat), ends)
            ends = line.at
        return lines[0].where(beat)

    def go_on(self, line: Line) -> None:
        """Take another line from its sample on; what was said of samples behind that is forgotten."""
        self._lines = (*(one for one in self._lines if one.at < line.at), line)[-_MOST_LINES:]


def next_multiple(beat: float, quantum: float) -> float:
    """Return the first multiple of a quantum that is not before a beat."""
    return math.ceil((beat - _NEAR_BEATS) / quantum) * quantum
