"""Levels, bands and onsets are told when they sound."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.doors.visuals import Levels, Visuals
from bridge.session.events import Block


def test_levels_are_the_peaks_of_what_sounds_now() -> None:
    samples = np.zeros((2, 6400), np.float32)
    samples[0, 100], samples[1, 5000] = -0.5, 1.0
    levels = Levels(32_000)
    levels.add(Block(samples, 0, time_us=10_000_000))
    assert levels.due(9.99) is None
    assert levels.due(10.0) == (pytest.approx(-6.02, abs=0.01), -120.0)
    assert levels.due(10.05) == (-120.0, -120.0)
    assert levels.due(10.5) == (-120.0, 0.0)
    assert levels.due(10.6) is None


def test_neither_keeps_more_than_the_longest_lead() -> None:
    levels, visuals = Levels(32_000), Visuals(32_000)
    for second in range(100):
        block = Block(np.ones((2, 32_000), np.float32), second * 32_000, time_us=second * 1_000_000)
        levels.add(block)
        list(visuals.add(block))
    assert len(levels._peaks) <= 12 * 20 + 2
    assert len(visuals._bands) <= 12 * 100 + 2


def test_bands_and_onsets_have_the_times_of_their_block() -> None:
    samples = np.zeros((2, 48_000), np.float32)
    samples[:, 24_000:] = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(24_000) / 48_000)
    visuals, onsets = Visuals(48_000), list[tuple[float, float]]()
    for at in range(0, 48_000, 960):
        block = Block(samples[:, at : at + 960], at, time_us=10_000_000 + round(at / 48_000 * 1e6))
        onsets += visuals.add(block)
    ((due, strength),) = onsets
    assert (due, strength) == (pytest.approx(10.5, abs=0.01), 1.0)
    silent = visuals.due(10.4)
    assert silent is not None
    assert max(silent) == pytest.approx(-120)
    loud = visuals.due(10.9)
    assert loud is not None
    assert loud[4] == pytest.approx(-6.02, abs=0.1)
    assert visuals.due(10.9) is None
