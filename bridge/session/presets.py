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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from bridge.audio.catalogue import Catalogue
from bridge.audio.effect import Effect
from bridge.audio.faults import SlotState
from bridge.audio.plugins.child import read_state, write_state
from bridge.audio.plugins.plugin import Plugin
from bridge.errors import FileError
from bridge.session.commands import Deed, EditRack, Set
from bridge.session.parameters import MIDI_LEARN
from bridge.session.preset_files import Preset, SlotPreset
from bridge.session.session import Session
from bridge.session.timeline import AT_ONCE, Moment
from streamgen.config import Value

__all__ = ["Racked", "captured", "commands", "made", "morph", "plugin_of", "rack_of", "recall"]

_STEP_SECONDS = 0.05  # of a morph's effects
_MODEL_STEPS = 10  # of these, until the model is told: it makes its lead anew each time
_KEPT = frozenset({"lead_seconds", "mute", MIDI_LEARN})  # of the machine and the moment, not of a set


class Racked(Session, Protocol):
    """A session whose effects can be asked for what they keep to themselves.

    Attributes:
        catalogue: what its rack may be made of.
    """

    catalogue: Catalogue

    async def rack_effects(self) -> dict[int, Effect]:
        """Return what is in the rack's slots, by number, in the order of the signal."""
        ...

    async def when(self, at: Moment | None) -> Moment | None:
        """Return the moment at which something asked for now shall begin; None is at once."""
        ...

    async def until(self, moment: Moment) -> None:
        """Wait until all before a moment is final."""
        ...

    async def saved_states(self, seconds: float = 5.0) -> dict[int, Path]:
        """Let every plugin write its state; returns the files by slot, without those that are not written in time."""
        ...


# -- session -> preset -> session --------------------------------------------------------------------------------------


async def captured(session: Racked) -> Preset:
    """Return what a session is set to, plugins' states included as they are now."""
    values = session.values()
    outside = {name: value for name, value in values.items() if not name.startswith("plugin/") and name not in _KEPT}
    return Preset(outside, (await rack_of(session)).slots)


async def rack_of(session: Racked) -> Preset:
    """Return the rack alone, as `captured` has it."""
    files = await session.saved_states()
    values = dict(session.values())
    slots = []
    for slot in session.slots():
        prefix = f"plugin/{slot.slot}/"
        own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        state = read_state(files[slot.slot])[1] if slot.slot in files else b""
        slots.append(SlotPreset(slot.name, own, state))
    return Preset({}, tuple(slots))


def commands(preset: Preset, make: Callable[[SlotPreset], Effect | None], by: str) -> Iterator[EditRack | Set]:
    """Yield what fills an empty rack, each to be carried out before the next.

    Args:
        preset: whose slots.
        make: makes a slot's effect, as `made` does; None leaves the slot out.
        by: who asks.
    """
    number = 0
    for slot in preset.slots:
        if (effect := make(slot)) is not None:
            number += 1
            yield EditRack(Deed.ADD, by, effect=slot.effect, made=effect, at=AT_ONCE)
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


def _target(session: Racked, preset: Preset) -> dict[str, Value]:
    """A preset's values by the names that they have in this session, as far as it has them."""
    values = dict(preset.values)
    for there, slot in zip(session.slots(), preset.slots, strict=False):
        if there.name == slot.effect:
            values |= {f"plugin/{there.slot}/{name}": value for name, value in slot.values.items()}
    return {name: value for name, value in values.items() if name in session.table}


async def _recall_rack(session: Racked, preset: Preset, by: str) -> None:
    for place, slot in enumerate(preset.slots):
        there = session.slots()[place] if place < len(session.slots()) else None
        if there is not None and there.name == slot.effect and not there.failed and await _is_now(session, there, slot):
            continue
        effect = await asyncio.to_thread(made, session.catalogue, session.rate_hz, slot)
        deed = Deed.ADD if there is None else Deed.REPLACE
        slot_number = 0 if there is None else there.slot
        await session.do(EditRack(deed, by, slot_number, slot.effect, made=effect, at=AT_ONCE))
    for extra in session.slots()[len(preset.slots) :]:
        await session.do(EditRack(Deed.REMOVE, by, extra.slot, at=AT_ONCE))


async def _is_now(session: Racked, there: SlotState, slot: SlotPreset) -> bool:
    """Whether an effect is what a preset says but for its parameters: built-in ones have nothing else."""
    if not slot.state:
        return True
    files = await session.saved_states()
    return there.slot in files and read_state(files[there.slot])[1] == slot.state


def made(catalogue: Catalogue, rate_hz: int, slot: SlotPreset) -> Effect:
    """Make a slot's effect, with what it kept to itself; takes as long as a plugin takes to load.

    Raises:
        ConfigError: there is none of that name, or it cannot be loaded.
    """
    if not slot.state:
        return catalogue.make(slot.effect, rate_hz)
    with tempfile.TemporaryDirectory(prefix="streamgen-state-") as folder:
        restore = Path(folder) / "state"
        write_state(restore, [], slot.state)
        return catalogue.make(slot.effect, rate_hz, restore)


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
        due = [name for name in moving if name.startswith("plugin/") or not step % _MODEL_STEPS]
        values = {name: _between(session, name, start[name], target[name], step / steps) for name in due}
        if step == steps // 2:
            await _recall_rack(session, preset, by)
            values |= {name: value for name, value in _target(session, preset).items() if name not in moving}
        if values:
            await session.do(Set(values, by, AT_ONCE, glide_seconds=seconds / steps))
    await recall(session, preset, by)


def _glides(session: Racked, name: str, first: Value, last: Value) -> bool:
    return session.table[name].type in ("float", "int") and first != last and name != "seed"


def _between(session: Racked, name: str, first: Value, last: Value, share: float) -> Value:
    value = float(first) + (float(last) - float(first)) * share
    return round(value) if session.table[name].type == "int" else value


def plugin_of(effects: Mapping[int, Effect], slot: int) -> Plugin:
    """Return the plugin in a slot, whose own presets can be read and written.

    Raises:
        FileError: there is none.
    """
    found = effects.get(slot)
    if not isinstance(found, Plugin):
        raise FileError(f"slot {slot} has no plugin, so no preset file of its own; save the set instead")
    return found
