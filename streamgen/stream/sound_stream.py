"""A stream's music, step by step: controls in force at their frame, tokens, the guard, sound.

    control state ─┐ at its frame
                   ▼
    begin_step ─ one pass ─ finish_step ─ token frames ─ decode_until ─ PCM buffer ─ take

Frame f of the stream is samples f · hop … (f + 1) · hop − 1. A control is applied before the first codebook of its
frame is drawn, so it is exact to one frame; the finer codebooks of up to three frames before, which the delay pattern
draws in the same column, feel it too, or hold where the change drops the music before it.

Rules: a state machine, synchronous, no thread; used within the runtime's lock, as `read_together` and the scheduler
do. The runtime does the arithmetic, and the parts remember: tokens (lm/token_stream.py), controls (control_state.py),
sound (pcm_buffer.py), faults (guard.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.conditioning.rows import Conditioner
from streamgen.config import CONTROLS, checked
from streamgen.errors import ConfigError, NumericError, SessionClosed, StreamgenError
from streamgen.lm.step import Step
from streamgen.metrics import StreamMetrics
from streamgen.runtime import Runtime
from streamgen.stream.control_state import ControlMemory, ControlState
from streamgen.stream.controls import Controls
from streamgen.stream.guard import Guard
from streamgen.stream.pcm_buffer import DECODE_FRAMES, PcmBuffer
from streamgen.stream.saved_types import check_like
from streamgen.stream.snapshots import StreamMark, StreamMemory, StreamSnapshot, Trail, new_number

__all__ = ["SoundStream"]

_log = logging.getLogger("streamgen")


class SoundStream:
    """What one stream plays and remembers.

    Args:
        runtime: what it shares with other streams of its model.
        controls: to begin with.
        conditioner: makes the rows.
        audio_prompt: int64 [K, frames] to go on from.
        keep_frames: how far back `rewind` must reach.

    Attributes:
        runtime: as given.
        metrics: counters.
        control, tokens, guard, pcm: its parts.
        closed: whether its memory was given back.

    Raises:
        CapacityError: the cache has no room for it.
    """

    def __init__(
        self,
        runtime: Runtime,
        controls: Controls,
        conditioner: Conditioner,
        audio_prompt: Tensor | None,
        keep_frames: int,
    ) -> None:
        self.runtime, self.metrics, self.closed = runtime, StreamMetrics(), False
        self._number, self._trail = new_number(), Trail()
        given_frames = 0 if audio_prompt is None else audio_prompt.shape[1]
        self.control = ControlState(runtime.layout, conditioner, controls, keep_frames, given_frames)
        margin = DECODE_FRAMES + runtime.codec.lookahead_frames + runtime.pattern.max_delay + 2
        least = runtime.defaults.least_movement
        self.guard = Guard(runtime.codec.sample_rate_hz, runtime.codec.hop_samples, margin, least)
        self.tokens = runtime.open_tokens(self.control.memory.settings, keep_frames)
        try:
            self._start_audio(audio_prompt)
        except BaseException:  # interrupted, or out of memory: nobody holds this stream, so nobody could close it
            self.close()
            raise

    def __repr__(self) -> str:
        """Say where it is, what it plays, and whether it was closed."""
        seconds, controls = self.pcm.position_samples / self.runtime.codec.sample_rate_hz, self.control.controls
        state = "closed" if self.closed else f"{controls.mix.dominant!r}, seed {int(controls.seed)}"
        return f"<Stream {self._number} of {self.runtime.facts.name!r} at {seconds:.2f} s: {state}>"

    def check_open(self) -> None:
        """Raise SessionClosed if it was closed."""
        if self.closed:
            raise SessionClosed("this stream was closed; open a new one with model.open_stream(...)")

    def close(self) -> None:
        """Free its memory in the model; closing twice is fine."""
        with self.runtime.lock:
            if not self.closed:
                self.tokens.close()
                self.closed = True

    def _start_audio(self, audio_prompt: Tensor | None) -> None:
        """Begin the codec, after an audio prompt if there is one: new audio goes on from it without a seam."""
        given = 0 if audio_prompt is None else audio_prompt.shape[1]
        self.pcm = PcmBuffer(self.runtime.codec, given)
        if audio_prompt is not None:
            self.tokens.begin_with(audio_prompt)
        for start in range(0, given if self.runtime.codec.makes_sound else 0, DECODE_FRAMES):
            self.decode_until(min(start + DECODE_FRAMES, given))

    # -- steps ------------------------------------------------------------------------------------------------------

    @property
    def next_frame(self) -> int:
        """Frame, counted from the first sample of the stream, whose first codebook is drawn next."""
        return self.tokens.head + 1 - self.tokens.prompt_frames

    @property
    def frames_done(self) -> int:
        """Complete frames so far, the audio prompt's included."""
        return self.tokens.frames_done

    def begin_step(self, beside_others: bool = False) -> Step | None:
        """Bring controls, rows and windows up to the next frame, and return what to feed.

        Args:
            beside_others: whether other streams wait: what is unread is read a slice at a time then.

        Returns:
            None after a slice that was not the last.

        Raises:
            CapacityError: no room for the next window, or for the rows of prompts that are due; nothing is changed.
            SessionClosed: the stream was closed.
        """
        self.check_open()
        frame, heard = self.next_frame, self.guard.heard
        mending = bool(self.control.controls.guard) and self.guard.due(frame)
        coming = self.control.coming(frame, heard.openings + mending)
        step = self.tokens.begin_step(coming.settings)
        self._note(frame, coming, mending)
        if step.unread and not self.runtime.engine.prefill(step.unread, slice_only=beside_others):
            return None
        return step

    def _note(self, frame: int, coming: ControlMemory, mending: bool) -> None:
        """Take over the controls of a step that has room, and let the guard know what it must not mistake for a fault.

        The step may be begun again if it fails: what was noted then is not due any more.
        """
        before, self.control.memory = self.control.memory, coming
        if mending:
            self.guard.mend(frame)
            self.metrics.mends += 1
            _log.info("%s: the music had died (%s) and begins anew", self, self.guard.heard.mended[-1].fault)
        elif coming is not before and (coming.gliding is not None or _plays_otherwise(coming, before)):
            self.guard.forget(frame)

    def finish_step(self, drawn: Tensor, seconds: float) -> None:
        """Take the column that was drawn, int64 [K], and the time that the pass took.

        Raises:
            NumericError: nothing was drawn, for the logits were no numbers; the stream stays where it was.
        """
        self.runtime.check_numbers(drawn)
        self.tokens.finish_step(drawn)
        windows = self.tokens.windows
        self.metrics.record_step(seconds, self.tokens.rollovers, windows[0].position, len(windows))

    def missing_frames(self, samples: int) -> int:
        """Return how many frames to go on by before `samples` can be taken; there may be more to come then.

        Raises:
            SessionClosed: the stream was closed.
        """
        self.check_open()
        return min(self.pcm.missing_frames(samples), DECODE_FRAMES)

    def decode_until(self, frame: int) -> None:
        """Decode complete frames before one, as far as they are not decoded yet."""
        for error in self.decode_together({self: frame}).values():
            raise error

    @staticmethod
    def decode_together(frames: Mapping[SoundStream, int]) -> dict[SoundStream, StreamgenError]:
        """Decode complete frames before one of each of some streams, as far as they are not decoded yet.

        Returns:
            Streams whose sound is no numbers, and why; the others are decoded.
        """
        due = {stream: stop for stream, stop in frames.items() if stop > stream.pcm.decoded_frames}
        if not due:
            return {}
        runtime = next(iter(due)).runtime
        began = runtime.clock()
        codes = [stream.tokens.frames(stream.pcm.decoded_frames, stop) for stream, stop in due.items()]
        decoded = PcmBuffer.decode_together([stream.pcm for stream in due], codes)
        seconds = (runtime.clock() - began) / len(due)
        refused: dict[SoundStream, StreamgenError] = {}
        for stream, own, pcm in zip(due, codes, decoded, strict=True):
            if isinstance(pcm, NumericError):
                refused[stream] = pcm
                continue
            heard = runtime.clock()
            given = max(stream.tokens.prompt_frames - stream.pcm.decoded_frames + own.shape[1], 0)
            mono = pcm[0] if runtime.codec.audio_channels == 1 else pcm.mean(0)
            stream.guard.listen(mono.numpy(), own[0, given:].tolist())
            stream.metrics.codec_seconds += seconds + runtime.clock() - heard
        return refused

    def take(self, samples: int) -> AudioChunk:
        """Take samples that are decoded out of the buffer."""
        return self.pcm.take(samples)

    def take_tokens(self, most: int) -> Tensor | int:
        """Take complete frames that are not taken yet, int64 [K, n]; where there are none, return how many to go to.

        Raises:
            ConfigError: the stream was read as sound.
            SessionClosed: it was closed.
        """
        self.check_open()
        self.pcm.check_silent()
        start = self.tokens.prompt_frames + self.pcm.position_samples // self.runtime.codec.hop_samples
        stop = min(self.frames_done, start + most)
        if stop <= start:
            return start + most
        self.pcm.pass_over(stop - start)
        return self.tokens.frames(start, stop)

    # -- what it remembers, and going back --------------------------------------------------------------------------

    def _memory(self) -> StreamMemory:
        return StreamMemory(self.control.memory, self.pcm.snapshot(), self.guard.heard)

    def _kind(self) -> str:
        """What a stream must have in common with one whose snapshots it can restore."""
        facts, tokens = self.runtime.facts, self.tokens
        kept = f"{tokens.prompt_frames} frames of audio prompt, {tokens.keep_frames} to rewind"
        return f"{Path(facts.name).name} ({facts.weights}) in {facts.precision} on {facts.kernels}, {kept}"

    def snapshot(self) -> StreamSnapshot:
        """Clone everything."""
        return StreamSnapshot(self.tokens.snapshot(), self._memory(), self._number, self._kind())

    def restore(self, saved: StreamSnapshot) -> None:
        """Go back to a snapshot. Errors as of `Stream.restore`."""
        kind = self._kind()
        if saved.stream not in (None, self._number):
            raise ConfigError("the snapshot is another stream's; restore it there, or save() and load() it")
        if saved.kind != kind:
            raise ConfigError(f"the snapshot is of {saved.kind[:200]}; this stream is of {kind}: open one like it")
        if saved.stream is None:
            self._restore_loaded(saved)
        else:
            self._go_to(saved)

    def _restore_loaded(self, saved: StreamSnapshot) -> None:
        """Go to one that was loaded: where it does not fit, nothing is changed."""
        before = self.snapshot()
        try:
            check_like(saved, before)
            self.tokens.check(saved.tokens)
            self.pcm.check(saved.memory.pcm, saved.tokens.state.head + 1, endless=self.tokens.total_frames is None)
            for one in (saved.memory.controls.controls, saved.memory.controls.asked):
                checked({name: CONTROLS[name] for name in before.memory.controls.controls.numbers}, one.numbers)
            settings = self.control.completed(saved.memory.controls)
            rows = settings.rows.on(self.runtime.device)  # a file's lie in the CPU's memory
            self._go_to(saved.with_settings(replace(settings, rows=rows), None))
        except _DAMAGED as error:
            self._go_to(before)
            raise ConfigError(f"the snapshot was changed or is damaged, nothing is restored: {error}") from None

    def _go_to(self, saved: StreamSnapshot) -> None:
        self.tokens.restore(saved.tokens)
        self._trail.clear()
        self.control.memory = saved.memory.controls
        self._hear_again(saved.memory)

    def mark(self) -> StreamMark:
        """Remember this place."""
        number = self._trail.add(self.tokens.head, self.tokens.keep_frames)
        next_sample = self.next_frame * self.runtime.codec.hop_samples
        return StreamMark(self.tokens.mark(), self._memory(), self.control.serial, next_sample, number)

    def rewind(self, mark: StreamMark) -> None:
        """Go back to a mark. Errors as of `Stream.rewind`."""
        self._trail.go_back(mark, self.tokens.head, self.tokens.keep_frames)
        self.tokens.rewind(mark.tokens)
        self.control.rewind(mark.memory.controls, mark.serial, self.next_frame)
        self._hear_again(mark.memory)

    def _hear_again(self, memory: StreamMemory) -> None:
        self.pcm.restore(memory.pcm)
        self.guard.heard = memory.heard

    def forget_before(self, mark: StreamMark) -> None:
        """Give back what only a rewind to before a mark would need."""
        self._trail.begin_at(mark)
        self.tokens.forget_before(mark.tokens)


# what our own code, torch and numpy say to numbers that do not hold together
_DAMAGED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _plays_otherwise(one: ControlMemory, two: ControlMemory) -> bool:
    """Tell whether other prompts play, other weights of them or another take, or the guard was switched."""
    (a, b), (c, d) = (one.settings, two.settings), (one.controls, two.controls)
    rows = (a.rows.names, a.rows.coefficients) != (b.rows.names, b.rows.coefficients)
    return rows or a.dominant != b.dominant or c.guard != d.guard
