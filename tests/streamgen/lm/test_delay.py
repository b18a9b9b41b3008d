from __future__ import annotations

import pytest
import torch
from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

from streamgen.lm.delay import DelayPattern

PAD = 9


def slow_columns(codes: torch.Tensor, delays: tuple[int, ...], start: int) -> torch.Tensor:
    """The obvious twin: one place at a time."""
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
    assert torch.equal(pattern.columns(codes, start), slow_columns(codes, pattern.delays, start))


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
