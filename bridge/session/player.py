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

Rules: synchronous, one thread; the clock and the listeners are given; no asyncio, no socket. Its parts: due_clock.py
(what is due), lead.py (what is ahead), pace.py (how fast it is made), audio_out/timed_output.py (the way out).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from bridge.audio.meters import PeakMeter
from bridge.audio.timed_output import TimedOutput
from bridge.session.due_clock import DueClock
from bridge.session.lookahead import Lead, Piece
from bridge.session.messages import AudioPrompt, Block, Changed, Command, Event, Gap, Set, Stats, Transport, Transported
from bridge.session.mix import own_defaults, stream_controls
from bridge.session.pace import Pace
from bridge.session.parameters import Value, checked, defaults

if TYPE_CHECKING:
    from streamgen.model import Model
    from streamgen.stream.stream import Stream

__all__ = ["COMMIT_SECONDS", "Performer"]

COMMIT_SECONDS = 0.25  # more, and a change is heard later; the page holds back 0.15 s more
BLOCK_FRAMES = 5  # the codec is twice as cheap on 5 frames as on 1
REWIND_SECONDS = 12.0  # the longest lead, the block beyond it and the codec's look-ahead
_FRESH_SECONDS = 0.3  # ahead before the first sound: with one block, whatever else starts just then was an underrun
_GESTURE_SECONDS, _KEPT_SECONDS = 0.5, 0.6
_IDLE_SECONDS = 0.02


