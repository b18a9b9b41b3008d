"""What a typed line asks of the rack and of presets."""

from __future__ import annotations

import asyncio

import pytest

from bridge.cli.terminal_rack import RACK_WORDS, rack_line
from bridge.session.commands import Command, EditRack, KeepTake, RackAction, RecallPreset, SavePreset, Set
from streamgen.errors import ConfigError

from ..doors.web_session import SineSession


def typed(*lines: str) -> tuple[SineSession, list[str]]:
    session = SineSession()

    async def go() -> list[str]:
        words = (line.partition(" ") for line in lines)
        return [await rack_line(session, "terminal", word, rest.strip()) for word, _, rest in words]

    return session, asyncio.run(go())


@pytest.mark.parametrize(
    ("lines", "command"),
    [
        (["add reverb"], EditRack(RackAction.ADD, "terminal", effect="reverb")),
        (["add reverb", "replace 1 tilt"], EditRack(RackAction.REPLACE, "terminal", 1, "tilt")),
        (["add reverb", "add tilt", "move 2 1"], EditRack(RackAction.MOVE, "terminal", 2, index=0)),
        (["add reverb", "remove 1"], EditRack(RackAction.REMOVE, "terminal", 1)),
        (["glide 2.5 gain_db -6"], Set({"gain_db": -6.0}, "terminal", glide_seconds=2.5)),
        (["save my set"], SavePreset("my set", "terminal")),
        (["recall my set"], RecallPreset("my set", "terminal")),
        (["recall my set 8"], RecallPreset("my set", "terminal", 8.0)),
        (["recall 8"], RecallPreset("8", "terminal")),
        (["keep"], KeepTake("terminal")),
        (["keep 12.5"], KeepTake("terminal", 12.5)),
    ],
)
def test_a_line_is_a_command(lines: list[str], command: Command) -> None:
    session, _ = typed(*lines)
    assert session.commands[-1] == command


def test_the_answer_says_what_is_there() -> None:
    _, answers = typed("rack", "add reverb", "add tilt", "move 2 1", "save a", "glide 1 gain_db -3")
    assert answers[0].startswith("rack: empty; there are high-pass, equalizer")
    assert answers[3].startswith("rack: 2 tilt, 1 reverb; there are")
    assert answers[4:] == ["presets: a", "1 gain_db -3"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("add nothing", "there is no effect 'nothing'"),
        ("add /etc/passwd", "there is no effect '/etc/passwd'"),
        ("remove x", "'x' is no number of a slot; the form is :remove SLOT"),
        ("remove 1", "there is no slot 1"),
        ("move 1", "the form is :move SLOT PLACE"),
        ("keep 60", "seconds is 60.0, must be within 1 … 30"),
        ("glide 99 gain_db 0", "glide_seconds is 99.0, must be within"),
        ("glide 1 nothing 0", "there is no parameter 'nothing'"),
    ],
)
def test_what_cannot_be_is_said(line: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        typed(line)
    assert says in str(caught.value)


def test_every_word_has_its_form() -> None:
    assert all(form.startswith(f":{word}") for word, form in RACK_WORDS.items())
