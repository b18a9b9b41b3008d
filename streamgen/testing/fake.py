"""FakeModel, a model that sings sines: for tests of programs around streamgen.

It is a Model whose decoder and codec are replaced; all else is the real thing, so that a program cannot tell them
apart: checks, errors, changes at a sample, glides, rewind, windows and their rollovers. No weights, and a step costs
nothing but what `step_seconds` puts on a FakeClock. Audio is a formula of prompts and position:

    sample n = 0.25 · Σ sᵢ · sin(2π · fake_pitch_hz(textᵢ) · n / 32 000)      both channels

over the decoder's rows that count towards the sound (coefficient above 0), sᵢ their shares: from `guidance_scale` 1 on
these are the prompts and their weights, at 0 it is the negative prompt alone. So a test can say which prompt is heard
at which sample, whatever the chunks were.

Rules: the codes of a frame are the number of its mix of sines, in two digits; nothing is drawn by chance.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig, GenerationDefaults
from streamgen.codec import CodecState, StreamingDecoder
from streamgen.conditioning.rows import Conditioner, Prompts, TextRows
from streamgen.errors import ConfigError, PromptError
from streamgen.lm.cache import KVCache
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.delay import DelayPattern
from streamgen.lm.engine import AnyDecoder, LmEngine
from streamgen.lm.step import Rows, Step, Unread
from streamgen.model import Model
from streamgen.runtime import Facts, Runtime

__all__ = ["FakeClock", "FakeModel", "fake_pitch_hz"]

SAMPLE_RATE_HZ, HOP_SAMPLES, AMPLITUDE = 32_000, 640, 0.25
_CODES = 1024  # of each of two codebooks: room for a million mixes, hours of a glide
_CPU = torch.device("cpu")
Audio = NDArray[np.float32]
Sines = tuple[tuple[str | None, float], ...]


def fake_pitch_hz(prompt: str | None) -> float:
    """Pitch a FakeModel sings for a prompt: 220 Hz for None, else one of the 24 semitones above it, by the text."""
    return 220.0 if prompt is None else 220.0 * 2 ** ((zlib.crc32(prompt.encode()) % 24 + 1) / 12)


class FakeClock:
    """Time that passes only when told to. Call it for now, like time.monotonic; give its `sleep` where one is awaited.

    Attributes:
        now_seconds: the time.
        slept: every sleep asked for, in seconds, oldest first.
    """

    def __init__(self, now_seconds: float = 0.0) -> None:
        self.now_seconds = now_seconds
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_seconds

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ConfigError: not a finite number from 0.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigError(f"seconds is {seconds!r}; time passes by 0 or more")
        self.now_seconds += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass, and remember that it was slept."""
        self.advance(seconds)
        self.slept.append(seconds)


class FakeModel(Model):
    """A model that sings one pitch per prompt (see `fake_pitch_hz`).

    Args:
        clock: advanced by `step_seconds` for every step, so that a test can make a model too slow.
        step_seconds: what one step (20 ms of audio) takes.
        name: as Model's.
        channels: what it claims to make itself; the sines are the same left and right.
        max_positions: of a window.

    Attributes:
        step_seconds: as given, may be assigned.
    """

    def __init__(
        self,
        clock: FakeClock | None = None,
        step_seconds: float = 0.0,
        *,
        name: str = "fake",
        channels: int = 1,
        max_positions: int = 1503,
    ) -> None:
        self.step_seconds = step_seconds
        config = DecoderConfig(1, 1, 1, 1, 2, _CODES, channels, max_positions)
        songbook = _Songbook()
        super().__init__(
            Runtime(
                facts=Facts(name, "fake", "none: no weights", "fp32", "fp32, as it has no weights"),
                config=config,
                defaults=GenerationDefaults(guard=False),  # a sine stands still: that is what it is for
                device=_CPU,
                threads=None,
                engine=_Singer(self, config, songbook),
                codec=_Sound(songbook),
                prompts=_Texts(),
                pattern=DelayPattern((0, 0), pad=_CODES),  # both digits of a frame at once
                encode=_no_audio,
                clock=FakeClock() if clock is None else clock,
            )
        )

    @property  # type: ignore[override]  # narrower than a Model's: this one can be told to move on
    def clock(self) -> FakeClock:
        """As given, may be assigned."""
        assert isinstance(self.runtime.clock, FakeClock), self.runtime.clock
        return self.runtime.clock

    @clock.setter
    def clock(self, clock: FakeClock) -> None:
        self.runtime.clock = clock


def _no_audio(audio: Audio, rate_hz: int | None) -> Tensor:  # noqa: ARG001 - as the codec's encoder
    """Refuse audio: a sine goes on from nothing; pretending it did would let a test pass that should not."""
    raise _text_only()


def _text_only() -> PromptError:
    return PromptError("FakeModel takes text prompts only; for audio and melody use a model of tiny_checkpoint(...)")