class Performer:
    """A session's engine side. All methods run on the engine's thread.

    Args:
        model: what plays.
        publish: called with every Block and Event, in order.
        now: a monotonic clock in seconds.
        values: parameters to begin with.
        step_seconds: where the wall seconds of every LM step are noted.

    Attributes:
        values: every parameter, as last set.
        playing, wanted: whether the transport plays, and whether anybody hears it.
        committed: first sample that is not final.
        underruns: how often the clock caught up with it.
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
        self.values = {**defaults(), **own_defaults(model), **checked(values or {})}
        self.rate_hz = model.sample_rate_hz
        self.output = TimedOutput(self.rate_hz, mono=model.channels == 1)
        self._meter = PeakMeter(self.rate_hz)
        self.playing, self.wanted = True, False
        self.underruns = 0
        self._clock = DueClock(self.rate_hz, now)
        self._lead = Lead()
        self._given_up = False
        self._offset = 0  # session sample at which the present stream begins
        self.committed = 0
        self._late_since: float | None = None
        self._pace, self._next_stats = Pace(), now()
        self._revoked_at = -math.inf
        self._fade_in, self._jumped = True, False
        self._prompts_turn: set[int] = set()  # samples ahead from which other prompts play
        self._stream = self._open()
        self.output.set(self.values)

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
        ahead = command.at_sample is not None and command.at_sample > self.committed
        at_sample = command.at_sample if ahead else None
        at = self.committed if at_sample is None else at_sample
        if controls := stream_controls({**self.values, **values}, values):
            at = self._set_stream(controls, at_sample)
        self.output.set(values, at_sample)
        self.values.update(values)
        self._publish(Changed(values, command.by, at))
        return at

    def _set_stream(self, controls: dict[str, Any], at_sample: int | None) -> int:
        """Change the stream, at once by taking back what lies ahead, or at a sample."""
        self._stream.check(**controls)  # before anything is revoked: a wrong value must change nothing
        self._revoke(self._revocable_from() if at_sample is None else at_sample)
        relative = None if at_sample is None else at_sample - self._offset
        at = self._offset + self._stream.set(at_sample=relative, **controls)
        if "prompts" in controls or "prompt" in controls:
            self._prompts_turn.add(at)
        return at

    def _revocable_from(self) -> int:
        """First sample that a change "at once" may take back: on a machine that makes it anew at once, all ahead.

        Elsewhere a part of the lead is left, or the next stall is heard: at twice real time, while a browser starts on
        the same two cores, the lead does not grow again before the next turn.
        """
        self._revoked_at = self._now()
        if self._pace.quick:
            return self.committed
        return max(self.committed, self._kept + BLOCK_FRAMES * self.model.hop_samples)

    @property
    def _moving(self) -> bool:
        """Whether a control was turned just now, and is likely to be turned again."""
        return self._now() - self._revoked_at < _GESTURE_SECONDS

    @property
    def _kept(self) -> int:
        """The sample up to which a change leaves what is drawn, but for the block that crosses it."""
        return round(self._clock.due() + _KEPT_SECONDS * self.rate_hz)

    def _revoke(self, from_sample: int) -> None:
        """Take back what lies ahead, until a change can land at a sample."""
        if self._offset + self._stream.next_sample <= from_sample or self._late_since is not None:
            return
        mark = self._lead.revoke(from_sample)
        if mark is not None:
            self._stream.rewind(mark)

    def _transport(self, command: Transport) -> int:
        if command.action == "play":
            self.playing = True
        if command.action in ("pause", "stop"):
            self._pause()
        if command.action in ("stop", "reset"):
            self._begin_anew()
        return self._told_transport(command.action, command.by)

    def give_up(self, why: str) -> None:
        """Pause because the stream cannot go on; nothing is tried again before the next command."""
        self._pause()
        self._given_up = True
        self._told_transport("pause", f"engine: {why}")

    def _told_transport(self, action: str, by: str) -> int:
        self._publish(Transported(action, by, self.committed))
        return self.committed

    def _pause(self) -> None:
        """Fade the next block out and hold; play fades in again."""
        if self.playing:
            self._fade_out()
        self.playing, self._fade_in = False, True

    def _begin_anew(self, prompt: AudioPrompt | None = None) -> None:
        """Open a fresh stream; the old one fades out over the next block."""
        fresh = self._open(prompt)
        self._fade_out()
        self._lead.clear()
        self._stream.close()
        self._stream, self._offset = fresh, self.committed
        self._prompts_turn = {self.committed} if self._prompts_turn else set()  # it plays what was yet to come
        self._fade_in = self._jumped = True

    def _fade_out(self) -> None:
        """End what is heard with one more block."""
        if self._clock.running and (piece := self._lead.take()):
            self._commit(piece, fade_out=True)

    def _open(self, prompt: AudioPrompt | None = None) -> Stream:
        options = stream_controls(self.values, self.values) | {"rewind_seconds": REWIND_SECONDS}
        if prompt is not None:
            options["audio_prompt_codes"] = prompt.codes
        return self.model.open_stream(**options)

    def close(self) -> None:
        """Give the stream's memory back."""
        self._stream.close()

    # -- time -----------------------------------------------------------------------------------------------------

    @property
    def lead_seconds(self) -> float:
        """Audio made and not yet due."""
        return max((self._lead.end or self.committed) - self._clock.due(), 0.0) / self.rate_hz

    @property
    def hungry(self) -> bool:
        """Whether more audio should be made now."""
        lead_samples = float(self.values["lead_seconds"]) * self.rate_hz
        idle = self._given_up or not (self.playing or not self._lead) or self._in_vain
        return self._lead.samples < lead_samples and not idle

    @property
    def _in_vain(self) -> bool:
        """Whether the next turn of a knob in motion would take back what is drawn now.

        Automation that turns one 20 times a second kept a whole core at work for a lead that nobody ever heard, and
        browser and event loop waited for that core.
        """
        drawn = self._offset + self._stream.next_sample
        return self._moving and self._late_since is None and drawn > self._kept

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
            if self._clock.running:
                self._clock.stop(min(self._clock.due(), self.committed))
            self._late_since = None
        elif not self._clock.running and self._ready():
            self._tell_lateness()
            self._clock.stop(self.committed)  # what is committed next is due now: the first sound comes at once
            self._clock.start()
        elif self._clock.running and self._clock.due() > self.committed:
            self.underruns += 1
            self._late_since = self._now()
            self._clock.stop(self.committed)

    def _ready(self) -> bool:
        """Whether the clock may start: with a little audio ahead when fresh, with more after an underrun."""
        if self._late_since is None:
            return self._lead.samples >= _FRESH_SECONDS * self.rate_hz or bool(self._lead and not self.hungry)
        return bool(self._lead) and (
            not self.hungry or (self._pace.fast_enough and self._lead.samples >= self.rate_hz / 2)
        )

    def _tell_lateness(self) -> None:
        if self._late_since is not None:
            late = round((self._now() - self._late_since) * self.rate_hz)
            self._publish(Gap(self.committed, late, "underrun"))
            self._late_since = None

    # -- audio ----------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make one block ahead."""
        began, steps = self._now(), self._stream.metrics.steps
        mark, start = self._stream.mark(), self._offset + self._stream.position_samples
        samples = self._stream.read(BLOCK_FRAMES * self.model.hop_samples).samples
        self._lead.add(Piece(samples, start, mark, self._offset + mark.next_sample))
        self._note_steps(steps)
        self._pace.note(samples.shape[1] / self.rate_hz, self._now() - began)
        self._commit_due()  # before the next command: a knob in motion would take back every block, for ever

    def _note_steps(self, before: int) -> None:
        metrics = self._stream.metrics
        if self._step_seconds is not None:
            newest = islice(reversed(metrics.step_seconds), metrics.steps - before)
            self._step_seconds.extend(newest)

    def _commit_due(self) -> None:
        if not self._clock.running:
            return
        # making one block keeps this thread from committing: what falls due meanwhile goes out before
        busy_seconds = self._pace.wall_seconds(BLOCK_FRAMES * self.model.hop_samples / self.rate_hz)
        horizon = self._clock.due() + (COMMIT_SECONDS + busy_seconds) * self.rate_hz
        while piece := self._lead.take(before_sample=horizon):
            self._commit(piece)

    def _commit(self, piece: Piece, *, fade_out: bool = False) -> None:
        samples = self.output.process(piece.samples, piece.start, fade_in=self._fade_in, fade_out=fade_out)
        due = time.time() + (piece.start - self._clock.due()) / self.rate_hz
        turned = any(at < piece.end for at in self._prompts_turn)
        block = Block(samples, piece.start, self._jumped, turned, round(due * 1e6))
        self._fade_in = self._jumped = False
        self._prompts_turn = {at for at in self._prompts_turn if at >= piece.end}
        self.committed = piece.end
        self._publish(block)
        self._publish(self._meter.process(samples))

    def stats(self, listeners: int = 0) -> Stats:
        """How the session is doing."""
        return Stats(
            realtime_factor=self._pace.factor,
            lead_seconds=self.lead_seconds,
            underruns=self.underruns,
            listeners=listeners,
            window_position=self._stream.metrics.window_position,
            position_samples=self.committed,
            playing=self.playing,
        )

    def _tell_stats(self) -> None:
        if self._now() >= self._next_stats:
            self._next_stats = self._now() + 1.0
            self._publish(self.stats())
