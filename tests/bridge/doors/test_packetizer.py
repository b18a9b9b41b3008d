from __future__ import annotations

import numpy as np

from bridge.doors.packetizer import Packetizer


def numbers(start: int, stop: int) -> np.ndarray:
    return np.stack((np.arange(start, stop), -np.arange(start, stop))).astype(np.float32)


def test_blocks_of_any_length_leave_as_pieces_of_one_when_each_is_due() -> None:
    pieces, start, got = Packetizer(48, lambda sample: sample / 1000), 0, []
    for length in (7, 100, 48, 1, 500):
        pieces.take(numbers(start, start + length), start)
        start += length
        got += pieces.due(start / 1000)
    assert pieces.due(0.575) == [], "the rest is not a whole piece"
    assert [piece.position for piece in got] == list(range(0, 624, 48))
    assert [piece.due for piece in got] == [piece.position / 1000 for piece in got]
    assert {piece.samples.shape for piece in got} == {(2, 48)}
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in got], axis=1), numbers(0, 624))


def test_what_does_not_follow_on_begins_a_piece_of_its_own() -> None:
    pieces = Packetizer(48, float)
    pieces.take(numbers(0, 60), 0)
    pieces.take(numbers(500, 560), 500)
    assert [(one.position, one.samples.shape[1]) for one in pieces.due(1e9)] == [(0, 48), (48, 12), (500, 48)]


def test_only_so_many_wait_and_none_after_clear() -> None:
    pieces = Packetizer(10, float, most=3)
    pieces.take(numbers(0, 100), 0)
    assert [one.position for one in pieces.due(1e9)] == [70, 80, 90]
    pieces.take(numbers(100, 125), 100)
    pieces.clear()
    pieces.take(numbers(200, 210), 200)
    assert [one.position for one in pieces.due(1e9)] == [200]
