"""What a door may ask of a session, and what a session tells its doors. Dataclasses, no I/O.

    door ── Set · Transport · EditRack · … ──► session          session ── Block · Changed · Gap · … ──► every door

Rules: shared by all doors, so that a change made through one is told to all in the same words. Every position counts
samples at the session's rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.audio.faults import SlotFault, SlotState
from bridge.session.timeline import Moment, Timeline
from streamgen.config import ControlSpec, Value, number

__all__ = [
    "Action",
    "COMMIT_SECONDS",
    "AudioPrompt",
    "Beat",
    "Follow",
    "Block",
    "Changed",
    "Command",
    "Deed",
    "EditRack",
    "Event",
    "GLIDE_SECONDS",
    "MORPH_SECONDS",
    "Gap",
    "Goaway",
    "Listener",
    "Meter",
    "Notice",
    "PlayerCommand",
    "PlayerState",
    "PresetsChanged",
    "RecallPreset",
    "SavePreset",
    "Session",
    "Set",
    "SlotFault",
    "SlotState",
    "Stats",
    "TableChanged",
    "Transport",
    "Transported",
]


GLIDE_SECONDS = replace(number(0, 60, 0, "s", "over which numbers go there"), name="glide_seconds")
MORPH_SECONDS = replace(number(0, 3_600, 0, "s", "over which to go to a preset"), name="seconds")
"""Of a change, and of a recall, as every door takes them."""


class Action(StrEnum):
    """What the transport can be told."""

    PLAY = "play"
    PAUSE = "pause"
    STOP = "stop"
    RESET = "reset"


class PlayerState(StrEnum):
    """What a player does.

    STARTING, LATE: it will play as soon as there is enough audio; LATE is after an underrun. FAILED: the stream cannot
    go on; the next command tries again.
    """

    STOPPED = "stopped"
    PAUSED = "paused"
    STARTING = "starting"
    PLAYING = "playing"
    LATE = "late"
    FAILED = "failed"

    @property
    def plays(self) -> bool:
        """Whether the transport plays, as a button shows it."""
        return self in (PlayerState.STARTING, PlayerState.PLAYING, PlayerState.LATE)


# -- commands ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Set:
    """Change parameters.

    Attributes:
        values: name → value; the session checks them.
        by: who asks, for `Changed`: "osc 127.0.0.1:5000", "websocket 3", "page" …
        at: when it shall apply; None = as soon as can be, or as the parameter `quantize` says for what it is about.
        glide_seconds: over which effects' numbers with fractions go there; what the model is told applies at once.
    """

    values: Mapping[str, Value]
    by: str
    at: Moment | None = None
    glide_seconds: float = 0.0


@dataclass(frozen=True)
class Transport:
    """Play, pause (hold), stop (pause and forget the music so far) or reset (forget it and go on); `at` as in `Set`."""

    action: Action
    by: str
    at: Moment | None = None


@dataclass(frozen=True)
class AudioPrompt:
    """Start anew from a piece of audio.

    Attributes:
        samples: float32 [channels, samples].
        rate_hz: their rate.
        by: who asks.
        codes: what the model makes of it, int64 [K, frames]: by the session, before the engine's thread hears of it.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    by: str
    codes: Any = None


@dataclass(frozen=True)
class Follow:
    """Let the music follow a melody, or take on a style, from a sample on.

    Attributes:
        kind: "melody" or "style".
        samples: float32 [channels, samples]; None ends it.
        rate_hz: their rate.
        by: who asks.
        at: when it shall begin; None = as soon as can be.
        prepared: what the model makes of it: by the session, before the engine's thread hears of it.
    """

    kind: str
    samples: NDArray[np.float32] | None
    rate_hz: int
    by: str
    at: Moment | None = None
    prepared: Any = None


class Deed(StrEnum):
    """What can be done to the rack."""

    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"
    MOVE = "move"


@dataclass(frozen=True)
class EditRack:
    """Edit the rack while it plays.

    Attributes:
        deed: what to do.
        by: who asks.
        slot: whose number; for ADD the one it gets if that is free, 0 for any.
        effect: name of what ADD and REPLACE put there, out of the operator's catalogue: never a path.
        index: place in the order, from 0, for ADD and MOVE; None is the end.
        made: the effect itself: by the session, before the engine's thread hears of it.
        at: as in `Set`.
    """

    deed: Deed
    by: str
    slot: int = 0
    effect: str = ""
    index: int | None = None
    made: Any = None
    at: Moment | None = None


@dataclass(frozen=True)
class SavePreset:
    """Keep what the session is set to in the operator's folder.

    Attributes:
        name: of the preset: never a path.
        by: who asks.
        slot: whose plugin's own preset file is written instead; 0 is the whole set.
    """

    name: str
    by: str
    slot: int = 0


