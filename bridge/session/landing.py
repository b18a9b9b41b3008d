"""When what is asked for can happen: its moment, and the sample that this comes to; and what waits until then.

    asked for ─ moment ─► a beat ─ far off ─► waits: tempi change
                                 └ near ─► sample ─ missed meanwhile? the next such beat

    add ─► waiting, in the order it was asked for ─ its moment, or a little before ─► due: as it can be carried out now

Rules: the engine's thread; carries out no command. Positions are the session's samples, but for what `kept` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from bridge.audio.faults import close as close_effect
from bridge.audio.output import OutputPath
from bridge.session.beats import INTERNAL, QUANTA
from bridge.session.commands import AudioPrompt, EditRack, PlayerCommand, Set
from bridge.session.generator import Generator
from bridge.session.parameters import MUSIC_NAMES, Parameters
from bridge.session.timeline import AT_ONCE, Moment, Schedule, Timeline, quantized
from streamgen.config import Value

__all__ = ["Landing", "PendingCommands", "forget"]

_KEPT_SECONDS, _GESTURE_SECONDS = 0.35, 0.5
_NEAR_SECONDS = 3.0  # before its beat a change is prepared: trying openings takes a second; longer, and tempi change


class Landing:
    """Where commands of one player land.

    Args:
        timeline: by which moments come.
        generator: what lies ahead, and how fast it is made anew.
        output: what is final.
        parameters: `quantize` among them.
    """

    def __init__(self, timeline: Timeline, generator: Generator, output: OutputPath, parameters: Parameters) -> None:
        self._timeline, self._generator, self._output, self._parameters = timeline, generator, output, parameters
        self._taken_back_at = -math.inf

    @property
    def kept(self) -> int:
        """The model's sample up to which a change leaves what is drawn, but for the block that crosses it."""
        timeline = self._timeline
        return self._output.model_sample(round(timeline.due() + _KEPT_SECONDS * timeline.rate_hz))

    @property
    def soonest(self) -> int:
        """First sample at which a change of the stream lands where it is wanted, whatever lies ahead."""
        taken, block = self._generator.taken, self._generator.block_samples
        in_time = taken if self._generator.pace.quick else max(taken, self.kept)
        return self._output.session_sample(in_time + 2 * block)

    def frame(self, at: int | None, values: Mapping[str, Value]) -> int:
        """Return the session's sample from which the stream would play a change that it is told now.

        Args:
            at: the model's sample that it is wanted at; None is as soon as can be, or the music's next bar line.
            values: what changes.
        """
        if at is not None:  # in the frame that begins by then
            return self._output.session_sample(max(at + self._generator.hop_samples - 1, self._generator.drawn))
        line = self.bar_line(values)
        return self._output.session_sample(self._generator.drawn) if line is None else line

    def bar_line(self, values: Mapping[str, Value]) -> int | None:
        """Return the session's sample of the music's bar line that a change at once would wait for, if for any."""
        waits = not MUSIC_NAMES.isdisjoint(values) and {**self._parameters.values, **values}["on_bar"]
        line = self._generator.bar_line() if waits else None
        return None if line is None else self._output.session_sample(line)

    def in_frames(self, at: int | None, moment: Moment | None) -> int | None:
        """Return the model's sample at which the stream is told what is wanted at one of the session's.

        A beat lies anywhere in its frame: the change goes to the frame whose beginning is nearest.
        """
        early = self._generator.hop_samples // 2 if moment is not None and moment.beat is not None else 0
        return None if at is None else self._output.model_sample(at) - early

    def take_back(self) -> int:
        """Return the model's first sample that a change "at once" takes back: on a machine that is quick, all ahead.

        Elsewhere a part of the lead is left, or the next stall is heard: at twice real time, while a browser starts on
        the same two cores, the lead does not grow again before the next turn.
        """
        self._taken_back_at = self._timeline.now()
        committed, block = self._generator.taken, self._generator.block_samples
        return committed if self._generator.pace.quick else max(committed, self.kept + block)

    @property
    def turning(self) -> bool:
        """Whether changes at once follow one another: a knob in motion."""
        return self._timeline.now() - self._taken_back_at < _GESTURE_SECONDS

    @property
    def near_samples(self) -> int:
        """How long before its beat a change is prepared."""
        return round(_NEAR_SECONDS * self._timeline.rate_hz)

    def moment(self, at: Moment | None, waits: bool, soonest: int | None = None) -> Moment | None:
        """Return when something asked for shall happen; None is as soon as can be.

        Args:
            at: as it was asked for.
            waits: whether `quantize` says so for what was not asked for at a moment.
            soonest: where it could; None is where nothing is final.
        """
        timeline, quantum = self._timeline, QUANTA[str(self._parameters.values["quantize"])]
        if at is None and waits and quantum:
            at = quantized(quantum)
        if at is None or at.sample is not None or at.unix_seconds is not None:
            return at
        if timeline.source == INTERNAL and not timeline.running:
            return None  # its beats stand still as well: nothing to wait for
        return timeline.next(at, self._output.frontier if soonest is None else soonest) if at.beat is None else at

    def is_far(self, moment: Moment) -> bool:
        """Whether a change waits here: for a time without a sample, or a beat that may still move."""
        at = self._timeline.sample_at(moment)
        return at is None or (moment.beat is not None and at > self._output.frontier + self.near_samples)

    def sample(self, moment: Moment | None, soonest: int) -> int | None:
        """Return the sample of a moment, or of the next such beat if it is missed; None is as soon as can be."""
        if moment is None or (at := self._timeline.sample_at(moment)) is None:
            return None
        if moment.every and at < soonest:
            at = self._timeline.sample_at(self._timeline.next(moment, soonest))
        return at if at is not None and at > self._output.frontier else None


