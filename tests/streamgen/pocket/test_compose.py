from __future__ import annotations

import random

import pytest

from streamgen.pocket.compose import (
    FRAMES_PER_STEP,
    STEPS_PER_BAR,
    STYLES,
    caption,
    compose,
    held_out,
    held_out_song,
    training_song,
)

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


def test_a_complete_caption_names_everything() -> None:
    for song in SONGS[:30]:
        text = caption(song, random.Random(0), complete=True)
        assert str(song.bpm) in text
        assert song.key in text
        assert all(word in text for word in song.instruments)


def test_captions_of_one_song_vary() -> None:
    rng = random.Random(0)
    assert len({caption(SONGS[0], rng) for _ in range(20)}) > 15
