"""Samples that wait with their position, and weights that turn between positions."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.aligned import PendingAudio, Ramp


def ramp(start: int, stop: int) -> np.ndarray:
    return np.stack([np.arange(start, stop, dtype=np.float32)] * 2)


def test_what_waits_comes_out_by_position() -> None:
    waiting = PendingAudio(100)
    waiting.append(ramp(100, 150))
    waiting.append(ramp(150, 151))
    assert (waiting.start, waiting.end) == (100, 151)
    np.testing.assert_array_equal(waiting.take(120), ramp(100, 120))
    waiting.append(ramp(151, 200))
    np.testing.assert_array_equal(waiting.take(200), ramp(120, 200))
    assert waiting.take(200).shape == (2, 0)
    waiting.append(ramp(200, 210))
    waiting.drop(205)
    waiting.drop(100)
    np.testing.assert_array_equal(waiting.take(210), ramp(205, 210))


def test_dropping_more_than_there_is_leaves_nothing() -> None:
    waiting = PendingAudio(0)
    waiting.append(ramp(0, 10))
    waiting.drop(1_000)
    assert (waiting.start, waiting.end) == (10, 10)


def test_a_weight_turns_without_a_corner_and_is_the_same_in_any_chunking() -> None:
    weight = Ramp(1_000, 2_000, 0.0, 1.0)
    whole = np.broadcast_to(weight.over(900, 1_200), 1_200)
    pieces = [np.broadcast_to(weight.over(at, 7), 7) for at in range(900, 2_100, 7)]
    np.testing.assert_array_equal(np.concatenate(pieces)[:1_200], whole)
    assert (whole[0], whole[-1]) == (0, 1)
    assert np.abs(np.diff(whole, 2)).max() < 1e-5
    assert weight.over(0, 1_000) == 0.0
    assert weight.over(2_000, 5) == 1.0


def test_a_weight_turns_back_from_where_it_is() -> None:
    back = Ramp(0, 100, 0.0, 1.0).turned(50, 150, 0.0)
    assert back.at(50) == pytest.approx(0.5)
    assert back.at(150) == 0.0
    assert Ramp(0, 100, 0.0, 1.0).turned(50, 50, 0.0) == Ramp.constant(0.0)