@dataclass(frozen=True)
class RecallPreset:
    """Bring back what was kept in the operator's folder.

    Attributes:
        name: of the preset.
        by: who asks.
        seconds: over which to go there; the next recall ends that.
        slot: whose plugin takes its own preset file instead; 0 is the whole set.
        at: when it begins, as in `Set`.
    """

    name: str
    by: str
    seconds: float = 0.0
    slot: int = 0
    at: Moment | None = None


PlayerCommand = Set | Transport | AudioPrompt | Follow | EditRack
Command = PlayerCommand | SavePreset | RecallPreset


# -- audio and events --------------------------------------------------------------------------------------------------

COMMIT_SECONDS = 0.2
"""How long before it is due a block is told; more, and a change is heard later."""


@dataclass(frozen=True)
class Block:
    """A piece of the session's output, final: effects applied, the same at every door.

    Attributes:
        samples: float32 [2, n], read-only by agreement.
        start_sample: position of its first sample in the session.
        discontinuity: True if it does not follow on from the block before.
        prompt_change: True if other prompts play from a sample in it on.
        time_us: server clock at which its first sample is due, microseconds since the epoch.
    """

    samples: NDArray[np.float32]
    start_sample: int
    discontinuity: bool = False
    prompt_change: bool = False
    time_us: int = 0

    @property
    def end_sample(self) -> int:
        """Position after its last sample."""
        return self.start_sample + int(self.samples.shape[1])


@dataclass(frozen=True)
class Changed:
    """Parameters were changed; told to all doors, whoever did it."""

    values: Mapping[str, Value]
    by: str
    applied_at_sample: int


@dataclass(frozen=True)
class TableChanged:
    """The session has other parameters now; doors build what they show anew.

    Attributes:
        table: every parameter, by name.
        values: of all of them.
        slots: the rack, in the order of the signal.
        by: who edited it.
    """

    table: Mapping[str, ControlSpec]
    values: Mapping[str, Value]
    slots: Sequence[SlotState]
    by: str


@dataclass(frozen=True)
class PresetsChanged:
    """There are other presets now.

    Attributes:
        names: of all.
        by: who saved one.
    """

    names: Sequence[str]
    by: str


@dataclass(frozen=True)
class Transported:
    """The transport was told something, or the player gave up.

    Attributes:
        action: what was told: an `Action`, or "audio_prompt".
        state: what the player does now.
        by: who told it.
        applied_at_sample: from where on.
    """

    action: str
    state: PlayerState
    by: str
    applied_at_sample: int


@dataclass(frozen=True)
class Gap:
    """Audio is missing: `slow_client` (a listener did not read) or `underrun` (the engine was late)."""

    from_sample: int
    samples: int
    reason: str


@dataclass(frozen=True)
class Notice:
    """One line for people, told at every door.

    Attributes:
        topic: "heard": what the model understands of the prompts; "guard": what had died and begins anew; "part": which
            part of the scene begins; "unsupported": what the checkpoint was not made for; "melody" and "style": what is
            followed.
        text: the line.
        applied_at_sample: from where on.
    """

    topic: str
    text: str
    applied_at_sample: int


@dataclass(frozen=True)
class Beat:
    """A beat of the session, told when it is certain: about a fifth of a second before it comes.

    Attributes:
        beat: its number, from 0.
        bar: its bar's, from 0; a bar has four beats.
        tempo: in bpm.
        phase: by how many beats the music's own bar is ahead of the session's, −2 … 2; None where nobody knows.
        source: whose beats they are: "internal", "link", "midi".
        applied_at_sample: where it falls; beats go on where the music stands.
        time_us: server clock at which it comes, microseconds since the epoch.
    """

    beat: int
    bar: int
    tempo: float
    phase: float | None
    source: str
    applied_at_sample: int
    time_us: int


@dataclass(frozen=True)
class Meter:
    """Level of the newest output, peak in dBFS per channel."""

    left_db: float
    right_db: float


@dataclass(frozen=True)
class Stats:
    """Once a second: how the session is doing; `slots` is the rack, in the order of the signal."""

    realtime_factor: float
    lead_seconds: float
    underruns: int
    listeners: int
    window_position: int
    position_samples: int
    playing: bool
    state: PlayerState
    rack_latency_seconds: float = 0.0
    rack_faults: int = 0
    slots: Sequence[SlotState] = ()


@dataclass(frozen=True)
class Goaway:
    """The server ends: finish and leave."""

    reason: str


Event = Changed | TableChanged | SlotFault | PresetsChanged | Transported | Gap | Notice | Beat | Meter | Stats | Goaway


# -- who talks ---------------------------------------------------------------------------------------------------------


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
    """One endless stream that any number of doors listen to and steer; `live_session.LiveSession` is the real one.

    An interface, so that doors are tested against a small in-test session. Everything here is called on the event loop
    and never blocks it.

    Attributes:
        name: "live" for the shared one.
        model: name of the checkpoint.
        model_rate_hz: of the checkpoint's own audio.
        rate_hz: of all blocks and positions.
        timeline: which sample is due when.
        table: every parameter, by name, with the model's own defaults; another one after `TableChanged`.
    """

    name: str
    model: str
    model_rate_hz: int
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
