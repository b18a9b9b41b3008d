"""Every measure on sounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from streamgen.pocket.training import defects

RATE = 32_000
RNG = np.random.default_rng(0)


def tones(hertz: list[float], seconds: float, level: float = 0.1) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return (level * sum(np.sin(2 * np.pi * h * time) for h in hertz)).astype(np.float32)


def hiss(seconds: float, level: float = 0.01) -> np.ndarray:
    return (level * RNG.standard_normal(int(seconds * RATE))).astype(np.float32)


def clicks(times: np.ndarray, seconds: float) -> np.ndarray:
    audio = hiss(seconds, 1e-4)
    for time in times:
        place = int(time * RATE)
        audio[place : place + 800] += np.exp(-np.arange(800) / 150) * RNG.standard_normal(800) * 0.5
    return audio


def test_lines_of_a_comb_are_counted_and_other_tones_are_not() -> None:
    assert defects.comb_lines(hiss(5)) == 0
    assert defects.comb_lines(hiss(5) + tones([1200, 4000, 9600], 5, 0.01)) == 3
    assert defects.comb_lines(hiss(5) + tones([440, 1210, 4007, 10_400], 5, 0.01)) == 0
    assert defects.comb_lines(hiss(5) + tones([850.0, 3050.0], 5, 0.01), spacing_hz=50.0) == 2


def test_detail_is_which_partials_sound_not_how_loud_the_band_is() -> None:
    real = hiss(4, 0.001) + tones([1111, 1444, 1777], 4)
    bands = defects.BANDS_HZ.index((1000, 2000))
    assert defects.harmonic_detail(real, real)[bands] == pytest.approx(1.0)
    assert defects.harmonic_detail(0.5 * real, real)[bands] == pytest.approx(1.0, abs=0.01)
    others = hiss(4, 0.001) + tones([1222, 1555, 1888], 4)
    assert defects.harmonic_detail(others, real)[bands] < 0.3


def test_onsets_are_found_where_they_are() -> None:
    wanted = np.arange(0.5, 4.5, 0.25)
    found, strengths = defects.onsets(clicks(wanted, 5))
    assert len(found) == len(wanted)
    late = found - wanted
    assert np.ptp(late) < 0.004  # all by the same
    assert (strengths > 0).all()


@pytest.mark.parametrize(("late_s", "share"), [(0.0, 1.0), (0.008, 1.0), (0.03, 0.75)])
def test_a_late_hit_is_off_the_grid(late_s: float, share: float) -> None:
    times = np.arange(0.5, 4.5, 0.25)
    times[::4] += late_s
    assert defects.share_on_grid(clicks(times, 5), 0.125) == pytest.approx(share, abs=0.01)


def test_off_the_grid_hits_are_not_on_another_one() -> None:
    assert defects.share_on_grid(clicks(np.sort(RNG.uniform(0.3, 9.7, 60)), 10), 0.125) < 0.5
    assert np.isnan(defects.share_on_grid(np.zeros(RATE, np.float32), 0.125))


def test_bars_are_told_apart_by_ear() -> None:
    one, two = (clicks(np.array(times), 1.6) for times in ([0.1, 0.5, 0.9], [0.3, 0.7, 1.3]))
    bars = defects.bars_of(np.concatenate([one, one, two, one, one, two]), len(one))
    assert len(bars) == 6
    assert defects.distinct_bars(bars) == 2
    assert defects.repeated_bars(bars) == pytest.approx(2 / 5)
    assert np.isnan(defects.repeated_bars(bars[:1]))


def test_music_lives_and_silence_a_held_note_and_a_drone_are_deaths() -> None:
    beat = clicks(np.arange(0.1, 30, 0.5), 30)
    assert defects.death(beat) is None
    assert defects.death(np.concatenate([beat, np.zeros(5 * RATE, np.float32), beat])) == pytest.approx(30, abs=0.5)
    assert defects.death(np.concatenate([beat, tones([220, 330], 6)])) == pytest.approx(30, abs=0.6)
    assert defects.death(np.concatenate([beat, np.zeros(3 * RATE, np.float32), beat])) is None, "a rest"
    slow = tones([220, 330], 30, 0.1) * (1 + 0.25 * np.sin(np.arange(30 * RATE) / RATE)).astype(np.float32)
    assert defects.death(np.concatenate([beat, slow])) == pytest.approx(30, abs=15)
