from __future__ import annotations

import pytest

from bridge.session.pace import Pace


def test_the_first_block_counts_whole_and_the_next_ones_a_tenth() -> None:
    pace = Pace()
    assert pace.factor == 0.0
    pace.note(0.1, 0.05)
    assert pace.factor == pytest.approx(2.0)
    pace.note(0.1, 0.1)
    assert pace.factor == pytest.approx(0.9 * 2.0 + 0.1 * 1.0)


@pytest.mark.parametrize(
    ("factor", "fast_enough", "quick"), [(0.8, False, False), (1.3, True, False), (5.0, True, True)]
)
def test_how_fast_is_fast(factor: float, fast_enough: bool, quick: bool) -> None:
    pace = Pace()
    pace.note(factor, 1.0)
    assert (pace.fast_enough, pace.quick) == (fast_enough, quick)


def test_it_tells_how_long_a_block_takes_at_most_a_second() -> None:
    pace = Pace()
    assert pace.wall_seconds(0.1) == 0.1, "real time, as long as nothing is known"
    pace.note(0.1, 0.025)
    assert pace.wall_seconds(0.1) == pytest.approx(0.025)
    slow = Pace()
    slow.note(0.1, 50.0)
    assert slow.wall_seconds(0.1) == 1.0


def test_a_block_that_took_no_time_is_no_division_by_zero() -> None:
    pace = Pace()
    pace.note(0.1, 0.0)
    assert pace.quick
