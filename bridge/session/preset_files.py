"""A set in one TOML file: every parameter, the rack in its order, and what its plugins keep to themselves, as base64.

    version = 1
    [parameters]             of the session, outside the rack
    [[slots]]                of the rack, in the order of the signal
    effect = "compressor"    a name of the catalogue
    state = "…"              a plugin's, in base64
    [slots.parameters]       its parameters and its mix
    [plugins]                in an operator's rack file: further names of the catalogue

Rules: files only in the operator's folder, by names without a path; written whole or not at all.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.audio.plugins.engine import Reference
from bridge.errors import FileError
from streamgen.config import Value

__all__ = ["Preset", "SlotPreset", "names", "path_of", "plugins_in", "read", "write"]

_VERSION = 1
_NAME = re.compile(r"[\w][\w .+-]{0,63}")


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
    origin = f"origin = {_toml(preset.origin)}\n" if preset.origin else ""
    yield f"version = {_VERSION}\n{origin}\n[parameters]\n"
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
        slots = tuple(_slot(row) for row in rows.get("slots", []))
        return Preset(_values(rows["parameters"]), slots, str(rows.get("origin", "")))
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
