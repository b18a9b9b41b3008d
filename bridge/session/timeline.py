"""Which sample of a session is due when: the one clock that every schedule goes through.

    wall clock (OSC's time tags)  ─┐
    samples (at_sample)            ─┼─►  Moment ─ Timeline ─►  sample of the session ─►  player
    (beats)                        ─┘

A session that nobody hears, or that pauses, stands still: then a time has no sample, and whoever schedules waits for
the time itself.

Rules: plain arithmetic on clocks that are given. The engine's thread alone starts and stops it; any thread may read it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamgen.errors import CapacityError

__all__ = ["Moment", "Schedule", "Timeline"]

_MOST_SCHEDULED = 1_000
T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    """When something shall happen: at a sample of the session, or at a time.

    Attributes:
        sample: position in the session.
        unix_seconds: or a time.
    """

    sample: int | None = None
    unix_seconds: float | None = None


class Timeline:
    """A clock in samples; stopped, it stays where it is.

    Args:
        rate_hz: samples a second while it runs.
        now: a monotonic clock in seconds.
        wall: the time of day, Unix seconds.
    """

    def __init__(
        self, rate_hz: int, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.rate_hz = rate_hz
        self.now, self.wall = now, wall
        self._anchor: tuple[float, float | None] = (0.0, None)  # sample, since when it runs; written in one assignment

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._anchor[1] is not None

    def due(self) -> float:
        """Return the sample that is due now."""
        sample, since = self._anchor
        return sample if since is None else sample + (self.now() - since) * self.rate_hz

    def start(self, at: float) -> None:
        """Run from a sample on, which is due now."""
        self._anchor = (at, self.now())

    def stop(self, at: float | None = None) -> None:
        """Stand still: here, or at a sample."""
        self._anchor = (self.due() if at is None else at, None)

    def unix_seconds(self, sample: float) -> float:
        """Return when a sample is due; stopped, as if it ran from now on."""
        return self.wall() + (sample - self.due()) / self.rate_hz

    def sample_at(self, moment: Moment) -> int | None:
        """Return the sample of a moment; None for a time while the clock stands still."""
        if moment.sample is not None:
            return moment.sample
        assert moment.unix_seconds is not None, moment
        if not self.running:
            return None
        return max(0, round(self.due() + (moment.unix_seconds - self.wall()) * self.rate_hz))

    def reached(self, moment: Moment, sample: float) -> bool:
        """Tell whether a moment has come, where samples up to `sample` are made: by its time, if it has no sample."""
        at = self.sample_at(moment)
        if at is not None:
            return at <= sample
        assert moment.unix_seconds is not None, moment
        return moment.unix_seconds <= self.wall()


class Schedule(Generic[T]):
    """What waits for its moment, in the order in which it was asked for.

    Args:
        timeline: by which moments come.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._waiting: list[tuple[Moment, T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, moment: Moment, what: T) -> None:
        """Let something wait.

        Raises:
            CapacityError: too much waits already.
        """
        if len(self._waiting) >= _MOST_SCHEDULED:
            raise CapacityError(f"{_MOST_SCHEDULED} changes wait for their time already; let some of them pass first")
        self._waiting.append((moment, what))

    def next_sample(self) -> int | None:
        """Return the earliest sample that something waits for; None if nothing has one."""
        samples = (self._timeline.sample_at(moment) for moment, _ in self._waiting)
        return min((sample for sample in samples if sample is not None), default=None)

    def take(self, sample: float) -> list[T]:
        """Take out what is to happen at samples up to this one."""
        due = [self._timeline.reached(moment, sample) for moment, _ in self._waiting]
        taken = [what for (_, what), now in zip(self._waiting, due, strict=True) if now]
        self._waiting = [one for one, now in zip(self._waiting, due, strict=True) if not now]
        return taken
