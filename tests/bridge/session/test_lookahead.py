"""What is ahead, and how far a change takes it back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bridge.session.lookahead import Lead, Piece

BLOCK = 3_200


def lead_of(count: int) -> tuple[Lead, list[Any]]:
    """Blocks one after the other; a change at a mark is heard 100 samples into its block."""
    lead, marks = Lead(), [object() for _ in range(count)]
    for number, mark in enumerate(marks):
        samples = np.zeros((2, BLOCK), np.float32)
        lead.add(Piece(samples, number * BLOCK, mark, number * BLOCK + 100))  # type: ignore[arg-type]
    return lead, marks


def test_pieces_come_out_in_order_while_they_start_before_a_sample() -> None:
    lead, _ = lead_of(3)
    assert (bool(lead), lead.samples, lead.end) == (True, 3 * BLOCK, 3 * BLOCK)
    starts = []
    while piece := lead.take(before_sample=BLOCK + 1):
        starts.append(piece.start)
    assert starts == [0, BLOCK]
    assert lead.samples == BLOCK
    last = lead.take()
    assert last is not None
    assert (last.start, last.end) == (2 * BLOCK, 3 * BLOCK)
    assert lead.take() is None
    assert (bool(lead), lead.samples, lead.end) == (False, 0, None)


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
    lead, marks = lead_of(3)
    assert lead.revoke(from_sample) is marks[kept]
    assert lead.samples == kept * BLOCK


def test_nothing_ahead_is_nothing_to_take_back() -> None:
    lead, _ = lead_of(2)
    lead.clear()
    assert not lead
    assert lead.revoke(0) is None
