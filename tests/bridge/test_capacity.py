"""Capacity from costs that are known, and of a model that sings."""

from __future__ import annotations

import pytest

from bridge.capacity import measure, measure_capacity, sessions_within
from streamgen.testing import FakeModel


def test_a_second_of_music_tells_how_fast_it_is() -> None:
    assert measure(FakeModel(), "a") > 1
    assert measure(FakeModel(), "") > 1, "no prompt is unconditional"


@pytest.mark.parametrize(
    ("share", "first", "together", "count", "sessions"),
    [
        (0.8, 0.10, 0.19, 4, 24),  # each further one costs a third of the first
        (0.8, 0.10, 0.43, 4, 7),  # no gain in common passes
        (0.8, 0.50, 0.92, 4, 3),
        (0.8, 0.90, 3.0, 4, 1),  # not even one: it is admitted all the same
        (0.8, 0.10, 0.05, 4, 351),  # disturbed: four seemed cheaper than one
    ],
)
def test_how_many_sessions_stay_within_a_share(
    share: float, first: float, together: float, count: int, sessions: int
) -> None:
    assert sessions_within(share, first, together, count) == sessions


def test_a_machine_without_room_for_a_second_session_is_not_asked_for_it() -> None:
    assert measure_capacity(None, realtime_factor=1.1) == 1  # type: ignore[arg-type] # it would fail


def test_capacity_is_measured_with_real_streams() -> None:
    model = FakeModel()
    assert measure_capacity(model, realtime_factor=1e9) >= 4
