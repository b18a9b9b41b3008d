"""Checkpoints of Meta's sizes with random weights, for speed does not depend on what the weights say.

Rules: built from transformers' own configs and saved as a folder, so that both engines load the same bytes the usual
way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import MusicgenConfig

__all__ = ["SHAPES", "Shape", "write_random_checkpoint"]


@dataclass(frozen=True)
class Shape:
    """Size of a decoder: width, blocks, heads and the feed-forward's inner width."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    ffn_dim: int


SHAPES = {
    "musicgen-small": Shape(1024, 24, 16, 4096),
    "musicgen-medium": Shape(1536, 48, 24, 6144),
    "musicgen-large": Shape(2048, 48, 32, 8192),
}

# facebook/encodec_32khz and t5-base, as Meta's checkpoints have them.
_CODEC: dict[str, Any] = {
    "target_bandwidths": [2.2], "sampling_rate": 32_000, "audio_channels": 1, "num_filters": 64, "hidden_size": 128,
    "upsampling_ratios": [8, 5, 4, 4], "num_lstm_layers": 2, "codebook_size": 2048, "codebook_dim": 128,
    "use_causal_conv": False, "pad_mode": "reflect", "norm_type": "weight_norm", "use_conv_shortcut": False,
}  # fmt: skip
_TEXT: dict[str, Any] = {
    "vocab_size": 32_128,
    "d_model": 768,
    "d_ff": 3072,
    "d_kv": 64,
    "num_layers": 12,
    "num_heads": 12,
}
_CODES = 2048


def write_random_checkpoint(name: str, stereo: bool, folder: Path) -> None:
    """Write a checkpoint of the named shape, in bfloat16, seeded.

    Args:
        name: a key of SHAPES.
        stereo: 8 codebooks in place of 4.
        folder: an empty folder; musicgen-small takes 1.2 GB of it, large 7 GB.
    """
    import torch
    from transformers import GenerationConfig, MusicgenForConditionalGeneration
    from transformers.utils.logging import disable_progress_bar

    from streamgen.testing.tiny_vocabulary import tiny_tokenizer

    torch.manual_seed(0)
    disable_progress_bar()
    model = MusicgenForConditionalGeneration._from_config(_config(SHAPES[name], stereo), dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=True, guidance_scale=3.0, max_length=1500, top_k=250,
        bos_token_id=_CODES, pad_token_id=_CODES, decoder_start_token_id=_CODES,
    )  # fmt: skip
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def _config(shape: Shape, stereo: bool) -> MusicgenConfig:
    from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config

    decoder = MusicgenDecoderConfig(
        vocab_size=_CODES, hidden_size=shape.hidden_size, num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads, ffn_dim=shape.ffn_dim, num_codebooks=8 if stereo else 4,
        audio_channels=2 if stereo else 1, pad_token_id=_CODES, bos_token_id=_CODES,
    )  # fmt: skip
    return MusicgenConfig(
        text_encoder=T5Config(**_TEXT).to_dict(),
        audio_encoder=EncodecConfig(**_CODEC).to_dict(),
        decoder=decoder.to_dict(),
    )
