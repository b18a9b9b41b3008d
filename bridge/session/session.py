"""A session as doors see it, and a listener as a session sees it: interfaces.

Rules: no code but signatures, so that doors are tested against a small in-test session; `live_session.LiveSession` is
the real one. Everything is called on the event loop and never blocks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bridge.audio.faults import SlotState
from bridge.session.commands import Command
from bridge.session.events import Block, Event, PlayerState, Stats
from bridge.session.timeline import Timeline
from streamgen.config import ControlSpec, Value

__all__ = ["Listener", "Session"]


class Listener(Protocol):
    """A sink of a session. Called on the event loop; must return at once (queue, do not send).

    One that only steers has an attribute `wants_audio` that is False: nothing is made for it alone.
    """

    def audio(self, block: Block) -> None:
        """Take the next block."""
        ...

    def event(self, event: Event) -> None:
        """Take an event."""
        ...


class Session(Protocol):
    """One endless stream that any number of doors listen to and steer.

    Attributes:
        name: "live" for the shared one.
        model: name of the checkpoint.
        model_rate_hz: of the checkpoint's own audio.
        follows: kinds of audio that the model's music can follow: "melody" or "style", or none.
        rate_hz: of all blocks and positions.
        timeline: which sample is due when.
        table: every parameter, by name, with the model's own defaults; another one after `TableChanged`.
    """

    name: str
    model: str
    model_rate_hz: int
    follows: tuple[str, ...]
    rate_hz: int
    timeline: Timeline
    table: Mapping[str, ControlSpec]

    def values(self) -> Mapping[str, Value]:
        """Every parameter's value, as last set."""
        ...

    def state(self) -> PlayerState:
        """What the player does, as last told."""
        ...

    def slots(self) -> Sequence[SlotState]:
        """The rack, in the order of the signal, and how each slot is doing now."""
        ...

    def effects(self) -> Sequence[str]:
        """Names of what can be put into the rack."""
        ...

    def presets(self) -> Sequence[str]:
        """Names of what `RecallPreset` brings back."""
        ...

    def position_samples(self) -> int:
        """First sample that is not final yet."""
        ...

    def heard(self) -> str:
        """What the model understands of the prompts, one line; "" where it reads them as they are typed."""
        ...

    async def do(self, command: Command) -> int:
        """Carry a command out, or schedule it.

        Returns:
            The sample at which it applies; of one at a time that has no sample yet, the present position.

        Raises:
            StreamgenError: it cannot be done; one line says why. Nothing is changed then.
        """
        ...

    def add(self, listener: Listener) -> Sequence[Block]:
        """Start telling a listener everything; returns the final blocks that are not yet due, its first burst."""
        ...

    def remove(self, listener: Listener) -> None:
        """Stop telling a listener; unknown ones are ignored."""
        ...

    def stats(self) -> Stats:
        """How the session is doing now."""
        ...

    async def record(self, path: Path | None) -> None:
        """Write the output to a file from now on; None ends it.

        Raises:
            FileError: the file cannot be written.
        """
        ...
