"""The counts of long streams, on sounds whose answer is known, and on a short stream of the shipped checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from streamgen.pocket import pocket_folder
from streamgen.pocket.training.compose import held_out_song
from streamgen.pocket.training.endless import (
    Passage,
    judge_endless,
    ks_p_value,
    longest_hold,
    measure,
    noisy_blocks,
    seams,
    silent_half_seconds,
    six_songs,
)

RATE = 32_000
RNG = np.random.default_rng(0)


def tone(hertz: float, seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def test_silence_is_counted_in_half_seconds() -> None:
    audio = np.concatenate([tone(440, 2), np.zeros(3 * RATE, np.float32), tone(440, 1)])
    assert silent_half_seconds(audio) == 6


def test_a_held_tone_stands_still_and_a_melody_does_not() -> None:
    melody = np.concatenate([tone(220 * 2 ** (step / 12), 0.5) for step in (0, 4, 7, 12) * 6])
    assert longest_hold(melody) < 1
    assert 9 < longest_hold(np.concatenate([melody, tone(440, 10), melody])) < 11


def test_noise_is_flatter_than_tones() -> None:
    noise = (0.1 * RNG.standard_normal(20 * RATE)).astype(np.float32)
    assert noisy_blocks(np.concatenate([tone(440, 20), noise]), allowed=0.1) == 2
    assert noisy_blocks(tone(440, 30), allowed=0.1) == 0


def test_a_seam_is_heard_where_the_music_changes() -> None:
    song = held_out_song(1)
    bar = song.frames_per_bar * 640 / RATE
    audio = np.concatenate([tone(440, 2 * bar), tone(622, 2 * bar, level=0.03)])
    passage = Passage(song, "", audio, (), 1.0)
    turn = int(2 * bar * RATE)
    alike, louder = seams(passage, [turn])
    assert alike[0] < 0.2
    assert louder[0] == pytest.approx(20, abs=0.1)
    assert seams(passage, [turn // 2])[0][0] > 0.99
    assert seams(passage, [100]) == ([], []), "no whole bar before it"


def test_the_test_of_kolmogorov_and_smirnov() -> None:
    """Values of the exact two-sided test in tables: n = m = 40, D = 12/40 is p 0.05, D = 15/40 is p 0.006."""
    one = list(range(40))
    assert ks_p_value(one, [value + 12 for value in one]) == pytest.approx(0.05, abs=0.012)
    assert ks_p_value(one, [value + 15 for value in one]) == pytest.approx(0.006, abs=0.004)
    assert ks_p_value(one, one) == 1.0
    assert math.isnan(ks_p_value([], one)), "a stream too short to roll over tells nothing"
    draws = [ks_p_value(list(RNG.standard_normal(40)), list(RNG.standard_normal(40))) for _ in range(300)]
    assert 0.01 < np.mean(np.array(draws) < 0.05) < 0.09


def test_six_prompts_are_of_six_styles() -> None:
    songs = six_songs()
    assert len({song.style for song, _ in songs}) == 6
    assert all(str(song.bpm) in text for song, text in songs)
    assert 1 <= sum(not song.has_drums for song, _ in songs) <= 4


def test_counts_add_up_over_passages() -> None:
    song = held_out_song(1)
    loop = np.concatenate([tone(220 * 2 ** (step / 12), 0.5) for step in (0, 4, 7, 12) * 15])
    gap = loop.copy()
    gap[5 * RATE : 6 * RATE] = 0
    places = tuple(range(4 * RATE, 28 * RATE, 4 * RATE))
    figures = measure([Passage(song, "", a, places, 2.0) for a in (loop, gap)], 0.5, 29.0)
    assert figures.minutes == 1.0
    assert figures.silent_half_seconds == 2
    assert figures.rollovers == 12
    assert (figures.stuck_notes, figures.noisy_blocks) == (0, 0)
    assert figures.realtime_factor_one_core == 15.0


@pytest.mark.slow
def test_a_short_judgement_of_the_shipped_checkpoint(tmp_path: Path) -> None:
    figures = judge_endless(pocket_folder(), tmp_path, minutes=2)
    assert figures.rollovers >= 6, "each of six streams of twenty seconds rolls over"
    assert figures.silent_half_seconds == figures.noisy_blocks == 0
    assert json.loads((tmp_path / "endless.json").read_text())["minutes"] == pytest.approx(2, abs=0.1)
