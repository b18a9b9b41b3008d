"""A batch of clips of known length: many token streams stepped together, then one codec.

Rules: built on the runtime's parts; every clip has its own rows, seed and windows, so it is what it would be alone. A
known end pads the delayed tail as transformers does, hence equal tokens to the last frame. Other threads' streams have
their turn between steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.audio import AudioChunk, check_no_lone_rate
from streamgen.conditioning.melody import Melody
from streamgen.conditioning.rows import Conditioner
from streamgen.conditioning.style import Style
from streamgen.config import CONTROLS, ClipValues
from streamgen.errors import ConfigError, PromptError
from streamgen.lm.step import Step, StepSettings
from streamgen.runtime import Runtime
from streamgen.stream.controls import Controls, new_controls
from streamgen.stream.pcm_buffer import DECODE_FRAMES

__all__ = ["Batch"]

Audio = NDArray[np.float32]
_MAX_CLIPS = 64
_MAX_SECONDS = 24 * 3600.0
_OF_STREAMS = {*CONTROLS} - {*ClipValues.__annotations__, "seed"}  # what is not there to a clip


class _Clip:
    """One clip, as the scheduler steps it.

    Attributes:
        total_frames: how long it is to be, its audio prompt included.
        pieces: its codes so far, int64 [K, n] each, an audio prompt's included.
    """

    def __init__(self, runtime: Runtime, settings: StepSettings, total_frames: int) -> None:
        self._runtime, self._settings, self.total_frames = runtime, settings, total_frames
        self._tokens = runtime.open_tokens(settings, total_frames=total_frames)
        self.pieces: list[Tensor] = []

    def begin_with(self, prompt: Tensor) -> None:
        """Start from an audio prompt, int64 [K, F]."""
        self._tokens.begin_with(prompt)
        self.pieces.append(self._tokens.frames(0, self.frames_done))

    @property
    def frames_done(self) -> int:
        """Complete frames so far."""
        return min(self._tokens.frames_done, self.total_frames)

    @property
    def new_frames(self) -> int:
        """Complete frames so far without the audio prompt's."""
        return max(self.frames_done - self._tokens.prompt_frames, 0)

    def begin_step(self, beside_others: bool) -> Step:  # noqa: ARG002 - nobody listens yet: clips read all at once
        """Return what to feed."""
        step = self._tokens.begin_step(self._settings)
        if step.unread:
            self._runtime.engine.prefill(step.unread)
        return step

    def finish_step(self, drawn: Tensor, seconds: float) -> None:  # noqa: ARG002 - nobody asks
        """Take the column that was drawn, and keep what it completes: the token stream forgets."""
        self._runtime.check_numbers(drawn)
        before = self.frames_done
        self._tokens.finish_step(drawn)
        self.pieces.append(self._tokens.frames(before, self.frames_done))

    def close(self) -> None:
        """Give its rows back."""
        self._tokens.close()


