"""The decoder's tensors against transformers' own module, and messages that count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import EncodecConfig, MusicgenDecoderConfig, MusicgenForCausalLM

from streamgen.checkpoint import DecoderConfig
from streamgen.checkpoint.validate import check_codec, check_decoder, decoder_shapes, match_tensors
from streamgen.errors import CheckpointError

DECODER = DecoderConfig(
    hidden_size=32, num_layers=2, num_heads=2, ffn_dim=48, num_codebooks=8, vocab_size=64, audio_channels=2,
    max_positions=1503,
)  # fmt: skip
CODEC = EncodecConfig(codebook_size=64, sampling_rate=32_000, upsampling_ratios=[8, 5, 4, 4], target_bandwidths=[1.2])


def test_shapes_are_those_of_transformers_module() -> None:
    config = MusicgenDecoderConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=48, num_codebooks=8,
        audio_channels=2, pad_token_id=64, bos_token_id=64,
    )  # fmt: skip
    with torch.device("meta"):
        state = MusicgenForCausalLM(config).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if "embed_positions" not in name}
    assert decoder_shapes(DECODER) == expected


def test_without_cross_attention_there_are_no_tensors_of_it() -> None:
    names = decoder_shapes(replace(DECODER, cross_attention=False))
    assert not any("encoder_attn" in name for name in names)


def test_a_fitting_codec_and_decoder_pass() -> None:
    check_decoder(DECODER, "here")
    check_codec(CODEC, DECODER, "here")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 0}, "num_layers is 0, 1 to 1024 is possible"),
        ({"vocab_size": 10**9}, "vocab_size is 1000000000"),
        ({"audio_channels": 3}, "8 codebooks for 3 audio channels"),
        ({"num_codebooks": 7}, "7 codebooks for 2 audio channels"),
        ({"num_heads": 3}, "hidden_size 32 is not a multiple of num_heads 3"),
        ({"max_positions": 3}, "max_position_embeddings is 3, at least 10 are needed"),
    ],
)
def test_a_decoder_that_is_not_musicgen_s(change: dict[str, int], words: str) -> None:
    with pytest.raises(CheckpointError, match=f"here: {words}.*not MusicGen's"):
        check_decoder(replace(DECODER, **change), "here")


def test_messages_name_the_first_and_count_the_rest() -> None:
    shapes = {"a": (1,), "b": (2,), "c": (3,)}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    match_tensors("it", shapes, tensors)
    with pytest.raises(CheckpointError, match="it: a and 2 more tensors are missing from the weights"):
        match_tensors("it", shapes, {})
    with pytest.raises(CheckpointError, match="it: d is in the weights, but not in this architecture"):
        match_tensors("it", shapes, {**tensors, "d": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"it: b is \[3\], the settings say \[2\]"):
        match_tensors("it", shapes, {**tensors, "b": torch.zeros(3)})
    match_tensors("it", shapes, {"b": tensors["b"]}, optional=["a", "c"])
