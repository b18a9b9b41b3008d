"""Who holds which rows: nothing leaks, nothing that a rewind reaches is given away."""

from __future__ import annotations

import pytest
import torch

from streamgen.checkpoint.types import DecoderConfig
from streamgen.errors import CapacityError
from streamgen.lm.cache import KVCache, RowRange
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.step import Rows, Window
from streamgen.lm.window_set import WindowPlace, WindowSet

CONFIG = DecoderConfig(
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    ffn_dim=8,
    num_codebooks=4,
    vocab_size=8,
    audio_channels=1,
    max_positions=6,
)


def text(length: int = 3) -> TextKV:
    return TextKV(torch.randn(2, 2, length, 4), torch.randn(2, 2, length, 4))


def rows(count: int) -> Rows:
    return Rows(tuple(range(count)), tuple(text() for _ in range(count)), tuple(1 / count for _ in range(count)))


class Rig:
    """A set over a small cache, and what each row attends to."""

    def __init__(self, max_rows: int = 8, keep_frames: int = 0) -> None:
        self.cache = KVCache(CONFIG, max_rows, dtype=torch.float32, device=torch.device("cpu"), max_rows=max_rows)
        self.cross = CrossCache()
        self.set = WindowSet(self.cache, self.cross, keep_frames)

    @property
    def taken(self) -> int:
        return self.cache._free.count(False)

    def attended(self) -> dict[int, TextKV]:
        return self.cross._texts

    def standing(self) -> list[WindowPlace]:
        return [WindowPlace(window.start_frame, window.start_position, window) for window in self.set.open]

    def open(self, rows: Rows, *places: tuple[int, int], head: int = 0) -> list[Window]:
        """Open windows behind those that are open."""
        self.set.arrange([*self.standing(), *(WindowPlace(*place) for place in places)], rows, None, head)
        return self.set.open

    def retire(self, rows: Rows, head: int) -> None:
        """Close the leader."""
        self.set.arrange(self.standing()[1:], rows, None, head)

    def write(self, block: RowRange, value: float) -> None:
        for row in range(block.start, block.stop):
            self.cache.keys[:, row] = value + row - block.start


def test_a_closed_leader_gives_its_rows_back_at_once_where_no_rewind_reaches() -> None:
    rig, two = Rig(), rows(2)
    rig.open(two, (0, 0), (5, 1))
    assert (rig.taken, sorted(rig.attended())) == (4, [0, 1, 2, 3])
    rig.retire(two, head=9)
    assert [window.start_frame for window in rig.set.open] == [5]
    assert (rig.taken, sorted(rig.attended())) == (2, [2, 3])
    rig.set.close()
    assert (rig.taken, rig.attended()) == (0, {})


def test_a_closed_leader_is_kept_as_long_as_a_rewind_reaches_it() -> None:
    rig, two = Rig(keep_frames=10), rows(2)
    rig.open(two, (0, 0))[0].fed = 4
    mark = rig.set.mark()
    rig.open(two, (5, 0))
    rig.retire(two, head=9)
    assert rig.taken == 4
    rig.set.forget(before_head=9)
    assert rig.taken == 4
    rig.set.rewind(mark, two, head=3)
    assert [(w.block, w.start_frame, w.fed) for w in rig.set.open] == [(RowRange(0, 2), 0, 4)]
    assert (rig.taken, sorted(rig.attended())) == (2, [0, 1]), "the successor, opened since, is given back"
    rig.retire(two, head=9)
    rig.set.forget(before_head=10)
    assert rig.taken == 0


def test_windows_that_stay_keep_their_rows_and_what_they_read() -> None:
    """A successor that takes over while the next one opens: in one exchange."""
    rig, two = Rig(max_rows=4), rows(2)
    leader, successor = rig.open(two, (0, 0), (5, 1))
    successor.fed = 3
    rig.set.arrange([WindowPlace(5, 1, successor), WindowPlace(9, 1)], two, None, head=7)
    assert rig.set.open[0] is successor
    assert (successor.block, successor.fed) == (RowRange(2, 4), 3)
    assert (rig.set.open[1].block, rig.set.open[1].start_frame, rig.set.open[1].fed) == (leader.block, 9, 0)
    assert (rig.taken, sorted(rig.attended())) == (4, [0, 1, 2, 3])


def test_moved_rows_take_their_past_along_and_attend_to_the_new_texts() -> None:
    rig, new = Rig(), rows(3)
    window = rig.open(rows(2), (0, 0))[0]
    window.fed = 4
    rig.write(window.block, 10.0)
    rig.set.arrange(rig.standing(), new, [1, 1, 0], head=4)
    block = rig.set.open[0].block
    assert (block.rows, rig.set.open[0].fed) == (3, 4)
    assert rig.cache.keys[0, block.slice(), 0, 3, 0].tolist() == [11.0, 11.0, 10.0]
    assert [rig.attended()[row] for row in range(block.start, block.stop)] == list(new.texts)
    assert rig.taken == 3


@pytest.mark.parametrize("keep_frames", [0, 10])
def test_rows_without_room_change_nothing(keep_frames: int) -> None:
    rig, two = Rig(max_rows=4, keep_frames=keep_frames), rows(2)
    window = rig.open(two, (0, 0))[0]
    window.fed = 3
    attended = dict(rig.attended())
    with pytest.raises(CapacityError, match="close a stream or use fewer prompts"):
        rig.set.arrange(rig.standing(), rows(5), [0, 0, 0, 0, 0], head=1)
    with pytest.raises(CapacityError):
        rig.set.arrange([WindowPlace(0, 0)], rows(5), None, head=1)
    with pytest.raises(CapacityError):
        rig.set.arrange([*rig.standing(), WindowPlace(4, 0)], rows(3), [0, 0, 1], head=1)  # the move alone has room
    assert rig.set.open == [window]
    assert (window.block, window.fed, rig.taken, rig.attended()) == (RowRange(0, 2), 3, 2, attended)


def test_beginning_anew_leaves_one_empty_window() -> None:
    rig, two, one = Rig(), rows(2), rows(1)
    rig.open(two, (0, 0), (4, 0))
    rig.set.arrange([WindowPlace(7, 2)], one, None, head=9)
    (window,) = rig.set.open
    assert (window.start_frame, window.position, window.fed) == (7, 2, 0)
    assert rig.taken == 1
    assert list(rig.attended().values()) == list(one.texts)


def test_a_snapshot_can_be_restored_again_and_again() -> None:
    rig, two = Rig(keep_frames=10), rows(2)
    rig.open(two, (0, 0))[0].fed = 3
    rig.write(rig.set.open[0].block, 5.0)
    saved = rig.set.snapshot()
    for _ in range(2):
        rig.set.arrange(rig.standing(), rows(3), [0, 0, 1], head=5)
        rig.cache.keys.zero_()
        rig.set.restore(saved, two)
        window = rig.set.open[0]
        assert rig.cache.keys[1, window.block.slice(), 1, :3, 0].tolist() == [[5.0] * 3, [6.0] * 3]
        assert (window.fed, rig.taken) == (3, 2)
        window.fed = 6
    rig.set.close()
    assert rig.taken == 0
