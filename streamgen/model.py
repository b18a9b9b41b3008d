"""The facade users hold: a loaded model, its streams and its batches.

    load_model ─► Model ─┬─ open_stream ─► Stream        all on one Runtime, which nothing else
                         ├─ read_together                reaches around
                         ├─ generate ─► clips
                         └─ logits ─► research

Rules: says what a call takes and gives, and hands it on; nothing below imports this file. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.checkpoint import Checkpoint, GenerationDefaults, as_filed, load_checkpoint
from streamgen.conditioning.melody import Melody
from streamgen.conditioning.prompt_mix import PromptMix
from streamgen.conditioning.rows import Wanted
from streamgen.conditioning.style import Style
from streamgen.config import DEVICES, PRECISIONS, REWIND_SECONDS, THREADS, ClipValues, ControlSpec, StreamValues
from streamgen.errors import ConfigError, PromptError
from streamgen.lm import evaluation
from streamgen.lm.delay import DelayPattern
from streamgen.lm.engine import LmEngine
from streamgen.lm.step import Rows
from streamgen.preparation import Preparation
from streamgen.runtime import Runtime
from streamgen.stream.audition import best_candidate
from streamgen.stream.batch import Batch
from streamgen.stream.controls import control_specs, frozen, new_controls
from streamgen.stream.stream import Stream, read_streams

__all__ = ["Model", "load_model"]

Audio = NDArray[np.float32]


class HeardAudio(TypedDict, total=False):
    """What `Model.logits` is told beside the prompt."""

    melody: Audio | Melody | None
    melody_rate_hz: int | None
    style: Audio | Style | None
    style_rate_hz: int | None


def load_model(
    name: str = "pocket", *, device: str = "auto", precision: str = "auto", threads: int | None = None
) -> Model:
    """Load a checkpoint for streaming.

    Args:
        name: "pocket" (shipped), a Hub id, or a folder in transformers' or audiocraft's format.
        device: "auto", "cpu" or "cuda" ("cuda:1" …).
        precision: "fp32", "bf16", "fp16"; on a CPU also "int8", "int6", "int4" (so many bits a weight) and "mixed" (as
            few as accuracy allows); or "auto": the best that is real time here, measured unless it is small.
        threads: how many compute while the model plays; None is one for a small checkpoint on a CPU, where waiting for
            a second costs more than it gains, and else as many as torch is set to.

    Raises:
        CheckpointError: it cannot be loaded; says why and what to do.
        ConfigError: unknown device, precision or number of threads, or few bits on a GPU, or fewer than 8 without
            the native kernels.
    """
    _check_precision(precision)
    if threads is not None:
        THREADS.check(threads)
    chosen = _device(device)
    return Model(Runtime.of(as_filed(load_checkpoint(name)), chosen, precision, threads))


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


class Model(Preparation):
    """A checkpoint ready to play. Made by `load_model`, or `Model.from_checkpoint` for one in memory.

    It may be used from several threads at once. What they do takes turns, a step at a time; encoding texts and audio
    prompts does not wait and is not waited for.

    Attributes:
        runtime: the parts it is made of, for those who look inside.
        name, format, licence: the checkpoint's.
        precision: "fp32", "bf16", "fp16", "int8", "int6", "mixed" or "int4", as chosen.
        load_note: one line: what was chosen and why.
        notes: what the checkpoint's settings say and has no effect here, or is otherwise than one would think.
        device: where the decoder runs.
        threads: how many compute while it plays; None is as many as torch is set to.
        sample_rate_hz, hop_samples: of the audio; one frame is `hop_samples`.
        channels: what the checkpoint itself makes, 1 or 2; streams always give 2.
        has_codec: whether it makes sound; without, `Stream.tokens` is all there is.
        follows: kinds of audio that its music can follow: "melody" or "style", or none.
        frame_rate_hz: frames a second.
        window_seconds: how much music the model knows at most.
        weight_bytes: bytes of decoder weights that one step reads.
        kernels: "torch", or the instruction set of the native ones.
    """

    def __init__(self, runtime: Runtime) -> None:
        facts, codec = runtime.facts, runtime.codec
        self.runtime = runtime
        self.name, self.format, self.licence = facts.name, facts.format, facts.licence
        self.precision, self.load_note, self.notes = facts.precision, facts.load_note, facts.notes
        self.device, self.threads = runtime.device, facts.threads
        self.sample_rate_hz, self.hop_samples = codec.sample_rate_hz, codec.hop_samples
        self.has_codec = codec.makes_sound
        self.follows: tuple[str, ...] = tuple(kind for kind in ("melody", "style") if kind == runtime.prompts.reads)
        self.channels, self.frame_rate_hz = runtime.config.audio_channels, runtime.frame_rate_hz
        self.window_seconds = runtime.config.max_positions / runtime.frame_rate_hz
        self.weight_bytes, self.kernels = runtime.engine.weight_bytes, runtime.facts.kernels

    @classmethod
    def from_pretrained(
        cls, name: str = "pocket", *, device: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> Model:
        """Load a checkpoint: `load_model` under the name that transformers has for it."""
        return load_model(name, device=device, precision=precision, threads=threads)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto") -> Model:
        """Make a model of a checkpoint in memory. Arguments and errors as in `load_model`."""
        _check_precision(precision)
        return cls(Runtime.of(checkpoint, _device(device), precision))

    def __repr__(self) -> str:
        """Say what it is and how it runs."""
        channels = "stereo" if self.channels == 2 else "mono"
        window = f"windows of {self.window_seconds:.1f} s"
        return (
            f"<Model {self.name!r}: {channels}, {self.sample_rate_hz} Hz, {window}, {self.precision} on {self.device}>"
        )

    @property
    def defaults(self) -> GenerationDefaults:
        """Of the controls of streams that are opened from now on; the checkpoint's, unless assigned."""
        return self.runtime.defaults

    @defaults.setter
    def defaults(self, defaults: GenerationDefaults) -> None:
        self.runtime.defaults = defaults

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds by which steps are timed; may be assigned."""
        return self.runtime.clock

    @clock.setter
    def clock(self, clock: Callable[[], float]) -> None:
        self.runtime.clock = clock

    @property
    def control_specs(self) -> dict[str, ControlSpec]:
        """The table of controls with this checkpoint's defaults, and no longer context than its windows hold."""
        return control_specs(self.runtime)

    # -- streams --------------------------------------------------------------------------------------------------

    def open_stream(
        self,
        prompt: str | None = None,
        *,
        audio_prompt: Audio | None = None,
        audio_prompt_rate_hz: int | None = None,
        audio_prompt_codes: Tensor | None = None,
        melody: Audio | Melody | None = None,
        melody_rate_hz: int | None = None,
        style: Audio | Style | None = None,
        style_rate_hz: int | None = None,
        rewind_seconds: float = 0.0,
        between_steps: Callable[[], None] | None = None,
        **controls: Unpack[StreamValues],
    ) -> Stream:
        """Open an endless stream.

        Args:
            prompt: text, or None for unconditional.
            audio_prompt: float32 [samples] or [channels, samples] that the music goes on from; its newest part is kept
                if it is too long, with a warning in the log. The stream begins after it.
            audio_prompt_rate_hz: its samples a second.
            audio_prompt_codes: instead of both, what `prompt_codes` made of it: on a thread that may take its time.
            melody: float32 [samples] or [channels, samples] to follow (melody checkpoints), or what `melody` made of
                it. It is repeated for ever, and each window of the music follows its own part of it.
            melody_rate_hz: its samples a second.
            style: float32 [samples] or [channels, samples] to sound like (style checkpoints), or what `style` made of
                it; `excerpt_seconds` of it are listened to.
            style_rate_hz: its samples a second.
            rewind_seconds: how far back `Stream.rewind` must reach.
            between_steps: called again and again, on this thread, while `audition` tries openings.
            controls: `prompts`, `negative_prompt`, `seed` and all other names in `streamgen.config.CONTROLS`.

        Raises:
            PromptError, ConfigError: a value cannot be used.
            CapacityError: no memory for another stream.
        """
        runtime, values = self.runtime, frozen({"prompt": prompt, **controls})
        REWIND_SECONDS.check(rewind_seconds)
        with runtime.computing():
            conditioner = runtime.prompts.conditioner()
            audio = {"melody": melody, "melody_rate_hz": melody_rate_hz, "style": style, "style_rate_hz": style_rate_hz}
            heard = runtime.prompts.prepared(audio)
            settings = new_controls(runtime, conditioner, {**values, **heard})
            rows = conditioner.of(settings.wanted())  # encoded here, beside the music of others
            plan = runtime.layout.plan(settings.context_seconds, settings.context_start_seconds, rows.prefix)
        codes = self._given_codes(audio_prompt, audio_prompt_rate_hz, audio_prompt_codes)
        follows = codes is not None or settings.melody is not None or settings.style is not None
        if not follows and settings.audition > 1 and settings.mix.dominant is not None:
            best = best_candidate(runtime, settings, int(settings.audition), between_steps)
            settings = settings.changed({"candidate": best})
        if codes is not None:
            codes = runtime.newest(codes, plan.longest_prompt())
        with runtime.alone():
            return Stream(runtime, settings, conditioner, audio_prompt=codes, rewind_seconds=rewind_seconds)

    def read_together(
        self, wanted: Mapping[Stream, int], between_steps: Callable[[], None] | None = None
    ) -> dict[Stream, AudioChunk]:
        """Generate and return the next samples of several streams, in one pass over the weights for all of them.

        Each gets what `Stream.read` would have given it: on the native kernels to the last bit, and on torch's as far
        as `generate` says of clips.

        Args:
            wanted: how many samples of which streams of this model.
            between_steps: called after each step that it takes, on this thread; it may use these streams.

        Returns:
            A chunk of each.

        Raises:
            ConfigError: fewer than one sample, no whole number, or a stream of another model.
            CapacityError, SessionClosed: a stream cannot go on; the others have gone on meanwhile, and keep what they
                made for their next read.
        """
        for stream in wanted:
            if stream.runtime is not self.runtime:
                raise ConfigError(f"{stream!r} is another model's; read it with the model that opened it")
        return read_streams(wanted, between_steps)

    # -- research -------------------------------------------------------------------------------------------------

    def logits(self, codes: Tensor, prompt: str | None = None, **audio: Unpack[HeardAudio]) -> Tensor:
        """Return the logits of each code of a piece of music, given the codes before it: nothing is drawn or guided.

        One row from a window's first position on, as transformers' `forward` of the same columns; audiocraft's
        `compute_predictions` arranges it in the same way. Past the piece's end is padding: the finer codebooks of its
        last `max_delay` frames see less there than in a stream that goes on.

        Args:
            codes: int64 [K, F], as `Stream.tokens` and `prompt_codes` give them.
            prompt: text, or None for unconditional.
            audio: `melody` with `melody_rate_hz`, or `style` with `style_rate_hz`, as in `open_stream`.

        Returns:
            float32 [K, F, V]: before guidance, temperature and what a checkpoint adds by its vocabulary.

        Raises:
            ConfigError: codes of another shape, type or range, or more than a window holds.
            PromptError: a prompt or audio that cannot be used.
            CapacityError: no memory for another row.
        """
        return self._evaluated(evaluation.logits, codes, prompt, audio)

    def hidden_states(self, codes: Tensor, prompt: str | None = None, **audio: Unpack[HeardAudio]) -> Tensor:
        """Return what each layer reads while the decoder reads a piece of music. Arguments as in `logits`.

        Returns:
            float32 [layers + 1, F + max_delay, D]: a column of the delay pattern each, the opening one first; the last
            entry is after the final norm, which the heads read, as in transformers.

        Raises:
            PromptError, ConfigError, CapacityError: as in `logits`.
        """
        return self._evaluated(evaluation.hidden_states, codes, prompt, audio)

    def _evaluated(
        self,
        of: Callable[[LmEngine, DelayPattern, Rows, Tensor], Tensor],
        codes: Tensor,
        prompt: str | None,
        audio: HeardAudio,
    ) -> Tensor:
        runtime, defaults, known = self.runtime, self.defaults, HeardAudio.__annotations__
        for name in audio.keys() - known.keys():
            raise ConfigError.unknown("argument", name, known)
        with runtime.computing():
            heard = runtime.prompts.prepared(audio)
            wanted = Wanted(
                PromptMix.of(prompt),
                melody=heard.get("melody"),
                style=heard.get("style"),
                eval_q=int(defaults.eval_q),
                excerpt_seconds=defaults.excerpt_seconds,
            )
            rows = runtime.prompts.conditioner().of(wanted)
            runtime.check_codes(codes)
            runtime.check_fits(codes, rows.prefix)
        with runtime.alone():
            return of(runtime.engine, runtime.pattern, rows, codes.cpu())

    def pass_seconds(self, rows: int, position: int) -> float:
        """Time a pass of the decoder: what a step of so many rows together costs without the codec.

        Args:
            rows: a stream with guidance has two.
            position: at which all of them stand in their windows; the further, the more there is to attend to.

        Returns:
            Seconds, the median of a few.

        Raises:
            CapacityError: no memory for so many rows.
        """
        with self.runtime.alone():
            return evaluation.pass_seconds(self.runtime.engine, rows, position)

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
        style: Sequence[Audio | None] | None = None,
        style_rate_hz: int | None = None,
        seed: int | Sequence[int] | None = None,
        progress: Callable[[int, int], None] | None = None,
        **controls: Unpack[ClipValues],
    ) -> list[AudioChunk]:
        """Generate a batch of clips of one length. Each is what it would be alone.

        Audio prompts and melodies of unlike lengths are not padded to one another: a clip equals transformers' of that
        prompt alone. transformers' padded batch is what comes of silence put before the shorter ones; `batch_decode`
        takes that off again, and there is none here. Where text stands before the music (melody, style), texts
        take as many positions as the longest of the batch, as in transformers and audiocraft: there a clip is what it
        would be beside so long a text.

        On the native kernels (fp32, int8, int6, mixed, int4 on a CPU) a row is what it is alone to the last bit. On
        torch's, rows are summed in another order where there are others: in fp32 a logit's last bits may differ, and
        with them, rarely, a draw on the edge between two codes; in bf16, fp16 and torch's int8 enough that most clips
        part sooner or later.

        Args:
            prompts: one per clip; None = unconditional for that clip.
            seconds: length of the new audio.
            audio_prompt: one for all clips, or one per clip.
            audio_prompt_rate_hz: their samples a second.
            include_prompt: begin the clips with their audio prompt.
            melody: one per clip; None = none for that clip.
            melody_rate_hz: their samples a second.
            style: one per clip; None = none for that clip.
            style_rate_hz: their samples a second.
            seed: of the first clip (the next ones count up from it), or one per clip.
            progress: called with (frames done, frames in total).
            controls: as in `open_stream`.

        Returns:
            One AudioChunk per prompt.

        Raises:
            PromptError, ConfigError: a value cannot be used.
            CheckpointError: the checkpoint has no codec.
        """
        if "prompt" in controls:
            raise PromptError("prompt is given beside the list of prompts: write it there, one per clip")
        self.runtime.codec.check_makes_sound()
        batch = Batch(self.runtime, prompts, seconds, seed=seed, controls=frozen(controls))
        batch.give_melodies(melody, melody_rate_hz)
        batch.give_styles(style, style_rate_hz)
        batch.give_audio_prompts(audio_prompt, audio_prompt_rate_hz)
        return batch.run(progress, include_prompt=include_prompt)
