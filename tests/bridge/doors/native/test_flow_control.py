"""What is on its way, by what was answered."""

from __future__ import annotations

from bridge.doors.native.flow_control import LONGEST_WINDOW_SECONDS, Flow


def test_a_mark_comes_with_every_tenth_of_a_second() -> None:
    flow = Flow(1_000, 0.4)
    assert [flow.send(40) for _ in range(9)] == [None, None, 1, None, None, 2, None, None, 3]


def test_the_window_closes_and_opens_with_the_answers() -> None:
    flow = Flow(1_000, 0.4)
    marks = [flow.send(100) for _ in range(4)]
    assert marks == [1, 2, 3, 4]
    assert not flow.open
    flow.arrive(1, 0.1)
    assert flow.open
    assert flow.on_its_way == 300
    flow.arrive(4, 0.1)
    flow.arrive(2, 0.1)
    assert flow.on_its_way == 0


def test_a_peer_far_away_gets_a_longer_window_and_one_that_stopped_reading_does_not() -> None:
    flow = Flow(1_000, 0.4)
    for mark in range(1, 5):
        flow.send(100)
        flow.arrive(mark, 0.6)
    assert flow.window_seconds == 0.8
    flow.arrive(5, 30.0)  # it did not read for a while
    assert flow.window_seconds == 0.8
    near = Flow(1_000, 0.4)
    near.arrive(1, 0.001)
    for mark in range(2, 10):
        near.arrive(mark, 30.0)
    assert near.window_seconds == 0.4
    for mark in range(10, 30):
        near.arrive(mark, 30.0)
    assert near.window_seconds == LONGEST_WINDOW_SECONDS
