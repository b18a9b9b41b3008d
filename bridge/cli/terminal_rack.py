"""What a person types about the rack, presets and takes: `:rack`, `:add EFFECT`, `:recall NAME SECONDS`.

Rules: the event loop; a line becomes one command of the session, and one line of answer.
"""

from __future__ import annotations

from bridge.session.commands import (
    GLIDE_SECONDS,
    KEEP_SECONDS,
    MORPH_SECONDS,
    Command,
    EditRack,
    KeepTake,
    RackAction,
    RecallPreset,
    SavePreset,
    Set,
)
from bridge.session.session import Session
from streamgen.config import ControlSpec
from streamgen.errors import ConfigError

__all__ = ["RACK_WORDS", "rack_line"]

_MOST_NAMED = 20  # in one line

RACK_WORDS = {
    "rack": ":rack",
    "add": ":add EFFECT",
    "remove": ":remove SLOT",
    "replace": ":replace SLOT EFFECT",
    "move": ":move SLOT PLACE",
    "glide": ":glide SECONDS NAME VALUE",
    "save": ":save PRESET",
    "recall": ":recall PRESET [SECONDS]",
    "keep": ":keep [SECONDS]",
}
"""The words, each with its form."""


async def rack_line(session: Session, by: str, word: str, rest: str) -> str:
    """Do what one line asks; returns what to say.

    Args:
        session: whose rack.
        by: who types.
        word: one of `RACK_WORDS`.
        rest: of the line.

    Raises:
        StreamgenError: it cannot be done.
    """
    if word != "rack":
        await session.do(_command(session, by, word, rest))
    if word in ("save", "recall"):
        return f"presets: {', '.join(session.presets())}"
    if word == "keep":
        return ""  # the session tells everybody
    return rest if word == "glide" else _shown(session)


def _shown(session: Session) -> str:
    slots = ", ".join(f"{slot.slot} {slot.name}{' (failed)' * slot.failed}" for slot in session.slots())
    names = session.effects()
    there = ", ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} effects: see `streamgen plugins list`"
    return f"rack: {slots or 'empty'}; there are {there}"


def _command(session: Session, by: str, word: str, rest: str) -> Command:
    first, _, second = rest.partition(" ")
    if word == "glide":
        name, _, value = second.strip().partition(" ")
        if name not in session.table:
            raise ConfigError.unknown("parameter", name, session.table)
        seconds = float(GLIDE_SECONDS.parse(first))
        return Set({name: session.table[name].parse(value)}, by, glide_seconds=seconds)
    if word == "save":
        return SavePreset(rest, by)
    if word == "recall":
        name, seconds_ = _name_and_seconds(rest)
        return RecallPreset(name, by, seconds_)
    if word == "keep":
        return KeepTake(by, float(KEEP_SECONDS.parse(rest)) if rest else float(KEEP_SECONDS.default))
    if word == "add":
        return EditRack(RackAction.ADD, by, effect=rest)
    slot = _whole(word, first)
    if word == "move":
        return EditRack(RackAction.MOVE, by, slot, index=_whole(word, second) - 1)
    return EditRack(RackAction(word), by, slot, second.strip())


def _name_and_seconds(rest: str) -> tuple[str, float]:
    """Take seconds off the end of a name, which may hold spaces."""
    name, _, last = rest.rpartition(" ")
    spec: ControlSpec = MORPH_SECONDS
    try:
        return (name.strip(), float(spec.parse(last))) if name else (rest, 0.0)
    except ConfigError:
        return rest, 0.0


def _whole(word: str, text: str) -> int:
    if not text.strip().isdigit() or not int(text):
        raise ConfigError(f"{text.strip()!r} is no number of a slot; the form is {RACK_WORDS[word]}")
    return int(text)
