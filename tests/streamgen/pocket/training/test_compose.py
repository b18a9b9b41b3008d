from __future__ import annotations

import random

import pytest

from streamgen.pocket.training.compose import (
    BREAK,
    DRUM_CHANNEL,
    FILL,
    FRAMES_PER_STEP,
    GROOVE,
    MAJOR,
    MINOR,
    STEPS_PER_BAR,
    TURN,
    VARIATION,
    compose,
    held_out,
    held_out_song,
    training_song,
    varied,
)
from streamgen.pocket.training.styles import STYLES

SONGS = [training_song(number) for number in range(120)]


def test_the_same_seed_is_the_same_song() -> None:
    assert compose(7) == compose(7)
    assert compose(7) != compose(8)


def test_every_style_tempo_and_key_occurs() -> None:
    songs = [training_song(number) for number in range(600)]
    assert {song.style for song in songs} == set(STYLES)
    assert {song.bpm for song in songs} == set(FRAMES_PER_STEP)
    assert len({song.key for song in songs}) == 12


def test_notes_lie_inside_the_bar_and_the_range_of_midi() -> None:
    for song in SONGS:
        for loop in song.loops:
            assert loop.notes
            for note in loop.notes:
                assert 0 <= note.start < STEPS_PER_BAR
                assert note.start + note.length <= STEPS_PER_BAR
                assert 24 <= note.pitch <= 96
                assert note.channel in loop.programs


@pytest.mark.parametrize("bpm", FRAMES_PER_STEP)
def test_tempo_words_are_the_tempo_played(bpm: int) -> None:
    played = 60 * 50 / (4 * FRAMES_PER_STEP[bpm])
    assert abs(played - bpm) < 0.5


def test_training_and_held_out_songs_never_meet() -> None:
    assert not any(held_out(song) for song in SONGS)
    unseen = [held_out_song(number) for number in range(60)]
    assert all(held_out(song) for song in unseen)
    assert {song.style for song in unseen} == set(STYLES)


def test_a_fill_keeps_the_first_half_of_its_bar() -> None:
    for song in SONGS:
        for whole, fill in ((GROOVE, FILL), (VARIATION, TURN)):
            halves = [[n for n in song.loops[loop].notes if n.start < 8] for loop in (whole, fill)]
            assert halves[0] == halves[1]
            assert not song.has_drums or song.loops[whole] != song.loops[fill]


def test_a_break_has_no_drums_and_fewer_notes() -> None:
    for song in SONGS:
        groove, quiet = song.loops[GROOVE].notes, song.loops[BREAK].notes
        assert set(quiet) < set(groove)
        assert not any(note.channel == DRUM_CHANNEL for note in quiet)


def test_the_tonic_has_most_of_every_groove() -> None:
    """The key is to be heard: pitches of the tonic's triad outweigh those of any other, by duration."""
    named = 0
    for song in SONGS:
        third = 3 if STYLES[song.style].minor else 4
        weights = [0] * 12
        for note in song.loops[GROOVE].notes:
            if note.channel != DRUM_CHANNEL:
                weights[note.pitch % 12] += note.length
        triads = [sum(weights[(root + step) % 12] for step in (0, third, 7)) for root in range(12)]
        named += triads[song.tonic] == max(triads)
    assert named > 0.85 * len(SONGS)


def test_leads_walk_in_their_scale() -> None:
    """Every second lead has four pitches or more."""
    many, leads = 0, 0
    for song in SONGS:
        style = STYLES[song.style]
        if not style.leads:
            continue
        channel = sum(1 for parts in (style.bass, style.chords) if parts)
        pitches = [note.pitch for note in song.loops[GROOVE].notes if note.channel == channel]
        assert {(pitch - song.tonic) % 12 for pitch in pitches} <= set(MINOR if style.minor else MAJOR)
        many, leads = many + (len(set(pitches)) >= min(4, len(pitches))), leads + 1
    assert many > 0.5 * leads


def test_a_rhythm_is_varied_by_one_onset_and_never_the_first() -> None:
    rng, rhythm = random.Random(1), "x--x..x-...x-..."
    other = [varied(rhythm, rng) for _ in range(200)]
    counts = {sum(a != b and "x" in (a, b) for a, b in zip(rhythm, new, strict=True)) for new in other}
    assert counts == {0, 1}
    assert all(new[0] == "x" and len(new) == STEPS_PER_BAR for new in other)
    assert {new.count("x") for new in other} == {3, 4, 5}
