"""A set in one TOML file: every parameter, the rack in its order, and what its plugins keep to themselves, as base64.

    version = 1
    [parameters]             of the session, outside the rack
    [[slots]]                of the rack, in the order of the signal
    effect = "compressor"    a name of the catalogue
    number = 2               as in plugin/2/…, which controllers are mapped to; a file written by hand needs none
    state = "…"              a plugin's, in base64
    [slots.parameters]       its parameters and its mix
    [plugins]                in an operator's rack file: further names of the catalogue

Rules: files only in the operator's folder, by names without a path; written whole or not at all.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.audio.plugins.engine import Reference
from bridge.audio.rack import MAX_SLOTS
from bridge.disk import MOST_MB, read_toml, write_whole
from bridge.errors import FileError, cannot_be
from bridge.session.commands import MAX_PRESET_NAME
from streamgen.config import Value
from streamgen.errors import quoted

__all__ = ["Preset", "SlotPreset", "names", "path_of", "plugins_in", "read", "write"]

_VERSION = 1
_NAME = re.compile(rf"\w[\w .+-]{{0,{MAX_PRESET_NAME - 1}}}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)  # of Windows, whatever its ending
_MOST_NAME_BYTES = 200  # a file's name ends at 255, with its ending and what it is written under


@dataclass(frozen=True)
class SlotPreset:
    """One slot.

    Attributes:
        effect: its name in the catalogue.
        values: of its parameters and its mix, by their own names.
        state: what a plugin keeps to itself.
        number: of the slot; 0 for any.
    """

    effect: str
    values: Mapping[str, Value] = field(default_factory=dict)
    state: bytes = b""
    number: int = 0


@dataclass(frozen=True)
class Preset:
    """A set.

    Attributes:
        values: of the session's parameters outside the rack.
        slots: the rack, in the order of the signal.
        origin: of a rack that a service keeps: which of the operator's files it began with.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    slots: tuple[SlotPreset, ...] = ()
    origin: str = ""


def path_of(folder: Path, name: str) -> Path:
    """Return the file of a preset's name.

    Raises:
        FileError: the name is none, such as one with a path in it.
    """
    if not _NAME.fullmatch(name) or len(name.encode()) > _MOST_NAME_BYTES:
        wanted = f"use letters, digits, spaces and . + - _, at most {MAX_PRESET_NAME}"
        raise FileError(f"{name!r:.{MAX_PRESET_NAME + 2}} is no name of a preset: {wanted}")
    if _DEVICE.fullmatch(name):
        raise FileError(f"{name!r} is no name of a preset: on Windows it is a device and no file; add a letter to it")
    return folder / f"{name}.toml"


def names(folder: Path) -> list[str]:
    """Return the names of the presets in a folder."""
    return sorted(path.stem for path in folder.glob("*.toml") if _NAME.fullmatch(path.stem))


def write(path: Path, preset: Preset) -> None:
    """Write a preset, whole or not at all.

    Raises:
        FileError: it cannot be written.
    """
    try:
        data = "".join(_lines(preset)).encode()
        if len(data) > MOST_MB * 1_000_000:  # it could not be read again
            raise FileError(f"{path} would hold {len(data) / 1e6:,.0f} MB; a preset has at most {MOST_MB} MB")
        write_whole(path, data)
    except OSError as error:
        raise FileError(cannot_be("written", path, error, "make room there, or choose another folder")) from None
    except UnicodeEncodeError as error:
        raise FileError(f"{str(path)!r} cannot be written: {error.object[error.start]!r} is no character") from None


def _lines(preset: Preset) -> Iterable[str]:
    origin = f"origin = {_toml(preset.origin)}\n" if preset.origin else ""
    yield f"version = {_VERSION}\n{origin}\n[parameters]\n"
    yield from _pairs(preset.values)
    for slot in preset.slots:
        yield f"\n[[slots]]\neffect = {_toml(slot.effect)}\n"
        if slot.number:
            yield f"number = {slot.number}\n"
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
    rows = _rows(path)
    if rows.get("version") != _VERSION:
        said = f"says version = {quoted(rows['version'])}" if "version" in rows else "says no version"
        raise FileError(f"{path} is no preset for this streamgen: it {said}, must be version = {_VERSION}")
    if not {"parameters", "slots"} & rows.keys():
        raise FileError(f"{path} is no preset: it has neither [parameters] nor [[slots]]")
    try:
        slots = tuple(_slot(place, row) for place, row in enumerate(rows.get("slots", []), 1))
        if len(numbers := [slot.number for slot in slots if slot.number]) != len(set(numbers)):
            raise ValueError("two slots have one number")
        return Preset(_values(rows.get("parameters", {})), slots, str(rows.get("origin", "")))
    except (ValueError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is no preset: {error}") from None


def _rows(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except OSError as error:
        raise FileError(cannot_be("read", path, error)) from None
    except ValueError as error:
        raise FileError(f"{path} is no preset: {error}") from None


def plugins_in(path: Path) -> dict[str, Reference]:
    """Return the plugins that an operator's rack file names beside what is in the rack: `[plugins]`, name = path.

    Of an LV2 bundle that has many, `name = { path = "…", uri = "…" }`.

    Raises:
        FileError: it cannot be read.
    """
    try:
        rows = _rows(path).get("plugins", {})
        named = {name: {"path": row} if isinstance(row, str) else row for name, row in rows.items()}
        return {name: Reference(str(row["path"]), str(row.get("uri", ""))) for name, row in named.items()}
    except (KeyError, TypeError, AttributeError):
        form = 'NAME = "PATH", or NAME = { path = "PATH", uri = "URI" }'
        raise FileError(f"{path} is no rack file: under [plugins] each line is {form}") from None


def _slot(place: int, row: Mapping[str, Any]) -> SlotPreset:
    if "effect" not in row:
        raise ValueError(f"slot {place} has no effect")
    number = row.get("number", 0)
    if not isinstance(number, int) or not 0 <= number <= MAX_SLOTS:
        raise ValueError(f"the number of slot {place} is {quoted(number)}, must be within 1 … {MAX_SLOTS}")
    try:
        state = base64.b64decode(row.get("state", ""), validate=True)
    except binascii.Error as error:
        raise ValueError(f"the state of slot {place}, {quoted(row['effect'])}, is damaged: {error}") from None
    return SlotPreset(str(row["effect"]), _values(row.get("parameters", {})), state, number)


def _values(row: Mapping[str, Any]) -> dict[str, Value]:
    for name, value in row.items():
        if not isinstance(value, str | float | int):
            raise ValueError(f"{name} is {quoted(value)}, must be a number, a text, true or false")
    return dict(row)
