"""Which sample of a session is due now.

Rules: plain arithmetic on a clock that is given; knows no audio.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["DueClock"]


class DueClock:
    """A clock in samples; stopped, it stays where it is.

    Args:
        rate_hz: samples a second while it runs.
        now: a monotonic clock in seconds.
    """

    def __init__(self, rate_hz: int, now: Callable[[], float]) -> None:
        self._rate_hz, self._now = rate_hz, now
        self._sample = 0.0
        self._since: float | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._since is not None

    def due(self) -> float:
        """Return the sample that is due."""
        return self._sample if self._since is None else self._sample + (self._now() - self._since) * self._rate_hz

    def start(self) -> None:
        """Run, from where it stands."""
        if self._since is None:
            self._since = self._now()

    def stop(self, at: float | None = None) -> None:
        """Stand still: here, or at a sample."""
        self._sample, self._since = self.due() if at is None else at, None
