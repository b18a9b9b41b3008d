"""What is on its way, by what was answered."""

from __future__ import annotations

from bridge.network.flow import Flow


def test_a_mark_comes_with_every_tenth_of_a_second() -> None:
    flow = Flow(1_000, 0.4)
    assert [flow.send(40) for _ in range(9)] == [None, None, 1, None, None, 2, None, None, 3]


def test_the_window_closes_and_opens_with_the_answers() -> None:
    flow = Flow(1_000, 0.4)
    marks = [flow.send(100) for _ in range(4)]
    assert marks == [1, 2, 3, 4]
    assert not flow.open
    flow.arrive(1)
    assert flow.open
    assert flow.on_its_way == 300
    flow.arrive(4)
    flow.arrive(2)
    assert flow.on_its_way == 0
