"""A session's player on the engine's thread: makes audio ahead, commits what falls due, takes it back for a change.

            played │ committed: final, with every listener │ ahead: made, still revocable │ not yet made
    ───────────────┼───────────────────────────────────────┼──────────────────────────────┼────────────►
               due (timeline)                           frontier                     frontier + lead

Audio is committed `COMMIT_SECONDS` before it falls due: that is a listener's first burst and its protection against
jitter on the way. What lies beyond is protection against the engine's own stalls, and a change takes it back: the
stream rewinds to the frontier and goes on from there under the new control.

    STOPPED ─► STARTING ─ enough audio ─► PLAYING ─ due catches up with what is committed ─► LATE ─ enough ─► PLAYING
                                             └─ pause ─► PAUSED      any of them ─ the stream cannot go on ─► FAILED

LATE is an underrun, counted and told: the timeline stops until there is audio again, half a second on a machine that is
fast enough, else a full lead, so that one that is too slow plays whole passages with pauses, never stutter. Nobody
listening and nothing recorded, or paused: the timeline stops too, and what lies ahead is kept.

Rules: synchronous, one thread; timeline and listeners are given; no asyncio, no socket. Inside it counts the model's
samples; whatever it is told and tells counts the session's.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.faults import close as close_effect
from bridge.audio.rack import MAX_SLOTS
from bridge.session.arranger import Arranger, Part, read_scene
from bridge.session.committer import Committer
from bridge.session.form import Form
from bridge.session.generator import Generator
from bridge.session.landing import Landing
from bridge.session.messages import (
    COMMIT_SECONDS,
    Action,
    AudioPrompt,
    Block,
    Changed,
    Deed,
    EditRack,
    Event,
    Follow,
    Gap,
    Notice,
    PlayerCommand,
    PlayerState,
    Set,
    Stats,
    Transport,
    Transported,
)
from bridge.session.metronome import Metronome
from bridge.session.parameters import (
    PROMPT_NAMES,
    QUANTIZED,
    Parameters,
    prompts_of,
    session_table,
    stream_controls,
)
from bridge.session.rack_edits import edited, news
from bridge.session.timeline import AT_ONCE, Moment, Schedule, Timeline
from streamgen.conditioning import check_text
from streamgen.config import Value
from streamgen.errors import CapacityError, StreamgenError

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["Player"]

_log = logging.getLogger("bridge.player")

_COMMIT_FRAMES = 2  # committed at once, at least
_BUSY_FRAMES = 2  # a step of the language model, or the codec's part of a block, takes no longer than these
_FRESH_SECONDS = 0.3  # ahead before the first sound: with one block, whatever else starts just then was an underrun
_AGAIN_SECONDS = 0.5  # … and after an underrun, where more is made than is played
_GESTURE_SECONDS, _DRY_SECONDS = 0.5, 0.4
_IN_TIME_SECONDS = 0.05  # a start that would come later than that waits for the next of its beats
_IDLE_SECONDS = 0.02


class Player:
    """A session's engine side. All methods run on the engine's thread.

    Args:
        model: what plays.
        publish: called with every Block and Event, in order.
        timeline: its rate is the session's.
        values: parameters to begin with.
        options: further arguments of `Model.open_stream` for every stream that is opened, such as a melody.
        step_seconds: where the wall seconds of every step of the language model are noted.
        scene: the parts that `arrange` plays.

    Attributes:
        parameters: every parameter, as last set.
        state: what it does.
        wanted: whether anybody hears it.
        underruns: how often the timeline caught up with what is committed.
        heard: what the model understands of the prompts, one line.
        landing: when what is asked for can happen.
        meanwhile: called again and again while openings are tried, which takes a second: whoever owns the thread serves
            all of its sessions.
    """

    def __init__(
        self,
        model: Model,
        publish: Callable[[Block | Event], None],
        timeline: Timeline,
        *,
        values: Mapping[str, Value] | None = None,
        options: Mapping[str, Any] | None = None,
        step_seconds: deque[float] | None = None,
        scene: Sequence[Part] | None = None,
    ) -> None:
        self.model, self._publish, self.timeline = model, publish, timeline
        self._options = dict(options or {})
        self.parameters = Parameters(session_table(model), values)
        parts = read_scene() if scene is None else scene
        self._form = Form(Arranger(parts, model.heard, model.frame_rate_hz, model.hop_samples))
        self.generator = Generator(model, self._stream_options(), timeline.now, step_seconds)
        self._committer = Committer(model, timeline, publish, self.generator.block_samples)
        self.output = self._committer.output
        self.output.set(self.parameters.values)
        self.state, self.wanted = PlayerState.STARTING, False
        self.underruns = 0
        self._schedule: Schedule[PlayerCommand | Callable[[], object]] = Schedule(timeline)
        self.landing = Landing(timeline, self.generator, self.output, self.parameters)
        self._metronome = Metronome(timeline, float(self.parameters.values["tempo"]))
        self._starts_on: Moment | None = None
        self.heard = self._hear()
        self.meanwhile: Callable[[], None] = self.keep_time
        self._late_since = self._revoked_at = -math.inf
        self._next_stats = timeline.now()

    # -- commands -------------------------------------------------------------------------------------------------

    def do(self, command: PlayerCommand) -> int:
        """Carry a command out, or schedule it; returns the sample at which it applies.

        Raises:
            StreamgenError: it cannot be done; nothing is changed.
        """
        if isinstance(command, EditRack):
            return self._edit_rack(command)
        if self.state is PlayerState.FAILED:
            self.state = PlayerState.PAUSED
        if isinstance(command, Set):
            return self._set(command)
        if isinstance(command, Transport):
            return self._transport(command)
        if isinstance(command, Follow):
            return self._follow(command)
        self._begin_anew(command)
        return self._told_transport("audio_prompt", command.by)

    def _set(self, command: Set) -> int:
        values = self.parameters.checked(command.values)
        for name, value in values.items():
            if name in PROMPT_NAMES and isinstance(value, str) and value.strip():
                check_text(value)  # also of a slot that is silent yet: on stage it is too late to be told
        waits = not QUANTIZED.isdisjoint(values)
        moment = self.landing.moment(command.at, waits or "tempo" in values, self.landing.soonest if waits else None)
        if moment is not None and (self.landing.is_far(moment) if waits else self.timeline.sample_at(moment) is None):
            self.generator.check(self._form.told({**self.parameters.values, **values}, values))
            return self._wait(moment, replace(command, at=moment))
        applied = self._apply(values, moment, round(command.glide_seconds * self.timeline.rate_hz))
        self.parameters.values.update(values)
        self._publish(Changed(values, command.by, applied))
        if "tempo" in values:
            at_once = command.at is None and not waits  # the beats; the words of the prompts may wait for one of them
            self._metronome.set_tempo(float(values["tempo"]), self.output.frontier if at_once else applied)
        if not values.keys().isdisjoint(PROMPT_NAMES):
            self._tell_heard(applied)
        for name in values:
            if not self.parameters.table[name].supported:
                self._publish(Notice("unsupported", f"{self.model.name} was not made for {name}", applied))
        return applied

    def _follow(self, command: Follow) -> int:
        """Hand a melody or style to the stream, and to those that will be opened."""
        moment = self.landing.moment(command.at, False, self.landing.soonest)
        if moment is not None and self.timeline.sample_at(moment) is None:
            return self._wait(moment, replace(command, at=moment))
        controls = self.generator.auditioned({command.kind: command.prepared}, self.meanwhile)
        at = self.landing.sample(moment, self.landing.soonest)
        applied = self._set_stream(controls, None if at is None else self.output.model_sample(at))
        self._options[command.kind] = command.prepared
        self._options.pop(f"{command.kind}_rate_hz", None)
        line = f"{'no' if command.prepared is None else 'another'} {command.kind}"
        self._publish(Notice(command.kind, line, applied))
        return applied

    def _hear(self) -> str:
        """What the model understands of the sounding prompts, the loudest first."""
        prompts = sorted(prompts_of(self.parameters.values), key=lambda pair: -pair[1])
        heard = [self.model.heard(text) for text, _ in prompts]
        return " + ".join(one.told() for one in heard if one is not None)

    def _tell_heard(self, at_sample: int) -> None:
        before, self.heard = self.heard, self._hear()
        if self.heard != before:
            self._publish(Notice("heard", self.heard, at_sample))

    def _apply(self, values: Mapping[str, Value], moment: Moment | None, glide_samples: int) -> int:
        """Tell stream and effects; returns the sample from which it is heard."""
        controls = self._form.told({**self.parameters.values, **values}, self._audible(values))
        # before anything is revoked: a wrong value must change nothing, and what lies ahead plays meanwhile
        controls = self.generator.auditioned(controls, self.meanwhile) if controls else controls
        at = self.landing.sample(moment, self.landing.soonest if controls else self.output.frontier)
        if not controls:
            return self.output.set(values, at, glide_samples)
        # a beat lies anywhere in its frame: the change goes to the frame whose beginning is nearest
        early = self.model.hop_samples // 2 if moment is not None and moment.beat is not None else 0
        applied = self._set_stream(controls, None if at is None else self.output.model_sample(at) - early)
        self.output.set(values, at, glide_samples)
        return applied

    def _audible(self, values: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return what the stream may have to hear of: not of a tempo whose words the model takes for the same."""
        if {*PROMPT_NAMES}.intersection(values) != {"tempo"}:
            return values
        before, after = (
            [self.model.heard(text) for text, _ in prompts_of({**self.parameters.values, **new})]
            for new in ({}, values)
        )
        same = all(a is not None and b is not None and a.prompt == b.prompt for a, b in zip(before, after, strict=True))
        return {name: value for name, value in values.items() if name != "tempo"} if before and same else values

    def _set_stream(self, controls: dict[str, Any], at: int | None) -> int:
        """Change the stream, at once by taking back what lies ahead, or at a sample of the model's."""
        if self.state is not PlayerState.LATE:
            self.generator.revoke(self._revocable_from() if at is None else at)
        landed = self.generator.set(controls, at)
        self._form.follow(self.generator, controls, landed)
        applied = self.output.session_sample(landed)
        if "prompts" in controls or "prompt" in controls:
            self._committer.expect_prompts(applied)
        return applied

    def _revocable_from(self) -> int:
        """First sample that a change "at once" may take back: on a machine that makes it anew at once, all ahead.

        Elsewhere a part of the lead is left, or the next stall is heard: at twice real time, while a browser starts on
        the same two cores, the lead does not grow again before the next turn.
        """
        self._revoked_at = self.timeline.now()
        committed = self.generator.taken
        quick = self.generator.pace.quick
        return committed if quick else max(committed, self.landing.kept + self.generator.block_samples)

    def check_edit(self, command: EditRack) -> None:
        """Say whether there is a place for what is to be made: a plugin need not be loaded to find out.

        Raises:
            CapacityError: the rack is full, or as many edits as it has slots wait, each with its effect.
            ConfigError: there is no such slot.
        """
        waiting = self._schedule.count(lambda other: isinstance(other, EditRack))
        if self._edit_waits_for(command) is not None and waiting >= MAX_SLOTS:
            raise CapacityError(f"{waiting} edits of the rack wait for their time already; let some of them pass first")
        if command.deed is Deed.ADD:
            self.output.rack.check_room()
        else:
            self.output.rack.check(command.slot)

    def _edit_waits_for(self, command: EditRack) -> Moment | None:
        moment = self.landing.moment(command.at, True)
        return None if moment is None or self.timeline.reached(moment, self.output.frontier) else moment

    def _edit_rack(self, command: EditRack) -> int:
        if (moment := self._edit_waits_for(command)) is not None:
            return self._wait(moment, replace(command, at=moment))
        self._publish(edited(self.output.rack, self.parameters, command))
        self.output.set({"tempo": self.parameters.values["tempo"]})  # whoever is new has not heard of it
        return self.output.position

    def _transport(self, command: Transport) -> int:
        starts = command.action is Action.PLAY and not self.state.plays
        moment = self.landing.moment(command.at, True)
        on_beat = moment is not None and moment.beat is not None
        if moment is not None and not (starts and on_beat):
            at = self.timeline.sample_at(moment)
            if at is None or at > self.output.frontier:
                return self._wait(moment, replace(command, at=moment))
        if starts:
            self.state, self._starts_on = PlayerState.STARTING, moment if on_beat else None
        if command.action in (Action.PAUSE, Action.STOP):
            self._halt(PlayerState.PAUSED)
        if command.action in (Action.STOP, Action.RESET):
            self._begin_anew()
        if command.action is Action.STOP:
            self.state = PlayerState.STOPPED
        return self._told_transport(command.action, command.by)

    def _wait(self, moment: Moment, command: PlayerCommand) -> int:
        at = self.timeline.sample_at(moment)
        early = self.landing.near_samples if isinstance(command, Set) and moment.beat is not None else 0
        if not (isinstance(command, Set) and self._schedule.join(moment, lambda other: _joined(other, command))):
            self._schedule.add(moment, command, early)
        return self.output.position if at is None else at

    def call_at(self, moment: Moment, call: Callable[[], object]) -> None:
        """Call something when what comes before a moment is final.

        Raises:
            CapacityError: too much waits already.
        """
        self._schedule.add(moment, call)

    def fail(self, why: str) -> None:
        """Pause because the stream cannot go on; nothing is tried again before the next command."""
        self._halt(PlayerState.FAILED)
        self.state = PlayerState.FAILED
        self._told_transport(Action.PAUSE, f"engine: {why}")

    def _told_transport(self, action: str, by: str) -> int:
        self._publish(Transported(str(action), self.state, by, self.output.position))
        return self.output.position

    def _halt(self, state: PlayerState) -> None:
        """Stop playing: what is heard ends with a fade; play fades in again."""
        if self.state.plays:
            self._end_passage()
            self._rest()
            self.state = state

    def _rest(self) -> None:
        """Let the timeline stand where it is."""
        if self.timeline.running:
            self.timeline.stop(min(self.timeline.due(), self.output.position))

    def _end_passage(self) -> None:
        """Fade out what is heard, and get out what the effects hold back."""
        last = self.generator.take(self.output.fade_samples) if self.timeline.running else None
        self._committer.end(last)

    def _begin_anew(self, prompt: AudioPrompt | None = None) -> None:
        """Open a fresh stream; the old one fades out over the next block."""
        options = self._stream_options() | ({} if prompt is None else {"audio_prompt_codes": prompt.codes})
        self.generator.begin_anew(options, self._end_passage)
        self._form.begin(self.generator.taken)
        self._metronome.begin_bar(self.output.frontier)
        self._committer.jump()

    def _stream_options(self) -> dict[str, Any]:
        """Return what a stream is opened with: a default is left to the model, whose windows may be fuller."""
        table, values = self.parameters.table, self.parameters.values
        told = {*PROMPT_NAMES, "seed", *(name for name, value in values.items() if value != table[name].default)}
        return self._options | stream_controls(values, told) | self._form.opening(values)

    def close(self) -> None:
        """Give the stream's memory back, and what the effects hold; nobody waits for what was scheduled."""
        for waiting in self._schedule.clear():
            if isinstance(waiting, EditRack) and waiting.made is not None:
                close_effect(waiting.made)
            elif callable(waiting):
                waiting()
        self.generator.close()
        self.output.close()

    # -- time -----------------------------------------------------------------------------------------------------

    @property
    def lead_seconds(self) -> float:
        """Audio made and not yet due."""
        ahead = self.output.session_sample(self.generator.taken + self.generator.ahead_samples)
        return max(ahead - self.timeline.due(), 0.0) / self.timeline.rate_hz

    @property
    def needs_audio(self) -> bool:
        """Whether more audio should be made now."""
        idle = not self.state.plays and self.generator.ahead_samples > 0
        if self.state is PlayerState.FAILED or idle or self._in_vain:
            return False
        # what the rack holds back is made beside the lead: a short lead would never get through a long rack
        held = self.output.rack.latency_samples / self.timeline.rate_hz
        return self.generator.ahead_seconds < float(self.parameters.values["lead_seconds"]) + held

    @property
    def runs_dry(self) -> bool:
        """Whether too little lies ahead to do anything else first: under automation, all the time."""
        return self.needs_audio and self.lead_seconds < _DRY_SECONDS

    @property
    def _in_vain(self) -> bool:
        """Whether the next turn of a knob in motion would take back what is drawn now.

        Automation that turns one 20 times a second kept a whole core at work for a lead that nobody ever heard, and
        browser and event loop waited for that core.
        """
        turning = self.timeline.now() - self._revoked_at < _GESTURE_SECONDS
        return turning and self.state is not PlayerState.LATE and self.generator.drawn > self.landing.kept

    def tick(self) -> float:
        """Do what is due: run the timeline, commit, tell.

        Returns:
            Seconds until the next tick is due, where nothing is to be made.
        """
        self._run_timeline()
        self._do_scheduled()
        self._commit_due()
        for event in news(self.output.rack, self.parameters, self.output.position):
            self._publish(event)
        for beat in self._metronome.beats(self.output.position):
            self._publish(beat)
        self._tell_stats()
        return _IDLE_SECONDS if self.state.plays and self.wanted else 4 * _IDLE_SECONDS

    def keep_time(self) -> None:
        """Commit what falls due while a block is being made; nothing that was asked for is carried out."""
        self._run_timeline()
        self._commit_due()

    def _run_timeline(self) -> None:
        timeline, position = self.timeline, self.output.position
        if not (self.state.plays and self.wanted):
            self._rest()
            if self.state.plays:
                self.state = PlayerState.STARTING
        elif self.state is PlayerState.PLAYING and timeline.due() > position:
            self.underruns += 1
            self._late_since, self.state = timeline.now(), PlayerState.LATE
            timeline.stop(position)
        elif self.state is not PlayerState.PLAYING and self._enough and (ahead := self._starts_in) is not None:
            if self.state is PlayerState.LATE:
                late = round((timeline.now() - self._late_since) * timeline.rate_hz)
                self._publish(Gap(position, late, "underrun"))
            timeline.start(position - ahead * timeline.rate_hz)
            self.state, self._starts_on = PlayerState.PLAYING, None
            self._commit(_FRESH_SECONDS)

    @property
    def _starts_in(self) -> float | None:
        """In how many seconds the first sample shall be due; None while it is not yet time for the timeline to start.

        As much later as ever, so that no listener is late from its first sound on; or on the beat that it starts on.
        """
        moment, timeline = self._starts_on, self.timeline
        if moment is None or moment.beat is None or (seconds := timeline.beat_seconds(moment.beat)) is None:
            return COMMIT_SECONDS
        left = seconds - timeline.now()
        if left < _IN_TIME_SECONDS:
            self._starts_on = timeline.next(moment, timeline.due() + _IN_TIME_SECONDS * timeline.rate_hz)
            return None
        return left if left <= COMMIT_SECONDS else None

    @property
    def _enough(self) -> bool:
        """Whether the timeline may start: with a little audio ahead when fresh, with more after an underrun."""
        ahead = self._heard_ahead_seconds
        if ahead <= 0:
            return False
        if self.state is PlayerState.LATE:
            return not self.needs_audio or (self.generator.pace.fast_enough and ahead >= _AGAIN_SECONDS)
        return not self.needs_audio or ahead >= _FRESH_SECONDS

    @property
    def _heard_ahead_seconds(self) -> float:
        """Audio ahead, less what the rack will hold back of it."""
        rack = self.output.rack.latency_samples if self.output.position == self.output.frontier else 0
        return self.generator.ahead_seconds - rack / self.timeline.rate_hz

    def _do_scheduled(self) -> None:
        for waiting in self._schedule.take(self.output.frontier) if len(self._schedule) else ():
            if callable(waiting):
                waiting()
                continue
            try:
                self.do(self._due_now(waiting))
            except StreamgenError as error:  # it was checked when it was asked for; something else has changed since
                _log.warning("what was scheduled by %s could not be done: %s", waiting.by, error)
                if isinstance(waiting, EditRack) and waiting.made is not None:
                    close_effect(waiting.made)

    def _due_now(self, command: PlayerCommand) -> PlayerCommand:
        """Return what waited, to be done at once; a change that was wanted before its beat is still for that."""
        if isinstance(command, AudioPrompt):
            return command
        early = isinstance(command, Set) and command.at is not None and command.at.beat is not None
        return command if early and self.timeline.running else replace(command, at=AT_ONCE)

    # -- audio ----------------------------------------------------------------------------------------------------

    def make(self, between_steps: Callable[[], None] | None = None) -> None:
        """Make one block ahead; `between_steps` may let players `keep_time`."""
        Player.make_together([self], between_steps)

    @staticmethod
    def make_together(
        players: Sequence[Player], between_steps: Callable[[], None] | None = None, *, turn: bool = True
    ) -> None:
        """Make one block ahead for each of some players, in common passes. Arguments and errors as a generator's.

        `turn` False leaves the form of the pieces as it is: a next part may have openings to try.
        """
        for player in players if turn else ():
            player._take_turn()
        found = Generator.make_together([player.generator for player in players], between_steps)
        for player, faults in zip(players, found, strict=True):
            player._tell_faults(faults)
            player._note_bars()
            player._commit_due()  # before the next command: a knob in motion would take back every block, for ever

    def _take_turn(self) -> None:
        """Let the form of the piece have its next part, if it is time."""
        turn = self._form.turn(self.generator, self.parameters.values, self.model.hop_samples, self.meanwhile)
        if turn is not None:
            self._tell_part(*turn)

    def _tell_faults(self, faults: Sequence[tuple[str, int]]) -> None:
        for fault, at in faults:
            line = f"the music had died ({fault}) and begins anew"
            self._publish(Notice("guard", line, self.output.session_sample(at)))

    def _note_bars(self) -> None:
        bars, scale = self.generator.bars(), self.timeline.rate_hz / self.model.sample_rate_hz
        known = None if bars is None else (bars[0] * scale, bars[1] * scale)
        self._metronome.note_bars(known, self.generator.drawn * scale, self.output.frontier)

    def _tell_part(self, name: str, at: int) -> None:
        applied = self.output.session_sample(at)
        self._committer.expect_prompts(applied)
        self._publish(Notice("part", name, applied))

    def _commit_due(self) -> None:
        """Commit what falls due within `COMMIT_SECONDS`, and no further than to what is scheduled next."""
        if not self.timeline.running:
            return
        # between two steps this thread does not commit: what falls due meanwhile goes out before
        busy_seconds = self.generator.pace.wall_seconds(_BUSY_FRAMES / self.model.frame_rate_hz)
        self._commit(COMMIT_SECONDS + busy_seconds)

    def _commit(self, seconds: float) -> None:
        """Commit what falls due within some seconds."""
        self._committer.commit(self._taken_until(self.timeline.due() + seconds * self.timeline.rate_hz))

    def _taken_until(self, horizon: float) -> Iterator[NDArray[np.float32]]:
        """Take what lies ahead until its end, less what the rack holds back of it, would lie behind a sample.

        One by one, as they are processed: how much that is may change with every piece.
        """
        while self.output.session_sample(self.generator.taken) - self.output.rack.held_samples < horizon:
            most = self._most()
            samples = self.generator.take(most) if most else None
            if samples is None:
                return
            yield samples

    def _most(self) -> int:
        """How many samples may be committed at once: none beyond what is scheduled next."""
        most, until = _COMMIT_FRAMES * self.model.hop_samples, self._schedule.next_sample()
        if until is None:
            return most
        return min(most, max(self.output.model_sample(until) - self.generator.taken, 0))

    def stats(self, listeners: int = 0) -> Stats:
        """How the session is doing."""
        return Stats(
            realtime_factor=self.generator.pace.factor,
            lead_seconds=self.lead_seconds,
            underruns=self.underruns,
            listeners=listeners,
            window_position=self.generator.window_position,
            position_samples=self.output.position,
            playing=self.state.plays,
            state=self.state,
            rack_latency_seconds=self.output.rack.latency_samples / self.timeline.rate_hz,
            rack_faults=self.output.rack.faults,
            slots=tuple(self.output.rack.state()),
        )

    def _tell_stats(self) -> None:
        if self.timeline.now() >= self._next_stats:
            self._next_stats = self.timeline.now() + 1.0
            self._publish(self.stats())


def _joined(waiting: PlayerCommand | Callable[[], object], later: Set) -> Set | None:
    """Return two changes that wait for one moment as one, if they can be: a knob in motion asks many times."""
    if not isinstance(waiting, Set) or (waiting.by, waiting.glide_seconds) != (later.by, later.glide_seconds):
        return None
    return replace(later, values={**waiting.values, **later.values})
