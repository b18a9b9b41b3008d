"""A batch of clips of known length: many token streams stepped together, then one codec.

Rules: built on Model's parts; every clip has its own rows, seed and windows, so it is what it would be alone. A known
end pads the delayed tail as transformers does, hence equal tokens to the last frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.config import CONTROLS
from streamgen.errors import ConfigError, PromptError
from streamgen.lm.token_stream import TokenStream
from streamgen.stream.controls import Controls

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["Batch"]

Audio = NDArray[np.float32]
_DECODE_FRAMES = 25
_MAX_CLIPS = 64
_MAX_SECONDS = 24 * 3600.0


class Batch:
    """Clips to generate together. See `Model.generate` for the arguments and errors."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[str | None],
        seconds: float,
        *,
        seed: int | Sequence[int] | None,
        controls: dict[str, Any],
    ) -> None:
        self._model = model
        self._count = _check_prompts(prompts)
        self._frames = _check_seconds(seconds, model.frame_rate_hz)
        self._values = [{**controls, "prompt": prompt} for prompt in prompts]
        for values, clip_seed in zip(self._values, self._seeds(seed), strict=True):
            values["seed"] = clip_seed
        self._melodies: list[Tensor | None] = [None] * self._count
        self._codes: list[Tensor | None] = [None] * self._count

    def _seeds(self, seed: int | Sequence[int] | None) -> list[int]:
        if seed is None:
            return [int(Controls.of(self._model.defaults, 1.0, {}).seed) for _ in range(self._count)]
        if isinstance(seed, Sequence):
            return list(_one_each("seed", seed, self._count))
        first = int(CONTROLS["seed"].check_number(seed))
        return [(first + clip) % (int(CONTROLS["seed"].limits[1]) + 1) for clip in range(self._count)]

    def give_melodies(self, melody: Sequence[Audio | None] | None, rate_hz: int | None) -> None:
        """Set the melody of each clip."""
        melodies = [None] * self._count if melody is None else _one_each("melody", melody, self._count)
        self._melodies = [self._model.prompts.melody_prefix(one, rate_hz) for one in melodies]

    def give_audio_prompts(self, audio: Audio | Sequence[Audio | None] | None, rate_hz: int | None) -> None:
        """Set the audio prompt of each clip."""
        if audio is None or isinstance(audio, np.ndarray):
            self._codes = [self._model.prompt_codes(audio, rate_hz)] * self._count
        else:
            self._codes = [
                self._model.prompt_codes(one, rate_hz) for one in _one_each("audio_prompt", audio, self._count)
            ]

    def run(self, progress: Callable[[int, int], None] | None, *, include_prompt: bool) -> list[AudioChunk]:
        """Generate the clips."""
        codes = self.codes(progress)
        clips = []
        for clip, prompt in zip(codes, self._codes, strict=True):
            given = 0 if prompt is None or include_prompt else (clip.shape[1] - self._frames) * self._model.hop_samples
            pcm = self._decode(clip)[:, given:]
            clips.append(AudioChunk(np.ascontiguousarray(pcm.expand(2, -1).numpy()), 0, self._model.sample_rate_hz))
        return clips

    def codes(self, progress: Callable[[int, int], None] | None = None) -> list[Tensor]:
        """Generate the clips' codes, int64 [K, frames] each, audio prompts included."""
        streams = self._open()
        kept = [[stream.frames(0, stream.frames_done)] for stream in streams]  # of an audio prompt, or nothing
        try:
            while running := [i for i, stream in enumerate(streams) if not stream.finished]:
                done = [streams[i].frames_done for i in running]
                self._model.engine.step([streams[i] for i in running])
                for i, before in zip(running, done, strict=True):
                    kept[i].append(streams[i].frames(before, min(streams[i].frames_done, streams[i].total_frames or 0)))
                if progress is not None:
                    progress(*self._progress(streams))
        finally:
            _close(streams)
        return [torch.cat(pieces, dim=1) for pieces in kept]

    def _progress(self, streams: Sequence[TokenStream]) -> tuple[int, int]:
        new = [s.frames_done - s.prompt_frames for s in streams]
        return min(max(min(new), 0), self._frames), self._frames

    def _open(self) -> list[TokenStream]:
        text_positions = self._text_positions()
        streams: list[TokenStream] = []
        try:
            for values, melody, codes in zip(self._values, self._melodies, self._codes, strict=True):
                self._open_one(streams, values, melody, codes, text_positions)
        except BaseException:  # whatever it was, the rows of those before it must not stay taken
            _close(streams)
            raise
        return streams

    def _text_positions(self) -> int:
        """Melody prefixes of a batch share the longest text's length, as in transformers and audiocraft."""
        if not any(melody is not None for melody in self._melodies):
            return 0
        return self._model.prompts.text_positions(self._model.mix(values) for values in self._values)

    def _open_one(
        self,
        streams: list[TokenStream],
        values: dict[str, Any],
        melody: Tensor | None,
        codes: Tensor | None,
        text_positions: int,
    ) -> None:
        model = self._model
        prefix = 0 if melody is None else len(melody) + text_positions
        controls = model.controls(values, prefix)
        _, rows = model.prompts.of(controls.mix, controls.guidance_scale, melody, text_positions)
        if codes is not None:
            codes = self._fitting(codes, controls, rows.prefix)
        given = 0 if codes is None else codes.shape[1]
        tokens = model.open_tokens(rows, controls, given + self._frames)
        streams.append(tokens)
        if codes is not None:
            tokens.begin_with(codes)
        model.engine.prefill(tokens, tokens.windows[0])

    def _fitting(self, codes: Tensor, controls: Controls, prefix: int) -> Tensor:
        """Keep what of an audio prompt fits: all of it where one window holds prompt and clip."""
        model = self._model
        whole = model.config.max_positions - prefix - self._frames - model.pattern.max_delay
        return model.newest(codes, max(whole, model.plan(controls, prefix).longest_prompt()))

    def _decode(self, codes: Tensor) -> Tensor:
        """Decode one clip in bounded memory: float32 [channels, samples] on the CPU."""
        codec = self._model.codec
        state = codec.new_state(1)
        pieces = [
            codec.decode(codes[None, :, start : start + _DECODE_FRAMES].to(self._model.device), state)[0].cpu()
            for start in range(0, codes.shape[1], _DECODE_FRAMES)
        ]
        return torch.cat([*pieces, codec.finish(state)[0].cpu()], dim=1)


def _close(streams: Sequence[TokenStream]) -> None:
    for stream in streams:
        stream.close()


def _check_prompts(prompts: object) -> int:
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise PromptError(f"prompts is a list of texts (or None), not {type(prompts).__name__}: write ['…']")
    if not 1 <= len(prompts) <= _MAX_CLIPS:
        raise ConfigError(f"{len(prompts)} prompts given; a batch has 1 … {_MAX_CLIPS}")
    return len(prompts)


def _check_seconds(seconds: object, frame_rate_hz: float) -> int:
    number = float(seconds) if isinstance(seconds, Real) else math.nan
    if not (math.isfinite(number) and 1 / frame_rate_hz <= number <= _MAX_SECONDS):
        raise ConfigError(f"seconds is {seconds!r}, must be within {1 / frame_rate_hz:g} … {_MAX_SECONDS:g}")
    return round(number * frame_rate_hz)


def _one_each(name: str, values: Sequence[Any], count: int) -> Sequence[Any]:
    if isinstance(values, str | bytes | np.ndarray) or len(values) != count:
        raise ConfigError(f"{name} has {len(values)} entries for {count} prompts; give one per prompt")
    return values
