from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

from streamgen.lm.delay import CodeRing, DelayPattern

PAD = 99


@pytest.mark.parametrize(("codebooks", "channels"), [(4, 1), (8, 2), (2, 1)])
@pytest.mark.parametrize("start", [0, 3, 6])
def test_a_place_is_valid_where_its_frame_is(codebooks: int, channels: int, start: int) -> None:
    """The obvious twin: one place at a time."""
    pattern = DelayPattern.of(codebooks, channels, PAD)
    assert pattern.offsets().tolist() == [k // channels for k in range(codebooks)]
    for head in range(-1, 12):
        slow = [start <= head - k // channels < 8 for k in range(codebooks)]
        assert pattern.valid(head, start, total_frames=8).tolist() == slow, head


@pytest.mark.parametrize(("codebooks", "channels"), [(4, 1), (8, 2)])
def test_validity_is_transformers_mask(codebooks: int, channels: int) -> None:
    config = MusicgenDecoderConfig(
        vocab_size=PAD,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=8,
        num_codebooks=codebooks,
        audio_channels=channels,
        pad_token_id=None,
        bos_token_id=None,
    )
    frames, pattern = 6, DelayPattern.of(codebooks, channels, PAD)
    start = torch.full((codebooks, 1), PAD)
    length = frames + codebooks // channels
    _, mask = MusicgenForCausalLM(config).build_delay_pattern_mask(start, PAD, max_length=length)
    for column in range(length):
        valid = pattern.valid(column - 1, total_frames=frames)
        assert torch.equal(valid, mask[:, column] == -1), column


def test_stereo_interleaves_left_and_right() -> None:
    pattern = DelayPattern.of(8, 2, PAD)
    assert pattern.delays == (0, 0, 1, 1, 2, 2, 3, 3)
    assert pattern.max_delay == 3


# -- codes, kept as columns --------------------------------------------------------------------------------------------


def slow_columns(codes: Tensor, delays: tuple[int, ...], start: int) -> Tensor:
    """The obvious twin, one place at a time: column j holds frame j − delay of each codebook, from `start` on."""
    out = torch.full_like(codes, PAD)
    for k, delay in enumerate(delays):
        for column in range(codes.shape[1]):
            if column - delay >= start:
                out[k, column] = codes[k, column - delay]
    return out


@pytest.mark.parametrize(("codebooks", "channels"), [(4, 1), (8, 2), (2, 1)])
@pytest.mark.parametrize("start", [0, 3, 6])
def test_columns_equal_the_slow_loop(codebooks: int, channels: int, start: int) -> None:
    pattern = DelayPattern.of(codebooks, channels, PAD)
    codes = torch.arange(codebooks * 7).view(codebooks, 7)
    ring = CodeRing(pattern, 16)
    ring.give(codes)
    assert torch.equal(ring.columns(0, 7, start), slow_columns(codes, pattern.delays, start).t())
    assert torch.equal(ring.column(5, start), ring.columns(5, 6, start)[0])
    assert ring.columns(4, 4, start).shape == (0, codebooks)


def test_drawn_columns_become_frames_and_the_oldest_are_overwritten() -> None:
    pattern = DelayPattern.of(4, 1, PAD)
    ring, frames = CodeRing(pattern, 8), torch.arange(4 * 20).view(4, 20)
    for head in range(20):
        drawn = [int(frames[k, head - k]) if head >= k else PAD for k in range(4)]
        ring.write(head, torch.tensor(drawn))
    assert torch.equal(ring.frames(12, 17), frames[:, 12:17])
    assert ring.column(19).tolist() == [int(frames[k, 19 - k]) for k in range(4)]


def test_given_codes_are_not_drawn_over() -> None:
    pattern = DelayPattern.of(4, 1, PAD)
    ring = CodeRing(pattern, 8)
    ring.give(torch.full((4, 3), 7))
    ring.write(3, torch.full((4,), 50), first_frame=3)
    assert ring.column(3).tolist() == [50, 7, 7, 7]
    assert ring.frames(0, 3).unique().tolist() == [7]


def test_a_known_end_pads_what_comes_after_it() -> None:
    ring = CodeRing(DelayPattern.of(4, 1, PAD), 8, total_frames=5)
    ring.give(torch.full((4, 8), 7))
    assert ring.column(6).tolist() == [PAD, PAD, 7, 7]


def test_a_snapshot_stays_as_it_is() -> None:
    ring = CodeRing(DelayPattern.of(2, 1, PAD), 4)
    ring.give(torch.full((2, 4), 1))
    saved = ring.snapshot()
    for value in (2, 3):
        ring.give(torch.full((2, 4), value))
        ring.restore(saved)
        assert ring.frames(0, 4).unique().tolist() == [1]


@pytest.mark.parametrize(("codebooks", "channels"), [(4, 1), (8, 2)])
@pytest.mark.parametrize(("first", "stop"), [(0, 10), (0, 8), (9, 10), (10, 10), (0, 6)])
def test_held_codes_equal_the_slow_loop(codebooks: int, channels: int, first: int, stop: int) -> None:
    """Frames 0 … 9 of a ring that has gone round once; the newest column's head is 9."""
    pattern = DelayPattern.of(codebooks, channels, PAD)
    ring, codes = CodeRing(pattern, 8), torch.arange(codebooks * 10).view(codebooks, 10)
    for head in range(10):
        ring.write(head, torch.stack([codes[k, max(head - delay, 0)] for k, delay in enumerate(pattern.delays)]))
    expected = ring.frames(3, 10).clone()
    for k, delay in enumerate(pattern.delays):
        for frame in range(max(10 - delay, first), stop):
            expected[k, frame - 3] = expected[k, frame - 1 - 3]
    ring.hold(9, first, stop)
    assert torch.equal(ring.frames(3, 10), expected)