class _Songbook:
    """Every mix of sines that was ever sung, by number."""

    def __init__(self) -> None:
        self._sines: list[Sines] = []
        self._numbers: dict[Sines, int] = {}

    def codes(self, sines: Sines) -> tuple[int, int]:
        """Return a mix's number, as two codes."""
        if sines not in self._numbers:
            self._numbers[sines] = len(self._sines)
            self._sines.append(sines)
        assert len(self._sines) <= _CODES**2, "hours of glides in one model: make another"
        return divmod(self._numbers[sines], _CODES)

    def sound(self, codes: Sequence[int], start: int) -> Audio:
        """Return one frame, float32 [HOP_SAMPLES], from a sample on."""
        turns = np.arange(start, start + HOP_SAMPLES, dtype=np.float64) / SAMPLE_RATE_HZ
        sines = self._sines[codes[0] * _CODES + codes[1]]
        waves = [share * np.sin(2 * np.pi * fake_pitch_hz(text) * turns) for text, share in sines]
        frame: Audio = (AMPLITUDE * np.sum(waves, axis=0)).astype(np.float32)
        return frame


@dataclass(frozen=True, eq=False)
class _Text(TextKV):
    """A text that remembers its words, and takes no room: nothing attends to it."""

    words: str | None


class _Texts(Prompts):
    """Prompts without an encoder."""

    def __init__(self) -> None:
        self.reads = None
        self._nothing = torch.zeros(1, 1, 0, 1, dtype=torch.float32)

    def learn(self, text: str | None) -> None:
        """There is nothing to learn."""

    @property
    def vocabulary(self) -> None:
        return None

    def heard(self, text: str | None) -> None:  # noqa: ARG002 - it reads prompts as they are typed
        return None

    def learn_states(self, text: str, states: object) -> None:  # noqa: ARG002 - nor does it read states
        raise _text_only()

    def states(self, text: str | None) -> Tensor:  # noqa: ARG002 - nor has it any
        raise _text_only()

    def bias(self, text: str | None) -> None:  # noqa: ARG002 - nor does it say more of them
        return None

    def forget_unused(self) -> None:
        """There is nothing to forget."""

    def keys(self, text: str | None) -> TextKV:
        return _Text(self._nothing, self._nothing, text)

    def conditioner(self) -> Conditioner:
        return TextRows(self)

    def prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        if values.get("melody") is not None or values.get("style") is not None:
            raise _text_only()
        return {name: value for name, value in values.items() if not name.endswith("_rate_hz")}


class _NoDecoder:
    """Tells whoever asks for logits that there are none."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigError("FakeModel has no decoder, so neither logits nor hidden states: use tiny_checkpoint(...)")


class _Singer(LmEngine):
    """The decoder's place: each stream's next codes are the number of its rows' mix."""

    weight_bytes = 0

    def __init__(self, model: FakeModel, config: DecoderConfig, songbook: _Songbook) -> None:
        self._model, self._songbook, self.config = model, songbook, config
        self.decoder = cast("AnyDecoder", _NoDecoder())
        self.cache = KVCache(config, 4, dtype=torch.float32, device=_CPU)
        self.cross = CrossCache()

    def step(self, steps: Sequence[Step]) -> list[Tensor]:
        self._model.clock.advance(self._model.step_seconds)
        return [torch.tensor(self._songbook.codes(_sines(step.rows)), dtype=torch.int64) for step in steps]

    def prefill(self, unread: Sequence[Unread], *, slice_only: bool = False) -> bool:  # noqa: ARG002 - it takes no time
        for one in unread:
            one.window.fed += one.length
        return True


def _sines(rows: Rows) -> Sines:
    """The formula's shares, at this file's head."""
    sounding = [
        (text.words, coefficient)
        for text, coefficient in zip(rows.texts, rows.coefficients, strict=True)
        if isinstance(text, _Text) and coefficient > 0
    ]
    total = sum(coefficient for _, coefficient in sounding)
    return tuple((words, coefficient / total) for words, coefficient in sounding)


class _Sound(StreamingDecoder):
    """The codec's place: codes to sines, at the sample the state has come to."""

    def __init__(self, songbook: _Songbook) -> None:
        self._songbook = songbook
        self.sample_rate_hz, self.hop_samples = SAMPLE_RATE_HZ, HOP_SAMPLES
        self.audio_channels, self.num_codebooks = 1, 2
        self.lookahead_samples, self.lookahead_frames, self.startup_frames = 0, 0, 1

    def new_state(self, batch: int) -> CodecState:
        return CodecState([], batch)

    def decode(self, codes: Tensor, state: CodecState) -> Tensor:
        streams = [self._sung(stream.t().tolist(), state.frames_in) for stream in codes]
        state.frames_in += codes.shape[2]
        return torch.from_numpy(np.stack(streams))[:, None]

    def decode_together(self, codes: Sequence[Tensor], states: Sequence[CodecState]) -> list[Tensor]:
        return [self.decode(*both) for both in zip(codes, states, strict=True)]

    def _sung(self, frames: Sequence[Sequence[int]], start: int) -> Audio:
        sounds = [self._songbook.sound(codes, (start + at) * HOP_SAMPLES) for at, codes in enumerate(frames)]
        return np.concatenate(sounds)

    def finish(self, state: CodecState) -> Tensor:
        return torch.zeros(state.batch, 1, 0)
