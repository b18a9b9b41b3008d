"""How many sessions one engine thread keeps up with: what they cost, measured before and corrected while they play.

    before the doors open    cost of one and of some together ─► a line: work(n) = first + each · (n − 1)
    while they play          what the thread works ÷ what the line says ─► the line is scaled by it

Before, nobody listens, no plugin is loaded and nothing else may run on the machine: what shows later is believed.

Rules: arithmetic on times that are given; no thread, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Capacity", "FixedCapacity", "MeasuredCapacity", "SessionCost"]

_SHARE = 0.8  # of real time that sessions may use together: openings are tried and prompts read in the rest
_REMEMBERED_SECONDS = 10.0  # of music: about the newest that count, and as much does the first measurement
_LEAST = 0.5  # a line that was drawn while the machine was busy is believed down to this


@dataclass(frozen=True)
class SessionCost:
    """What sessions cost that play together, in seconds of work a second of music.

    All of them share each pass over the weights, so a second one costs less than the first: how much less depends on
    checkpoint and machine.

    Attributes:
        first: of one session.
        each: of each further one.
    """

    first: float
    each: float

    @classmethod
    def measured(cls, first: float, together: float, count: int) -> SessionCost:
        """Draw the line through the cost of one session and that of `count` ≥ 2 together."""
        # a line that seems flat is a measurement that was disturbed
        return cls(first, max((together - first) / (count - 1), first / 50))

    def of(self, count: int) -> float:
        """Return what `count` ≥ 1 sessions cost together."""
        return self.first + self.each * (count - 1)

    def within(self, share: float) -> int:
        """Return how many sessions stay within a share of real time, at least 1."""
        return max(1, 1 + math.floor((share - self.first) / self.each + 1e-9))


class Capacity(Protocol):
    """How many sessions are let in."""

    @property
    def sessions(self) -> int:
        """How many this machine keeps up with, as far as is known by now; at least 1."""

    def note(self, worked_seconds: float, made_seconds: float, playing: int) -> None:
        """Take in what the thread did between two rests.

        Args:
            worked_seconds: how long it took.
            made_seconds: of audio, of all sessions together.
            playing: sessions that play, at least 1 where audio was made.
        """


class MeasuredCapacity:
    """As many as their cost allows.

    Args:
        cost: as measured before.
    """

    def __init__(self, cost: SessionCost) -> None:
        self._cost = cost
        self._worked, self._expected = cost.first, cost.first  # seconds; as if a second of music had been as measured

    @property
    def sessions(self) -> int:
        """How many stay within what the thread may use of real time, by what they have cost so far."""
        return self._cost.within(_SHARE / self._scale)

    @property
    def _scale(self) -> float:
        return max(self._worked / self._expected, _LEAST)

    def note(self, worked_seconds: float, made_seconds: float, playing: int) -> None:
        """Correct the line."""
        of_each = made_seconds / playing if playing else 0.0
        kept = math.exp(-of_each / _REMEMBERED_SECONDS)
        self._worked = kept * self._worked + worked_seconds
        self._expected = kept * self._expected + of_each * self._cost.of(max(playing, 1))


@dataclass(frozen=True)
class FixedCapacity:
    """So many sessions, at least 1, whatever they cost."""

    sessions: int

    def note(self, worked_seconds: float, made_seconds: float, playing: int) -> None:
        """Believe the number nevertheless."""
