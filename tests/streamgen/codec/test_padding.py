"""Windows against EncodecConv1d's own padding of the whole."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from transformers.models.encodec.modeling_encodec import EncodecConv1d

from streamgen.checkpoint.validate import STREAMABLE_PADDING
from streamgen.codec.padding import Padding, pad
from streamgen.codec.state import PaddingState

SIDES = [(0, 0), (3, 3), (2, 1), (6, 0), (1, 1), (20, 20)]


def pieces(x: Tensor, seed: int, most: int = 4) -> list[Tensor]:
    """Cut [B, T, C] along T into random pieces."""
    rng, at, cuts = random.Random(seed), 0, []
    while at < x.shape[1]:
        cuts.append(min(rng.randint(1, most), x.shape[1] - at))
        at += cuts[-1]
    return list(x.split(cuts, 1))


def windows(joined: Tensor, size: int) -> list[Tensor]:
    """The inputs of every output of one call."""
    return [joined[:, i : i + size + 1] for i in range(joined.shape[1] - size)]


@pytest.mark.parametrize("mode", STREAMABLE_PADDING)
@pytest.mark.parametrize(("left", "right"), SIDES)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 21, 50])
def test_pad_is_what_transformers_pads(mode: str, left: int, right: int, length: int) -> None:
    x = torch.randn(2, length, 3)
    theirs = EncodecConv1d._pad1d(x.transpose(1, 2), (left, right), mode).transpose(1, 2)
    assert torch.equal(pad(x, left, right, mode), theirs)


@pytest.mark.parametrize("mode", STREAMABLE_PADDING)
@pytest.mark.parametrize(("left", "right"), SIDES)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 21, 50])
def test_pieces_show_every_window_of_the_whole_once_and_in_order(mode: str, left: int, right: int, length: int) -> None:
    padding, x = Padding(left, right, mode), torch.randn(2, length, 3)
    for seed in range(5):
        state = padding.new_state(2, 3, like=x)
        seen = [w for piece in pieces(x, seed) for w in windows(padding.join(piece, state, last=False), padding.size)]
        seen += windows(padding.join(x[:, :0], state, last=True), padding.size)
        assert torch.equal(torch.stack(seen), torch.stack(windows(pad(x, left, right, mode), padding.size)))


def test_the_end_may_come_with_the_last_piece() -> None:
    padding, x = Padding(3, 3, "reflect"), torch.randn(1, 9, 2)
    state = padding.new_state(1, 2, like=x)
    seen = windows(padding.join(x[:, :5], state, last=False), 6) + windows(padding.join(x[:, 5:], state, last=True), 6)
    assert torch.equal(torch.stack(seen), torch.stack(windows(pad(x, 3, 3, "reflect"), 6)))


@pytest.mark.parametrize(("mode", "needed"), [("reflect", 7), ("constant", 1), ("replicate", 1)])
def test_only_a_mirror_delays_the_start_of_a_causal_window(mode: str, needed: int) -> None:
    padding, x = Padding(6, 0, mode), torch.randn(1, 1, 2)
    state = padding.new_state(1, 2, like=x)
    waits = 1
    while padding.join(x, state, last=False).shape[1] <= padding.size:
        waits += 1
    assert waits == needed == padding.needed


def test_memory_does_not_grow() -> None:
    padding, x = Padding(4, 4, "reflect"), torch.randn(1, 5, 2)
    state: PaddingState = padding.new_state(1, 2, like=x)
    place = state.context.data_ptr()
    for _ in range(50):
        padding.join(x, state, last=False)
    assert state.context.shape == (1, 8, 2)
    assert state.context.data_ptr() == place
    assert state.context.untyped_storage().nbytes() == 8 * 2 * 4
