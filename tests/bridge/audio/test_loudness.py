"""Loudness by the recommendation's own examples, a gain that nobody hears moving, and peaks of known levels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bridge.audio.effect import Pcm
from bridge.audio.loudness import FALL_DB_A_SECOND, FLOOR_DB, LoudnessMeter, PeakMeter, SlowGain, k_weighting

RATE_HZ, METER_HZ = 48_000, 32_000


def tone(seconds: float, level_db: float, hz: float = 997.0, rate_hz: int = RATE_HZ) -> Pcm:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([10 ** (level_db / 20) * np.sin(2 * np.pi * hz * time)] * 2).astype(np.float32)


def lufs(samples: Pcm, rate_hz: int = RATE_HZ, block: int = 4_801) -> float:
    meter = LoudnessMeter(rate_hz)
    for at in range(0, samples.shape[1], block):
        meter.process(samples[:, at : at + block])
    return meter.lufs


def test_the_filters_are_the_recommendations_tables() -> None:
    shelf, high_pass = k_weighting(48_000)
    np.testing.assert_allclose(
        shelf, [1.53512485958697, -2.69169618940638, 1.19839281085285, -1.69065929318241, 0.73248077421585], atol=1e-8
    )
    np.testing.assert_allclose(high_pass, [1, -2, 1, -1.99004745483398, 0.99007225036621], atol=1e-8)


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000, 96_000])
def test_a_sine_in_one_channel_reads_its_level_and_in_both_three_more(rate_hz: int) -> None:
    both = tone(5, -20, rate_hz=rate_hz)
    one = both.copy()
    one[1] = 0
    assert lufs(one, rate_hz) == pytest.approx(-23.01, abs=0.05)
    assert lufs(both, rate_hz) == pytest.approx(-20.0, abs=0.05)


def test_gates_leave_out_what_is_silent_and_what_is_far_below() -> None:
    """EBU Tech 3341, cases 3 and 4: −36, −23, −36 and −72, −36, −23, −36, −72 read −23."""
    three = [tone(10, -36, 1_000), tone(60, -23, 1_000), tone(10, -36, 1_000)]
    assert lufs(np.concatenate(three, axis=1)) == pytest.approx(-23, abs=0.1)
    five = [tone(10, -72, 1_000), *three, tone(10, -72, 1_000)]
    assert lufs(np.concatenate(five, axis=1)) == pytest.approx(-23, abs=0.1)
    assert lufs(np.zeros((2, RATE_HZ), np.float32)) == -math.inf


@pytest.mark.parametrize("level_db", [-24.0, -8.0])
def test_the_gain_gets_there_in_its_time_and_stays(level_db: float) -> None:
    gain = SlowGain(RATE_HZ, -14.0)
    samples = tone(20, level_db)
    out = np.concatenate([gain.process(samples[:, at : at + 960]) for at in range(0, samples.shape[1], 960)], axis=1)
    assert lufs(out[:, 8 * RATE_HZ :]) == pytest.approx(-14, abs=0.2)
    assert lufs(out[:, RATE_HZ : 2 * RATE_HZ]) == pytest.approx(-14, abs=0.5), "nearly there within the first second"
    envelope = 20 * np.log10(np.abs(out[0]).reshape(-1, 480).max(axis=1))
    assert np.abs(np.diff(envelope)).max() < 0.3, "a ramp of 20 dB a second, no step"
    assert np.abs(np.diff(envelope[RATE_HZ // 480 :])).max() < 0.1, "after a second never more than 4 dB in one"
    assert np.abs(np.diff(envelope[6 * RATE_HZ // 480 :])).max() < 0.02


def test_what_begins_in_silence_is_met_when_it_sounds() -> None:
    gain = SlowGain(RATE_HZ, -14.0)
    gain.process(np.zeros((2, RATE_HZ // 5), np.float32))
    assert gain._to_db == 0
    gain.process(tone(1.5, -22))
    assert gain._to_db == pytest.approx(8, abs=1)


def test_it_stands_still_in_silence_and_has_its_limits() -> None:
    gain = SlowGain(RATE_HZ, -14.0)
    gain.process(tone(10, -50))
    before = gain._to_db
    assert before == SlowGain.MOST_DB
    gain.process(np.zeros((2, 60 * RATE_HZ), np.float32))
    assert gain._to_db == before


def test_silence_reads_the_floor() -> None:
    reading = PeakMeter(METER_HZ).process(np.zeros((2, 100), np.float32))
    assert reading == (FLOOR_DB, FLOOR_DB)


def test_nothing_changes_nothing() -> None:
    meter = PeakMeter(METER_HZ)
    before = meter.process(np.full((2, 100), 0.5, np.float32))
    assert meter.process(np.zeros((2, 0), np.float32)) == before


def test_any_chunking_reads_the_same() -> None:
    rng = np.random.default_rng(10)
    noise = rng.uniform(-0.5, 0.5, (2, METER_HZ)).astype(np.float32)
    pieces = PeakMeter(METER_HZ)
    for piece in np.split(noise, np.sort(rng.integers(0, METER_HZ, 30)), axis=1):
        reading = pieces.process(piece)
    expected = PeakMeter(METER_HZ).process(noise)
    assert reading == pytest.approx(expected, abs=1e-9)


def test_peaks_rise_at_once_per_channel_and_fall_at_the_broadcasters_rate() -> None:
    meter = PeakMeter(METER_HZ)
    click = np.zeros((2, 100), np.float32)
    click[0, 99], click[1, 99] = 0.5, -0.25
    reading = meter.process(click)
    assert reading == pytest.approx((-6.02, -12.04), abs=0.01)
    later = meter.process(np.zeros((2, METER_HZ), np.float32))
    assert later[0] == pytest.approx(-6.02 - FALL_DB_A_SECOND, abs=0.01)
