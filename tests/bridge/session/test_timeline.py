from __future__ import annotations

import pytest

from bridge.session.timeline import Moment, Schedule, Timeline
from streamgen.errors import CapacityError
from streamgen.testing import FakeClock


def made(rate_hz: int = 48_000) -> tuple[Timeline, FakeClock]:
    clock = FakeClock(50.0)
    return Timeline(rate_hz, clock, lambda: 1e9 + clock()), clock


def test_it_counts_samples_while_it_runs_and_stays_where_it_was_stopped() -> None:
    timeline, clock = made()
    clock.advance(1.0)
    assert (timeline.due(), timeline.running) == (0.0, False)
    timeline.start(4_800)
    clock.advance(0.5)
    assert (timeline.due(), timeline.running) == (28_800.0, True)
    timeline.stop()
    clock.advance(9.0)
    assert (timeline.due(), timeline.running) == (28_800.0, False)
    timeline.stop(30_000)
    assert timeline.due() == 30_000


def test_times_and_samples_find_each_other() -> None:
    timeline, clock = made()
    assert timeline.sample_at(Moment(unix_seconds=1e9 + 60)) is None, "it stands still"
    assert timeline.sample_at(Moment(sample=7)) == 7
    timeline.start(96_000)
    clock.advance(1.0)
    assert timeline.sample_at(Moment(unix_seconds=1e9 + 53)) == 96_000 + 3 * 48_000
    assert timeline.sample_at(Moment(unix_seconds=1e9)) == 0, "before the session began"
    assert timeline.unix_seconds(96_000 + 3 * 48_000) == pytest.approx(1e9 + 53)
    timeline.stop()
    clock.advance(5.0)
    assert timeline.unix_seconds(timeline.due() + 48_000) == pytest.approx(1e9 + 57), "as if it ran from now on"


def test_a_schedule_gives_what_has_come_in_the_order_it_was_asked_for() -> None:
    timeline, clock = made()
    schedule: Schedule[str] = Schedule(timeline)
    schedule.add(Moment(sample=500), "b")
    schedule.add(Moment(sample=100), "a")
    schedule.add(Moment(unix_seconds=1e9 + 52), "time")
    assert schedule.next_sample() == 100
    assert schedule.take(99) == []
    assert schedule.take(500) == ["b", "a"]
    assert schedule.next_sample() is None
    clock.advance(2.5)
    assert schedule.take(0) == ["time"], "the clock stands still: the time itself counts"
    assert len(schedule) == 0


def test_a_time_has_a_sample_as_soon_as_the_clock_runs() -> None:
    timeline, _ = made()
    schedule: Schedule[str] = Schedule(timeline)
    schedule.add(Moment(unix_seconds=1e9 + 51), "time")
    assert schedule.next_sample() is None
    timeline.start(0)
    assert schedule.next_sample() == 48_000
    assert schedule.take(47_999) == []
    assert schedule.take(48_000) == ["time"]


def test_too_much_waiting_is_refused() -> None:
    schedule: Schedule[int] = Schedule(made()[0])
    for number in range(1_000):
        schedule.add(Moment(sample=number), number)
    with pytest.raises(CapacityError, match="1000 changes wait for their time already"):
        schedule.add(Moment(sample=1), 1)
