from __future__ import annotations

import pytest
import torch

from streamgen.lm.cache import RowRange
from streamgen.lm.cross import TextKV
from streamgen.lm.step import Rows, Unread, Window

NOTHING = TextKV(torch.zeros(1, 1, 0, 1), torch.zeros(1, 1, 0, 1))


def rows(*names: str | None, coefficients: tuple[float, ...] = ()) -> Rows:
    return Rows(names, (NOTHING,) * len(names), coefficients or (1 / len(names),) * len(names))


@pytest.mark.parametrize(
    ("old", "new", "sources"),
    [
        (rows("a", None), rows("a", None), [0, 1]),
        (rows("a", None), rows(None, "a"), [1, 0]),  # each where its namesake was
        (rows("a", None), rows("b", None), [0, 1]),  # another text in the same place
        (rows("a", "b", None, coefficients=(1.0, 2.0, -2.0)), rows("c", None), [1, 2]),  # fewer: from the heaviest
        (rows("a", None, coefficients=(3.0, -2.0)), rows("b", "a", "c", None), [0, 0, 0, 1]),
    ],
)
def test_each_row_goes_on_from_its_namesake_its_place_or_the_heaviest(old: Rows, new: Rows, sources: list[int]) -> None:
    assert new.sources(old) == sources


def test_what_is_unread_counts_prefix_and_columns() -> None:
    window = Window(RowRange(0, 2), start_frame=0, start_position=3, fed=4)
    assert window.position == 7
    columns = torch.zeros(5, 4, dtype=torch.int64)
    assert Unread(window, None, columns).length == 5
    assert Unread(window, torch.zeros(2, 3, 8), columns).length == 8
