"""One endless stream: controls at a sample → code frames → PCM.

    set() ─ pending ─┐ at its frame
                     ▼
    engine.step ─ token frames ─ codec ─ buffer ─ chunks()

Frame f of the stream is samples f · hop … (f + 1) · hop − 1. A control is applied before the first codebook of its
frame is drawn, so it is exact to one frame (20 ms); the finer codebooks of up to three frames before, which the delay
pattern draws in the same column, feel it too.

Rules: a state machine, synchronous, no clock, no thread; the model does the arithmetic. Not safe for two threads.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.changes import Change, ChangeQueue, Glide
from streamgen.codec import CodecState
from streamgen.conditioning import PromptMix
from streamgen.controls import Controls, frozen
from streamgen.errors import CapacityError, ConfigError, SessionClosed
from streamgen.lm.token_stream import Rows, TokenMark, TokenSnapshot
from streamgen.lm.windows import WindowPlan
from streamgen.metrics import StreamMetrics

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["Stream", "StreamMark", "StreamSnapshot"]

_numbers = itertools.count()  # of streams and marks: no two are alike
_DECODE_FRAMES = 10  # frames decoded in one go at most, so that a long read stays bounded in memory


@dataclass(frozen=True)
class _Memory:
    """What a stream remembers besides its tokens."""

    codec: CodecState
    controls: Controls
    asked: Controls
    pending: tuple[Change, ...]
    gliding: Glide | None
    texts: tuple[str | None, ...]
    buffer: Tensor
    position_samples: int
    decoded_frames: int
    skip_samples: int


@dataclass(frozen=True)
class StreamSnapshot:
    """Everything a stream remembers; restoring it replays bit-exactly on the same machine."""

    tokens: TokenSnapshot
    memory: _Memory
    stream: int


@dataclass(frozen=True)
class StreamMark:
    """A place a stream can rewind to: cheap, but only good for `rewind_seconds`.

    Attributes:
        next_sample: first sample of the frame that is drawn next from here.
        number: tells it from every other mark.
    """

    tokens: TokenMark
    memory: _Memory
    serial: int
    next_sample: int
    number: int


class Stream:
    """An endless stream of one model. Made by `Model.open_stream`.

    Attributes:
        controls: the settings in force.
        metrics: counters.
    """

    def __init__(
        self,
        model: Model,
        controls: Controls,
        *,
        melody: Tensor | None = None,
        audio_prompt: Tensor | None = None,
        rewind_seconds: float = 0.0,
    ) -> None:
        self._model, self._melody = model, melody
        self.controls, self.metrics = controls, StreamMetrics()
        self._asked = controls  # with every change that is still ahead: what a further one is checked against
        self._texts, rows = model.rows(controls.mix, controls.guidance_scale, melody)
        self._tokens = model.open_tokens(rows, controls)
        self._tokens.keep_frames = math.ceil(rewind_seconds * model.frame_rate_hz)
        self._changes = ChangeQueue()
        self._gliding: Glide | None = None
        self._closed = False
        self._number = next(_numbers)
        self._marks: list[tuple[int, int]] = []  # (number, head) of those on this stream's way, oldest first
        try:
            self._start_audio(audio_prompt)
        except BaseException:  # interrupted, or out of memory: nobody holds this stream, so nobody could close it
            self.close()
            raise

    # -- audio ----------------------------------------------------------------------------------------------------

    def _start_audio(self, audio_prompt: Tensor | None) -> None:
        """Begin the codec, after an audio prompt if there is one: new audio goes on from it without a seam."""
        self._codec = self._model.codec.new_state(1)
        self._buffer = torch.zeros(2, 0)
        self._position_samples = self._decoded_frames = self._first_frame = self._skip_samples = 0
        if audio_prompt is not None:
            self._first_frame = audio_prompt.shape[1]
            self._skip_samples = self._first_frame * self._model.hop_samples
            self._tokens.begin_with(audio_prompt)
        self._model.engine.prefill(self._tokens, self._tokens.windows[0])
        for start in range(0, self._first_frame, _DECODE_FRAMES):
            self._decode_until(min(start + _DECODE_FRAMES, self._first_frame))

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second of all its audio."""
        return self._model.sample_rate_hz

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
        return self._next_frame * self._model.hop_samples

    @property
    def plan(self) -> WindowPlan:
        """Where this stream's windows begin and end; `plan.draw()` shows it."""
        return self._tokens.plan

    def read(self, samples: int) -> AudioChunk:
        """Generate and return the next samples.

        Args:
            samples: how many, at least 1.

        Raises:
            ConfigError: fewer than one, or no whole number.
            CapacityError: the cache has no room for the next window, or for the rows of prompts that are due. Nothing
                is changed: read again once there is room, or after setting fewer prompts.
            SessionClosed: the stream was closed.
        """
        self._check_open()
        if not _whole(samples) or samples < 1:
            raise ConfigError(f"samples is {samples!r}, must be a whole number, at least 1")
        while self._buffer.shape[1] < samples:
            missing = math.ceil((samples - self._buffer.shape[1]) / self._model.hop_samples)
            self._produce(min(missing, _DECODE_FRAMES))
        out, self._buffer = self._buffer[:, :samples], self._buffer[:, samples:].clone()
        chunk = AudioChunk(_to_numpy(out), self._position_samples, self.sample_rate_hz)
        self._position_samples += samples
        return chunk

    def chunks(self, seconds: float = 0.1) -> Iterator[AudioChunk]:
        """Yield the stream for ever, `seconds` at a time.

        Raises:
            ConfigError: a chunk shorter than one sample or longer than 60 s.
        """
        samples = round(seconds * self.sample_rate_hz) if _finite(seconds) else 0
        if not 1 <= samples <= 60 * self.sample_rate_hz:
            raise ConfigError(f"a chunk of {seconds!r} seconds does not go: use 0.02 … 60")
        while not self._closed:
            yield self.read(samples)

    def _produce(self, frames: int) -> None:
        goal = self._tokens.frames_done + frames
        while self._tokens.frames_done < goal:
            self._step()
        self._decode_until(goal)

    def _decode_until(self, frame: int) -> None:
        """Decode the frames up to `frame` and keep what is neither the audio prompt's nor read yet."""
        if frame <= self._decoded_frames:
            return
        began = time.perf_counter()
        codes = self._tokens.frames(self._decoded_frames, frame)[None].to(self._model.device)  # tokens are on the CPU
        pcm = self._model.codec.decode(codes, self._codec)[0]
        self._decoded_frames = frame
        skipped = min(self._skip_samples, pcm.shape[1])
        self._skip_samples -= skipped
        self._buffer = torch.cat([self._buffer, pcm[:, skipped:].cpu().expand(2, -1)], dim=1)
        self.metrics.codec_seconds += time.perf_counter() - began

    # -- controls -------------------------------------------------------------------------------------------------

    def set(self, *, at_sample: int | None = None, **values: Any) -> int:
        """Change controls: at once, or at a sample ahead.

        Args:
            at_sample: position in the stream; None, or one already drawn, is the next frame that is not drawn yet.
            values: `prompt`, `prompts`, `negative_prompt` or any name in `streamgen.config.RANGES`. With a melody, a
                long prompt shortens the context in force if the two do not fit.

        Returns:
            The sample at which the change is applied.

        Raises:
            ConfigError, PromptError: a wrong value; nothing is changed then.
            CapacityError: too many changes are waiting.
            SessionClosed: the stream was closed.
        """
        if at_sample is not None and not _finite(at_sample):
            raise ConfigError(f"at_sample is {at_sample!r}, must be a position in samples, or None for the next frame")
        values = frozen(values)
        asked = self.check(**values)
        frame = max(self._next_frame, 0 if at_sample is None else math.ceil(at_sample / self._model.hop_samples))
        head, keep = self._tokens.head, self._tokens.keep_frames
        self._changes.ask(values, frame, head=head, scheduled=at_sample is not None, keep_frames=keep)
        self._asked = asked
        return frame * self._model.hop_samples

    def check(self, **values: Any) -> Controls:
        """Return what the controls would be with these values, changing nothing. Arguments and errors as in `set`."""
        self._check_open()
        asked = self._asked.changed(values)
        # a melody's text takes positions: a new one, longer than the old, must not be refused for the context it cuts
        says_context = any(name.startswith("context") for name in values)
        self._model.prepare(asked, self._melody, cut_context=not says_context)
        return asked

    @property
    def _next_frame(self) -> int:
        """Frame, counted from the first sample of this stream, whose first codebook is drawn next."""
        return self._tokens.head + 1 - self._first_frame

    def _come_into_force(self) -> None:
        """Bring controls and rows up to the next frame. Where the rows find no room, nothing is changed: all waits."""
        before = self.controls, self._gliding, self._changes.pending
        sampling, plan = self._tokens.sampling, self._tokens.plan
        due = self._changes.due(self._next_frame)
        try:
            for change in due:
                self._apply(self.controls.changed(change.values))
            if due or self._gliding is not None:
                self._apply_mix()
        except CapacityError:
            self.controls, self._gliding, self._changes.pending = before
            self._tokens.sampling, self._tokens.plan = sampling, plan
            raise

    def _apply(self, new: Controls) -> None:
        old, self.controls = self.controls, new
        self._tokens.sampling = new.sampling
        if (new.context_seconds, new.context_start_seconds) != (old.context_seconds, old.context_start_seconds):
            self._tokens.plan = self._model.fitting_plan(new, self._tokens.rows.prefix)
        if new.mix != old.mix:
            self._gliding = self._glide_from(old.mix, new.glide_seconds)

    def _glide_from(self, mix: PromptMix, seconds: float) -> Glide | None:
        """Begin a fade from what sounds now; a melody's prefix is read whole, so it cannot fade."""
        if seconds == 0 or self._melody is not None:
            return None
        now = mix if self._gliding is None else self._gliding.mix(mix, self._next_frame)
        return Glide(now, self._next_frame, max(round(seconds * self._model.frame_rate_hz), 1))

    def _apply_mix(self) -> None:
        """Bring the decoder's rows up to the mix of this frame."""
        mix = self.controls.mix
        if self._gliding is not None:
            mix = self._gliding.mix(mix, self._next_frame)
            self._gliding = None if mix == self.controls.mix else self._gliding
        texts, coefficients = mix.rows(self.controls.guidance_scale, melody=self._melody is not None)
        if texts == self._texts and self._melody is None:
            self._tokens.rows = replace(self._tokens.rows, coefficients=coefficients)
            return
        _, rows = self._model.rows(mix, self.controls.guidance_scale, self._melody)
        if rows.prefixes is None:
            self._tokens.set_rows(rows, _sources(self._texts, self._tokens.rows.coefficients, texts))
        elif texts == self._texts and torch.equal(rows.prefixes, self._prefixes()):
            self._tokens.rows = rows
        else:  # other texts, or the same ones of which others hear the melody
            self._reread(rows)
        self._texts = texts

    def _prefixes(self) -> Tensor:
        prefixes = self._tokens.rows.prefixes
        assert prefixes is not None, "every row of a melody checkpoint has a prefix"
        return prefixes

    def _reread(self, rows: Rows) -> None:
        """Start a fresh window under a new melody prefix: the only way to change what stands at its beginning."""
        window = self._tokens.fresh_window(rows, self._model.fitting_plan(self.controls, rows.prefix))
        self._model.engine.prefill(self._tokens, window)

    def _step(self) -> None:
        self._come_into_force()
        began = time.perf_counter()
        self._model.engine.step([self._tokens])
        leader = self._tokens.windows[0]
        self.metrics.record_step(
            time.perf_counter() - began, self._tokens.rollovers, leader.position, len(self._tokens.windows)
        )

    # -- life -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> StreamSnapshot:
        """Clone everything this stream remembers.

        Raises:
            SessionClosed: the stream was closed.
        """
        self._check_open()
        return StreamSnapshot(self._tokens.snapshot(), self._remember(), self._number)

    def restore(self, saved: StreamSnapshot) -> None:
        """Go back to a snapshot of this stream; it stays valid and can be restored again. Marks made before do not.

        Raises:
            ConfigError: it is another stream's.
            CapacityError: no room for its rows; nothing is changed then.
            SessionClosed: the stream was closed.
        """
        self._check_open()
        if saved.stream != self._number:
            raise ConfigError("the snapshot is another stream's; restore it on the stream that made it")
        self._tokens.restore(saved.tokens)
        self._marks.clear()
        self._recall(saved.memory)

    def mark(self) -> StreamMark:
        """Remember this place cheaply (no clone of the cache), for `rewind`.

        Raises:
            SessionClosed: the stream was closed.
        """
        self._check_open()
        head, number = self._tokens.head, next(_numbers)
        oldest = head - self._tokens.keep_frames
        self._marks = [*(mark for mark in self._marks if mark[1] >= oldest), (number, head)]
        return StreamMark(self._tokens.mark(), self._remember(), self._changes.serial, self.next_sample, number)

    def rewind(self, mark: StreamMark) -> None:
        """Go back to a mark made at most `rewind_seconds` of music ago: audio generated ahead is revoked.

        Audio, not wishes: changes asked for since then stay asked for, those "at once" now come at the mark.

        Raises:
            ConfigError: the mark lies too far back or ahead, or not on this stream's way: made on another stream,
                before a restore, or on music that a rewind has revoked since.
            SessionClosed: the stream was closed.
        """
        self._check_open()
        back = self._tokens.head - mark.tokens.head
        if not 0 <= back <= self._tokens.keep_frames:
            limit = f"0 … {self._tokens.keep_frames} (rewind_seconds of open_stream)"
            raise ConfigError(f"the mark lies {back} frames back, must be within {limit}; use snapshot() for longer")
        numbers = [number for number, _ in self._marks]
        if mark.number not in numbers:
            raise ConfigError("the mark is of another stream, or of music that was revoked since; make a new one")
        del self._marks[numbers.index(mark.number) + 1 :]
        asked = self._asked
        self._tokens.rewind(mark.tokens)
        self._recall(mark.memory)
        self._asked = asked
        self._changes.rewind(mark.memory.pending, mark.serial, self._next_frame)

    def _remember(self) -> _Memory:
        return _Memory(
            self._codec.clone(),
            self.controls,
            self._asked,
            self._changes.pending,
            self._gliding,
            self._texts,
            self._buffer,  # never written in place
            self._position_samples,
            self._decoded_frames,
            self._skip_samples,
        )

    def _recall(self, memory: _Memory) -> None:
        self._codec = memory.codec.clone()
        self.controls, self._asked, self._changes.pending = memory.controls, memory.asked, memory.pending
        self._gliding, self._texts, self._buffer = memory.gliding, memory.texts, memory.buffer
        self._position_samples, self._decoded_frames = memory.position_samples, memory.decoded_frames
        self._skip_samples = memory.skip_samples

    def close(self) -> None:
        """Free the stream's memory in the model; closing twice is fine."""
        if not self._closed:
            self._tokens.close()
            self._closed = True

    def __enter__(self) -> Stream:
        """Return the stream; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the stream."""
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed("this stream was closed; open a new one with model.open_stream(...)")


def _sources(old: tuple[str | None, ...], coefficients: tuple[float, ...], new: tuple[str | None, ...]) -> list[int]:
    """Choose for each new row the old row whose past it continues: its own text's, its own place's, the heaviest."""
    heaviest = max(range(len(old)), key=lambda row: coefficients[row])
    same_places = len(old) == len(new)
    return [old.index(text) if text in old else (row if same_places else heaviest) for row, text in enumerate(new)]


def _whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _finite(number: object) -> bool:
    return isinstance(number, Real) and math.isfinite(number)


def _to_numpy(pcm: Tensor) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = np.ascontiguousarray(pcm.numpy(), dtype=np.float32)
    return samples
