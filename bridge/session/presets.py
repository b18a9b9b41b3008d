"""A set in one file: every parameter, the rack in its order, and what its plugins keep to themselves.

    session ─ captured ─► Preset ─ write ─► NAME.toml (plugins' states as base64) ─ read ─► Preset ─ recalled ─► session
                                                                                                └── morphed over T ─┘

Recalling replaces what differs, slot by slot, each with its own crossfade: the music goes on. A morph turns every
number on its way, as hands would; words and switches turn half-way.

Rules: files only in the operator's folder, by names without a path; a file that cannot be read changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.audio.effect import Effect
from bridge.audio.plugins.child import read_state, write_state
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.plugin import Plugin
from bridge.errors import FileError
from bridge.session.live_session import LiveSession
from bridge.session.messages import Deed, EditRack, Set, SlotState
from streamgen.config import Value

__all__ = [
    "Preset",
    "SlotPreset",
    "captured",
    "keep",
    "morph",
    "names",
    "path_of",
    "plugin_of",
    "read",
    "recall",
    "write",
]

_VERSION = 1
_NAME = re.compile(r"[\w][\w .+-]{0,63}")
_STEP_SECONDS = 0.05  # of a morph's effects
_MODEL_STEPS = 10  # of these, until the model is told: it makes its lead anew each time
_KEPT = frozenset({"lead_seconds", "mute"})  # of the machine and the moment, not of a set


@dataclass(frozen=True)
class SlotPreset:
    """One slot.

    Attributes:
        effect: its name in the catalogue.
        values: of its parameters and its mix, by their own names.
        state: what a plugin keeps to itself.
    """

    effect: str
    values: Mapping[str, Value] = field(default_factory=dict)
    state: bytes = b""


@dataclass(frozen=True)
class Preset:
    """A set.

    Attributes:
        values: of the session's parameters outside the rack.
        slots: the rack, in the order of the signal.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    slots: tuple[SlotPreset, ...] = ()


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


# -- files -------------------------------------------------------------------------------------------------------------


def path_of(folder: Path, name: str) -> Path:
    """Return the file of a preset's name.

    Raises:
        FileError: the name is none, such as one with a path in it.
    """
    if not _NAME.fullmatch(name):
        raise FileError(f"{name!r} is no name of a preset: use letters, digits, spaces and . + - _, at most 64")
    return folder / f"{name}.toml"


def names(folder: Path) -> list[str]:
    """Return the names of the presets in a folder."""
    return sorted(path.stem for path in folder.glob("*.toml") if _NAME.fullmatch(path.stem))


def write(path: Path, preset: Preset) -> None:
    """Write a preset, whole or not at all.

    Raises:
        FileError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text("".join(_lines(preset)), encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}; choose another folder") from None


def _lines(preset: Preset) -> Iterable[str]:
    yield f"version = {_VERSION}\n\n[parameters]\n"
    yield from _pairs(preset.values)
    for slot in preset.slots:
        yield f"\n[[slots]]\neffect = {_toml(slot.effect)}\n"
        if slot.state:
            yield f"state = {_toml(base64.b64encode(slot.state).decode())}\n"
        yield "[slots.parameters]\n"
        yield from _pairs(slot.values)


def _pairs(values: Mapping[str, Value]) -> Iterable[str]:
    return (f"{_toml(name)} = {_toml(value)}\n" for name, value in values.items())


def _toml(value: Value) -> str:
    """Write a value: JSON's words are TOML's, but for a character that TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read(path: Path) -> Preset:
    """Read a preset.

    Raises:
        FileError: it cannot be read, or is none.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
        if rows.get("version") != _VERSION:
            raise FileError(f"{path} is no preset of version {_VERSION}")
        return Preset(_values(rows["parameters"]), tuple(_slot(row) for row in rows.get("slots", [])))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise FileError(f"{path} is no preset: {error}") from None


def plugins_in(path: Path) -> dict[str, Reference]:
    """Return the plugins that an operator's rack file names beside what is in the rack: `[plugins]`, name = path.

    Of an LV2 bundle that has many, `name = { path = "…", uri = "…" }`.

    Raises:
        FileError: it cannot be read.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("plugins", {})
        named = {name: {"path": row} if isinstance(row, str) else row for name, row in rows.items()}
        return {name: Reference(str(row["path"]), str(row.get("uri", ""))) for name, row in named.items()}
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is no rack file: {error}") from None


def _slot(row: Mapping[str, Any]) -> SlotPreset:
    state = base64.b64decode(row.get("state", ""), validate=True)
    return SlotPreset(str(row["effect"]), _values(row.get("parameters", {})), state)


def _values(row: Mapping[str, Any]) -> dict[str, Value]:
    for name, value in row.items():
        if not isinstance(value, str | float | int):
            raise ValueError(f"{name} is {value!r}")
    return dict(row)


def plugin_of(effects: Mapping[int, Effect], slot: int) -> Plugin:
    """Return the plugin in a slot, whose own presets can be read and written.

    Raises:
        FileError: there is none.
    """
    found = effects.get(slot)
    if not isinstance(found, Plugin):
        raise FileError(f"slot {slot} has no plugin, so no preset file of its own; save the set instead")
    return found
