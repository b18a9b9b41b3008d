from __future__ import annotations

from bridge.session.due_clock import DueClock
from streamgen.testing import FakeClock


def test_it_counts_samples_while_it_runs_and_stays_where_it_was_stopped() -> None:
    now = FakeClock(50.0)
    clock = DueClock(32_000, now)
    now.advance(1.0)
    assert (clock.due(), clock.running) == (0.0, False)
    clock.start()
    now.advance(0.5)
    clock.start()  # it runs already
    assert (clock.due(), clock.running) == (16_000.0, True)
    clock.stop()
    now.advance(9.0)
    assert (clock.due(), clock.running) == (16_000.0, False)
    clock.start()
    now.advance(0.25)
    assert clock.due() == 24_000.0


def test_it_can_be_stopped_at_a_sample() -> None:
    now = FakeClock()
    clock = DueClock(1_000, now)
    clock.start()
    now.advance(5.0)
    clock.stop(4_200)
    assert clock.due() == 4_200
