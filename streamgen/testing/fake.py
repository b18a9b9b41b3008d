"""FakeModel, a model that sings sines: for tests of programs around streamgen.

Rules: the same names, arguments, checks and errors as Model and Stream, so that a program cannot tell them apart; no
weights, and a step costs nothing but what `step_seconds` puts on a FakeClock. Audio is a formula of prompts and
position:

    sample n = 0.25 · Σ wᵢ · sin(2π · fake_pitch_hz(promptᵢ) · n / 32 000)      both channels

so a test can say which prompt is heard at which sample, whatever the chunks were.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamgen.audio import AudioChunk
from streamgen.errors import ConfigError, PromptError, SessionClosed
from streamgen.metrics import StreamMetrics
from streamgen.testing.clock import FakeClock

if TYPE_CHECKING:
    from streamgen.changes import Change, Glide
    from streamgen.conditioning import PromptMix
    from streamgen.controls import Controls

__all__ = ["FakeModel", "FakeSnapshot", "FakeStream", "fake_pitch_hz"]

SAMPLE_RATE_HZ, HOP_SAMPLES, AMPLITUDE = 32_000, 640, 0.25
Audio = NDArray[np.float32]


def fake_pitch_hz(prompt: str | None) -> float:
    """Pitch a FakeModel sings for a prompt: 220 Hz for None, else one of the 24 semitones above it, by the text."""
    return 220.0 if prompt is None else 220.0 * 2 ** ((zlib.crc32(prompt.encode()) % 24 + 1) / 12)


@dataclass(frozen=True)
class FakeSnapshot:
    """Everything a FakeStream remembers."""

    position_samples: int
    controls: Controls
    asked: Controls
    pending: tuple[Change, ...]
    serial: int
    gliding: Glide | None


class FakeStream:
    """An endless stream of sines. Made by `FakeModel.open_stream`; see `streamgen.Stream` for what each method does.

    Attributes:
        controls: the settings in force.
        metrics: counters; each frame is one step of the model's `step_seconds`.
    """

    def __init__(self, model: FakeModel, controls: Controls, rewind_seconds: float) -> None:
        from streamgen.changes import ChangeQueue

        self._model, self._keep_frames = model, math.ceil(rewind_seconds * model.frame_rate_hz)
        self.controls = self._asked = controls
        self.metrics = StreamMetrics()
        self._position_samples = self._drawn_frames = 0
        self._changes = ChangeQueue()
        self._gliding: Glide | None = None
        self._closed = False

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second."""
        return SAMPLE_RATE_HZ

    @property
    def seed(self) -> int:
        """The seed in force."""
        return self.controls.seed

    @property
    def position_samples(self) -> int:
        """Position of the next sample that will be read."""
        return self._position_samples

    @property
    def next_sample(self) -> int:
        """First sample of the frame that is drawn next: where a change made now is heard."""
        return self._next_frame * HOP_SAMPLES

    @property
    def _next_frame(self) -> int:
        return math.ceil(self._position_samples / HOP_SAMPLES)

    def read(self, samples: int) -> AudioChunk:
        """Return the next samples.

        Raises:
            ConfigError: fewer than one.
            SessionClosed: the stream was closed.
        """
        self._check_open()
        if samples < 1:
            raise ConfigError(f"samples is {samples}, must be at least 1")
        start, end = self._position_samples, self._position_samples + samples
        parts = []
        while self._position_samples < end:
            frame = self._position_samples // HOP_SAMPLES
            mix = self._mix_of(frame)
            stop = min(end, (frame + 1) * HOP_SAMPLES)
            parts.append(_sines(mix, self._position_samples, stop))
            self._position_samples = stop
        self._draw(self._next_frame)
        return AudioChunk(np.concatenate(parts, axis=1), start, SAMPLE_RATE_HZ)

    def chunks(self, seconds: float = 0.1) -> Iterator[AudioChunk]:
        """Yield the stream for ever, `seconds` at a time."""
        samples = round(seconds * SAMPLE_RATE_HZ) if math.isfinite(seconds) else 0
        if not 1 <= samples <= 60 * SAMPLE_RATE_HZ:
            raise ConfigError(f"a chunk of {seconds!r} seconds does not go: use 0.02 … 60")
        while not self._closed:
            yield self.read(samples)

    def _draw(self, frames: int) -> None:
        """Count the frames up to this one, each a step that takes its time."""
        for frame in range(self._drawn_frames, frames):
            if self._model.clock is not None:
                self._model.clock.advance(self._model.step_seconds)
            self.metrics.record_step(self._model.step_seconds, 0, frame, 1)
        self._drawn_frames = max(self._drawn_frames, frames)

    def set(self, *, at_sample: int | None = None, **values: Any) -> int:
        """Change controls at once, or at a sample ahead; return the sample at which they apply."""
        asked = self.check(**values)
        head = self._next_frame
        frame = max(head, 0 if at_sample is None else math.ceil(at_sample / HOP_SAMPLES))
        scheduled, keep = at_sample is not None, self._keep_frames
        self._changes.ask(values, frame, head=head, scheduled=scheduled, keep_frames=keep)
        self._asked = asked
        return frame * HOP_SAMPLES

    def check(self, **values: Any) -> Controls:
        """Return what the controls would be with these values, changing nothing."""
        self._check_open()
        return self._asked.changed(values)

    def _mix_of(self, frame: int) -> PromptMix:
        """Bring the controls up to a frame; what sounds in it, on the way of a fade too."""
        for change in self._changes.due(frame):
            self._apply(self.controls.changed(change.values), frame)
        return self.controls.mix if self._gliding is None else self._gliding.mix(self.controls.mix, frame)

    def _apply(self, new: Controls, frame: int) -> None:
        from streamgen.changes import Glide

        if new.mix != self.controls.mix:
            frames = round(new.glide_seconds * self._model.frame_rate_hz)
            sounding = self.controls.mix if self._gliding is None else self._gliding.mix(self.controls.mix, frame)
            self._gliding = Glide(sounding, frame, frames) if frames else None
        self.controls = new

    def snapshot(self) -> FakeSnapshot:
        """Remember this place."""
        self._check_open()
        pending, serial = self._changes.pending, self._changes.serial
        return FakeSnapshot(self._position_samples, self.controls, self._asked, pending, serial, self._gliding)

    def restore(self, saved: FakeSnapshot) -> None:
        """Go back to a snapshot."""
        self._check_open()
        self._position_samples, self.controls, self._asked = saved.position_samples, saved.controls, saved.asked
        self._changes.pending, self._gliding = saved.pending, saved.gliding
        self._drawn_frames = self._next_frame

    def mark(self) -> FakeSnapshot:
        """Remember this place, for `rewind`."""
        return self.snapshot()

    def rewind(self, mark: FakeSnapshot) -> None:
        """Go back to a mark made at most `rewind_seconds` of music ago; changes asked for since stay asked for."""
        self._check_open()
        back = self._next_frame - math.ceil(mark.position_samples / HOP_SAMPLES)
        if not 0 <= back <= self._keep_frames:
            limit = f"0 … {self._keep_frames} (rewind_seconds of open_stream)"
            raise ConfigError(f"the mark lies {back} frames back, must be within {limit}; use snapshot() for longer")
        asked = self._asked
        self.restore(mark)
        self._asked = asked
        self._changes.rewind(mark.pending, mark.serial, self._next_frame)

    def close(self) -> None:
        """Close it; closing twice is fine."""
        self._closed = True

    def __enter__(self) -> FakeStream:
        """Return the stream; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the stream."""
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed("this stream was closed; open a new one with model.open_stream(...)")


