"""What a pass is made of; what it gives is tested in test_decoder.py and test_captured.py."""

from __future__ import annotations

from streamgen.lm.attention import Segment, cache_rows, merge
from streamgen.lm.cache import RowRange


def test_neighbours_at_one_position_are_merged() -> None:
    a, b, c = Segment(RowRange(0, 2), 5), Segment(RowRange(2, 4), 5), Segment(RowRange(4, 6), 6)
    assert merge([a, b, c]) == [Segment(RowRange(0, 4), 5), c]
    assert merge([b, a]) == [b, a], "out of order is not a neighbour"


def test_the_rows_of_a_pass_are_those_of_its_segments_in_order() -> None:
    assert cache_rows([Segment(RowRange(4, 6), 5), Segment(RowRange(0, 1), 9)]) == [4, 5, 0]
