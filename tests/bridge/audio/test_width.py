"""A side that is made, and nothing lost where both channels are summed."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.width import Width

RATE_HZ = 48_000
WIDE = [ParameterChange(0, "width", 1.0)]


def prepared(channels: int = 1) -> Width:
    width = Width()
    width.prepare(RATE_HZ, channels, RATE_HZ)
    return width


def music(seconds: float = 1.0) -> Pcm:
    noise = np.random.default_rng(4).standard_normal(round(seconds * RATE_HZ))
    return np.stack([(0.2 * np.clip(noise, -3, 3) / 3).astype(np.float32)] * 2)


def sine(hz: float) -> Pcm:
    return np.stack([(0.2 * np.sin(2 * np.pi * hz * np.arange(RATE_HZ // 2) / RATE_HZ)).astype(np.float32)] * 2)


def test_the_mono_sum_stays_and_the_channels_part() -> None:
    samples = music(2.0)
    out = prepared().process(samples, 0, WIDE)
    np.testing.assert_allclose(out.sum(axis=0), 2 * samples[0], atol=1e-7)
    left, right = out[:, 6_000:]
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.4
    assert 10 * np.log10((left**2).mean() / (right**2).mean()) == pytest.approx(0, abs=0.5)


def test_the_bass_stays_in_the_middle() -> None:
    side = {hz: np.std(np.diff(prepared().process(sine(hz), 0, WIDE)[:, 12_000:], axis=0)) for hz in (30, 60)}
    noise = music(0.5)
    wide = np.std(np.diff(prepared().process(noise, 0, WIDE)[:, 12_000:], axis=0)) / np.std(noise)
    assert side[30] / (0.2 / np.sqrt(2)) < 0.1 * wide
    assert side[60] / (0.2 / np.sqrt(2)) < 0.5 * wide


def test_real_stereo_is_left_alone() -> None:
    stereo = np.random.default_rng(6).uniform(-0.3, 0.3, (2, RATE_HZ)).astype(np.float32)
    assert prepared(channels=2).process(stereo, 0, WIDE) is stereo


def test_back_at_zero_it_is_the_input_again() -> None:
    width, samples = prepared(), music()
    width.process(samples, 0, WIDE)
    out = width.process(samples, RATE_HZ, [ParameterChange(RATE_HZ, "width", 0.0)])
    np.testing.assert_array_equal(out[:, 12_000:], samples[:, 12_000:])