@dataclass
class FakeModel:
    """A model that sings one pitch per prompt (see `fake_pitch_hz`), with the API of `streamgen.Model`.

    Attributes:
        clock: advanced by `step_seconds` for every frame, so that a test can make a model too slow; or None.
        step_seconds: what one frame (20 ms of audio) takes.
        name, format, licence, device, precision, load_note, channels, weight_bytes: as Model's.
    """

    clock: FakeClock | None = None
    step_seconds: float = 0.0
    name: str = "fake"
    format: str = "fake"
    licence: str = "none: no weights"
    device: str = "cpu"
    precision: str = "fp32"
    load_note: str = "fp32, as it has no weights"
    channels: int = 1
    weight_bytes: int = 0

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second."""
        return SAMPLE_RATE_HZ

    @property
    def hop_samples(self) -> int:
        """Samples of one frame."""
        return HOP_SAMPLES

    @property
    def frame_rate_hz(self) -> float:
        """Frames a second."""
        return SAMPLE_RATE_HZ / HOP_SAMPLES

    def open_stream(
        self,
        prompt: str | None = None,
        *,
        audio_prompt: Audio | None = None,
        audio_prompt_rate_hz: int | None = None,
        melody: Audio | None = None,
        melody_rate_hz: int | None = None,
        rewind_seconds: float = 0.0,
        **controls: Any,
    ) -> FakeStream:
        """Open an endless stream; checks and errors are Model's own."""
        from streamgen.checkpoint.types import GenerationDefaults
        from streamgen.config import REWIND_SECONDS
        from streamgen.controls import Controls

        REWIND_SECONDS.check("rewind_seconds", rewind_seconds)
        _refuse_audio(audio_prompt, audio_prompt_rate_hz, melody, melody_rate_hz)
        settings = Controls.of(GenerationDefaults(), 30.0, {"prompt": prompt, **controls})
        return FakeStream(self, settings, rewind_seconds)

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
        """Generate a batch of clips of one length."""
        _refuse_audio(audio_prompt, audio_prompt_rate_hz, melody, melody_rate_hz, include_prompt or None)
        first = 0 if seed is None else seed
        seeds = [first + row for row in range(len(prompts))] if isinstance(first, int) else list(first)
        if len(seeds) != len(prompts):
            raise ConfigError(f"{len(seeds)} seeds for {len(prompts)} prompts; give one seed, or one per prompt")
        streams = [self.open_stream(text, seed=s, **controls) for text, s in zip(prompts, seeds, strict=True)]
        frames = round(seconds * self.frame_rate_hz)
        if frames < 1:
            raise ConfigError(f"seconds is {seconds!r}, must be at least one frame, 0.02")
        clips = [stream.read(frames * HOP_SAMPLES) for stream in streams]
        if progress is not None:
            progress(frames, frames)
        return clips


def _refuse_audio(*arguments: object) -> None:
    """A sine can go on from nothing; pretending it did would let a test pass that should not."""
    if any(argument is not None for argument in arguments):
        raise PromptError("FakeModel takes text prompts only; for audio and melody use a model of tiny_checkpoint(...)")


def _sines(mix: PromptMix, start: int, stop: int) -> Audio:
    """The formula at this file's head, float32 [2, stop − start]."""
    turns = np.arange(start, stop, dtype=np.float64) / SAMPLE_RATE_HZ
    waves = [weight * np.sin(2 * np.pi * fake_pitch_hz(text) * turns) for text, weight in mix.prompts]
    wave = (AMPLITUDE * np.sum(waves, axis=0)).astype(np.float32)
    return np.stack([wave, wave])
