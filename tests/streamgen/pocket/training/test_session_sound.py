"""Loudness, width and parts of sound whose answer is known, and what a session makes of a model that sings sines."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest

from bridge.session.arranger import read_scene
from streamgen import Model
from streamgen.pocket.training.measures import autocorrelation, onset_envelope
from streamgen.pocket.training.session_sound import (
    arranged,
    behind_master,
    break_lu,
    correlation,
    heard_lufs,
    loudness_lufs,
    mono_loss_db,
    within_parts,
)
from streamgen.testing.fake import FakeModel, fake_pitch_hz

RATE = 32_000
SILENCE = np.zeros((2, RATE), np.float32)


def tone(hertz: float, seconds: float, level_db: float) -> np.ndarray:
    return (10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(
        np.float32
    )


def test_a_stereo_sine_of_minus_23_dbfs_is_minus_23_lufs() -> None:
    """EBU Tech 3341, case 1."""
    assert loudness_lufs(np.stack([tone(1_000, 20, -23)] * 2)) == pytest.approx(-23, abs=0.1)
    assert loudness_lufs(SILENCE) == -math.inf


@pytest.mark.parametrize("side", [0.0, 0.5, 1.0])
def test_width_is_what_the_sides_share_says(side: float) -> None:
    """Of m + s and m - s the correlation is (1 - s²) / (1 + s²), and a sum loses 10 log (1 + s²)."""
    middle, apart = np.random.default_rng(0).standard_normal((2, 10 * RATE)).astype(np.float32) * 0.1
    sound = np.stack([middle + side * apart, middle - side * apart])
    assert correlation(sound) == pytest.approx((1 - side**2) / (1 + side**2), abs=0.01)
    assert mono_loss_db(sound) == pytest.approx(10 * math.log10(1 + side**2), abs=0.05)
    assert math.isnan(correlation(SILENCE))
    assert math.isnan(mono_loss_db(SILENCE))


@pytest.mark.parametrize("limited", [False, True])
def test_the_master_is_the_one_of_a_session(limited: bool) -> None:
    quiet = tone(300, 9, -26) * (0.6 + 0.4 * np.sin(np.arange(9 * RATE) / 4_000)).astype(np.float32)
    sound = behind_master(quiet, 0.0, limited=limited)
    assert sound.shape == (2, len(quiet))
    assert loudness_lufs(sound[:, 6 * RATE :]) == pytest.approx(-14, abs=1)
    assert not np.array_equal(sound[0], sound[1]), "it is made wide"
    told = behind_master(quiet, -3.0, limited=limited)
    first = slice(RATE // 20, RATE // 10)  # before the slow gain has heard a hop
    assert np.abs(told[0, first]).max() / np.abs(sound[0, first]).max() == pytest.approx(10 ** (3 / 20), abs=0.01)


def test_peaks_that_the_limiter_takes_off_are_not_heard() -> None:
    """Clicks and a tone of one loudness: behind the gain the tone keeps all of it."""
    clicks = np.zeros(6 * RATE, np.float32)
    clicks[:: RATE // 4] = 0.9
    even = tone(400, 6, -24)
    assert heard_lufs(even) == pytest.approx(loudness_lufs(np.stack([even] * 2)), abs=0.7)
    behind = loudness_lufs(behind_master(clicks, 0.0, limited=False)) - loudness_lufs(
        behind_master(clicks, 0.0, limited=True)
    )
    assert behind > 3
    assert heard_lufs(clicks) < loudness_lufs(np.stack([clicks] * 2)) - 3


def test_a_break_is_held_against_the_bars_around_it() -> None:
    bar, parts = RATE // 2, read_scene()
    number = next(number for number, part in enumerate(parts) if part.words)
    level = {number: -20.0, number + 1: -26.0}
    sound = np.concatenate([tone(500, part.bars / 2, level.get(n, -23.0)) for n, part in enumerate(parts)])
    before, after = break_lu(np.stack([sound] * 2), bar)
    assert (before, after) == (pytest.approx(3, abs=0.3), pytest.approx(6, abs=0.3))


def test_a_session_plays_the_scene_without_a_master() -> None:
    """120 bpm, as the model tells no tempo: a bar is two seconds, and the first break has bars 25 to 28."""
    audio = arranged(cast(Model, FakeModel()), "house", 52).mean(axis=0)
    assert len(audio) == 52 * RATE
    for second, text in ((2, "house"), (50, "no drums, house")):
        piece = audio[second * RATE : (second + 1) * RATE]
        assert np.abs(np.fft.rfft(piece * np.hanning(RATE))).argmax() == pytest.approx(fake_pitch_hz(text), abs=1)
        assert np.abs(piece).max() == pytest.approx(0.25, abs=0.01)


def test_the_beat_is_held_to_its_parts() -> None:
    """Every part has a bar of its own, of eight places where a click may be."""
    bar, rng = RATE // 2, np.random.default_rng(1)
    click = rng.standard_normal(300).astype(np.float32) * 0.3
    pieces = list[np.ndarray]()
    for number, part in enumerate(read_scene()):
        loop = np.zeros(bar, np.float32)
        for place in rng.choice(8, 3, replace=False):
            at = place * (bar // 8) + 160 * (number % 9)
            loop[at : at + len(click)] = click
        pieces.append(np.tile(loop, part.bars))
    audio = np.concatenate(pieces)
    assert within_parts(audio, bar) > 0.9
    assert autocorrelation(onset_envelope(audio), bar / RATE) < within_parts(audio, bar) - 0.05
    assert math.isnan(within_parts(audio[: 5 * bar], bar)), "no part is whole"
