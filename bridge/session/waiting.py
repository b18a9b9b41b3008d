"""What waits for its moment: commands, joined where a knob in motion asks again, and calls.

    add ─► waiting, in the order it was asked for ─ its moment, or a little before ─► due: as it can be carried out now

Rules: the engine's thread; carries out no command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from bridge.audio.faults import close as close_effect
from bridge.session.commands import AudioPrompt, EditRack, PlayerCommand, Set
from bridge.session.timeline import AT_ONCE, Moment, Schedule, Timeline

__all__ = ["PendingCommands", "forget"]


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
