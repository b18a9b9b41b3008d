"""What a typed line asks of the session, and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.cli.terminal_door import TerminalDoor
from bridge.doors.door import Sessions
from bridge.session.commands import Action, Command, Set, Transport
from bridge.session.events import Gap, Notice, PlayerState, Stats, TransportCause, Transported
from bridge.session.parameters import Parameters, session_table
from bridge.session.session import Listener
from streamgen.config import Value
from streamgen.errors import CapacityError

SOUND = {"sound_delay_seconds": 0.05, "sound_starvations_total": 2, "sound_starved_seconds_total": 0.25}


class Desk:
    """A session that checks and remembers what it is told."""

    rate_hz = 48_000

    def __init__(self) -> None:
        self.live = self
        self.parameters = Parameters(session_table(), {"prompt/1/text": "a", "prompt/2/weight": 0.5})
        self.table = self.parameters.table
        self.done: list[Command] = []
        self.listeners: list[Listener] = []

    def values(self) -> Mapping[str, Value]:
        return dict(self.parameters.values)

    async def do(self, command: Command) -> int:
        if isinstance(command, Set):
            values = self.parameters.checked(command.values)
            if values.get("prompt/1/text") == "full":
                raise CapacityError("no room for another prompt")
            self.parameters.values.update(values)
        self.done.append(command)
        return 0

    def add(self, listener: Listener) -> list[Any]:
        self.listeners.append(listener)
        return []

    def remove(self, listener: Listener) -> None:
        self.listeners.remove(listener)

    def stats(self) -> Stats:
        return Stats(1.5, 0.75, 1, 1, 10, 96_000, True, PlayerState.PLAYING)


def typed(*lines: str) -> tuple[Desk, TerminalDoor, list[str]]:
    desk, door = Desk(), TerminalDoor(lambda: SOUND, Path("takes"))

    async def go() -> list[str]:
        await door.open(cast(Sessions, desk))
        answers = [await door.carry_out(line) for line in lines]
        await door.close("the end")
        return answers

    answers = asyncio.run(go())
    assert desk.listeners == []
    return desk, door, answers


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("", ""),
        ("techno, 130 bpm", "prompt: techno, 130 bpm"),
        ("full", "no room for another prompt"),
        (":set temperature 0.5", "temperature: 0.5"),
        (":set temperature hot", "temperature is 'hot', must be a number within 0 … 5"),
        (":set temperature 9", "temperature is 9.0, must be within 0 … 5"),
        (":set temperature", "temperature is '', must be a number within 0 … 5"),
        (":set change_context_seconds 0", "change_context_seconds: 0"),
        (":set seed 4", "seed: 4"),
        (":set gain_db -6", "gain_db: -6"),
        (":set mute on", "mute: on"),
        (":set prompt/2/text strings and harp", "prompt/2/text: strings and harp"),
        (":gain -3", "gain_db: -3"),
        (":negative crowd, noise", "negative_prompt: crowd, noise"),
        (":prompt 2 harp and drums", "prompt 2: harp and drums"),
        (":pause", "paused"),
        (":play", "playing"),
        (":s", "2 s made, 1.50 × real time, 0.8 s ready, 3 gaps, 0.2 s of silence"),
    ],
)
def test_what_a_line_answers(line: str, answer: str) -> None:
    _, door, answers = typed(line)
    assert answers == [answer]
    assert not door.ended.is_set()


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    _, _, (answer, slot) = typed(":set sparkle 1", ":prompt 9 harp")
    assert slot == "there is no prompt '9': there are 1 … 8"
    assert answer.startswith("there is no parameter 'sparkle'; there are prompt/1/text, ")


@pytest.mark.parametrize("line", [":set", ":dance", ":prompt", ":x y"])
def test_what_is_not_understood_is_named_with_the_way_to_the_list(line: str) -> None:
    _, _, (answer,) = typed(line)
    assert answer == f"{line!r} is no command, or lacks something: :h lists them"


@pytest.mark.parametrize("line", [":", ":h", ":help", ":?"])
def test_what_can_be_typed_is_listed_in_lines_that_fit_a_screen(line: str) -> None:
    _, door, (answer,) = typed(line)
    assert answer == door.help
    assert max(map(len, answer.splitlines())) <= 112
    for part in (":set NAME VALUE", "guidance_scale", "lead_seconds", "gain_db", ":pause", ":q"):
        assert part in answer


def test_what_is_kept_is_told_with_its_folder(capfd: pytest.CaptureFixture[str]) -> None:
    door = TerminalDoor(dict, Path("/my/takes"))
    door.event(Notice("kept", "the last 3 s are take-1.flac", 0))
    door.event(Notice("heard", "techno", 0))
    assert capfd.readouterr().err == "kept: the last 3 s are take-1.flac, in /my/takes\nheard: techno\n"


def test_a_new_prompt_plays_alone() -> None:
    desk, _, _ = typed("techno")
    (told,) = desk.done
    assert told == Set({"prompt/1/text": "techno", "prompt/1/weight": 1.0, "prompt/2/weight": 0.0}, "terminal")


def test_the_transport_is_the_sessions() -> None:
    desk, _, _ = typed(":pause", ":play")
    assert desk.done == [Transport(Action.PAUSE, "terminal"), Transport(Action.PLAY, "terminal")]


@pytest.mark.parametrize("line", [":q", ":quit"])
def test_how_to_quit(line: str) -> None:
    _, door, answers = typed(line)
    assert answers == [""]
    assert door.ended.is_set()
    assert not door.finished


def test_the_end_is_scheduled_to_its_sample_and_noticed() -> None:
    desk, door, _ = typed()
    asyncio.run(door.end_after(2.5))
    (told,) = desk.done
    assert isinstance(told, Transport)
    assert told.at is not None
    assert (told.action, told.at.sample) == (Action.PAUSE, 120_000)
    door.event(Transported(TransportCause.PAUSE, PlayerState.PAUSED, "somebody", 5))
    assert not door.ended.is_set()
    door.event(Transported(TransportCause.PAUSE, PlayerState.PAUSED, told.by, 120_000))
    assert (door.ended.is_set(), door.finished, door.failed) == (True, True, "")
    assert door.figures(1.5).seconds == 1.5, "what is beyond the end is not counted"


def test_a_stream_that_failed_ends_it_with_its_reason() -> None:
    _, door, _ = typed()
    door.event(Transported(TransportCause.PAUSE, PlayerState.FAILED, "engine: no memory left", 5))
    assert (door.ended.is_set(), door.failed) == (True, "no memory left")


def test_gaps_of_engine_and_device_add_up() -> None:
    _, door, _ = typed()
    door.event(Gap(0, 24_000, "underrun"))
    figures = door.figures()
    assert (figures.gaps, figures.gap_seconds) == (3, 0.75)
    assert door.delay_seconds == pytest.approx(0.25)


def test_a_door_that_never_opened_closes() -> None:
    asyncio.run(TerminalDoor(dict, Path()).close("the end"))
