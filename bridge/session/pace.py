"""How fast blocks are made, against real time.

Rules: plain arithmetic; who measures is elsewhere.
"""

from __future__ import annotations

__all__ = ["Pace"]

_FAST_ENOUGH, _QUICK = 1.2, 4.0  # × real time
_LONGEST_SECONDS = 1.0  # a machine that takes longer for a block is lost anyway
_NEWEST = 0.1  # share of the newest block: about its last ten count


class Pace:
    """A running mean of the real-time factor.

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
