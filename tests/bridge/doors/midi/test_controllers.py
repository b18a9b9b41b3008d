from __future__ import annotations

import random

import pytest

from bridge.doors.midi.controllers import MidiParser, Moved, Pickup
from bridge.session.learning import read_map


def fed(*messages: tuple[int, ...]) -> list[Moved | None]:
    decoder = MidiParser()
    return [decoder.feed(message) for message in messages]


def test_knobs_keys_programs_and_the_wheel() -> None:
    assert fed((0xB0, 74, 127), (0x99, 36, 127), (0x89, 36, 9), (0xC3, 5), (0xE0, 0x7F, 0x7F)) == [
        Moved("cc 1/74", 1.0),
        Moved("note 10/36", 1.0),
        Moved("note 10/36", 0.0),
        Moved("pc 4/5", 1.0),
        Moved("bend 1", 1.0, 16_384),
    ]
    assert fed((0xD0, 5), (0xF8,), (), (0xB0,)) == [None] * 4


def test_the_finer_half_makes_fourteen_bits_of_a_controller() -> None:
    first, fine, coarse, again = fed((0xB0, 7, 64), (0xB0, 39, 1), (0xB0, 7, 65), (0xB0, 39, 0))
    assert first == Moved("cc 1/7", 64 / 127)
    assert fine == Moved("cc 1/7", (64 * 128 + 1) / 16_383, 16_384)
    assert coarse is None, "its finer half follows: the knob must not jump"
    assert again == Moved("cc 1/7", 65 * 128 / 16_383, 16_384)
    assert fed((0xB0, 39, 64)) == [Moved("cc 1/39", 64 / 127)], "alone it is a controller like any other"


def test_numbered_parameters() -> None:
    moved = fed((0xB1, 99, 2), (0xB1, 98, 44), (0xB1, 6, 100), (0xB1, 38, 3), (0xB1, 101, 0), (0xB1, 6, 1))
    assert moved[:2] == [None, None]
    assert moved[2:4] == [Moved("nrpn 2/300", 100 / 127), Moved("nrpn 2/300", (100 * 128 + 3) / 16_383, 16_384)]
    assert moved[5] == Moved("cc 2/6", 1 / 127), "a registered parameter is none of these"


def test_a_knob_turns_nothing_until_it_has_come_past() -> None:
    pickup, present, taken = Pickup(), 0.5, []
    for value in (10, 40, 60, 63, 66, 90):
        if pickup.takes(Moved("cc 1/1", value / 127), present):
            present = value / 127
            taken.append(value)
    assert taken == [63, 66, 90]
    assert not pickup.takes(Moved("cc 1/1", 91 / 127), 0.1), "somebody else has moved it"
    assert pickup.takes(Moved("cc 1/1", 5 / 127), 0.1), "a fast hand came past it"


def test_any_bytes_are_read() -> None:
    rng, decoder = random.Random(5), MidiParser()
    for _ in range(20_000):
        moved = decoder.feed([rng.randrange(256) for _ in range(rng.randrange(5))])
        if moved is not None:
            assert 0 <= moved.value <= 1
            assert read_map(f"{moved.source}=mute")[1] == []


@pytest.mark.parametrize("source", ["note 1/1", "pc 1/1"])
def test_what_is_struck(source: str) -> None:
    assert Moved(source, 1.0).is_struck
    assert not Moved("cc 1/1", 1.0).is_struck
