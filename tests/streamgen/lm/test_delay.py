from __future__ import annotations

import pytest
import torch
from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

from streamgen.lm.delay import DelayPattern

PAD = 9


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
