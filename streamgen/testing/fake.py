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

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig, GenerationDefaults
from streamgen.codec import CodecState, StreamingDecoder
from streamgen.conditioning.rows import PromptRows
from streamgen.errors import PromptError
from streamgen.lm.cache import KVCache
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.delay import DelayPattern
from streamgen.lm.engine import LmEngine
from streamgen.lm.token_stream import TokenStream
from streamgen.lm.window_set import Rows, Window
from streamgen.model import Model
from streamgen.testing.clock import FakeClock

__all__ = ["FakeModel", "fake_pitch_hz"]

SAMPLE_RATE_HZ, HOP_SAMPLES, AMPLITUDE = 32_000, 640, 0.25
_CODES = 1024  # of each of two codebooks: room for a million mixes, hours of a glide
_CERTAIN = 1e5  # a logit so far above the others that temperature and guidance change nothing
_CPU = torch.device("cpu")
Audio = NDArray[np.float32]
Sines = tuple[tuple[str | None, float], ...]


def fake_pitch_hz(prompt: str | None) -> float:
    """Pitch a FakeModel sings for a prompt: 220 Hz for None, else one of the 24 semitones above it, by the text."""
    return 220.0 if prompt is None else 220.0 * 2 ** ((zlib.crc32(prompt.encode()) % 24 + 1) / 12)


class FakeModel(Model):
    """A model that sings one pitch per prompt (see `fake_pitch_hz`).

    Args:
        clock: advanced by `step_seconds` for every step, so that a test can make a model too slow.
        step_seconds: what one step (20 ms of audio) takes.
        name: as Model's.
        channels: what it claims to make itself; the sines are the same left and right.
        max_positions: of a window.

    Attributes:
        clock, step_seconds: as given, may be changed.
    """

    clock: FakeClock

    def __init__(
        self,
        clock: FakeClock | None = None,
        step_seconds: float = 0.0,
        *,
        name: str = "fake",
        channels: int = 1,
        max_positions: int = 1503,
    ) -> None:
        self.clock, self.step_seconds = FakeClock() if clock is None else clock, step_seconds
        self.name, self.format, self.licence = name, "fake", "none: no weights"
        self.defaults, self.device, self.channels = GenerationDefaults(), _CPU, channels
        self.precision, self.load_note, self.threads = "fp32", "fp32, as it has no weights", None
        self.config = DecoderConfig(1, 1, 1, 1, 2, _CODES, channels, max_positions)
        self.pattern = DelayPattern((0, 0), pad=_CODES)  # both digits of a frame at once
        self.sample_rate_hz, self.hop_samples = SAMPLE_RATE_HZ, HOP_SAMPLES
        songbook = _Songbook()
        self.engine, self.codec, self.prompts = _Singer(self, songbook), _Sound(songbook), _Texts()

    @property
    def weight_bytes(self) -> int:
        """None at all."""
        return 0

    def prompt_codes(self, audio: Audio | None, rate_hz: int | None) -> None:  # noqa: ARG002 - as Model's
        """Refuse audio: a sine goes on from nothing; pretending it did would let a test pass that should not.

        Raises:
            PromptError: there is audio.
        """
        if audio is not None:
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


class _Texts(PromptRows):
    """Rows without an encoder."""

    def __init__(self) -> None:
        self._nothing = torch.zeros(1, 1, 0, 1)

    def _keys(self, text: str | None) -> TextKV:
        return _Text(self._nothing, self._nothing, text)

    def melody_prefix(self, melody: Audio | None, rate_hz: int | None) -> None:  # noqa: ARG002 - as PromptRows'
        if melody is not None:
            raise _text_only()


class _Singer(LmEngine):
    """The decoder's place: each stream's next codes are the number of its rows' mix."""

    def __init__(self, model: FakeModel, songbook: _Songbook) -> None:
        self._model, self._songbook = model, songbook
        self.config = model.config
        self.cache = KVCache(model.config, 4, dtype=torch.float32, device=_CPU)
        self.cross = CrossCache()

    def step(self, streams: Sequence[TokenStream]) -> None:
        for stream in streams:
            stream.inputs()
            logits = torch.zeros(stream.rows.count, 2, _CODES)
            for codebook, code in enumerate(self._songbook.codes(_sines(stream.rows))):
                logits[:, codebook, code] = _CERTAIN
            stream.accept(logits)
        self._model.clock.advance(self._model.step_seconds)

    def prefill(self, stream: TokenStream, window: Window) -> None:
        window.fed += len(stream.reread(window))


def _sines(rows: Rows) -> Sines:
    """The formula's shares, at this file's head."""
    heard = [
        (text.words, coefficient)
        for text, coefficient in zip(rows.texts, rows.coefficients, strict=True)
        if isinstance(text, _Text) and coefficient > 0
    ]
    total = sum(coefficient for _, coefficient in heard)
    return tuple((words, coefficient / total) for words, coefficient in heard)


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

    def _sung(self, frames: Sequence[Sequence[int]], start: int) -> Audio:
        sounds = [self._songbook.sound(codes, (start + at) * HOP_SAMPLES) for at, codes in enumerate(frames)]
        return np.concatenate(sounds)

    def finish(self, state: CodecState) -> Tensor:
        return torch.zeros(state.batch, 1, 0)
