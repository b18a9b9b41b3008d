"""Which sample of a session is due when: the one clock that every schedule goes through.

    wall clock (OSC's time tags)       ─┐
    samples (at_sample)                 ─┼─►  Moment ─ Timeline ─►  sample of the session ─►  player
    beats (at_beat, quantize)           ─┘

A session that nobody hears, or that pauses, stands still: then a time has no sample, and whoever schedules waits for
the time itself. Beats of the session's own stand still with it; those of a source that it follows go on.

Rules: plain arithmetic on clocks that are given. The engine's thread alone starts and stops it and says what its own
beats are; the event loop says whom it follows; any thread may read it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.session.beats import INTERNAL, Beats, Line, next_multiple
from streamgen.errors import CapacityError

__all__ = ["AT_ONCE", "Moment", "Schedule", "Timeline", "quantized"]

_MOST_SCHEDULED = 1_000
T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    """When something shall happen: at a sample of the session, at a time, or at a beat.

    Attributes:
        sample: position in the session; one that is final already means as soon as can be.
        unix_seconds: or a time.
        beat: or a beat of the session.
        every: or the next multiple of so many beats; beside a beat, the one to come if that is missed.
    """

    sample: int | None = None
    unix_seconds: float | None = None
    beat: float | None = None
    every: int = 0


AT_ONCE = Moment(sample=0)


def quantized(quantum: int) -> Moment:
    """Return the moment that a quantum of beats stands for; 0 is at once."""
    return Moment(every=quantum) if quantum else AT_ONCE


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
        self.beats = Beats(rate_hz)
        self._followed: tuple[str, Line] | None = None

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

    def seconds(self, sample: float) -> float:
        """Return when a sample is due by the monotonic clock; stopped, as if it ran from now on."""
        at, since = self._anchor
        return (self.now() if since is None else since) + (sample - at) / self.rate_hz

    # -- beats ----------------------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """Whose beats they are: "internal", or the name of whom it follows."""
        followed = self._followed
        return INTERNAL if followed is None else followed[0]

    def follow(self, source: str, seconds: float, beat: float, bpm: float) -> None:
        """Take the beats of a source: which it is at a time of the monotonic clock, and how fast they come."""
        self._followed = source, Line(seconds, beat, bpm / 60)

    def unfollow(self, source: str) -> None:
        """Follow a source no more, if it is that one: its beats go on as the session's own."""
        if self.source == source:
            at = self.due()
            self.beats.go_on(Line(at, self.beat(at), self.bpm(at) / 60 / self.rate_hz))
            self._followed = None

    def beat(self, sample: float) -> float:
        """Return the beat that falls on a sample."""
        followed = self._followed
        if followed is None:
            return self.beats.line(sample).beat_at(sample)
        return followed[1].beat_at(self.seconds(sample))

    def bpm(self, sample: float) -> float:
        """Return the tempo at a sample."""
        followed = self._followed
        return self.beats.line(sample).pace * self.rate_hz * 60 if followed is None else followed[1].pace * 60

    def beat_seconds(self, beat: float) -> float | None:
        """Return when a beat of a followed source comes, by the monotonic clock; None for the session's own."""
        followed = self._followed
        return None if followed is None else followed[1].where(beat)

    def next(self, moment: Moment, sample: float) -> Moment:
        """Return a moment that says "every" with its beat: the first multiple at or behind a sample."""
        return Moment(beat=next_multiple(self.beat(sample), moment.every), every=moment.every)

    def _sample_of(self, beat: float) -> int | None:
        followed = self._followed
        if followed is None:
            return max(0, round(self.beats.sample(beat)))
        at, since = self._anchor
        return None if since is None else max(0, round(at + (followed[1].where(beat) - since) * self.rate_hz))

    # -- moments --------------------------------------------------------------------------------------------------

    def sample_at(self, moment: Moment) -> int | None:
        """Return the sample of a moment; None for a time, or a followed beat, while the clock stands still."""
        if moment.sample is not None:
            return moment.sample
        if moment.beat is not None:
            return self._sample_of(moment.beat)
        assert moment.unix_seconds is not None, moment
        if not self.running:
            return None
        return max(0, round(self.due() + (moment.unix_seconds - self.wall()) * self.rate_hz))

    def reached(self, moment: Moment, sample: float) -> bool:
        """Tell whether a moment has come, where samples up to `sample` are made: by its time, if it has no sample."""
        at = self.sample_at(moment)
        if at is not None:
            return at <= sample
        if moment.beat is not None:
            seconds = self.beat_seconds(moment.beat)
            return seconds is not None and seconds <= self.now()
        assert moment.unix_seconds is not None, moment
        return moment.unix_seconds <= self.wall()


class Schedule(Generic[T]):
    """What waits for its moment, in the order in which it was asked for.

    Args:
        timeline: by which moments come.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._waiting: list[tuple[Moment, T, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def count(self, which: Callable[[T], bool]) -> int:
        """Return how many wait that are such."""
        return sum(which(what) for _, what, _ in self._waiting)

    def add(self, moment: Moment, what: T, early: int = 0) -> None:
        """Let something wait; `early` is how many samples before its moment it is wanted.

        Raises:
            CapacityError: too much waits already.
        """
        if len(self._waiting) >= _MOST_SCHEDULED:
            raise CapacityError(f"{_MOST_SCHEDULED} changes wait for their time already; let some of them pass first")
        self._waiting.append((moment, what, early))

    def join(self, moment: Moment, join: Callable[[T], T | None]) -> bool:
        """Put something in the place of what was added last for the same moment, if `join` makes one of both."""
        for place, (other, what, early) in reversed([*enumerate(self._waiting)]):
            if other == moment:
                both = join(what)
                if both is not None:
                    self._waiting[place] = moment, both, early
                return both is not None
        return False

    def next_sample(self) -> int | None:
        """Return the earliest sample that something waits for; None if nothing has one."""
        samples = (self._timeline.sample_at(moment) for moment, _, _ in self._waiting)
        return min((sample for sample in samples if sample is not None), default=None)

    def take(self, sample: float) -> list[T]:
        """Take out what is to happen at samples up to this one."""
        due = [self._timeline.reached(moment, sample + early) for moment, _, early in self._waiting]
        taken = [what for (_, what, _), now in zip(self._waiting, due, strict=True) if now]
        self._waiting = [one for one, now in zip(self._waiting, due, strict=True) if not now]
        return taken

    def clear(self) -> list[T]:
        """Forget what waits; returns it."""
        waiting, self._waiting = self._waiting, []
        return [what for _, what, _ in waiting]
