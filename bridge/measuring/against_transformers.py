"""The same job by transformers' own generate(), timed in turns with ours: A B A B, so that a machine's moods hit both.

Rules: same weights, same precision, guidance 3, same number of LM steps, text to audio from end to end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from bridge.measuring.figures import FRAMES_PER_SECOND

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["Comparison", "compare"]

# what transformers runs in beside each of ours: it has no int8 on a CPU, and rows are bfloat16 in ours too
_THEIRS = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16", "int8": "bf16"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PROMPT = "house, 125 bpm, drums"
_GUIDANCE = 3.0
_ROUNDS = 2
_WARM_UP_SECONDS = 0.2


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
    from transformers import AutoTokenizer, MusicgenForConditionalGeneration
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = str(model.device)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    twin: Any = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=_DTYPES[_THEIRS[model.precision]])
    twin.to(device).eval()
    inputs = tokenizer([_PROMPT], return_tensors="pt").to(device)
    delays = twin.config.decoder.num_codebooks // twin.config.decoder.audio_channels - 1

    def generate(seconds: float) -> Any:
        steps = round(seconds * FRAMES_PER_SECOND) + delays  # what a delay pattern needs for that many whole frames
        return twin.generate(**inputs, do_sample=True, guidance_scale=_GUIDANCE, max_new_tokens=steps)

    return generate


def _timed(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began
