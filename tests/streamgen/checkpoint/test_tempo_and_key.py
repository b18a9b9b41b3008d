"""Tempi and keys in the spellings of people, and what only looks like one."""

from __future__ import annotations

import pytest

from streamgen.checkpoint.tempo_and_key import AskedKey, AskedTempo, asked_key, asked_tempo


@pytest.mark.parametrize(
    ("text", "bpm", "rest"),
    [
        ("house, 125 bpm", 125.0, "house, "),
        ("128.9BPM", 128.9, ""),
        ("12,5 bpm", 12.5, ""),
        ("rock,140 bpm", 140.0, "rock, "),
        ("120-130 bpm", 125.0, ""),
        ("90 – 100 bpm", 95.0, ""),
        ("techno - 140 bpm", 140.0, "techno -"),
        ("dub at 70", 70.0, "dub"),
        ("techno 140", 140.0, "techno"),
        ("BPM: 140 techno", 140.0, "techno"),
        ("tempo: 90 bpm", 90.0, ""),
        ("♩ = 72, piano", 72.0, ", piano"),
        ("quarter note = 90", 90.0, ""),
        ("around 110 bpm", 110.0, ""),
        ("~110-ish bpm", 110.0, ""),
        ("110 bpm-ish", 110.0, ""),
        ("125bpm-house", 125.0, "house"),
        ("lofi, 94 bpm -drums", 94.0, "lofi, -drums"),
    ],
)
def test_a_tempo_in_numbers(text: str, bpm: float, rest: str) -> None:
    found, left = asked_tempo(text)
    assert found is not None
    assert (found.bpm, left.split()) == (bpm, rest.split())


def test_a_tempo_is_told_as_it_was_written() -> None:
    assert asked_tempo("house, 12,5 bpm")[0] == AskedTempo(12.5, "12.5 bpm")


def test_a_range_of_tempi_is_told_by_both_ends() -> None:
    assert asked_tempo("from 94 to 150 bpm")[0] == AskedTempo(122, "94 to 150 bpm")


@pytest.mark.parametrize(
    "text",
    [
        "-94 bpm",
        "1000000 bpm",
        "-3 bpm",
        "0 bpm",
        "00 bpm",
        "1e3 bpm",
        "1e309 bpm",
        "techno 1990",
        "house 100%",
        "70s",
        "8-bit",
        "a#90 bpm",
        "at 10 pm",
        "at 12 o'clock",
        "60 minutes of jazz",
        "120 seconds",
        "op. 101",
        "opus 64",
        "route 66",
        "100% jazz",
    ],
)
def test_what_is_no_tempo(text: str) -> None:
    assert asked_tempo(text) == (None, text)


@pytest.mark.parametrize(
    ("text", "semitone", "mode"),
    [
        ("A minor", 9, "minor"),
        ("H-Moll", 11, "minor"),
        ("B-Dur", 10, "major"),
        ("B major", 11, "major"),
        ("Es-Dur", 3, "major"),
        ("as moll", 8, "minor"),
        ("cis-moll", 1, "minor"),
        ("Ces-Dur", 11, "major"),
        ("F## minor", 7, "minor"),
        ("f # minor", 6, "minor"),
        ("b flat major", 10, "major"),
        ("bb minor", 10, "minor"),
        ("do mineur", 0, "minor"),
        ("mi bémol majeur", 3, "major"),
        ("la menor", 9, "minor"),
        ("fa diesis minore", 6, "minor"),
        ("piano in C", 0, ""),
        ("in Bb with strings", 10, ""),
        ("key of G", 7, ""),
        ("jazz in A, slow", 9, ""),
        ("reggae in g", 7, ""),
        ("rock in bb, loud", 10, ""),
        ("house in a", 9, ""),
        ("F#m", 6, "minor"),
        ("F-sharp minor", 6, "minor"),
        ("e-flat major", 3, "major"),
        ("piano in B flat", 10, ""),
        ("in C sharp, slow", 1, ""),
        ("jazz in e-flat", 3, ""),
        ("F# dorian", 6, ""),
        ("D Lydian", 2, ""),
    ],
)
def test_a_key_as_people_write_it(text: str, semitone: int, mode: str) -> None:
    found, _ = asked_key(text)
    assert found is not None
    assert (found.semitone, found.mode) == (semitone, mode)


def test_the_key_is_taken_out_of_the_prompt() -> None:
    assert asked_key("İİİ lofi, F# minor") == (AskedKey(6, "minor", "F# minor"), "İİİ lofi,  ")
    assert asked_tempo("İstanbul, 140 bpm!") == (AskedTempo(140, "140 bpm"), "İstanbul,  !")
    assert asked_key("A minor-techno") == (AskedKey(9, "minor", "A minor"), " techno")
    assert asked_key("piano in Es-Dur, slow") == (AskedKey(3, "major", "Es-Dur"), "piano in  , slow")


@pytest.mark.parametrize(
    "text",
    [
        "in A smoky bar",
        "in a smoky bar",
        "in d town",
        "be minor",
        "Cmaj7",
        "in Berlin",
        "play in Dub's way",
        "",
        "in a major key",
        "A lydian piece",
    ],
)
def test_what_is_no_key(text: str) -> None:
    assert asked_key(text) == (None, text)
