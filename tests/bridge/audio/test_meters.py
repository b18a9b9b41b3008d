"""Readings of signals whose level is known."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.meters import FALL_DB_A_SECOND, FLOOR_DB, PeakMeter

RATE_HZ = 32_000


def test_silence_reads_the_floor() -> None:
    reading = PeakMeter(RATE_HZ).process(np.zeros((2, 100), np.float32))
    assert reading == (FLOOR_DB, FLOOR_DB)


def test_nothing_changes_nothing() -> None:
    meter = PeakMeter(RATE_HZ)
    before = meter.process(np.full((2, 100), 0.5, np.float32))
    assert meter.process(np.zeros((2, 0), np.float32)) == before


def test_any_chunking_reads_the_same() -> None:
    rng = np.random.default_rng(10)
    noise = rng.uniform(-0.5, 0.5, (2, RATE_HZ)).astype(np.float32)
    pieces = PeakMeter(RATE_HZ)
    for piece in np.split(noise, np.sort(rng.integers(0, RATE_HZ, 30)), axis=1):
        reading = pieces.process(piece)
    expected = PeakMeter(RATE_HZ).process(noise)
    assert reading == pytest.approx(expected, abs=1e-9)


def test_peaks_rise_at_once_per_channel_and_fall_at_the_broadcasters_rate() -> None:
    meter = PeakMeter(RATE_HZ)
    click = np.zeros((2, 100), np.float32)
    click[0, 99], click[1, 99] = 0.5, -0.25
    reading = meter.process(click)
    assert reading == pytest.approx((-6.02, -12.04), abs=0.01)
    later = meter.process(np.zeros((2, RATE_HZ), np.float32))
    assert later[0] == pytest.approx(-6.02 - FALL_DB_A_SECOND, abs=0.01)
