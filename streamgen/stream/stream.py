"""One endless stream: controls at a sample → code frames → PCM.

    set() ─ steering ─┐ at its frame
                      ▼
    engine.step ─ token frames ─ PCM buffer ─ chunks()

Frame f of the stream is samples f · hop … (f + 1) · hop − 1. A control is applied before the first codebook of its
frame is drawn, so it is exact to one frame (20 ms); the finer codebooks of up to three frames before, which the delay
pattern draws in the same column, feel it too, or hold where the change lets go of the music before it.

Rules: a state machine, synchronous, no thread; the model does the arithmetic, and the parts remember: tokens
(lm/token_stream.py), controls (steering.py), sound (pcm_buffer.py). Not safe for two threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.errors import ConfigError, SessionClosed
from streamgen.lm.windows import WindowPlan
from streamgen.metrics import StreamMetrics
from streamgen.stream.control_state import Steering
from streamgen.stream.controls import Controls, frozen
from streamgen.stream.pcm_buffer import PcmBuffer
from streamgen.stream.snapshots import StreamMark, StreamMemory, StreamSnapshot, Trail, new_number
from streamgen.threads import computing_on

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["Stream"]

_DECODE_FRAMES = 25  # frames decoded in one go at most, so that a long read stays bounded in memory


class Stream:
    """An endless stream of one model. Made by `Model.open_stream`.

    Attributes:
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
        self._model, self.metrics = model, StreamMetrics()
        texts, rows = model.prompts.of(controls.mix, controls.guidance_scale, melody)
        self._tokens = model.open_tokens(rows, controls)
        self._tokens.keep_frames = math.ceil(rewind_seconds * model.frame_rate_hz)
        self._steering = Steering(model, self._tokens, controls, texts, melody)
        self._closed = False
        self._number, self._trail = new_number(), Trail()
        try:
            self._start_audio(audio_prompt)
        except BaseException:  # interrupted, or out of memory: nobody holds this stream, so nobody could close it
            self.close()
            raise

    @property
    def controls(self) -> Controls:
        """The settings in force."""
        return self._steering.controls

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second of all its audio."""
        return self._model.sample_rate_hz

    @property
    def seed(self) -> int:
        """The seed in force."""
        return int(self.controls.seed)

    @property
    def position_samples(self) -> int:
        """Position of the next sample that will be read."""
        return self._pcm.position_samples

    @property
    def next_sample(self) -> int:
        """First sample of the frame that is drawn next: where a change made now is heard."""
        return self._steering.next_frame * self._model.hop_samples

    @property
    def plan(self) -> WindowPlan:
        """Where this stream's windows begin and end; `plan.draw()` shows it."""
        return self._tokens.plan

    # -- audio ----------------------------------------------------------------------------------------------------

    def _start_audio(self, audio_prompt: Tensor | None) -> None:
        """Begin the codec, after an audio prompt if there is one: new audio goes on from it without a seam."""
        given = 0 if audio_prompt is None else audio_prompt.shape[1]
        self._pcm = PcmBuffer(self._model.codec, self._model.device, given)
        if audio_prompt is not None:
            self._tokens.begin_with(audio_prompt)
        self._model.engine.prefill(self._tokens, self._tokens.windows[0])
        for start in range(0, given, _DECODE_FRAMES):
            self._decode_until(min(start + _DECODE_FRAMES, given))

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
        with computing_on(self._model.threads):
            while missing := self._pcm.missing_frames(samples):
                self._produce(min(missing, _DECODE_FRAMES))
        return self._pcm.take(samples)

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

    def _step(self) -> None:
        self._steering.come_into_force()
        began = self._model.clock()
        self._model.engine.step([self._tokens])
        seconds, leader = self._model.clock() - began, self._tokens.windows[0]
        self.metrics.record_step(seconds, self._tokens.rollovers, leader.position, len(self._tokens.windows))

    def _decode_until(self, frame: int) -> None:
        start = self._pcm.decoded_frames
        if frame > start:
            began = self._model.clock()
            self._pcm.decode(self._tokens.frames(start, frame))
            self.metrics.codec_seconds += self._model.clock() - began

    # -- controls -------------------------------------------------------------------------------------------------

    def set(self, *, at_sample: int | None = None, **values: Any) -> int:
        """Change controls: at once, or at a sample ahead.

        Args:
            at_sample: position in the stream; None, or one already drawn, is the next frame that is not drawn yet.
            values: `prompt`, `prompts`, `negative_prompt` or any name in `streamgen.config.CONTROLS`. With a melody, a
                long prompt shortens the context in force if the two do not fit.

        Returns:
            The sample at which the change is applied.

        Raises:
            ConfigError, PromptError: a wrong value; nothing is changed then.
            CapacityError: too many changes are waiting.
            SessionClosed: the stream was closed.
        """
        self._check_open()
        if at_sample is not None and not _finite(at_sample):
            raise ConfigError(f"at_sample is {at_sample!r}, must be a position in samples, or None for the next frame")
        hop = self._model.hop_samples
        at_frame = None if at_sample is None else math.ceil(at_sample / hop)
        with computing_on(self._model.threads):
            return hop * self._steering.ask(frozen(values), at_frame)

    def check(self, **values: Any) -> Controls:
        """Return what the controls would be with these values, changing nothing. Arguments and errors as in `set`."""
        self._check_open()
        with computing_on(self._model.threads):
            return self._steering.check(values)

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
        self._trail.clear()
        self._steering.recall(saved.memory.steering)
        self._pcm.recall(saved.memory.pcm)

    def mark(self) -> StreamMark:
        """Remember this place cheaply (no clone of the cache), for `rewind`.

        Raises:
            SessionClosed: the stream was closed.
        """
        self._check_open()
        number = self._trail.add(self._tokens.head, self._tokens.keep_frames)
        return StreamMark(self._tokens.mark(), self._remember(), self._steering.serial, self.next_sample, number)

    def rewind(self, mark: StreamMark) -> None:
        """Go back to a mark made at most `rewind_seconds` of music ago: audio generated ahead is revoked.

        Audio, not wishes: changes asked for since then stay asked for, those "at once" now come at the mark.

        Raises:
            ConfigError: the mark lies too far back or ahead, or not on this stream's way: made on another stream,
                before a restore, or on music that a rewind has revoked since.
            SessionClosed: the stream was closed.
        """
        self._check_open()
        self._trail.go_back(mark, self._tokens.head, self._tokens.keep_frames)
        self._tokens.rewind(mark.tokens)
        self._steering.rewind(mark.memory.steering, mark.serial)
        self._pcm.recall(mark.memory.pcm)

    def _remember(self) -> StreamMemory:
        return StreamMemory(self._steering.remember(), self._pcm.remember())

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


def _whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _finite(number: object) -> bool:
    return isinstance(number, Real) and math.isfinite(number)
