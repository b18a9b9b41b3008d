"""Who holds which rows: nothing leaks, nothing that a rewind reaches is given away."""

from __future__ import annotations

import pytest
import torch

from streamgen.checkpoint.types import DecoderConfig
from streamgen.errors import CapacityError
from streamgen.lm.cache import Block, KVCache
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.window_set import Rows, WindowSet

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
    return Rows(tuple(text() for _ in range(count)), tuple(1 / count for _ in range(count)))


class Rig:
    """A set over a small cache, and what each row attends to."""

    def __init__(self, max_rows: int = 8, keep_frames: int = 0) -> None:
        self.cache = KVCache(CONFIG, max_rows, dtype=torch.float32, device=torch.device("cpu"), max_rows=max_rows)
        self.cross = CrossCache()
        self.set = WindowSet(self.cache, self.cross)
        self.set.keep_frames = keep_frames

    @property
    def taken(self) -> int:
        return self.cache._free.count(False)

    def attended(self) -> dict[int, TextKV]:
        return self.cross._texts

    def write(self, block: Block, value: float) -> None:
        for row in range(block.start, block.stop):
            self.cache.keys[:, row] = value + row - block.start


def test_a_retired_leader_gives_its_rows_back_at_once_where_no_rewind_reaches() -> None:
    rig, two = Rig(), rows(2)
    rig.set.add(two, 0, 0)
    rig.set.add(two, 5, 1)
    assert (rig.taken, sorted(rig.attended())) == (4, [0, 1, 2, 3])
    rig.set.retire_leader(head=9)
    assert [window.start_frame for window in rig.set.open] == [5]
    assert (rig.taken, sorted(rig.attended())) == (2, [2, 3])
    rig.set.close()
    assert (rig.taken, rig.attended()) == (0, {})


def test_a_retired_leader_is_kept_as_long_as_a_rewind_reaches_it() -> None:
    rig, two = Rig(keep_frames=10), rows(2)
    rig.set.add(two, 0, 0)
    rig.set.open[0].fed = 4
    mark = rig.set.mark()
    rig.set.add(two, 5, 0)
    rig.set.retire_leader(head=9)
    assert rig.taken == 4
    rig.set.forget(before_head=9)
    assert rig.taken == 4
    rig.set.rewind(mark, two, head=3)
    assert [(w.block, w.start_frame, w.fed) for w in rig.set.open] == [(Block(0, 2), 0, 4)]
    assert (rig.taken, sorted(rig.attended())) == (2, [0, 1]), "the successor, opened since, is given back"
    rig.set.retire_leader(head=9)
    rig.set.forget(before_head=10)
    assert rig.taken == 0


def test_moved_rows_take_their_past_along_and_attend_to_the_new_texts() -> None:
    rig, new = Rig(), rows(3)
    rig.set.add(rows(2), 0, 0)
    window = rig.set.open[0]
    window.fed = 4
    rig.write(window.block, 10.0)
    rig.set.move(new, [1, 1, 0], head=4)
    block = rig.set.open[0].block
    assert block.rows == 3
    assert rig.cache.keys[0, block.slice(), 0, 3, 0].tolist() == [11.0, 11.0, 10.0]
    assert [rig.attended()[row] for row in range(block.start, block.stop)] == list(new.texts)
    assert rig.taken == 3


@pytest.mark.parametrize("keep_frames", [0, 10])
def test_rows_without_room_change_nothing(keep_frames: int) -> None:
    rig, two = Rig(max_rows=4, keep_frames=keep_frames), rows(2)
    rig.set.add(two, 0, 0)
    attended = dict(rig.attended())
    with pytest.raises(CapacityError, match="close a stream or use fewer prompts"):
        rig.set.move(rows(5), [0, 0, 0, 0, 0], head=1)
    with pytest.raises(CapacityError):
        rig.set.begin_anew(rows(5), 0, 0, head=1)
    assert (rig.set.open[0].block, rig.taken, rig.attended()) == (Block(0, 2), 2, attended)


def test_beginning_anew_leaves_one_empty_window() -> None:
    rig, two, one = Rig(), rows(2), rows(1)
    rig.set.add(two, 0, 0)
    rig.set.add(two, 4, 0)
    window = rig.set.begin_anew(one, 7, 2, head=9)
    assert rig.set.open == [window]
    assert (window.start_frame, window.position, window.fed) == (7, 2, 0)
    assert rig.taken == 1
    assert list(rig.attended().values()) == list(one.texts)


def test_a_snapshot_can_be_restored_again_and_again() -> None:
    rig, two = Rig(keep_frames=10), rows(2)
    rig.set.add(two, 0, 0)
    rig.set.open[0].fed = 3
    rig.write(rig.set.open[0].block, 5.0)
    saved = rig.set.snapshot()
    for _ in range(2):
        rig.set.move(rows(3), [0, 0, 1], head=5)
        rig.cache.keys.zero_()
        rig.set.restore(saved, two)
        window = rig.set.open[0]
        assert rig.cache.keys[1, window.block.slice(), 1, :3, 0].tolist() == [[5.0] * 3, [6.0] * 3]
        assert (window.fed, rig.taken) == (3, 2)
        window.fed = 6
    rig.set.close()
    assert rig.taken == 0
