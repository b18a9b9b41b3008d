"""What a session tells its doors: audio, and what happens. Dataclasses, no I/O.

    session ── Block · Changed · Gap · … ──► every door          what doors ask: commands.py

Rules: told to all doors in the same words. Every position counts samples at the session's rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bridge.audio.faults import SlotFault, SlotState
from streamgen.config import ControlSpec, Value

__all__ = [
    "COMMIT_SECONDS",
    "Beat",
    "Block",
    "Changed",
    "Event",
    "Gap",
    "Goaway",
    "Meter",
    "Notice",
    "PlayerState",
    "PresetsChanged",
    "Stats",
    "TableChanged",
    "TransportCause",
    "Transported",
]

COMMIT_SECONDS = 0.2
"""How long before it is due a block is told; more, and a change is heard later."""


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


class TransportCause(StrEnum):
    """What the transport was told: an `Action`, or an audio prompt, with which the music begins anew."""

    PLAY = "play"
    PAUSE = "pause"
    STOP = "stop"
    RESET = "reset"
    AUDIO_PROMPT = "audio_prompt"


@dataclass(frozen=True)
class Transported:
    """The transport was told something, or the player gave up.

    Attributes:
        action: what was told; PAUSE where the player gave up.
        state: what the player does now.
        by: who told it.
        applied_at_sample: from where on.
    """

    action: TransportCause
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
            followed; "kept": a take, and its name.
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
