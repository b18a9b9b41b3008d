"""What a session is set to, as one thing: taken, brought back, gone to over time, kept for the next start.

    session ─ captured ─► Preset ─ preset_files.write ─► NAME.toml ─ read ─► Preset ─ recall ─► session
                                                                                └─ morph over T ──┘

Recalling replaces what differs, slot by slot, each with its own crossfade: the music goes on. A morph turns every
number on its way, as hands would; words and switches turn half-way.

Rules: the event loop; loading a plugin and writing a file are for threads beside it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bridge.audio.effect import Effect
from bridge.audio.plugins.child import read_state, write_state
from bridge.audio.plugins.plugin import Plugin
from bridge.errors import FileError
from bridge.session.live_session import LiveSession
from bridge.session.messages import Deed, EditRack, Set, SlotState
from bridge.session.preset_files import Preset, SlotPreset, write
from streamgen.config import Value

__all__ = ["captured", "keep", "morph", "plugin_of", "recall"]

_STEP_SECONDS = 0.05  # of a morph's effects
_MODEL_STEPS = 10  # of these, until the model is told: it makes its lead anew each time
_KEPT = frozenset({"lead_seconds", "mute"})  # of the machine and the moment, not of a set


# -- session -> preset -> session --------------------------------------------------------------------------------------


async def captured(session: LiveSession) -> Preset:
    """Return what a session is set to, plugins' states included as they are now."""
    files = await session.saved_states()
    values = dict(session.values())
    slots = []
    for slot in session.slots():
        prefix = f"plugin/{slot.slot}/"
        own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        state = read_state(files[slot.slot])[1] if slot.slot in files else b""
        slots.append(SlotPreset(slot.name, own, state))
    outside = {name: value for name, value in values.items() if not name.startswith("plugin/") and name not in _KEPT}
    return Preset(outside, tuple(slots))


async def recall(session: LiveSession, preset: Preset, by: str) -> None:
    """Make a session what a preset says.

    Raises:
        StreamgenError: an effect is not in this session's catalogue or cannot be loaded, or a value is not allowed;
            slots before it are as the preset says then.
    """
    await _recall_rack(session, preset, by)
    await session.do(Set(_target(session, preset), by))


def _target(session: LiveSession, preset: Preset) -> dict[str, Value]:
    """A preset's values by the names that they have in this session, as far as it has them."""
    values = dict(preset.values)
    for there, slot in zip(session.slots(), preset.slots, strict=False):
        if there.name == slot.effect:
            values |= {f"plugin/{there.slot}/{name}": value for name, value in slot.values.items()}
    return {name: value for name, value in values.items() if name in session.table}


async def _recall_rack(session: LiveSession, preset: Preset, by: str) -> None:
    for place, slot in enumerate(preset.slots):
        there = session.slots()[place] if place < len(session.slots()) else None
        if there is not None and there.name == slot.effect and not there.failed and await _is_now(session, there, slot):
            continue
        made = await asyncio.to_thread(_made, session, slot)
        deed = Deed.ADD if there is None else Deed.REPLACE
        await session.do(EditRack(deed, by, 0 if there is None else there.slot, slot.effect, made=made))
    for extra in session.slots()[len(preset.slots) :]:
        await session.do(EditRack(Deed.REMOVE, by, extra.slot))


async def _is_now(session: LiveSession, there: SlotState, slot: SlotPreset) -> bool:
    """Whether an effect is what a preset says but for its parameters: built-in ones have nothing else."""
    if not slot.state:
        return True
    files = await session.saved_states()
    return there.slot in files and read_state(files[there.slot])[1] == slot.state


def _made(session: LiveSession, slot: SlotPreset) -> Effect:
    if not slot.state:
        return session.catalogue.make(slot.effect, session.rate_hz)
    with tempfile.TemporaryDirectory(prefix="streamgen-state-") as folder:
        restore = Path(folder) / "state"
        write_state(restore, [], slot.state)
        return session.catalogue.make(slot.effect, session.rate_hz, restore)


async def morph(session: LiveSession, preset: Preset, seconds: float, by: str) -> None:
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
            await session.do(Set(values, by, glide_seconds=seconds / steps))
    await recall(session, preset, by)


def _glides(session: LiveSession, name: str, first: Value, last: Value) -> bool:
    return session.table[name].type in ("float", "int") and first != last and name != "seed"


def _between(session: LiveSession, name: str, first: Value, last: Value, share: float) -> Value:
    value = float(first) + (float(last) - float(first)) * share
    return round(value) if session.table[name].type == "int" else value


async def keep(session: LiveSession, path: Path, seconds: float = 5.0) -> None:
    """Write what a session is set to whenever it has changed, for ever: a service that is killed begins with it."""
    last: Preset | None = None
    while True:
        now = await captured(session)
        if now != last:
            await asyncio.to_thread(write, path, now)
            last = now
        await asyncio.sleep(seconds)


def plugin_of(effects: Mapping[int, Effect], slot: int) -> Plugin:
    """Return the plugin in a slot, whose own presets can be read and written.

    Raises:
        FileError: there is none.
    """
    found = effects.get(slot)
    if not isinstance(found, Plugin):
        raise FileError(f"slot {slot} has no plugin, so no preset file of its own; save the set instead")
    return found
