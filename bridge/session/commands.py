"""What a door may ask of a session. Dataclasses, no I/O.

    door ── Set · Transport · EditRack · … ──► session          what it tells: events.py

Rules: shared by all doors, so that a change made through one is told to all in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.session.timeline import Moment
from streamgen.config import Value, number

__all__ = [
    "GLIDE_SECONDS",
    "KEEP_SECONDS",
    "MAX_PRESET_NAME",
    "MORPH_SECONDS",
    "Action",
    "AudioPrompt",
    "Command",
    "RackAction",
    "EditRack",
    "Follow",
    "KeepTake",
    "PlayerCommand",
    "RecallPreset",
    "SavePreset",
    "Set",
    "Transport",
]

MAX_PRESET_NAME = 64  # characters
GLIDE_SECONDS = replace(number(0, 60, 0, "s", "over which numbers go there"), name="glide_seconds")
MORPH_SECONDS = replace(number(0, 3_600, 0, "s", "over which to go to a preset"), name="seconds")
KEEP_SECONDS = replace(number(1, 30, 30, "s", "of what was heard last that are kept"), name="seconds")
"""Of a change, of a recall and of a take, as every door takes them."""


class Action(StrEnum):
    """What the transport can be told."""

    PLAY = "play"
    PAUSE = "pause"
    STOP = "stop"
    RESET = "reset"


@dataclass(frozen=True)
class Set:
    """Change parameters.

    Attributes:
        values: name → value; the session checks them.
        by: who asks, for `Changed`: "osc 127.0.0.1:5000", "websocket 3", "page" …
        at: when it applies; None = as soon as can be, or as the parameter `quantize` says for what it is about.
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


class RackAction(StrEnum):
    """What can be done to the rack."""

    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"
    MOVE = "move"


@dataclass(frozen=True)
class EditRack:
    """Edit the rack while it plays.

    Attributes:
        action: what to do.
        by: who asks.
        slot: whose number; for ADD the one it gets if that is free, 0 for any.
        effect: name of what ADD and REPLACE put there, out of the operator's catalogue: never a path.
        index: place in the order, from 0, for ADD and MOVE; None is the end.
        made: the effect itself: by the session, before the engine's thread hears of it.
        at: as in `Set`.
    """

    action: RackAction
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
        name: of the preset, at most MAX_PRESET_NAME characters: never a path.
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


@dataclass(frozen=True)
class KeepTake:
    """Keep what was heard last as a file in the operator's folder, whose name is told as a `Notice`.

    Attributes:
        by: who asks.
        seconds: how much of it; see KEEP_SECONDS.
    """

    by: str
    seconds: float = float(KEEP_SECONDS.default)


PlayerCommand = Set | Transport | AudioPrompt | Follow | EditRack
Command = PlayerCommand | SavePreset | RecallPreset | KeepTake
