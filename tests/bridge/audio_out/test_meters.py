"""Readings of signals whose loudness is known."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio_out.meters import FALL_DB_A_SECOND, FLOOR_DB, Loudness, PeakMeter, _k_weighting

RATE_HZ = 32_000


def sine(hz: float, dbfs: float, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    wave = 10 ** (dbfs / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.stack((wave, wave)).astype(np.float32)


def test_the_filter_is_the_standards_own_at_48_khz() -> None:
    """BS.1770-5, tables 1 and 2, multiplied out; the high-pass there has a numerator of 1, -2, 1 likewise."""
    shelf_b, shelf_a = [1.53512485958697, -2.69169618940638, 1.19839281085285], [1, -1.69065929318241, 0.73248077421585]
    b, a = _k_weighting(48_000)
    np.testing.assert_allclose(b, np.convolve(shelf_b, [1, -2, 1]), atol=1e-9)
    np.testing.assert_allclose(a, np.convolve(shelf_a, [1, -1.99004745483398, 0.99007225036621]), atol=1e-9)


@pytest.mark.parametrize("rate_hz", [16_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("dbfs", [-23.0, -33.0])
def test_a_tone_of_1_khz_in_both_channels_reads_its_level(rate_hz: int, dbfs: float) -> None:
    """EBU Tech 3341, cases 1 and 2: within 0.1 LU."""
    assert Loudness(rate_hz).process(sine(1_000, dbfs, rate_hz=rate_hz)) == pytest.approx(dbfs, abs=0.1)


def test_one_channel_alone_reads_3_db_less() -> None:
    one = sine(997, 0.0)
    one[1] = 0
    assert Loudness(RATE_HZ).process(one) == pytest.approx(-3.01, abs=0.05)


def test_bass_counts_less_and_treble_more() -> None:
    assert Loudness(RATE_HZ).process(sine(30, -20)) < -25
    assert Loudness(RATE_HZ).process(sine(8_000, -20)) == pytest.approx(-20 + 3.3, abs=0.2)


def test_only_the_last_400_ms_count() -> None:
    meter = Loudness(RATE_HZ)
    meter.process(sine(1_000, -10))
    half = meter.process(np.zeros((2, RATE_HZ // 5), np.float32))
    assert half == pytest.approx(-13.0, abs=0.1)
    assert meter.process(np.zeros((2, RATE_HZ), np.float32)) < -80


def test_silence_reads_the_floor() -> None:
    assert Loudness(RATE_HZ).lufs == FLOOR_DB
    assert Loudness(RATE_HZ).process(np.zeros((2, RATE_HZ), np.float32)) == FLOOR_DB
    assert PeakMeter(RATE_HZ).process(np.zeros((2, 100), np.float32)).left_db == FLOOR_DB


def test_any_chunking_reads_the_same() -> None:
    rng = np.random.default_rng(10)
    noise = rng.uniform(-0.5, 0.5, (2, RATE_HZ)).astype(np.float32)
    whole, pieces = Loudness(RATE_HZ), Loudness(RATE_HZ)
    peak_whole, peak_pieces = PeakMeter(RATE_HZ), PeakMeter(RATE_HZ)
    for piece in np.split(noise, np.sort(rng.integers(0, RATE_HZ, 30)), axis=1):
        pieces.process(piece)
        reading = peak_pieces.process(piece)
    assert pieces.lufs == pytest.approx(whole.process(noise), abs=1e-9)
    expected = peak_whole.process(noise)
    assert (reading.left_db, reading.right_db) == pytest.approx((expected.left_db, expected.right_db), abs=1e-9)


def test_peaks_rise_at_once_per_channel_and_fall_at_the_broadcasters_rate() -> None:
    meter = PeakMeter(RATE_HZ)
    click = np.zeros((2, 100), np.float32)
    click[0, 99], click[1, 99] = 0.5, -0.25
    reading = meter.process(click)
    assert (reading.left_db, reading.right_db) == pytest.approx((-6.02, -12.04), abs=0.01)
    later = meter.process(np.zeros((2, RATE_HZ), np.float32))
    assert later.left_db == pytest.approx(-6.02 - FALL_DB_A_SECOND, abs=0.01)
