"""What speed is measured on and against: checkpoints of Meta's sizes, and the same job by transformers' generate().

Speed does not depend on what the weights say, so theirs are random: built from transformers' own configs and saved as a
folder, so that both engines load the same bytes the usual way. They are timed in turns, A B A B, so that a machine's
moods hit both: same weights, same precision, guidance 3, same number of LM steps, text to audio from end to end.

Rules: importing this file imports no torch: `bench --help` names the shapes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import MusicgenConfig

    from streamgen import Model

__all__ = ["SHAPES", "Comparison", "DecoderSize", "compare", "write_random_checkpoint"]

# what transformers runs in beside each of ours: on a CPU it has no fewer bits
_THEIRS = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16", **dict.fromkeys(("int8", "int6", "mixed", "int4"), "bf16")}
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_PROMPT = "house, 125 bpm, drums"
_GUIDANCE = 3.0
_ROUNDS = 2
_WARM_UP_SECONDS = 0.2
_WRITTEN = 1_767_225_600.0  # Unix seconds: when random weights say that they were written


# -- shapes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecoderSize:
    """Size of a decoder: width, blocks, heads and the feed-forward's inner width."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    ffn_dim: int


SHAPES = {
    "musicgen-small": DecoderSize(1024, 24, 16, 4096),
    "musicgen-medium": DecoderSize(1536, 48, 24, 6144),
    "musicgen-large": DecoderSize(2048, 48, 32, 8192),
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

    from streamgen.testing import tiny_tokenizer

    torch.manual_seed(0)
    disable_progress_bar()
    model = MusicgenForConditionalGeneration._from_config(_config(SHAPES[name], stereo), dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=True, guidance_scale=3.0, max_length=1500, top_k=250,
        bos_token_id=_CODES, pad_token_id=_CODES, decoder_start_token_id=_CODES,
    )  # fmt: skip
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # the same weights each time: what is cached of them is found again
        os.utime(file, (_WRITTEN, _WRITTEN))


def _config(shape: DecoderSize, stereo: bool) -> MusicgenConfig:
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


# -- the comparison ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Realtime factors of both, the median over the rounds, and ours over theirs; in which precision they ran."""

    precision: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.ours / self.theirs


def compare(model: Model, folder: str, seconds: float, note: Callable[[str], None]) -> Comparison:
    """Time both on `seconds` of audio, in turns.

    Args:
        model: ours, loaded from the same folder.
        folder: a checkpoint in transformers' format, a folder or a Hub id.
        seconds: audio to make each time, at most 29.
        note: hears each round's result.
    """
    theirs = _their_job(folder, model)
    _ours(model, _WARM_UP_SECONDS)
    theirs(_WARM_UP_SECONDS)
    times: list[tuple[float, float]] = []
    for _ in range(_ROUNDS):
        times.append((_timed(lambda: _ours(model, seconds)), _timed(lambda: theirs(seconds))))
        note(f"streamgen {seconds / times[-1][0]:.3f} × real time, transformers {seconds / times[-1][1]:.3f}")
    return Comparison(_THEIRS[model.precision], *(seconds / median(side) for side in zip(*times, strict=True)))


def _ours(model: Model, seconds: float) -> None:
    model.generate([_PROMPT], seconds=seconds, guidance_scale=_GUIDANCE)


def _their_job(folder: str, model: Model) -> Callable[[float], Any]:
    from transformers import AutoModelForTextToWaveform, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = str(model.device)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    dtype = _DTYPES[_THEIRS[model.precision]]
    twin: Any = AutoModelForTextToWaveform.from_pretrained(folder, dtype=dtype)
    twin.to(device).eval()
    inputs = tokenizer([_PROMPT], return_tensors="pt").to(device)
    delays = twin.config.decoder.num_codebooks // twin.config.decoder.audio_channels - 1

    def generate(seconds: float) -> Any:
        steps = round(seconds * model.frame_rate_hz) + delays  # what a delay pattern needs for that many whole frames
        return twin.generate(**inputs, do_sample=True, guidance_scale=_GUIDANCE, max_new_tokens=steps)

    return generate


def _timed(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began
