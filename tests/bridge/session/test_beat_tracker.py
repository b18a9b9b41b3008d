"""Beats heard from the sound: drums at a known tempo and phase, and nothing where there is no pulse."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.session.beat_tracker import BeatTracker

from ..audio.test_spectra import struck

RATE_HZ = 48_000


def drums(bpm: float, first: float, seconds: float = 12.0, seed: int = 2) -> np.ndarray:
    """A bass drum on each beat, something else between them, some of it left out."""
    beat = 60 / bpm
    times = np.arange(first, seconds - 0.3, beat / 2)
    keep = (np.arange(len(times)) % 2 == 0) | (np.random.default_rng(seed).random(len(times)) < 0.7)
    music = struck(times[::2], seconds, seed=seed) * 0
    for at, time in enumerate(times):
        if keep[at]:
            length = int(0.2 * RATE_HZ)
            tail = np.arange(length) / RATE_HZ
            drum = 0.5 * np.sin(2 * np.pi * (55 + 90 * np.exp(-tail / 0.02)) * tail) * np.exp(-tail / 0.08)
            hat = 0.1 * np.random.default_rng(at).standard_normal(length) * np.exp(-tail / 0.02)
            start = round(time * RATE_HZ)
            music[:, start : start + length] += (drum if at % 2 == 0 else hat)[: music.shape[1] - start]
    return music.astype(np.float32)


def heard(music: np.ndarray) -> tuple[float, float] | None:
    tracker = BeatTracker(RATE_HZ)
    for at in range(0, music.shape[1], 960):
        tracker.take(music[:, at : at + 960], at)
    return tracker.beats


@pytest.mark.parametrize("bpm", [72, 94, 110, 125, 150, 174])
@pytest.mark.parametrize("first", [0.1, 0.33])
def test_drums_tell_tempo_and_beat(bpm: float, first: float) -> None:
    beats = heard(drums(bpm, first))
    assert beats is not None
    sample, length = beats
    octaves = np.log2(60 * RATE_HZ / length / bpm)
    assert abs(octaves - round(octaves)) < 0.01, "or twice, or half as many"
    beat = 60 / bpm * RATE_HZ
    off = ((sample - first * RATE_HZ) / beat + 0.5) % 1 - 0.5
    assert abs(off) * 60 / bpm < 0.02 or (round(octaves) == 1 and abs(abs(off) - 0.5) * 60 / bpm < 0.02)


def test_no_pulse_is_no_beat() -> None:
    at = np.arange(12 * RATE_HZ) / RATE_HZ
    pad = 0.1 * sum(np.sin(2 * np.pi * hz * at) for hz in (220, 277, 330)) * (1 + 0.2 * np.sin(2 * np.pi * 0.13 * at))
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, len(at)))
    strokes = struck(np.cumsum(np.random.default_rng(3).uniform(0.05, 1.2, 15)), 12.0)
    for music in (np.zeros((2, len(at))), np.stack([pad, pad]), noise, strokes):
        assert heard(music.astype(np.float32)) is None


def test_what_does_not_follow_on_begins_anew() -> None:
    tracker, music = BeatTracker(RATE_HZ), drums(120, 0.1)
    for at in range(0, music.shape[1], 960):
        tracker.take(music[:, at : at + 960], at)
    assert tracker.beats is not None
    tracker.take(music[:, :960], 10 * music.shape[1])
    assert tracker.beats is None
