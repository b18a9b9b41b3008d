"""Streamed resampling against the whole, in values."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from bridge.audio.conversion import resampler

RATE_HZ = 32_000


def tone(seconds: float, rate_hz: int) -> np.ndarray:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 997 * time)]).astype(np.float32)


def in_chunks(source: np.ndarray, to_hz: int, seed: int = 0) -> np.ndarray:
    draw, convert, parts, start = np.random.default_rng(seed), resampler(RATE_HZ, to_hz), [], 0
    while start < source.shape[1]:
        stop = min(source.shape[1], start + int(draw.integers(1, 4_000)))
        parts.append(convert.process(source[:, start:stop], last=stop == source.shape[1]))
        start = stop
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("to_hz", [8_000, 44_100, 48_000, 96_000])
def test_chunks_of_any_size_give_what_the_whole_gives(to_hz: int) -> None:
    source = tone(1.3, RATE_HZ)
    whole = soxr.resample(source.T, RATE_HZ, to_hz, quality="HQ").T
    streamed = in_chunks(source, to_hz)
    assert abs(streamed.shape[1] - round(1.3 * to_hz)) <= 1
    shared = min(whole.shape[1], streamed.shape[1])
    np.testing.assert_allclose(streamed[:, :shared], whole[:, :shared], atol=1e-5)


def test_a_tone_keeps_its_pitch_level_and_place() -> None:
    out = in_chunks(tone(1.0, RATE_HZ), 48_000)
    inner = slice(2_000, 46_000)  # the filter rings at both ends
    np.testing.assert_allclose(out[:, inner], tone(1.0, 48_000)[:, inner], atol=1e-3)


def test_equal_rates_pass_through_untouched() -> None:
    source = tone(0.1, RATE_HZ)
    assert resampler(RATE_HZ, RATE_HZ).process(source) is source


def test_the_end_gives_out_what_was_held_back() -> None:
    convert = resampler(RATE_HZ, 48_000)
    early = convert.process(tone(0.5, RATE_HZ))
    late = convert.process(np.zeros((2, 0), np.float32), last=True)
    assert early.shape[1] < 24_000
    assert abs(early.shape[1] + late.shape[1] - 24_000) <= 1
