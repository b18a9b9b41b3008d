"""One endless stream: controls at a sample → code frames → PCM.

    set() ─ control state ─┐ at its frame
                           ▼
    begin_step ─ one pass ─ finish_step ─ token frames ─ PCM buffer ─ read(), chunks()

Frame f of the stream is samples f · hop … (f + 1) · hop − 1. A control is applied before the first codebook of its
frame is drawn, so it is exact to one frame; the finer codebooks of up to three frames before, which the delay pattern
draws in the same column, feel it too, or hold where the change drops the music before it.

Rules: a state machine, synchronous, no thread; the runtime does the arithmetic, and the parts remember: tokens
(lm/token_stream.py), controls (control_state.py), sound (pcm_buffer.py). Any thread may call; each call waits for the
step under way.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.conditioning.rows import Conditioner
from streamgen.config import BEGIN_ANEW, ControlValues
from streamgen.errors import ConfigError, SessionClosed
from streamgen.lm.step import Step
from streamgen.lm.windows import WindowPlan
from streamgen.metrics import StreamMetrics
from streamgen.runtime import Runtime
from streamgen.stream.audition import best_candidate
from streamgen.stream.control_state import ControlMemory, ControlState
from streamgen.stream.controls import Controls, frozen
from streamgen.stream.guard import Guard, Mended
from streamgen.stream.pcm_buffer import DECODE_FRAMES, PcmBuffer
from streamgen.stream.reading import read_together, read_tokens
from streamgen.stream.snapshots import StreamMark, StreamMemory, StreamSnapshot, Trail, new_number

__all__ = ["Stream"]

_log = logging.getLogger("streamgen")


class Stream:
    """An endless stream of one model. Made by `Model.open_stream`.

    Attributes:
        runtime: what it shares with other streams of its model.
        metrics: counters.
    """

    def __init__(
        self,
        runtime: Runtime,
        controls: Controls,
        conditioner: Conditioner,
        *,
        audio_prompt: Tensor | None = None,
        rewind_seconds: float = 0.0,
    ) -> None:
        self.runtime, self.metrics = runtime, StreamMetrics()
        keep_frames = math.ceil(rewind_seconds * runtime.frame_rate_hz)
        given_frames = 0 if audio_prompt is None else audio_prompt.shape[1]
        self._control = ControlState(runtime.layout, conditioner, controls, keep_frames, given_frames)
        margin = DECODE_FRAMES + runtime.codec.lookahead_frames + runtime.pattern.max_delay + 2
        self._guard = Guard(runtime.codec.sample_rate_hz, runtime.codec.hop_samples, margin)
        self._number, self._trail, self._closed = new_number(), Trail(), False
        self._tokens = runtime.open_tokens(self._control.memory.settings, keep_frames)
        try:
            self._start_audio(audio_prompt)
        except BaseException:  # interrupted, or out of memory: nobody holds this stream, so nobody could close it
            self.close()
            raise

    def __repr__(self) -> str:
        """Say where it is, what it plays, and whether it was closed."""
        seconds = self.position_samples / self.sample_rate_hz
        state = "closed" if self._closed else f"{self.controls.mix.dominant!r}, seed {self.seed}"
        return f"<Stream {self._number} of {self.runtime.facts.name!r} at {seconds:.2f} s: {state}>"

    @property
    def controls(self) -> Controls:
        """The settings in force."""
        return self._control.controls

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second of all its audio."""
        return self.runtime.codec.sample_rate_hz

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
        return self._next_frame * self.runtime.codec.hop_samples

    @property
    def _next_frame(self) -> int:
        """Frame, counted from the first sample of the stream, whose first codebook is drawn next."""
        return self._tokens.head + 1 - self._tokens.prompt_frames

    @property
    def plan(self) -> WindowPlan:
        """Where this stream's windows begin and end; `plan.draw()` shows it."""
        return self._tokens.settings.plan

    # -- audio ----------------------------------------------------------------------------------------------------

    def _start_audio(self, audio_prompt: Tensor | None) -> None:
        """Begin the codec, after an audio prompt if there is one: new audio goes on from it without a seam."""
        given = 0 if audio_prompt is None else audio_prompt.shape[1]
        self._pcm = PcmBuffer(self.runtime.codec, self.runtime.device, given)
        if audio_prompt is not None:
            self._tokens.begin_with(audio_prompt)
        for start in range(0, given if self.runtime.codec.makes_sound else 0, DECODE_FRAMES):
            self.decode_until(min(start + DECODE_FRAMES, given))

    def read(self, samples: int, between_steps: Callable[[], None] | None = None) -> AudioChunk:
        """Generate and return the next samples.

        Args:
            samples: how many, at least 1.
            between_steps: called after each step that it takes, on this thread; it may use this stream.

        Raises:
            ConfigError: fewer than one, or no whole number.
            CapacityError: the cache has no room for the next window, or for the rows of prompts that are due. Nothing
                is changed: read again once there is room, or after setting fewer prompts.
            CheckpointError: the checkpoint has no codec.
            NumericError: the model's results are NaN or infinite; nothing of it becomes sound.
            SessionClosed: the stream was closed.
        """
        return read_together({self: samples}, between_steps)[self]

    def tokens(self, frames: int) -> Tensor:
        """Generate and return the codes of the next frames, in the place of their sound: no codec runs.

        A stream is read as sound or as tokens, not both. Controls, marks and snapshots work alike; the guard, which
        listens, does not.

        Args:
            frames: how many, at least 1; there are `Model.frame_rate_hz` a second.

        Returns:
            int64 [K, frames], those of an audio prompt left out; as `Model.logits` and `open_stream` take them.

        Raises:
            ConfigError: fewer than one, no whole number, or the stream was read as sound.
            CapacityError, NumericError, SessionClosed: as in `read`.
        """
        return read_tokens(self, frames)

    def chunks(self, seconds: float = 0.1) -> Iterator[AudioChunk]:
        """Yield the stream until it is closed, `seconds` at a time.

        Raises:
            ConfigError: a chunk shorter than one sample or longer than 60 s.
            SessionClosed: the stream was closed before.
        """
        self._check_open()
        samples = round(seconds * self.sample_rate_hz) if _finite(seconds) else 0
        if not 1 <= samples <= 60 * self.sample_rate_hz:
            raise ConfigError(f"a chunk of {seconds!r} seconds does not go: use 0.02 … 60")
        while not self._closed:
            yield self.read(samples)

    # -- steps, as `read_together` and the scheduler make them: within the runtime's lock ---------------------------

    @property
    def frames_done(self) -> int:
        """Complete frames so far, the audio prompt's included."""
        return self._tokens.frames_done

    def begin_step(self, beside_others: bool = False) -> Step | None:
        """Bring controls, rows and windows up to the next frame, and return what to feed.

        Args:
            beside_others: whether other streams wait: what is unread is read a slice at a time then.

        Returns:
            None after a slice that was not the last.

        Raises:
            CapacityError: as in `read`.
            SessionClosed: the stream was closed.
        """
        self._check_open()
        frame, heard = self._next_frame, self._guard.heard
        mending = bool(self.controls.guard) and self._guard.due(frame)
        coming = self._control.coming(frame, heard.openings + mending)
        step = self._tokens.begin_step(coming.settings)
        self._note(frame, coming, mending)
        if step.unread and not self.runtime.engine.prefill(step.unread, slice_only=beside_others):
            return None
        return step

    def _note(self, frame: int, coming: ControlMemory, mending: bool) -> None:
        """Take over the controls of a step that has room, and let the guard know what it must not mistake for a fault.

        The step may be begun again if it fails: what was noted then is not due any more.
        """
        before, self._control.memory = self._control.memory, coming
        if mending:
            self._guard.mend(frame)
            self.metrics.mends += 1
            _log.info("%s: the music had died (%s) and begins anew", self, self._guard.heard.mended[-1].fault)
        elif coming is not before and (coming.gliding is not None or _plays_otherwise(coming, before)):
            self._guard.forget(frame)

    @property
    def mended(self) -> tuple[Mended, ...]:
        """What the guard found and where the music began anew for it, newest last; what was rewound never was."""
        return self._guard.heard.mended

    def finish_step(self, drawn: Tensor, seconds: float) -> None:
        """Take the column that was drawn, int64 [K], and the time that the pass took.

        Raises:
            NumericError: nothing was drawn, for the logits were no numbers; the stream stays where it was.
        """
        self.runtime.check_numbers(drawn)
        self._tokens.finish_step(drawn)
        windows = self._tokens.windows
        self.metrics.record_step(seconds, self._tokens.rollovers, windows[0].position, len(windows))

    def missing_frames(self, samples: int) -> int:
        """Return how many frames to go on by before `samples` can be taken; there may be more to come then.

        Raises:
            SessionClosed: the stream was closed.
        """
        self._check_open()
        return min(self._pcm.missing_frames(samples), DECODE_FRAMES)

    def decode_until(self, frame: int) -> None:
        """Decode complete frames before one, as far as they are not decoded yet."""
        start = self._pcm.decoded_frames
        if frame > start:
            began = self.runtime.clock()
            codes = self._tokens.frames(start, frame)
            pcm = self._pcm.decode(codes)
            given = max(self._tokens.prompt_frames - start, 0)
            self._guard.listen(pcm.mean(0).numpy(), codes[0, given:].tolist())
            self.metrics.codec_seconds += self.runtime.clock() - began

    def take(self, samples: int) -> AudioChunk:
        """Take samples that are decoded out of the buffer."""
        return self._pcm.take(samples)

    def take_tokens(self, most: int) -> Tensor | int:
        """Take complete frames that are not taken yet, int64 [K, n]; where there are none, return how many to go to.

        Raises:
            ConfigError: the stream was read as sound.
            SessionClosed: it was closed.
        """
        self._check_open()
        self._pcm.check_silent()
        tokens, start = (
            self._tokens,
            self._tokens.prompt_frames + self.position_samples // self.runtime.codec.hop_samples,
        )
        stop = min(self.frames_done, start + most)
        if stop <= start:
            return start + most
        self._pcm.pass_over(stop - start)
        return tokens.frames(start, stop)

    def bars(self) -> tuple[int, int] | None:
        """Return the sample of the downbeat that the music drawn last began with, and the samples of a bar.

        None where the checkpoint does not tell how long its bars are, or the music went on from audio whose bars nobody
        knows.
        """
        heard = self.runtime.prompts.heard(self.controls.mix.dominant)
        tokens, hop = self._tokens, self.runtime.codec.hop_samples
        if heard is None or tokens.downbeat is None:
            return None
        return hop * (tokens.downbeat - tokens.prompt_frames), hop * heard.bar_frames

    def bar_line(self) -> int | None:
        """Return the sample of the first bar line that is not drawn yet; None where `bars` has none."""
        bars = self.bars()
        if bars is None:
            return None
        first, length = bars
        return first + math.ceil(max(self.next_sample - first, 0) / length) * length

    # -- controls -------------------------------------------------------------------------------------------------

    def set(self, *, at_sample: int | None = None, **values: Unpack[ControlValues]) -> int:
        """Change controls: at once, or at a sample ahead.

        Args:
            at_sample: position in the stream; None, or one already drawn, is the next frame that is not drawn yet; for
                other prompts and another take, with `on_bar` and a checkpoint that tells its bars, the next bar line.
            values: `prompt`, `prompts`, `negative_prompt` or any name in `streamgen.config.CONTROLS`; `melody` with
                `melody_rate_hz`, which begins at its sample; `style` with `style_rate_hz`. With a melody, a long prompt
                shortens the context in force if the two do not fit.

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
        hop, wanted = self.runtime.codec.hop_samples, self.auditioned(self.prepared(values))
        at_frame = None if at_sample is None else math.ceil(at_sample / hop)
        with self.runtime.alone():
            self._check_open()
            if at_frame is None and wanted.get("on_bar", self.controls.on_bar) and not BEGIN_ANEW.isdisjoint(wanted):
                line = self.bar_line()
                at_frame = None if line is None else line // hop
            return hop * self._control.ask(wanted, at_frame, self._next_frame)

    def prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with a melody among them as streams take it; see `Model.melody`.

        Raises:
            PromptError: it cannot be used.
        """
        with self.runtime.computing():
            return self.runtime.prompts.prepared(frozen(values))

    def auditioned(
        self, values: Mapping[str, Any], between_steps: Callable[[], None] | None = None, *, hold: bool = True
    ) -> dict[str, Any]:
        """Return values with the opening that is to play where they begin the music anew: the best of `audition`.

        Args:
            values: as in `set`, which tries openings itself where values do not come from here.
            between_steps: called after each step that trying takes, on this thread.
            hold: False takes the first opening untried, where there is no time.

        Raises:
            ConfigError, PromptError: a wrong value.
            CapacityError: no room in the cache to try so many.
        """
        with self.runtime.computing():
            asked, before = self._control.check(values), self._control.memory.asked  # prompts are encoded here
        if "candidate" in values or asked.melody or asked.style or not asked.begins_anew(before):
            return dict(values)
        count = int(asked.audition) if hold and asked.mix.dominant is not None else 1
        candidate = best_candidate(self.runtime, asked, count, between_steps) if count > 1 else 0
        return {**values, "candidate": candidate}

    def check(self, **values: Unpack[ControlValues]) -> Controls:
        """Return what the controls would be with these values, changing nothing. Arguments and errors as in `set`.

        Prompts are encoded meanwhile, and remembered: a `set` of the same ones is quick.
        """
        self._check_open()
        wanted = self.prepared(values)
        with self.runtime.computing():
            return self._control.check(wanted)

    # -- life -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> StreamSnapshot:
        """Clone everything this stream remembers.

        Raises:
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._check_open()
            return StreamSnapshot(self._tokens.snapshot(), self._memory(), self._number, self._kind)

    def restore(self, saved: StreamSnapshot) -> None:
        """Go back to a snapshot of this stream, or one that was loaded; it stays valid. Marks made before do not.

        Raises:
            ConfigError: it is another stream's, or of another model, precision, audio prompt or rewind_seconds.
            CapacityError: no room for its rows; nothing is changed then.
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._check_open()
            if not isinstance(saved, StreamSnapshot):
                raise ConfigError(f"restore takes a snapshot of this stream, not {type(saved).__name__}")
            if saved.stream not in (None, self._number):
                raise ConfigError("the snapshot is another stream's; restore it there, or save() and load() it")
            if saved.kind != self._kind:
                raise ConfigError(f"the snapshot is of {saved.kind}; this stream is of {self._kind}: open one like it")
            if saved.stream is None:
                saved = saved.with_settings(self._control.completed(saved.memory.controls), None)
            self._tokens.restore(saved.tokens)
            self._trail.clear()
            self._control.memory = saved.memory.controls
            self._pcm.restore(saved.memory.pcm)
            self._guard.heard = saved.memory.heard

    def mark(self) -> StreamMark:
        """Remember this place cheaply (no clone of the cache), for `rewind`.

        Raises:
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._check_open()
            number = self._trail.add(self._tokens.head, self._tokens.keep_frames)
            return StreamMark(self._tokens.mark(), self._memory(), self._control.serial, self.next_sample, number)

    @property
    def _kind(self) -> str:
        """What a stream must have in common with one whose snapshots it can restore."""
        facts, tokens = self.runtime.facts, self._tokens
        kept = f"{tokens.prompt_frames} frames of audio prompt, {tokens.keep_frames} to rewind"
        return f"{Path(facts.name).name} in {facts.precision} on {facts.kernels}, {kept}"

    def rewind(self, mark: StreamMark) -> None:
        """Go back to a mark made at most `rewind_seconds` of music ago: audio generated ahead is revoked.

        Audio, not requests: changes asked for since then stay asked for, those "at once" now come at the mark.

        Raises:
            ConfigError: the mark lies too far back or ahead, or not on this stream's way: made on another stream,
                before a restore, or on music that a rewind has revoked since.
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._check_open()
            if not isinstance(mark, StreamMark):
                raise ConfigError(f"rewind takes a mark of this stream, not {type(mark).__name__}")
            self._trail.go_back(mark, self._tokens.head, self._tokens.keep_frames)
            self._tokens.rewind(mark.tokens)
            self._control.rewind(mark.memory.controls, mark.serial, self._next_frame)
            self._pcm.restore(mark.memory.pcm)
            self._guard.heard = mark.memory.heard

    def forget_before(self, mark: StreamMark) -> None:
        """Give back what only a rewind to before a mark would need: earlier marks are void from now on.

        Who changes prompts many times a second would otherwise keep the rows of every change for `rewind_seconds`.

        Raises:
            SessionClosed: the stream was closed.
        """
        with self.runtime.alone():
            self._check_open()
            self._trail.begin_at(mark)
            self._tokens.forget_before(mark.tokens)

    def _memory(self) -> StreamMemory:
        return StreamMemory(self._control.memory, self._pcm.snapshot(), self._guard.heard)

    def close(self) -> None:
        """Free the stream's memory in the model; closing twice is fine."""
        with self.runtime.lock:
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


def _finite(number: object) -> bool:
    return isinstance(number, Real) and math.isfinite(number)


def _plays_otherwise(one: ControlMemory, two: ControlMemory) -> bool:
    """Tell whether other prompts play, other weights of them or another take, or the guard was switched."""
    (a, b), (c, d) = (one.settings, two.settings), (one.controls, two.controls)
    rows = (a.rows.names, a.rows.coefficients) != (b.rows.names, b.rows.coefficients)
    return rows or a.dominant != b.dominant or c.guard != d.guard
