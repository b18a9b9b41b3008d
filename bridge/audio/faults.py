"""What effects that may fail are asked and tell, and what is told of them.

    EffectFault ─► the slot fades to its input ─► SlotFault ─► every door
    Fallible     an effect that may fail and come back: a plugin in a process of its own
    TurnsItself  an effect that may turn its own knobs

Rules: plain data and interfaces; imports no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bridge.audio.effect import Effect
from streamgen.config import Value

__all__ = ["EffectFault", "Fallible", "SlotFault", "SlotState", "TurnsItself", "close", "given_up", "strikes"]


class EffectFault(Exception):
    """An effect failed: says why. What it gave before is good."""


@runtime_checkable
class Fallible(Protocol):
    """An effect that may fail and come back.

    Attributes:
        reserve_samples: kept back of what it gave, to fade with.
        strikes: how often it failed lately.
        given_up: whether it does not come back by itself.
    """

    reserve_samples: int
    strikes: int
    given_up: bool

    def recovered(self) -> bool:
        """Whether it can be used again after a fault."""
        ...

    def give_up(self) -> None:
        """Play no part, and hold nothing back, until it is forgiven; must not wait."""
        ...

    def forgive(self) -> None:
        """Try again what was given up."""
        ...

    def close(self) -> None:
        """Give up whatever it holds; must not wait."""
        ...


@runtime_checkable
class TurnsItself(Protocol):
    """An effect that may turn its own knobs: it has programs, or began with a state."""

    def values(self) -> dict[str, Value]:
        """What its parameters are."""
        ...

    def take_moves(self) -> dict[str, Value]:
        """Take out what it turned since the last call."""
        ...


@dataclass(frozen=True)
class SlotFault:
    """An effect failed, or came back, or was given up.

    Attributes:
        slot: its number.
        name: of what is in it.
        reason: why; "" when it is back.
        strikes: how often it failed lately.
        given_up: True if it is not tried again.
    """

    slot: int
    name: str
    reason: str
    strikes: int = 0
    given_up: bool = False

    def told(self) -> str:
        """One line for people."""
        return f"{self.name} (slot {self.slot}): {self.reason or 'it is back'}"


@dataclass(frozen=True)
class SlotState:
    """How a slot is doing.

    Attributes:
        slot: its number, as in `plugin/N/…`.
        name: of what is in it.
        latency_samples: how much it holds back.
        failed: whether its input is heard in its place.
        strikes: how often it failed lately.
        load: share of real time that it takes of the engine's, over the last second or so.
    """

    slot: int
    name: str
    latency_samples: int
    failed: bool
    strikes: int
    load: float = 0.0


def close(effect: Effect) -> None:
    """Let an effect give up what it holds."""
    if isinstance(effect, Fallible):
        effect.close()


def strikes(effect: Effect) -> int:
    """Return how often an effect failed lately."""
    return effect.strikes if isinstance(effect, Fallible) else 0


def given_up(effect: Effect) -> bool:
    """Tell whether an effect that failed is not tried again: what is no plugin does not come back."""
    return effect.given_up if isinstance(effect, Fallible) else True