class Batch:
    """Clips to generate together. See `Model.generate` for the arguments and errors."""

    def __init__(
        self,
        runtime: Runtime,
        prompts: Sequence[str | None],
        seconds: float,
        *,
        seed: int | Sequence[int] | None,
        controls: Mapping[str, Any],
    ) -> None:
        self._runtime = runtime
        if lasting := sorted(_OF_STREAMS.intersection(controls)):
            raise ConfigError(f"{lasting[0]} is of streams, not of clips: model.open_stream(prompt, {lasting[0]}=…)")
        self._count = _check_prompts(prompts)
        self._frames = _check_seconds(seconds, runtime.frame_rate_hz)
        self._values = [
            {**controls, "prompt": prompt, "seed": clip_seed}
            for prompt, clip_seed in zip(prompts, self._seeds(seed), strict=True)
        ]
        self._melodies: Sequence[Audio | None] = [None] * self._count
        self._melody_rate_hz: int | None = None
        self._styles: list[Style | None] = [None] * self._count
        self._codes: list[Tensor | None] = [None] * self._count

    @classmethod
    def of_values(cls, runtime: Runtime, values: Sequence[Mapping[str, Any]], frames: int) -> Batch:
        """Make a batch of clips that differ in any control; each row of `values` is as a new stream's."""
        batch = cls(runtime, [None] * len(values), frames / runtime.frame_rate_hz, seed=0, controls={})
        batch._values = [dict(row) for row in values]
        return batch

    def _seeds(self, seed: int | Sequence[int] | None) -> list[int]:
        if seed is None:
            return [int(Controls.of(self._runtime.defaults, 1.0, {}).seed) for _ in range(self._count)]
        if isinstance(seed, Sequence):
            return list(_one_each("seed", seed, self._count))
        first = int(CONTROLS["seed"].check_number(seed))
        return [(first + clip) % (int(CONTROLS["seed"].limits[1]) + 1) for clip in range(self._count)]

    def give_melodies(self, melody: Sequence[Audio | None] | None, rate_hz: int | None) -> None:
        """Set the melody of each clip."""
        check_no_lone_rate("melody", melody, rate_hz)
        self._melodies = [None] * self._count if melody is None else _one_each("melody", melody, self._count)
        self._melody_rate_hz = rate_hz

    def give_styles(self, style: Sequence[Audio | None] | None, rate_hz: int | None) -> None:
        """Set the style of each clip."""
        check_no_lone_rate("style", style, rate_hz)
        styles = [None] * self._count if style is None else _one_each("style", style, self._count)
        with self._runtime.computing():
            self._styles = [None if one is None else self._runtime.prompts.style.style(one, rate_hz) for one in styles]

    def give_audio_prompts(self, audio: Audio | Sequence[Audio | None] | None, rate_hz: int | None) -> None:
        """Set the audio prompt of each clip."""
        if audio is None or isinstance(audio, np.ndarray):
            self._codes = [self._runtime.prompt_codes(audio, rate_hz)] * self._count
        else:
            self._codes = [
                None if one is None else self._runtime.prompt_codes(one, rate_hz)
                for one in _one_each("audio_prompt", audio, self._count)
            ]

    def run(self, progress: Callable[[int, int], None] | None, *, include_prompt: bool) -> list[AudioChunk]:
        """Generate the clips."""
        clips, rate_hz = [], self._runtime.codec.sample_rate_hz
        for codes, prompt in zip(self.codes(progress), self._codes, strict=True):
            new = self._frames * self._runtime.codec.hop_samples
            pcm = self._decode(codes)
            kept = pcm if prompt is None or include_prompt else pcm[:, pcm.shape[1] - new :]
            clips.append(AudioChunk(np.ascontiguousarray(kept.expand(2, -1).numpy()), 0, rate_hz))
        return clips

    def codes(self, progress: Callable[[int, int], None] | None = None) -> list[Tensor]:
        """Generate the clips' codes, int64 [K, frames] each, audio prompts included."""
        clips: list[_Clip] = []
        try:
            self._open(clips)
            refused = self._runtime.scheduler.advance(
                {clip: clip.total_frames for clip in clips},
                None if progress is None else lambda: progress(min(clip.new_frames for clip in clips), self._frames),
            )
            for error in refused.values():
                raise error
        finally:  # whatever it was, the rows must not stay taken
            with self._runtime.lock:
                for clip in clips:
                    clip.close()
        return [torch.cat(clip.pieces, dim=1) for clip in clips]

    def _open(self, clips: list[_Clip]) -> None:
        with self._runtime.computing():
            audio = zip(self._values, self._heard(), self._styles, strict=True)
            values = [{**own, "melody": melody, "style": style} for own, melody, style in audio]
            conditioners = self._conditioners(values)
            controls = [new_controls(self._runtime, *both) for both in zip(conditioners, values, strict=True)]
            settings = [self._settings(*both) for both in zip(conditioners, controls, strict=True)]
        for one, prompt in zip(settings, self._codes, strict=True):
            with self._runtime.alone():
                fitting = None if prompt is None else self._fitting(prompt, one)
                given = 0 if fitting is None else fitting.shape[1]
                clips.append(_Clip(self._runtime, one, given + self._frames))
                if fitting is not None:
                    clips[-1].begin_with(fitting)

    def _heard(self) -> list[Melody | None]:
        """Return the melody of each clip; the chroma of one that fits a window are repeated, as transformers does."""
        prompts, rate_hz = self._runtime.prompts, self._melody_rate_hz
        repeats = self._frames + self._runtime.pattern.max_delay > self._runtime.layout.limit
        return [None if one is None else prompts.chroma.melody(one, rate_hz, repeats=repeats) for one in self._melodies]

    def _conditioners(self, values: Sequence[Mapping[str, Any]]) -> list[Conditioner]:
        """Return what makes the rows of each clip; melody prefixes of a batch share the longest text's length."""
        wanted = [Controls.of(self._runtime.defaults, 1.0, own).wanted() for own in values]
        return [self._runtime.prompts.conditioner().padded(wanted) for _ in values]

    def _settings(self, conditioner: Conditioner, controls: Controls) -> StepSettings:
        rows = conditioner.of(controls.wanted())
        plan = self._runtime.layout.plan(controls.context_seconds, controls.context_start_seconds, rows.prefix)
        interval = int(controls.guidance_interval)
        return StepSettings(rows, controls.sampling, plan, controls.mix.dominant, guidance_interval=interval)

    def _fitting(self, codes: Tensor, settings: StepSettings) -> Tensor:
        """Keep what of an audio prompt fits: all of it where one window holds prompt and clip."""
        plan = settings.plan
        whole = plan.limit - plan.prefix - self._frames - self._runtime.pattern.max_delay
        return self._runtime.newest(codes, max(whole, plan.longest_prompt()))

    def _decode(self, codes: Tensor) -> Tensor:
        """Decode one clip in bounded memory: float32 [channels, samples] on the CPU."""
        codec, device = self._runtime.codec, self._runtime.device
        with self._runtime.computing():
            state = codec.new_state(1)
            pieces = [
                codec.decode(piece[None].to(device), state)[0].cpu() for piece in codes.split(DECODE_FRAMES, dim=1)
            ]
            return torch.cat([*pieces, codec.finish(state)[0].cpu()], dim=1)


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
