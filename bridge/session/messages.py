"""What a door may ask of a session, and what a session tells its doors. Dataclasses, no I/O.

    door ── Set · Transport · AudioPrompt ──► session          session ── Block · Changed · Gap · … ──► every door

Rules: shared by all doors, so that a change made through one is told to all in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.session.parameters import Value

__all__ = [
    "ACTIONS",
    "AudioPrompt",
    "Block",
    "Changed",
    "Command",
    "Discard",
    "Event",
    "Gap",
    "Goaway",
    "Listener",
    "Meter",
    "Set",
    "Stats",
    "Transport",
    "Transported",
]

ACTIONS = ("play", "pause", "stop", "reset")


@dataclass(frozen=True)
class Set:
    """Change parameters.

    Attributes:
        values: name → value, checked by `parameters.checked`.
        by: who asks, for `Changed`: "osc 127.0.0.1:5000", "websocket 3", "page" …
        at_sample: position at which it shall apply; None = as soon as can be.
    """

    values: Mapping[str, Value]
    by: str
    at_sample: int | None = None


@dataclass(frozen=True)
class Transport:
    """Play, pause (hold), stop (pause and forget the music so far) or reset (forget it and go on)."""

    action: str
    by: str


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


Command = Set | Transport | AudioPrompt


@dataclass(frozen=True)
class Block:
    """A piece of the session's output, final: limiter and gain applied, the same at every door.

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
class Transported:
    """The transport changed its state."""

    action: str
    by: str
    applied_at_sample: int


@dataclass(frozen=True)
class Gap:
    """Audio is missing: `slow_client` (a listener did not read) or `underrun` (the engine was late)."""

    from_sample: int
    samples: int
    reason: str


@dataclass(frozen=True)
class Discard:
    """Forget what is buffered from here on; newer audio for the same samples follows."""

    from_sample: int


@dataclass(frozen=True)
class Meter:
    """Level of the newest output, peak in dBFS per channel."""

    left_db: float
    right_db: float


@dataclass(frozen=True)
class Stats:
    """Once a second: how the session is doing."""

    realtime_factor: float
    lead_seconds: float
    underruns: int
    listeners: int
    window_position: int
    position_samples: int
    playing: bool


@dataclass(frozen=True)
class Goaway:
    """The server ends: finish and leave."""

    reason: str


Event = Changed | Transported | Gap | Discard | Meter | Stats | Goaway


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
