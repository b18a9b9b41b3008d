"""Resampling against a slow sum, against tones that are known at any rate, and against soxr HQ."""

from __future__ import annotations

import time

import numpy as np
import pytest
import soxr
import torch
from numpy.typing import NDArray

from streamgen.codec import resample
from streamgen.codec.resample import _many_phases, _polyphase
from streamgen.errors import PromptError

RATES = [(44_100, 32_000), (48_000, 32_000), (22_050, 32_000), (96_000, 32_000), (32_000, 44_100), (32_000, 48_000)]
EDGE = 2000  # samples beside both ends, where the filter sees the silence beyond


def tone(hz: float, rate_hz: int, seconds: float = 1.0) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * hz * time)[None].astype(np.float32)


def level_db(audio: NDArray[np.float32]) -> float:
    """Of a tone, 0 dB at amplitude 1, the ends left out."""
    inner = audio[0, EDGE:-EDGE].astype(np.float64)
    return float(10 * np.log10(2 * np.mean(inner**2) + 1e-30))


def by_soxr(audio: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    return np.asarray(soxr.resample(audio.T, from_hz, to_hz, "HQ").T)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9, 0.92])
def test_the_passband_is_flat(from_hz: int, to_hz: int, part: float) -> None:
    hz = part * min(from_hz, to_hz) / 2
    ripple_db = abs(level_db(resample(tone(hz, from_hz), from_hz, to_hz)))
    assert ripple_db < 1e-3
    assert ripple_db < abs(level_db(by_soxr(tone(hz, from_hz), from_hz, to_hz))) + 1e-3


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in RATES if pair[0] > pair[1]])
@pytest.mark.parametrize("part", [1.0, 1.05, 1.2, 1.37])
def test_what_would_alias_is_gone(from_hz: int, to_hz: int, part: float) -> None:
    hz = part * to_hz / 2
    alias_db = level_db(resample(tone(hz, from_hz), from_hz, to_hz))
    assert alias_db < -120
    assert level_db(by_soxr(tone(hz, from_hz), from_hz, to_hz)) < -120  # soxr HQ is of the same class


@pytest.mark.parametrize(("from_hz", "to_hz"), [*RATES, (8_000, 32_000), (31_999, 32_000), (44_100, 31_999)])
def test_a_tone_stays_the_tone_at_its_time(from_hz: int, to_hz: int) -> None:
    """Images, aliases, gain, delay and rounding together: -120 dB."""
    hz = 0.8 * min(from_hz, to_hz) / 2
    got, wanted = resample(tone(hz, from_hz), from_hz, to_hz), tone(hz, to_hz)
    assert got.shape == wanted.shape
    assert level_db(got - wanted) < -120


@pytest.mark.parametrize(("up", "down"), [(3, 4), (5, 2), (1, 3), (4, 1), (37, 41)])
@pytest.mark.parametrize("length", [1, 2, 50, 401])
def test_fast_is_the_slow_sum(up: int, down: int, length: int) -> None:
    rng = np.random.default_rng(length)
    x = rng.standard_normal((2, length)).astype(np.float32)
    got = resample(x, 100 * down, 100 * up)
    assert got.shape == (2, -(-length * up // down))
    np.testing.assert_allclose(got, slow_sum(x.astype(np.float64), up / down, got.shape[1]), atol=3e-6)


def slow_sum(x: NDArray[np.float64], ratio: float, length: int) -> NDArray[np.float64]:
    """Output j as a sum over all inputs i of a Kaiser-windowed sinc at j / ratio - i."""
    beta, rate = 0.1102 * (125 - 8.7), min(1.0, ratio)
    width = (125 - 7.95) / (2.285 * 0.08 * np.pi) / 2 / rate
    reach = np.arange(-int(width) - 2, x.shape[1] + int(width) + 3)
    padded = np.zeros((x.shape[0], len(reach)))
    padded[:, int(width) + 2 : int(width) + 2 + x.shape[1]] = x
    out = np.zeros((x.shape[0], length))
    for j in range(length):
        time = j / ratio - reach
        near = np.maximum(0, 1 - (time / width) ** 2)
        weights = np.sinc(0.96 * rate * time) * np.i0(beta * np.sqrt(near)) * (np.abs(time) < width)
        out[:, j] = padded @ (weights / weights.sum())
    return out


def test_a_constant_stays_one() -> None:
    got = resample(np.ones((1, 44_100), np.float32), 44_100, 32_000)
    np.testing.assert_allclose(got[0, EDGE:-EDGE], 1, atol=1e-6)


def test_equal_rates_change_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    assert resample(x, 32_000, 32_000) is x


def test_channels_do_not_touch() -> None:
    x = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
    together = resample(x, 44_100, 32_000)
    for row in range(3):
        np.testing.assert_allclose(together[row], resample(x[row : row + 1], 44_100, 32_000)[0], atol=1e-6)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(0, 32_000), (32_000, 0), (-5, 3)])
def test_rates_below_one_are_refused(from_hz: int, to_hz: int) -> None:
    with pytest.raises(PromptError, match="at least 1 Hz"):
        resample(np.zeros((1, 9), np.float32), from_hz, to_hz)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (32_000, 47_999),
        (4_000, 5_507),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in [(47_999, 32_000), (1_000, 23_999)]),
    ],
)
@pytest.mark.parametrize("length", [1, 300, 20_000])
def test_filters_from_the_table_are_those_computed_for_each_phase(up: int, down: int, length: int) -> None:
    audio = torch.from_numpy(np.random.default_rng(3).normal(0, 0.1, (2, length)).astype(np.float32))
    wanted = -(-length * up // down)
    quick, slow = _many_phases(audio, up, down, wanted), _polyphase(audio, up, down, wanted)
    assert quick.shape == slow.shape == (2, wanted)
    assert (quick - slow).abs().max() < 0.1 * 10 ** (-105 / 20)


@pytest.mark.slow
def test_an_odd_rate_costs_no_more_than_ten_times_a_usual_one() -> None:
    """A rate in a file's header is anybody's choice. Side by side, in seconds of processor, the best of three."""

    def cost(rate_hz: int) -> float:
        audio, best = np.zeros((2, rate_hz * 15), np.float32), np.inf
        for _ in range(3):
            began = time.process_time()
            resample(audio, rate_hz, 32_000)
            best = min(best, time.process_time() - began)
        return best

    usual = cost(44_100)
    assert max(cost(rate_hz) for rate_hz in (47_999, 44_056, 48_048)) < 10 * usual
