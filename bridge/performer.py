"""One session on the engine's thread: makes audio ahead, commits it when it falls due, revokes it when a control turns.

            played │ committed: final, with every sink │ ahead: made, still revocable │ not yet made
    ───────────────┼──────────────────────────────────┼──────────────────────────────┼────────────►
               due (clock)                        committed                    committed + lead

Audio is committed `COMMIT_SECONDS` before it falls due: that is a listener's first burst and its protection against
jitter on the way. What lies beyond is protection against the engine's own stalls, and a change takes it back: the
stream rewinds to `committed` and goes on from there under the new control.

If the clock catches up with `committed`, the engine was late (an underrun, counted and told): the clock stops until
there is audio again, half a second on a machine that is fast enough, else a full lead, so that one that is too slow
plays whole passages with pauses, never stutter. Until then no change takes anything back. Nobody listening
and nothing recorded, or paused: the clock stops too, and what lies ahead is kept.

Rules: synchronous, one thread; the clock and the listeners are given; no asyncio, no socket.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio_out.meters import PeakMeter
from bridge.audio_out.output import OutputChain
from bridge.commands import (
    AudioPrompt,
    Block,
    Changed,
    Command,
    Event,
    Gap,
    Set,
    Stats,
    Transport,
    Transported,
)
from bridge.mix import stream_controls
from bridge.parameters import TABLE, Value, checked, defaults

if TYPE_CHECKING:
    from streamgen.model import Model
    from streamgen.moments import StreamMark
    from streamgen.stream import Stream

__all__ = ["COMMIT_SECONDS", "Performer"]

COMMIT_SECONDS = 0.25  # the page begins to play at 0.16 s
BLOCK_FRAMES = 5  # the codec is twice as cheap on 5 frames as on 1
REWIND_SECONDS = 12.0  # the longest lead, the block beyond it and the codec's look-ahead
_FAST_ENOUGH, _QUICK = 1.2, 4.0  # × real time
_GESTURE_SECONDS, _KEPT_SECONDS = 0.5, 0.6
_OUTPUT = ("gain_db", "mute", "width")
_IDLE_SECONDS = 0.02

Pcm = NDArray[np.float32]


@dataclass(frozen=True)
class _Ahead:
    """Audio made but not committed, and the place to which the stream returns to make it anew."""

    mark: StreamMark
    samples: Pcm
    start: int


@dataclass
class _Clock:
    """Which sample is due now; stopped, it stays where it is."""

    rate_hz: int
    now: Callable[[], float]
    sample: float = 0.0
    since: float | None = None

    def due(self) -> float:
        running = 0.0 if self.since is None else (self.now() - self.since) * self.rate_hz
        return self.sample + running

    def start(self) -> None:
        if self.since is None:
            self.since = self.now()

    def stop(self, at: float | None = None) -> None:
        self.sample, self.since = self.due() if at is None else at, None


class Performer:
    """A session's engine side. All methods run on the engine's thread.

    Args:
        model: what plays.
        publish: called with every Block and Event, in order.
        now: a monotonic clock in seconds.
        values: parameters to begin with.
        step_seconds: where the wall seconds of every LM step are noted.
    """

    def __init__(
        self,
        model: Model,
        publish: Callable[[Block | Event], None],
        *,
        now: Callable[[], float] = time.monotonic,
        values: Mapping[str, Value] | None = None,
        step_seconds: deque[float] | None = None,
    ) -> None:
        self._step_seconds = step_seconds
        self.model, self._publish, self._now = model, publish, now
        self.values = {**defaults(), **_own_defaults(model), **checked(values or {})}
        self.rate_hz = model.sample_rate_hz
        self.chain = OutputChain(self.rate_hz, mono=model.channels == 1)
        self._meter = PeakMeter(self.rate_hz)
        self.playing, self.wanted = True, False
        self.underruns = 0
        self._clock = _Clock(self.rate_hz, now)
        self._ahead: deque[_Ahead] = deque()
        self._given_up = False
        self._scheduled: list[Set] = []  # output parameters at a sample ahead; the stream keeps its own
        self._offset = 0  # session sample at which the present stream begins
        self._committed = 0
        self._late_since: float | None = None
        self._factor, self._next_stats = 0.0, now()
        self._revoked_at = -math.inf
        self._fade_in, self._jumped, self._prompt_changed = True, False, False
        self._stream = self._open()
        self._set_output(self.values)

    # -- commands -------------------------------------------------------------------------------------------------

    def do(self, command: Command) -> int:
        """Carry a command out; returns the sample at which it applies.

        Raises:
            StreamgenError: it cannot be done; nothing is changed.
        """
        self._given_up = False
        if isinstance(command, Set):
            return self._set(command)
        if isinstance(command, AudioPrompt):
            self._begin_anew(command)
            return self._told_transport("audio prompt", command.by)
        return self._transport(command)

    def _set(self, command: Set) -> int:
        values = checked(command.values)
        later = command.at_sample is not None and command.at_sample > self._committed
        controls = stream_controls({**self.values, **values}, values)
        at = self._set_stream(controls, command.at_sample if later else None) if controls else None
        output = {name: value for name, value in values.items() if name in _OUTPUT}
        if output and later:
            self._scheduled.append(Set(output, command.by, command.at_sample))
        elif output:
            self._set_output(output)
        self.values.update(values)
        if at is None:
            at = command.at_sample if later and command.at_sample is not None else self._committed
        self._publish(Changed(values, command.by, at))
        return at

    def _set_stream(self, controls: dict[str, Any], at_sample: int | None) -> int:
        """Change the stream, at once by taking back what lies ahead, or at a sample."""
        self._stream.check(**controls)  # before anything is revoked: a wrong value must change nothing
        self._revoke(self._revocable_from() if at_sample is None else at_sample)
        self._prompt_changed |= "prompts" in controls or "prompt" in controls
        relative = None if at_sample is None else at_sample - self._offset
        return self._offset + self._stream.set(at_sample=relative, **controls)

    def _revocable_from(self) -> int:
        """First sample that a change "at once" may take back.

        One change takes all that is not final. A knob in motion would keep the lead at nothing that way, so that the
        next stall is heard: on a machine that is slow to make it anew, the turns after the first leave a part of it.
        """
        moving = self._now() - self._revoked_at < _GESTURE_SECONDS
        self._revoked_at = self._now()
        if not moving or self._factor > _QUICK:
            return self._committed
        return max(self._committed, round(self._clock.due() + _KEPT_SECONDS * self.rate_hz))

    def _revoke(self, from_sample: int) -> None:
        """Rewind until a change can land at a sample: no further, so that the rest of the lead survives."""
        if self._offset + self._stream.next_sample <= from_sample or not self._ahead or self._late_since is not None:
            return
        mark = self._ahead.pop().mark
        while self._ahead and self._offset + mark.next_sample > from_sample:
            mark = self._ahead.pop().mark
        self._stream.rewind(mark)

    def _set_output(self, values: Mapping[str, Value]) -> None:
        if "gain_db" in values:
            self.chain.set(gain_db=float(values["gain_db"]))
        if "mute" in values:
            self.chain.set(mute=bool(values["mute"]))
        if "width" in values:
            self.chain.set(width=float(values["width"]))

    def _transport(self, command: Transport) -> int:
        if command.action == "play":
            self.playing = True
        elif command.action == "pause":
            self._pause()
        elif command.action == "stop":
            self._pause()
            self._begin_anew()
        else:
            self._begin_anew()
        return self._told_transport(command.action, command.by)

    def give_up(self, why: str) -> None:
        """Pause because the stream cannot go on; nothing is tried again before the next command."""
        self._pause()
        self._given_up = True
        self._told_transport("pause", f"engine: {why}")

    def _told_transport(self, action: str, by: str) -> int:
        self._publish(Transported(action, by, self._committed))
        return self._committed

    def _pause(self) -> None:
        """Fade the next block out and hold; play fades in again."""
        if self.playing and self._clock.since is not None and self._ahead:
            self._commit(self._ahead.popleft(), fade_out=True)
        self.playing, self._fade_in = False, True

    def _begin_anew(self, prompt: AudioPrompt | None = None) -> None:
        """Open a fresh stream; the old one fades out over the next block."""
        fresh = self._open(prompt)
        if self._ahead and self._clock.since is not None:
            self._commit(self._ahead.popleft(), fade_out=True)
        self._ahead.clear()
        self._stream.close()
        self._stream, self._offset = fresh, self._committed
        self._fade_in = self._jumped = True

    def _open(self, prompt: AudioPrompt | None = None) -> Stream:
        options = stream_controls(self.values, self.values) | {"rewind_seconds": REWIND_SECONDS}
        if prompt is not None:
            options |= {"audio_prompt": prompt.samples, "audio_prompt_rate_hz": prompt.rate_hz}
        return self.model.open_stream(**options)

    def close(self) -> None:
        """Give the stream's memory back."""
        self._stream.close()

    # -- time -----------------------------------------------------------------------------------------------------

    @property
    def committed(self) -> int:
        """First sample that is not final."""
        return self._committed

    @property
    def lead_seconds(self) -> float:
        """Audio made and not yet due."""
        made = self._ahead[-1].start + self._ahead[-1].samples.shape[1] if self._ahead else self._committed
        return max(made - self._clock.due(), 0.0) / self.rate_hz

    @property
    def _ahead_samples(self) -> int:
        return sum(piece.samples.shape[1] for piece in self._ahead)

    @property
    def hungry(self) -> bool:
        """Whether more audio should be made now."""
        lead_samples = float(self.values["lead_seconds"]) * self.rate_hz
        return self._ahead_samples < lead_samples and (self.playing or not self._ahead) and not self._given_up

    def tick(self) -> float:
        """Do what is due: run the clock, commit, tell.

        Returns:
            Seconds until the next tick is due, where nothing is to be made.
        """
        self._run_clock()
        self._commit_due()
        self._tell_stats()
        return _IDLE_SECONDS if self.playing and self.wanted else 4 * _IDLE_SECONDS

    def _run_clock(self) -> None:
        if not (self.playing and self.wanted):
            if self._clock.since is not None:
                self._clock.stop(min(self._clock.due(), self._committed))
            self._late_since = None
        elif self._clock.since is None and self._ready():
            self._tell_lateness()
            self._clock.stop(self._committed)  # what is committed next is due now: the first sound comes at once
            self._clock.start()
        elif self._clock.since is not None and self._clock.due() > self._committed:
            self.underruns += 1
            self._late_since = self._now()
            self._clock.stop(self._committed)

    def _ready(self) -> bool:
        """Whether the clock may start: at once when fresh, with some audio ahead after an underrun."""
        if self._late_since is None or not self._ahead:
            return bool(self._ahead)
        return not self.hungry or (self._factor > _FAST_ENOUGH and self._ahead_samples >= self.rate_hz / 2)

    def _tell_lateness(self) -> None:
        if self._late_since is not None:
            late = round((self._now() - self._late_since) * self.rate_hz)
            self._publish(Gap(self._committed, late, "underrun"))
            self._late_since = None

    # -- audio ----------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make one block ahead."""
        began, steps = self._now(), self._stream.metrics.steps
        mark, start = self._stream.mark(), self._offset + self._stream.position_samples
        samples = self._stream.read(BLOCK_FRAMES * self.model.hop_samples).samples
        self._ahead.append(_Ahead(mark, samples, start))
        self._note_steps(steps)
        seconds = samples.shape[1] / self.rate_hz
        factor = seconds / max(self._now() - began, 1e-9)
        self._factor = factor if self._factor == 0 else 0.9 * self._factor + 0.1 * factor
        self._commit_due()  # before the next command: a knob in motion would take back every block, for ever

    def _note_steps(self, before: int) -> None:
        metrics = self._stream.metrics
        if self._step_seconds is not None:
            newest = islice(reversed(metrics.step_seconds), metrics.steps - before)
            self._step_seconds.extend(newest)

    def _commit_due(self) -> None:
        if self._clock.since is None:
            return
        horizon = self._clock.due() + (COMMIT_SECONDS + self._busy_seconds()) * self.rate_hz
        while self._ahead and self._ahead[0].start < horizon:
            self._commit(self._ahead.popleft())

    def _busy_seconds(self) -> float:
        """How long making one block keeps this thread from committing: what falls due meanwhile goes out before."""
        block = BLOCK_FRAMES * self.model.hop_samples / self.rate_hz
        return min(block / self._factor, 1.0) if self._factor else block

    def _commit(self, piece: _Ahead, *, fade_out: bool = False) -> None:
        raw = piece.samples
        if self._fade_in or fade_out:
            raw = _faded(raw, fade_in=self._fade_in, fade_out=fade_out)
        samples = self._through_chain(raw, piece.start)
        due = time.time() + (piece.start - self._clock.due()) / self.rate_hz
        block = Block(samples, piece.start, self._jumped, self._prompt_changed, round(due * 1e6))
        self._fade_in = self._jumped = self._prompt_changed = False
        self._committed = piece.start + raw.shape[1]
        self._publish(block)
        self._publish(self._meter.process(samples))

    def _through_chain(self, raw: Pcm, start: int) -> Pcm:
        """Process a block, cut where scheduled output parameters fall into it."""
        pieces, done, end = [], 0, start + raw.shape[1]
        for change in [c for c in self._scheduled if c.at_sample is not None and c.at_sample < end]:
            assert change.at_sample is not None, change
            cut = max(change.at_sample - start, done)
            if cut > done:
                pieces.append(self.chain.process(raw[:, done:cut]))
            self._set_output(change.values)
            self._scheduled.remove(change)
            done = cut
        pieces.append(self.chain.process(raw[:, done:]))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def stats(self, listeners: int = 0) -> Stats:
        """How the session is doing."""
        return Stats(
            realtime_factor=self._factor,
            lead_seconds=self.lead_seconds,
            underruns=self.underruns,
            listeners=listeners,
            window_position=self._stream.metrics.window_position,
            position_samples=self._committed,
            playing=self.playing,
        )

    def _tell_stats(self) -> None:
        if self._now() >= self._next_stats:
            self._next_stats = self._now() + 1.0
            self._publish(self.stats())


def _own_defaults(model: Model) -> dict[str, Value]:
    """Return the checkpoint's own defaults, as far as the table allows them; short windows keep less context."""
    own, names = model.controls({}), ("guidance_scale", "temperature", "top_k", "top_p", "context_seconds")
    return checked({name: TABLE[name].nearest(getattr(own, name)) for name in names})


def _faded(samples: Pcm, *, fade_in: bool, fade_out: bool) -> Pcm:
    """Fade the edges of a block over 20 ms at most."""
    out = samples.copy()
    length = min(640, samples.shape[1] // 2)
    ramp = np.linspace(0.0, 1.0, length, endpoint=False, dtype=np.float32)
    if fade_in:
        out[:, :length] *= ramp
    if fade_out:
        out[:, -length:] *= ramp[::-1]
    return out
