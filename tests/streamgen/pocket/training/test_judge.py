"""The judge's own measures on sounds and codes whose answer is known; its whole run is in test_stages.py."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from streamgen.pocket.training import judge
from streamgen.pocket.training.compose import FRAMES_PER_STEP, held_out, songs_of_every_style, training_song
from streamgen.pocket.training.judge import Row, table
from streamgen.pocket.training.styles import STYLES


def test_a_loop_repeats_and_noise_does_not() -> None:
    song = training_song(0)
    bar = torch.randint(0, 1024, (song.frames_per_bar,))
    looped = bar.repeat(6)
    assert judge._repeats(looped, song) == 1.0
    assert judge._repeats(looped, song, shift=7) < 0.05
    assert judge._repeats(torch.randint(0, 1024, (6 * song.frames_per_bar,)), song) < 0.05
    half = looped.clone()
    half[::2] = torch.randint(0, 1024, half[::2].shape)
    assert 0.1 < judge._repeats(half, song) < 0.6


def test_named_tempi_are_what_the_frame_grid_plays() -> None:
    for bpm in FRAMES_PER_STEP:
        assert judge._exact(bpm) == pytest.approx(bpm, abs=0.5)


def test_a_beat_is_found_at_the_bar_and_not_in_noise() -> None:
    song = training_song(0)
    bar = song.frames_per_bar * 640
    rng = np.random.default_rng(0)
    clicks = np.zeros(bar, np.float32)
    for at in (0, bar // 4, bar // 2 + 640, 3 * bar // 4):
        clicks[at : at + 800] = rng.standard_normal(800) * np.linspace(1, 0, 800)
    noise = rng.standard_normal(10 * 32_000).astype(np.float32) * 0.1
    assert judge._beat(np.tile(clicks, 6)[: 10 * 32_000], song) > 0.7
    assert judge._beat(noise, song) < 0.3


def test_every_style_is_judged_alike() -> None:
    chosen = songs_of_every_style(48)
    assert Counter(song.style for song in chosen) == dict.fromkeys(STYLES, 4)
    assert all(held_out(song) for song in chosen)


def test_the_table_leaves_empty_what_has_no_meaning() -> None:
    text = table([Row("tempo", "0.1", {"real": 1.0, "generated": 0.875}), Row("size")], clips=48, precision="int8")
    assert "48 held-out captions, 10 s each, played in int8" in text
    assert "| tempo | 1 |  | 0.875 | 0.1 |" in text
    assert "| size |  |  |  |  |" in text
