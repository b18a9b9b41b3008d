"""What MIDI controls can be told to do: the parameters `midi/learn` and `midi/map`, as texts and in full.

    midi/learn   "temperature"                                    what the next control that is touched shall do
    midi/map     "cc 1/74=temperature; note 10/36=prompt 2"       what was learned, source = target

Rules: plain text and its checks, for the session and the MIDI door alike: what is wrong is said where it is set, not
when a knob is turned at last. A plugin's parameters may come later than a map that names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.session.commands import Action
from bridge.session.parameters import MIDI_LEARN, MIDI_MAP
from streamgen.config import MAX_PROMPTS, ControlSpec, Value
from streamgen.errors import ConfigError

__all__ = ["KEEP", "PRESET", "PROMPT", "check_learning", "read_map", "unknown_target", "written_map"]

PROMPT, PRESET, KEEP = "prompt ", "preset ", "keep"
_PLUGIN = "plugin/"
_SOURCE = re.compile(r"(?:(?:cc|nrpn|note|pc) (?:[1-9]|1[0-6])/\d{1,5}|bend (?:[1-9]|1[0-6]))")


def read_map(text: str) -> tuple[dict[str, str], list[str]]:
    """Read a map, source → target; returns it and what of it means nothing."""
    found, wrong = {}, []
    for part in filter(None, map(str.strip, text.split(";"))):
        source, _, target = (word.strip() for word in part.partition("="))
        if _SOURCE.fullmatch(source) and target:
            found[source] = target
        else:
            wrong.append(part)
    return found, wrong


def written_map(learned: Mapping[str, str]) -> str:
    """Write a map as `read_map` reads it."""
    return "; ".join(f"{source}={target}" for source, target in learned.items())


def unknown_target(target: str, table: Mapping[str, ControlSpec]) -> str:
    """Say why no control can do what a target says; nothing if one can."""
    number = target.removeprefix(PROMPT)
    if target.startswith(PROMPT) and number.isdecimal() and 1 <= int(number) <= MAX_PROMPTS:
        return ""
    if target in [*Action, KEEP] or (target.startswith(PRESET) and target.removeprefix(PRESET).strip()):
        return ""
    spec = table.get(target)
    if spec is None:
        return str(ConfigError.unknown("parameter", target, table))
    return "" if spec.has_range or spec.choices else f"{target} is a text: no knob turns it"


def check_learning(values: Mapping[str, Value], table: Mapping[str, ControlSpec]) -> None:
    """Check what is set of `midi/learn` and `midi/map`; an empty text ends either.

    Raises:
        ConfigError: a control could do nothing of it.
    """
    target = str(values.get(MIDI_LEARN, "")).strip()
    if target and (why := unknown_target(target, table)):
        raise ConfigError(f"{MIDI_LEARN}: {why}")
    learned, wrong = read_map(str(values.get(MIDI_MAP, "")))
    if wrong:
        raise ConfigError(f"{MIDI_MAP}: {wrong[0]!r:.60} means nothing; write SOURCE=TARGET, such as cc 1/74=gain_db")
    for source, target in learned.items():
        if not target.startswith(_PLUGIN) and (why := unknown_target(target, table)):
            raise ConfigError(f"{MIDI_MAP}: {source}: {why}")
