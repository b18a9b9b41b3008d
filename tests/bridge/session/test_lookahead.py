"""What is ahead, and how far a change takes it back."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest

from bridge.session.lookahead import Lookahead, Pace, Piece

BLOCK = 3_200


def ahead_of(count: int) -> tuple[Lookahead, list[Any]]:
    """Blocks one after the other; a change at a mark is heard 100 samples into its block."""
    ahead, marks = Lookahead(), [object() for _ in range(count)]
    for number, mark in enumerate(marks):
        samples = np.zeros((2, BLOCK), np.float32)
        ahead.add(Piece(samples, number * BLOCK, mark, number * BLOCK + 100))  # type: ignore[arg-type]
    return ahead, marks


def test_pieces_come_out_in_order_and_in_parts() -> None:
    ahead, _ = ahead_of(3)
    for number, piece in enumerate(ahead._pieces):
        piece.samples[:] = number
    assert (bool(ahead), ahead.samples) == (True, 3 * BLOCK)
    levels = []
    while (piece := ahead.take(2_000)) is not None:
        levels.append((piece.samples.shape[1], float(piece.samples[0, 0])))
    assert levels == [(2_000, 0), (1_200, 0), (2_000, 1), (1_200, 1), (2_000, 2), (1_200, 2)]
    assert (bool(ahead), ahead.samples) == (False, 0)


def test_how_much_lies_ahead_is_told_while_the_engine_makes_more() -> None:
    ahead, _ = ahead_of(50)
    over, interval = threading.Event(), sys.getswitchinterval()

    def make() -> None:
        piece = ahead._pieces[0]
        while not over.is_set():
            ahead.take(BLOCK)
            ahead.add(piece)

    making = threading.Thread(target=make)
    sys.setswitchinterval(1e-6)
    try:
        making.start()
        told = {ahead.samples for _ in range(2_000)}
    finally:
        over.set()
        making.join()
        sys.setswitchinterval(interval)
    assert told <= {49 * BLOCK, 50 * BLOCK}


def test_a_piece_that_was_taken_in_part_is_not_taken_back() -> None:
    ahead, marks = ahead_of(2)
    ahead.take(640)
    assert ahead.revoke(0) is marks[1]
    assert ahead.samples == BLOCK - 640
    assert ahead.revoke(0) is None
    assert ahead.samples == BLOCK - 640


@pytest.mark.parametrize(
    ("from_sample", "kept"),
    [
        (0, 0),  # no mark lands that early: everything goes, the oldest mark is the best there is
        (100, 0),
        (BLOCK + 99, 0),
        (BLOCK + 100, 1),
        (2 * BLOCK + 5_000, 2),
    ],
)
def test_a_change_takes_back_no_more_than_it_must(from_sample: int, kept: int) -> None:
    ahead, marks = ahead_of(3)
    assert ahead.revoke(from_sample) is marks[kept]
    assert ahead.samples == kept * BLOCK


def test_nothing_ahead_is_nothing_to_take_back() -> None:
    ahead, _ = ahead_of(2)
    ahead.clear()
    assert not ahead
    assert ahead.revoke(0) is None


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
