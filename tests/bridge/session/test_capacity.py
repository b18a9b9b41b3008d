"""A line through two costs, and what is believed of it once sessions play."""

from __future__ import annotations

import pytest

from bridge.session.capacity import Capacity, MeasuredCapacity, SessionCost


@pytest.mark.parametrize(
    ("first", "together", "count", "sessions"),
    [
        (0.10, 0.19, 4, 24),  # each further one costs a third of the first
        (0.10, 0.43, 4, 7),  # no gain in common passes
        (0.50, 0.92, 4, 3),
        (0.90, 3.0, 4, 1),  # not even one: it is admitted all the same
        (0.10, 0.05, 4, 351),  # disturbed: four seemed cheaper than one
    ],
)
def test_how_many_sessions_stay_within_real_time(first: float, together: float, count: int, sessions: int) -> None:
    assert MeasuredCapacity(SessionCost.measured(first, together, count)).sessions == sessions


def play(capacity: Capacity, load: float, playing: int, seconds: float) -> None:
    """Let the thread work so much of each second for sessions that are played in blocks of 0.1 s."""
    for _ in range(round(seconds / 0.1)):
        capacity.note(0.3 * load * 0.1, 0, playing)  # what it does while nothing lacks is work as well
        capacity.note(0.7 * load * 0.1, playing * 0.1, playing)


def test_what_sessions_turn_out_to_cost_is_believed_within_seconds() -> None:
    capacity = MeasuredCapacity(SessionCost(0.1, 0.05))
    assert capacity.sessions == 15
    play(capacity, 0.1 + 7 * 0.05, playing=8, seconds=30)
    assert capacity.sessions == 15, "as measured before"
    play(capacity, 0.9, playing=8, seconds=5)
    assert capacity.sessions < 11, "plugins were loaded, or another program takes the core"
    play(capacity, 0.9, playing=8, seconds=30)
    assert capacity.sessions == 7, "two such times as many as measured: no room for the eight that play"
    play(capacity, 0.45, playing=8, seconds=60)
    assert capacity.sessions == 15, "and they are gone"


def test_a_first_measurement_on_a_busy_machine_does_not_last() -> None:
    capacity = MeasuredCapacity(SessionCost(0.3, 0.2))
    assert capacity.sessions == 3
    play(capacity, 0.2, playing=2, seconds=30)
    assert 6 <= capacity.sessions <= 8


def test_one_session_is_always_let_in_and_nothing_is_learnt_of_silence() -> None:
    capacity = MeasuredCapacity(SessionCost(5.0, 5.0))
    assert capacity.sessions == 1
    for _ in range(1_000):
        capacity.note(0.0, 0.0, 0)
    assert capacity.sessions == 1
