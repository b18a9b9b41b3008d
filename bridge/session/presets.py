"""What a session is set to, as one thing: taken, brought back, gone to over time.

    session ─ captured ─► Preset ─ preset_files.write ─► NAME.toml ─ read ─► Preset ─ recall ─► session
                                                                                └─ morph over T ──┘
    a new session ─ each of commands(preset) ─► session: where nothing plays yet

Recalling replaces what differs, slot by slot, each with its own crossfade: the music goes on. A morph turns every
number on its way, as hands would; words and switches turn half-way.

Rules: the event loop; loading a plugin and writing a file are for threads beside it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from bridge.audio.catalogue import Catalogue
from bridge.audio.effect import Effect
from bridge.audio.faults import SlotState
from bridge.audio.plugins.child import write_state
from bridge.audio.plugins.plugin import Plugin
from bridge.audio.rack import MAX_SLOTS
from bridge.errors import FileError, cannot_be
from bridge.session.commands import EditRack, RackAction, Set
from bridge.session.parameters import MIDI_LEARN
from bridge.session.preset_files import Preset, SlotPreset
from bridge.session.session import Session
from bridge.session.timeline import AT_ONCE, Moment
from streamgen.config import Value
from streamgen.errors import CapacityError, ConfigError

__all__ = ["Racked", "RackedSlot", "captured", "commands", "made", "morph", "plugin_of", "rack_of", "recall"]

_STEP_SECONDS = 0.05  # of a morph's effects
_MODEL_STEPS = 10  # of these, until the model is told: it makes its lead anew each time
_KEPT = frozenset({"lead_seconds", "mute", MIDI_LEARN})  # of the machine and the moment, not of a set


@dataclass(frozen=True)
class RackedSlot:
    """A slot of the rack at one moment.

    Attributes:
        number, name, effect: which, and what is in it.
        values: of its parameters and its mix, by their own names.
    """

    number: int
    name: str
    effect: Effect
    values: Mapping[str, Value]

    @classmethod
    def of(cls, number: int, name: str, effect: Effect, values: Mapping[str, Value]) -> RackedSlot:
        """Take a slot's own out of the session's values."""
        prefix = f"plugin/{number}/"
        own = {path.removeprefix(prefix): value for path, value in values.items() if path.startswith(prefix)}
        return cls(number, name, effect, own)


class Racked(Session, Protocol):
    """A session whose effects can be asked for what they keep to themselves.

    Attributes:
        catalogue: what its rack may be made of.
    """

    catalogue: Catalogue

    async def racked(self) -> list[RackedSlot]:
        """Return what is in the rack at one moment, in the order of the signal: others edit it meanwhile."""
        ...

    async def load(self, name: str, make: Callable[[], Effect]) -> Effect:
        """Make an effect of some name, beside the music."""
        ...

    async def when(self, at: Moment | None) -> Moment | None:
        """Return the moment at which something asked for now shall begin; None is at once."""
        ...

    async def until(self, moment: Moment) -> None:
        """Wait until all before a moment is final."""
        ...

    async def saved_states(self, seconds: float = 5.0) -> dict[Effect, bytes]:
        """Let every plugin write its state; returns what it wrote last: older where it does not in time."""
        ...


# -- session -> preset -> session --------------------------------------------------------------------------------------


async def captured(session: Racked) -> Preset:
    """Return what a session is set to, plugins' states included as they are now."""
    values = session.values()
    outside = {name: value for name, value in values.items() if not name.startswith("plugin/") and name not in _KEPT}
    return Preset(outside, (await rack_of(session)).slots)


async def rack_of(session: Racked) -> Preset:
    """Return the rack alone, as `captured` has it."""
    states = await session.saved_states()
    slots = await session.racked()
    kept = (SlotPreset(slot.name, slot.values, states.get(slot.effect, b""), slot.number) for slot in slots)
    return Preset({}, tuple(kept))


def commands(preset: Preset, make: Callable[[SlotPreset], Effect | None], by: str) -> Iterator[EditRack | Set]:
    """Yield what fills an empty rack, each to be carried out before the next.

    Args:
        preset: whose slots.
        make: makes a slot's effect, as `made` does; None leaves the slot out.
        by: who asks.
    """
    for number, slot in zip(_numbers(preset, ()), preset.slots, strict=True):
        if (effect := make(slot)) is not None:
            yield EditRack(RackAction.ADD, by, number, slot.effect, made=effect, at=AT_ONCE)
            if slot.values:
                yield Set({f"plugin/{number}/{name}": value for name, value in slot.values.items()}, by, AT_ONCE)


async def recall(session: Racked, preset: Preset, by: str, at: Moment | None = None) -> None:
    """Make a session what a preset says, at once or at a moment: its parameters to the sample, its rack then too.

    Raises:
        StreamgenError: an effect is not in this session's catalogue or cannot be loaded, or a value is not allowed;
            slots before it are as the preset says then.
    """
    values = _target(session, preset)
    if at is not None:
        outside = {name: value for name, value in values.items() if not name.startswith("plugin/")}
        await session.do(Set(outside, by, at))
        await session.until(at)
    await _recall_rack(session, preset, by)
    values = _target(session, preset)
    if at is not None:
        values = {name: value for name, value in values.items() if name.startswith("plugin/")}
    if values:
        await session.do(Set(values, by, AT_ONCE))


