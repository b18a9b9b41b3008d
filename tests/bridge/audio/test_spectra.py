"""Octaves in dBFS, onsets where something is struck, and the same however the music is cut."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.audio.spectra import BANDS_HZ, Onsets, Spectra

RATE_HZ = 48_000


def cut(samples: np.ndarray, sizes: list[int], rate_hz: int = RATE_HZ) -> tuple[np.ndarray, np.ndarray, list]:
    """Bands, flux and onsets of music that comes in pieces of these sizes, again and again."""
    spectra, looks, found, at, turn = Spectra(rate_hz), [], [], 0, 0
    onsets = Onsets(spectra.seen_after)
    while at < samples.shape[1]:
        size = sizes[turn % len(sizes)]
        looks.append(spectra.add(samples[:, at : at + size], at))
        found += onsets.add(looks[-1])
        at, turn = at + size, turn + 1
    return np.concatenate([look.bands for look in looks]), np.concatenate([look.flux for look in looks]), found


def struck(times: np.ndarray, seconds: float, rate_hz: int = RATE_HZ, seed: int = 1) -> np.ndarray:
    """Drums and plucked notes at some times, over a chord that goes on."""
    rng, at = np.random.default_rng(seed), np.arange(round(seconds * rate_hz)) / rate_hz
    music = 0.03 * sum(np.sin(2 * np.pi * hz * at) for hz in (220, 277, 330))
    for number, time in enumerate(times):
        tail = at[: round(0.25 * rate_hz)]
        hit = np.exp(-tail / 0.06) * (
            rng.standard_normal(len(tail)) * 0.2
            if number % 2
            else 0.4 * np.sin(2 * np.pi * (60 + 90 * np.exp(-tail / 0.02)) * tail)
        )
        start = round(time * rate_hz)
        music[start : start + len(hit)] += hit[: len(music) - start]
    return np.stack([music, music]).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000, 96_000])
def test_a_sine_is_in_its_octave_at_its_height(rate_hz: int) -> None:
    for band, hz in enumerate(BANDS_HZ):
        wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(rate_hz // 2) / rate_hz)
        bands, _, _ = cut(np.stack([wave, wave]).astype(np.float32), [960], rate_hz)
        assert bands[-1][band] == pytest.approx(-6.02, abs=0.8)
        assert np.argmax(bands[-1]) == band


def test_any_cutting_gives_the_same() -> None:
    samples = struck(np.arange(0.2, 1.4, 0.25), 1.5)
    whole = cut(samples, [samples.shape[1]])
    for sizes in ([1_920], [480], [1, 7, 479, 481], [3_333, 10]):
        bands, flux, onsets = cut(samples, sizes)
        np.testing.assert_allclose(bands, whole[0], atol=1e-6)
        np.testing.assert_allclose(flux, whole[1], atol=1e-6)
        assert [at for at, _ in onsets] == [at for at, _ in whole[2]]


@pytest.mark.parametrize("rate_hz", [32_000, 48_000])
def test_strokes_are_found_within_a_hundredth_or_two_and_nothing_else_is(rate_hz: int) -> None:
    times = np.cumsum(np.random.default_rng(5).uniform(0.1, 0.5, 40))
    found = np.array([at for at, _ in cut(struck(times, times[-1] + 1, rate_hz), [960], rate_hz)[2]]) / rate_hz
    found = found[found > 0.08]  # the chord itself begins
    off = np.abs(times[:, None] - found[None]).min(axis=1)
    assert np.mean(off < 0.02) > 0.95
    assert len(found) < 1.05 * len(times)


def test_a_chord_that_goes_on_is_struck_once() -> None:
    assert len(cut(struck(np.zeros(0), 4.0), [960])[2]) == 1
    assert cut(np.zeros((2, RATE_HZ), np.float32), [960])[2] == []
