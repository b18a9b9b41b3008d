"""The facade users hold: a loaded model, its streams and its batches.

Rules: puts the rooms together (conditioning → lm → codec); owns what streams share: weights, text caches, precision.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.checkpoint import Checkpoint, load_checkpoint
from streamgen.codec import StreamingDecoder, encode_audio
from streamgen.conditioning import MelodyConditioner, PromptMix, TextConditioner
from streamgen.conditioning.rows import PromptRows
from streamgen.config import CONTROLS, DEVICES, PRECISIONS, REWIND_SECONDS, THREADS, ControlSpec
from streamgen.errors import ConfigError, PromptError
from streamgen.lm.delay import DelayPattern
from streamgen.lm.precision import choose_engine, is_small
from streamgen.lm.token_stream import TokenStream
from streamgen.lm.window_set import Rows
from streamgen.lm.windows import WindowPlan
from streamgen.stream.controls import Controls, frozen
from streamgen.stream.stream import Stream
from streamgen.threads import computing_on

__all__ = ["Model", "load_model"]

Audio = NDArray[np.float32]
_log = logging.getLogger("streamgen")


def load_model(
    name: str = "pocket", *, device: str = "auto", precision: str = "auto", threads: int | None = None
) -> Model:
    """Load a checkpoint for streaming.

    Args:
        name: "pocket" (shipped), a Hub id, or a folder in transformers' or audiocraft's format.
        device: "auto", "cpu" or "cuda" ("cuda:1" …).
        precision: "fp32", "bf16", "fp16", "int8" (8-bit weights, on a CPU), or "auto": the best that is real time here,
            measured unless it is small.
        threads: how many torch computes on while the model plays; None is one for a small checkpoint on a CPU, where
            waiting for a second costs more than it gains, and else as many as torch is set to.

    Raises:
        CheckpointError: it cannot be loaded; says why and what to do.
        ConfigError: unknown device, precision or number of threads, or int8 on a GPU.
    """
    _check_precision(precision)
    if threads is not None:
        THREADS.check(threads)
    chosen = _device(device)
    return Model(load_checkpoint(name), chosen, precision, threads)


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}, must be one of {', '.join(PRECISIONS)}")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in DEVICES:
        raise ConfigError(f"device is {name!r}, must be one of {', '.join(DEVICES)}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device is {name!r}, but torch sees no CUDA GPU here; use device='cpu'")
    return torch.device(name)


class Model:
    """A checkpoint ready to play. Made by `load_model`, or `Model.from_checkpoint` for one in memory.

    Attributes:
        name, format, licence, defaults: the checkpoint's.
        device: where the decoder runs.
        precision: "fp32", "bf16", "fp16" or "int8", as chosen.
        load_note: one line: what was chosen and why.
        threads: how many torch computes on while it plays; None is what torch is set to.
        sample_rate_hz, hop_samples: of the audio; one frame is `hop_samples`.
        channels: what the checkpoint itself makes, 1 or 2; streams always give 2.
        clock: seconds by which steps are timed.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, precision: str, threads: int | None = None
    ) -> None:
        self.name, self.format, self.licence = checkpoint.name, checkpoint.format, checkpoint.licence
        self.defaults, self.config, self.device = checkpoint.defaults, checkpoint.decoder, device
        self.channels = checkpoint.decoder.audio_channels
        self.threads = 1 if threads is None and is_small(checkpoint, device) else threads
        self.clock: Callable[[], float] = time.perf_counter
        self._encodec = checkpoint.codec
        self.codec = StreamingDecoder(checkpoint.codec, audio_channels=self.channels, device=device)
        self.sample_rate_hz, self.hop_samples = self.codec.sample_rate_hz, self.codec.hop_samples
        self.pattern = DelayPattern.of(self.config.num_codebooks, self.channels, self.config.vocab_size)
        choice = choose_engine(checkpoint, self.pattern, 1 / self.frame_rate_hz, device=device, precision=precision)
        self.engine, self.precision, self.load_note = choice.engine, choice.precision, choice.note
        text, chroma = TextConditioner(checkpoint), MelodyConditioner(checkpoint)
        has_melody = checkpoint.melody is not None
        self.prompts = PromptRows(text, chroma, self.engine.projector.project, has_melody=has_melody)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto") -> Model:
        """Make a model of a checkpoint in memory. Arguments and errors as in `load_model`."""
        _check_precision(precision)
        return cls(checkpoint, _device(device), precision)

    @property
    def frame_rate_hz(self) -> float:
        """Frames a second."""
        return self.sample_rate_hz / self.hop_samples

    @property
    def window_seconds(self) -> float:
        """How much music the model knows at most."""
        return self.config.max_positions / self.frame_rate_hz

    @property
    def weight_bytes(self) -> int:
        """Bytes of decoder weights that one step reads."""
        return self.engine.decoder.weight_bytes

    # -- windows --------------------------------------------------------------------------------------------------

    def prepare(self, controls: Controls, melody: Tensor | None, *, cut_context: bool = False) -> None:
        """Encode a setting's prompts ahead of time and check that its windows fit, where they may be cut if need be.

        Raises:
            PromptError, ConfigError: it cannot be played.
        """
        _, rows = self.prompts.of(controls.mix, controls.guidance_scale, melody)
        self.fitting_plan(controls, rows.prefix) if cut_context else self.plan(controls, rows.prefix)

    def plan(self, controls: Controls, prefix: int = 0) -> WindowPlan:
        """Lay out the windows of a stream.

        Raises:
            ConfigError: they have no room for the context.
        """
        context, start = self._context(controls)
        longest = WindowPlan.longest_context(self.config.max_positions, start, prefix)
        if context > longest:
            raise self._no_room(controls, longest, start, prefix)
        return WindowPlan(self.config.max_positions, context, start, prefix)

    def fitting_plan(self, controls: Controls, prefix: int = 0) -> WindowPlan:
        """Lay out windows in mid-stream, cut to what a long prompt leaves or a change still ahead will make room for.

        Raises:
            ConfigError: the prefix leaves no room at all.
        """
        limit, (context, start) = self.config.max_positions, self._context(controls)
        start = max(min(start, limit - 2 * prefix - 2), 0)
        longest = WindowPlan.longest_context(limit, start, prefix)
        if longest < 1:
            raise self._no_room(controls, longest, start, prefix)
        return WindowPlan(limit, min(context, longest), start, prefix)

    def _context(self, controls: Controls) -> tuple[int, int]:
        """Return the context's frames and its start position."""
        frames = max(round(controls.context_seconds * self.frame_rate_hz), 1)
        return frames, round(controls.context_start_seconds * self.frame_rate_hz)

    def _no_room(self, controls: Controls, longest: int, start: int, prefix: int) -> ConfigError:
        room = f"{max(longest, 0) / self.frame_rate_hz:g} s: this checkpoint's windows have {self.config.max_positions}"
        before = f", {start} of them before context_start_seconds" if start else ""
        taken = f", {prefix} of them under melody and prompt, so shorten the prompt" if prefix else ""
        return ConfigError(
            f"context_seconds is {controls.context_seconds:g}, must be at most {room} positions{before}{taken}"
        )

    def open_tokens(self, rows: Rows, controls: Controls, total_frames: int | None = None) -> TokenStream:
        """Begin a token stream in this model's cache."""
        plan = self.plan(controls, rows.prefix)
        engine = self.engine
        return TokenStream(self.pattern, plan, rows, controls.sampling, engine.cache, engine.cross, total_frames)

    def controls(self, values: dict[str, Any], prefix: int = 0) -> Controls:
        """Check the settings of a new stream, the default context cut to what a prefix leaves room for."""
        longest = WindowPlan.longest_context(self.config.max_positions, 0, prefix) / self.frame_rate_hz
        return Controls.of(self.defaults, longest, values)

    @property
    def control_specs(self) -> dict[str, ControlSpec]:
        """The table of controls with this checkpoint's defaults, and no longer context than its windows hold."""
        own = self.controls({})
        rows = {
            name: replace(spec, default=getattr(own, name)) if spec.has_range and name != "seed" else spec
            for name, spec in CONTROLS.items()
        }
        longest = WindowPlan.longest_context(self.config.max_positions, 0, 0) / self.frame_rate_hz
        rows["context_seconds"] = replace(
            rows["context_seconds"], high=min(longest, CONTROLS["context_seconds"].limits[1])
        )
        return rows

    # -- streams --------------------------------------------------------------------------------------------------

    def open_stream(
        self,
        prompt: str | None = None,
        *,
        audio_prompt: Audio | None = None,
        audio_prompt_rate_hz: int | None = None,
        audio_prompt_codes: Tensor | None = None,
        melody: Audio | None = None,
        melody_rate_hz: int | None = None,
        rewind_seconds: float = 0.0,
        **controls: Any,
    ) -> Stream:
        """Open an endless stream.

        Args:
            prompt: text, or None for unconditional.
            audio_prompt: float32 [samples] or [channels, samples] that the music goes on from; its newest part is kept
                if it is too long, with a warning in the log. The stream begins after it.
            audio_prompt_rate_hz: its samples a second.
            audio_prompt_codes: instead of both, what `prompt_codes` made of it: on a thread that may take its time.
            melody: float32 [samples] or [channels, samples] to follow (melody checkpoints).
            melody_rate_hz: its samples a second.
            rewind_seconds: how far back `Stream.rewind` must reach.
            controls: `prompts`, `negative_prompt`, `seed` and all other names in `streamgen.config.CONTROLS`.

        Raises:
            PromptError, ConfigError: a value cannot be used.
            CapacityError: no memory for another stream.
        """
        values = frozen({"prompt": prompt, **controls})
        REWIND_SECONDS.check(rewind_seconds)
        with computing_on(self.threads):
            prefix = self.prompts.melody_prefix(melody, melody_rate_hz)
            settings = self.controls(values, self._prefix_positions(values, prefix))
            codes = audio_prompt_codes
            if codes is None:
                codes = self.prompt_codes(audio_prompt, audio_prompt_rate_hz)
            if codes is not None:
                _, rows = self.prompts.of(settings.mix, settings.guidance_scale, prefix)
                codes = self.newest(codes, self.plan(settings, rows.prefix).longest_prompt())
            return Stream(self, settings, melody=prefix, audio_prompt=codes, rewind_seconds=rewind_seconds)

    def _prefix_positions(self, values: dict[str, Any], melody: Tensor | None) -> int:
        """Return how long the prefix will be, so that the default context can make room for it."""
        return 0 if melody is None else len(melody) + self.prompts.text_positions([self.mix(values)])

    def mix(self, values: dict[str, Any]) -> PromptMix:
        """Return the prompts of some settings."""
        return Controls.of(self.defaults, 1.0, values).mix

    def prompt_codes(self, audio: Audio | None, rate_hz: int | None) -> Tensor | None:
        """Encode the newest window's worth of an audio prompt, int64 [K, frames]."""
        if audio is None:
            return None
        if rate_hz is None:
            raise PromptError("the audio prompt's sample rate is missing: give audio_prompt_rate_hz with it")
        channels = np.atleast_2d(audio)
        if isinstance(rate_hz, int | np.integer) and rate_hz > 0:  # others are refused below
            rate_hz = int(rate_hz)
            channels = channels[:, -round(self.config.max_positions / self.frame_rate_hz * rate_hz) :]
        return encode_audio(self._encodec, channels, rate_hz, audio_channels=self.channels)

    def newest(self, codes: Tensor, frames: int) -> Tensor:
        """Keep at most the newest `frames` of an audio prompt, and say so where that cuts it."""
        if codes.shape[1] > frames:
            lengths = codes.shape[1] / self.frame_rate_hz, frames / self.frame_rate_hz
            _log.warning("the audio prompt has %.2f s or more, room is for %.2f s: its newest part is kept", *lengths)
        return codes[:, -frames:]

    # -- batches --------------------------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[str | None],
        seconds: float,
        *,
        audio_prompt: Audio | Sequence[Audio | None] | None = None,
        audio_prompt_rate_hz: int | None = None,
        include_prompt: bool = False,
        melody: Sequence[Audio | None] | None = None,
        melody_rate_hz: int | None = None,
        seed: int | Sequence[int] | None = None,
        progress: Callable[[int, int], None] | None = None,
        **controls: Any,
    ) -> list[AudioChunk]:
        """Generate a batch of clips of one length. Each is what it would be alone (melody: padded as in transformers).

        In int8 that is so up to 16 decoder rows together; beyond, sums are rounded in another order.

        Args:
            prompts: one per clip; None = unconditional for that clip.
            seconds: length of the new audio.
            audio_prompt: one for all clips, or one per clip.
            audio_prompt_rate_hz: their samples a second.
            include_prompt: begin the clips with their audio prompt.
            melody: one per clip; None = none for that clip.
            melody_rate_hz: their samples a second.
            seed: of the first clip (the next ones count up from it), or one per clip.
            progress: called with (frames done, frames in total).
            controls: as in `open_stream`.

        Returns:
            One AudioChunk per prompt.

        Raises:
            PromptError, ConfigError: a value cannot be used.
        """
        from streamgen.stream.batch import Batch  # it builds on this class

        if "prompt" in controls:
            raise PromptError("prompt is given beside the list of prompts: write it there, one per clip")
        batch = Batch(self, prompts, seconds, seed=seed, controls=frozen(controls))
        batch.give_melodies(melody, melody_rate_hz)
        batch.give_audio_prompts(audio_prompt, audio_prompt_rate_hz)
        with computing_on(self.threads):
            return batch.run(progress, include_prompt=include_prompt)