def _numbers(preset: Preset, there: Sequence[SlotState]) -> list[int]:
    """The numbers that a preset's slots get: their own, else those that stand in their places now, else free ones.

    Raises:
        CapacityError: they are more than a rack has.
    """
    if len(preset.slots) > MAX_SLOTS:
        raise CapacityError(f"{len(preset.slots)} slots are wanted, the rack has {MAX_SLOTS}: take some out")
    taken = {slot.number for slot in preset.slots}
    standing = [slot.slot for slot in there]
    found: list[int] = []
    for place, slot in enumerate(preset.slots):
        wanted = [slot.number] if slot.number else [one for one in standing[place : place + 1] if one not in taken]
        free = (one for one in range(1, MAX_SLOTS + 1) if one not in taken and one not in found)
        found.append(next(iter([*wanted, *free])))
        taken.add(found[-1])
    return found


def _target(session: Racked, preset: Preset) -> dict[str, Value]:
    """A preset's values by the names that they have in this session, as far as it has them."""
    values, there = dict(preset.values), session.slots()
    names = {slot.slot: slot.name for slot in there}
    for number, slot in zip(_numbers(preset, there), preset.slots, strict=True):
        if names.get(number) == slot.effect:
            values |= {f"plugin/{number}/{name}": value for name, value in slot.values.items()}
    return {name: value for name, value in values.items() if name in session.table}


async def _recall_rack(session: Racked, preset: Preset, by: str) -> None:
    """Exchange what differs, slot by slot; then every slot goes to its place."""
    states = await session.saved_states() if any(slot.state for slot in preset.slots) else {}
    effects = {slot.number: slot.effect for slot in await session.racked()}
    there = {slot.slot: slot for slot in session.slots()}
    numbers = _numbers(preset, session.slots())
    for extra in there.keys() - set(numbers):
        await session.do(EditRack(RackAction.REMOVE, by, extra, at=AT_ONCE))
    for place, (number, slot) in enumerate(zip(numbers, preset.slots, strict=True)):
        now = there.get(number)
        if now is not None and now.name == slot.effect and not now.failed:
            kept = states.get(effects[number], b"") if number in effects else b""
            if kept == slot.state or not slot.state:  # built-in effects keep nothing to themselves
                continue
        effect = await session.load(slot.effect, partial(made, session.catalogue, session.rate_hz, slot))
        action = RackAction.ADD if now is None else RackAction.REPLACE
        index = place if now is None else None
        await session.do(EditRack(action, by, number, slot.effect, index, effect, AT_ONCE))
    for place, number in enumerate(numbers):
        if [slot.slot for slot in session.slots()][place : place + 1] != [number]:
            await session.do(EditRack(RackAction.MOVE, by, number, index=place, at=AT_ONCE))


def made(catalogue: Catalogue, rate_hz: int, slot: SlotPreset) -> Effect:
    """Make a slot's effect, with what it kept to itself; takes as long as a plugin takes to load.

    Raises:
        ConfigError: there is none of that name, or it cannot be loaded.
    """
    if not slot.state:
        return catalogue.make(slot.effect, rate_hz)
    try:
        with tempfile.TemporaryDirectory(prefix="streamgen-state-") as folder:
            restore = Path(folder) / "state"
            write_state(restore, [], slot.state)
            return catalogue.make(slot.effect, rate_hz, restore)
    except OSError as error:
        why = cannot_be("written", f"what it kept in {tempfile.gettempdir()!r}", error)
        raise ConfigError(f"{slot.effect} could not be loaded: {why}") from None


async def morph(session: Racked, preset: Preset, seconds: float, by: str) -> None:
    """Turn a session into a preset over some seconds; cancelled, it stays where it is.

    A rack of other effects is recalled half-way, where words and switches turn.

    Raises:
        StreamgenError: as `recall`.
    """
    start, target = dict(session.values()), _target(session, preset)
    moving = [name for name in target if _glides(session, name, start[name], target[name])]
    steps = max(round(seconds / _STEP_SECONDS), 1)
    for step in range(1, steps):
        await asyncio.sleep(seconds / steps)
        moving = [name for name in moving if name in session.table]  # others may take a slot out meanwhile
        due = [name for name in moving if name.startswith("plugin/") or not step % _MODEL_STEPS]
        values = {name: _between(session, name, start[name], target[name], step / steps) for name in due}
        if step == steps // 2:
            await _recall_rack(session, preset, by)
            values |= {name: value for name, value in _target(session, preset).items() if name not in moving}
        if values:
            await _step(session, Set(values, by, AT_ONCE, glide_seconds=seconds / steps))
    await recall(session, preset, by)


async def _step(session: Racked, turned: Set) -> None:
    """Turn knobs; again without those of a slot that was taken out before the engine came to it."""
    try:
        await session.do(turned)
    except ConfigError:
        left = {name: value for name, value in turned.values.items() if name in session.table}
        if len(left) == len(turned.values):
            raise
        await session.do(replace(turned, values=left))


def _glides(session: Racked, name: str, first: Value, last: Value) -> bool:
    return session.table[name].type in ("float", "int") and first != last and name != "seed"


def _between(session: Racked, name: str, first: Value, last: Value, share: float) -> Value:
    value = float(first) + (float(last) - float(first)) * share
    return round(value) if session.table[name].type == "int" else value


def plugin_of(slots: Iterable[RackedSlot], number: int) -> tuple[str, Plugin]:
    """Return the plugin in a slot, whose own presets can be read and written, and its name.

    Raises:
        FileError: there is none.
    """
    for slot in slots:
        if slot.number == number and isinstance(slot.effect, Plugin):
            return slot.name, slot.effect
    raise FileError(f"slot {number} has no plugin, so no preset file of its own; save the set instead")
