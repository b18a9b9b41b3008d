"""A session's player on the engine's thread: carries out what is asked, and makes audio ahead.

    command ─► now, or waiting.py until its moment ─► the stream (generator.py), the effects (output)
    made ahead (generator.py) ─► final as it falls due (playback.py) ─► told (committer.py)

A change takes back what lies ahead: the stream rewinds to what is final and goes on from there under the new control.

Rules: synchronous, one thread; timeline and listeners are given; no asyncio, no socket. Inside it counts the model's
samples; whatever it is told and tells counts the session's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bridge.session.arranger import Arranger, Part, read_scene
from bridge.session.commands import Action, AudioPrompt, EditRack, Follow, PlayerCommand, Set, Transport
from bridge.session.committer import Committer
from bridge.session.events import Block, Changed, Event, Notice, PlayerState, TransportCause, Transported
from bridge.session.form import Form
from bridge.session.generator import Generator
from bridge.session.landing import Landing, PendingCommands, forget
from bridge.session.learning import check_learning
from bridge.session.metronome import Metronome
from bridge.session.parameters import PROMPT_NAMES, QUANTIZED, Parameters, session_table, stream_controls, unsupported
from bridge.session.playback import Playback
from bridge.session.rack_edits import check_edit, edited, gone, news
from bridge.session.scheduled import Coming, Scheduled
from bridge.session.timeline import Moment, Timeline
from streamgen import check_text
from streamgen.config import Value
from streamgen.errors import StreamgenError

if TYPE_CHECKING:
    from streamgen import Model

__all__ = ["Player"]

_log = logging.getLogger("bridge.player")
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
        generator: what lies ahead.
        output: the effects, and what is final.
        playback: whether it plays, and how much lies ahead for that.
        landing: when what is asked for can happen.
        waiting: what is asked for later.
        heard: what the model understands of the prompts, one line.
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
        self._form = Form(
            Arranger(parts, model.heard, model.frame_rate_hz, model.hop_samples),
            model.heard,
            blends=model.control_specs["glide_seconds"].supported,
        )
        self.generator = Generator(model, self._stream_options(), timeline.now, step_seconds)
        self._form.begin(0, self.generator.candidate)
        self._committer = Committer(model, timeline, publish, self.generator.block_samples)
        self.output = self._committer.output
        self.output.set(self.parameters.values)
        self.landing = Landing(timeline, self.generator, self.output, self.parameters)
        self.waiting = PendingCommands(timeline)
        self.playback = Playback(
            timeline, self.generator, self._committer, self.landing, self.parameters, self.waiting, publish
        )
        self._metronome = Metronome(timeline, float(self.parameters.values["tempo"]))
        self._scheduled = Scheduled(self.parameters, self.output, self._metronome)
        self.heard = self._form.heard(self.parameters.values)
        self.meanwhile: Callable[[], None] = self.playback.keep_time
        self._next_stats = timeline.now()

    # -- commands -------------------------------------------------------------------------------------------------

    def do(self, command: PlayerCommand) -> int:
        """Carry a command out, or schedule it; returns the sample at which it applies.

        Raises:
            StreamgenError: it cannot be done; nothing is changed.
        """
        if isinstance(command, EditRack):
            return self._edit_rack(command)
        if self.playback.state is PlayerState.FAILED:
            self.playback.state = PlayerState.PAUSED
        if isinstance(command, Set):
            return self._set(command)
        if isinstance(command, Transport):
            return self._transport(command)
        if isinstance(command, Follow):
            return self._follow(command)
        self._begin_anew(command)
        return self._tell_transport(TransportCause.AUDIO_PROMPT, command.by)

    def _set(self, command: Set) -> int:
        values = self.parameters.checked(command.values)
        for name, value in values.items():
            if name in PROMPT_NAMES and isinstance(value, str) and value.strip():
                check_text(value)  # also of a slot that is silent yet: on stage it is too late to be told
        check_learning(values, self.parameters.table)
        waits = not QUANTIZED.isdisjoint(values)
        moment = self.landing.moment(command.at, waits or "tempo" in values, self.landing.soonest if waits else None)
        if moment is not None and (self.landing.is_far(moment) if waits else self.timeline.sample_at(moment) is None):
            self.generator.check(self._form.told({**self.parameters.values, **values}, values))
            return self._wait(moment, replace(command, at=moment))
        before = {name: self.parameters.values[name] for name in values}
        applied = self._apply(replace(command, values=values, at=moment))
        self.parameters.values.update(values)
        self._publish(Changed(values, command.by, applied))
        if "tempo" in values:
            at_once = command.at is None and not waits  # the beats; the words of the prompts may wait for one of them
            self._scheduled.set_tempo(float(values["tempo"]), self.output.frontier if at_once else applied)
        if not values.keys().isdisjoint(PROMPT_NAMES):
            self._tell_heard(applied)
        for name in unsupported(self.parameters.table, before, values):
            line = f"{self.model.name} was not made for {name}: it may do harm, or nothing"
            self._publish(Notice("unsupported", line, applied))
        return applied

    def _apply(self, change: Set) -> int:
        """Tell stream and effects, at the moment of the change; returns the sample from which it is heard."""
        values, moment, landing = change.values, change.at, self.landing
        at = landing.sample(moment, landing.soonest)
        before = self._scheduled.at(at or landing.bar_line(values) or landing.soonest)
        # where somebody names the sample, a part of the scene begins with it when it comes near: see `_tell_due`
        named = at is not None and moment is not None and not moment.every
        kept = None if named else self.output.model_sample(at or landing.soonest)
        controls = self._form.told({**before, **values}, self._form.audible(before, values), kept)
        # before anything is revoked: a wrong value must change nothing, and what lies ahead plays meanwhile
        controls = self.generator.auditioned(controls, self.meanwhile) if controls else controls
        at = landing.sample(moment, landing.soonest if controls else self.output.frontier)
        named, applied = named and at is not None, -1
        if controls:
            model_at = landing.in_frames(at, moment)
            self._take_back(model_at)
            now = self._scheduled.at(landing.frame(model_at, values))
            if now != before:  # it lands elsewhere than was expected, or something has come meanwhile
                opening = {name: controls[name] for name in controls if name == "candidate"}
                controls = self._form.told({**now, **values}, self._form.audible(now, values)) | opening
            applied = self._tell_stream(controls, model_at, follow=not named)
        turned = self.output.set(values, at, round(change.glide_seconds * self.timeline.rate_hz))
        applied = applied if controls else turned
        waits = not named and (at is not None or applied > landing.frame(None, {}))
        coming = Coming(applied, change.by, dict(values), controls, set(values) if waits else set(), sure=not named)
        self._scheduled.note(coming, turned, at_once=at is None)
        return applied

    def _take_back(self, at: int | None) -> None:
        """Take back what lies ahead: what a change at once may, or up to a sample of the model's."""
        if self.playback.state is not PlayerState.LATE:
            self.generator.revoke(self.landing.take_back() if at is None else at)

    def _tell_stream(self, controls: dict[str, Any], at: int | None, *, follow: bool = True) -> int:
        """Change the stream; where that begins a part in the place of others that were told for later, tell it."""
        landed = self.generator.set(controls, at)
        part = self._form.follow(self.generator, controls, landed) if follow else None
        applied = self.output.session_sample(landed)
        if part is not None:
            self._publish(Notice("part", part, applied))
        if "prompts" in controls or "prompt" in controls:
            self._committer.expect_prompts(applied)
        return applied

    def _follow(self, command: Follow) -> int:
        """Hand a melody or style to the stream, and to those that will be opened."""
        moment = self.landing.moment(command.at, False, self.landing.soonest)
        if moment is not None and self.timeline.sample_at(moment) is None:
            return self._wait(moment, replace(command, at=moment))
        controls = self.generator.auditioned({command.kind: command.prepared}, self.meanwhile)
        at = self.landing.sample(moment, self.landing.soonest)
        model_at = self.landing.in_frames(at, None)
        self._take_back(model_at)
        applied = self._tell_stream(controls, model_at)
        self._options[command.kind] = command.prepared
        self._options.pop(f"{command.kind}_rate_hz", None)
        line = f"{'no' if command.prepared is None else 'another'} {command.kind}"
        self._publish(Notice(command.kind, line, applied))
        return applied

    def check_edit(self, command: EditRack) -> None:
        """Say whether there is a place for what is to be made; see `rack_edits.check_edit`."""
        check_edit(self.output.rack, command, self.waiting.edits if self._edit_waits_for(command) is not None else 0)

    def _edit_waits_for(self, command: EditRack) -> Moment | None:
        moment = self.landing.moment(command.at, True)
        return None if moment is None or self.timeline.reached(moment, self.output.frontier) else moment

    def _edit_rack(self, command: EditRack) -> int:
        if (moment := self._edit_waits_for(command)) is not None:
            return self._wait(moment, replace(command, at=moment))
        table = self.parameters.table
        self._publish(edited(self.output.rack, self.parameters, command))
        nothing = gone(table, self.parameters.table, command)
        self._scheduled.forget(nothing)  # what was scheduled for an effect is not for another one that takes its slot
        self.output.forget(nothing)
        self.output.set({"tempo": self._scheduled.at(self.output.turns_at)["tempo"]})  # who is new has not heard of it
        return self.output.position

    def _transport(self, command: Transport) -> int:
        starts = command.action is Action.PLAY and not self.playback.state.plays
        moment = self.landing.moment(command.at, True)
        on_beat = moment is not None and moment.beat is not None
        if moment is not None and not (starts and on_beat):
            at = self.timeline.sample_at(moment)
            if at is None or at > self.output.frontier:
                return self._wait(moment, replace(command, at=moment))
        if starts:
            self.playback.start(moment if on_beat else None)
        if command.action in (Action.PAUSE, Action.STOP):
            self.playback.halt()
        if command.action in (Action.STOP, Action.RESET):
            self._begin_anew()
        if command.action is Action.STOP:
            self.playback.state = PlayerState.STOPPED
        return self._tell_transport(TransportCause(command.action), command.by)

    def _wait(self, moment: Moment, command: PlayerCommand) -> int:
        at = self.timeline.sample_at(moment)
        self.waiting.add(moment, command, self.landing.near_samples)
        return self.output.position if at is None else at

    def fail(self, why: str) -> None:
        """Pause because the stream cannot go on; nothing is tried again before the next command."""
        self.playback.halt()
        self.playback.state = PlayerState.FAILED
        self._tell_transport(TransportCause.PAUSE, f"engine: {why}")

    def _begin_anew(self, prompt: AudioPrompt | None = None) -> None:
        """Open a fresh stream; the old one fades out over the next block."""
        options = self._stream_options()
        if prompt is not None:  # in the place of what the session began with
            options = {name: options[name] for name in options if not name.startswith("audio_prompt")}
            options["audio_prompt_codes"] = prompt.codes
        self.generator.begin_anew(options, self.playback.end_passage)
        part = self._form.begin(self.generator.taken, self.generator.candidate)
        if self.parameters.values["arrange"]:  # others that were told for later do not come
            self._publish(Notice("part", part, self.output.session_sample(self.generator.taken)))
        self._scheduled.hurry(self.output.frontier)
        self._metronome.begin_bar(self.output.frontier)
        self._committer.jump()

    def _stream_options(self) -> dict[str, Any]:
        """Return what a stream is opened with: a default is left to the model, whose windows may be fuller."""
        table, values = self.parameters.table, self.parameters.values
        told = {*PROMPT_NAMES, "seed", *(name for name, value in values.items() if value != table[name].default)}
        return self._options | stream_controls(values, told) | self._form.opening(values)

    def close(self) -> None:
        """Give the stream's memory back, and what the effects hold; nobody waits for what was scheduled."""
        self.waiting.close()
        self.generator.close()
        self.output.close()

    # -- audio ----------------------------------------------------------------------------------------------------

    def tick(self) -> float:
        """Do what is due: run the timeline, commit, tell.

        Returns:
            Seconds until the next tick is due, where nothing is to be made.
        """
        self.playback.run_timeline()
        self._do_waiting()
        self.playback.commit_due()
        for come in self._scheduled.landed(self.output.turns_at):
            self._publish(come)
            if not come.values.keys().isdisjoint(PROMPT_NAMES):
                self._tell_heard(come.applied_at_sample)
        for event in news(self.output.rack, self.parameters, self.output.position):
            self._publish(event)
            if isinstance(event, Changed):
                self._scheduled.turned(event.values, event.applied_at_sample)
        for beat in self._metronome.beats(self.output.position):
            self._publish(beat)
        if self.timeline.now() >= self._next_stats:
            self._next_stats = self.timeline.now() + 1.0
            self._publish(self.playback.stats())
        return _IDLE_SECONDS if self.playback.engaged else 4 * _IDLE_SECONDS

    def _do_waiting(self) -> None:
        for command in self.waiting.due(self.output.frontier):
            try:
                self.do(command)
            except StreamgenError as error:  # it was checked when it was asked for; something else has changed since
                _log.warning("what was scheduled by %s could not be done: %s", command.by, error)
                forget(command)

    def make(self, between_steps: Callable[[], None] | None = None) -> None:
        """Make one block ahead; `between_steps` may let players keep time."""
        Player.make_together([self], between_steps)

    @staticmethod
    def make_together(
        players: Sequence[Player], between_steps: Callable[[], None] | None = None, *, turn: bool = True
    ) -> None:
        """Make one block ahead for each of some players, in common passes. Arguments and errors as a generator's.

        `turn` False leaves the form of the pieces as it is: a next part may have openings to try.
        """
        for player in players:
            player._tell_due()
            if turn:
                player._take_turn()
        found = Generator.make_together([player.generator for player in players], between_steps)
        for player, faults in zip(players, found, strict=True):
            player._tell_faults(faults)
            player._note_bars()
            player.playback.commit_due()  # before the next command: a knob in motion would take back every block

    def _tell_due(self) -> None:
        """Tell the stream anew what it is about to draw, if something else has come beside it since it was told."""
        drawn, more = self.generator.drawn, 2 * self.generator.block_samples
        for one in self._scheduled.due(self.output.session_sample(drawn), self.output.session_sample(drawn + more)):
            at, values = self.output.model_sample(one.at_sample), self._scheduled.at(one.at_sample)
            try:
                names = {name: values[name] for name in one.names}
                told = self._form.told(values, names, None if one.sure else at)
                told = one.again(told, self.generator.candidate)
                self._tell_stream(told, at - self.generator.hop_samples // 2)
                self._scheduled.tell(one)
            except StreamgenError as error:  # it was checked when it was asked for; something else has come beside it
                _log.warning("what was scheduled by %s plays as it was asked for: %s", one.by, error)

    def _take_turn(self) -> None:
        """Let the form of the piece have its next part, if it is time."""
        drawn = self.output.session_sample(self.generator.drawn + self.generator.block_samples)
        turn = self._form.turn(self.generator, self._scheduled.at(drawn), self.meanwhile)
        if turn is not None:
            applied = self.output.session_sample(turn[1])
            self._scheduled.doubt(applied)
            self._committer.expect_prompts(applied)
            self._publish(Notice("part", turn[0], applied))

    def _note_bars(self) -> None:
        bars, scale = self.generator.bars(), self.timeline.rate_hz / self.model.sample_rate_hz
        known = None if bars is None else (bars[0] * scale, bars[1] * scale)
        self._metronome.note_bars(known, self.generator.drawn * scale, self.output.frontier)
        self._committer.tracks = known is None
        self._metronome.heard = self._committer.tracker.beats if known is None else None

    # -- told -----------------------------------------------------------------------------------------------------

    def _tell_transport(self, action: TransportCause, by: str) -> int:
        self._publish(Transported(action, self.playback.state, by, self.output.position))
        return self.output.position

    def _tell_heard(self, at_sample: int) -> None:
        before, self.heard = self.heard, self._form.heard(self.parameters.values)
        if self.heard != before:
            self._publish(Notice("heard", self.heard, at_sample))

    def _tell_faults(self, faults: Sequence[tuple[str, int]]) -> None:
        for fault, at in faults:
            line = f"the music had died ({fault}) and begins anew"
            self._publish(Notice("guard", line, self.output.session_sample(at)))