class PendingCommands:
    """What waits in one player.

    Args:
        timeline: by which moments come.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._schedule: Schedule[PlayerCommand | Callable[[], object]] = Schedule(timeline)

    def __len__(self) -> int:
        return len(self._schedule)

    @property
    def edits(self) -> int:
        """How many edits of the rack wait, each of which may hold a plugin that is loaded."""
        return self._schedule.count(lambda command: isinstance(command, EditRack))

    def add(self, moment: Moment, command: PlayerCommand, near_samples: int) -> None:
        """Let a command wait; a change of the music for a beat is handed back `near_samples` before it.

        Raises:
            CapacityError: too much waits already.
        """
        early = near_samples if isinstance(command, Set) and moment.beat is not None else 0
        if not (isinstance(command, Set) and self._schedule.join(moment, lambda other: _joined(other, command))):
            self._schedule.add(moment, command, early)

    def call_at(self, moment: Moment, call: Callable[[], object]) -> None:
        """Let a call wait.

        Raises:
            CapacityError: too much waits already.
        """
        self._schedule.add(moment, call)

    def next_sample(self) -> int | None:
        """Return the earliest sample that something waits for; None if nothing has one."""
        return self._schedule.next_sample()

    def due(self, frontier: int) -> Iterator[PlayerCommand]:
        """Make the calls and yield the commands whose moment has come, where all before a sample is final."""
        for waiting in self._schedule.take(frontier) if len(self._schedule) else ():
            if callable(waiting):
                waiting()
            else:
                yield self._now(waiting)

    def _now(self, command: PlayerCommand) -> PlayerCommand:
        """Return what waited, to be done at once; a change that was wanted before its beat is still for that."""
        if isinstance(command, AudioPrompt):
            return command
        early = isinstance(command, Set) and command.at is not None and command.at.beat is not None
        return command if early and self._timeline.running else replace(command, at=AT_ONCE)

    def close(self) -> None:
        """Give up what waits, and let nobody wait for a call."""
        for waiting in self._schedule.clear():
            if callable(waiting):
                waiting()
            else:
                forget(waiting)


def forget(command: PlayerCommand) -> None:
    """Close the effect that was made for a command that cannot be carried out any more."""
    if isinstance(command, EditRack) and command.made is not None:
        close_effect(command.made)


def _joined(waiting: PlayerCommand | Callable[[], object], later: Set) -> Set | None:
    """Return two changes that wait for one moment as one, if they can be: a knob in motion asks many times."""
    if not isinstance(waiting, Set) or (waiting.by, waiting.glide_seconds) != (later.by, later.glide_seconds):
        return None
    return replace(later, values={**waiting.values, **later.values})
