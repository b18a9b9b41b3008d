"""FakeClock: time for tests.

Rules: passes only when told to; knows nothing else.
"""

from __future__ import annotations

import math

from streamgen.errors import ConfigError

__all__ = ["FakeClock"]


class FakeClock:
    """Time that passes only when told to. Call it for now, like time.monotonic; give its `sleep` where one is awaited.

    Attributes:
        now_seconds: the time.
        slept: every sleep asked for, in seconds, oldest first.
    """

    def __init__(self, now_seconds: float = 0.0) -> None:
        self.now_seconds = now_seconds
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_seconds

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ConfigError: not a finite number from 0.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigError(f"seconds is {seconds!r}; time passes by 0 or more")
        self.now_seconds += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass, and remember that it was slept."""
        self.advance(seconds)
        self.slept.append(seconds)
