from __future__ import annotations

import numpy as np
import pytest

from streamgen.pocket.training import measures


def clicks(bpm: float, seconds: float = 8.0) -> np.ndarray:
    """A click on every beat, the first of four louder, over a faint hiss."""
    audio = 0.001 * np.random.default_rng(0).standard_normal(int(seconds * 32000))
    for beat, start in enumerate(np.arange(0, seconds - 0.1, 60 / bpm)):
        place = int(start * 32000)
        audio[place : place + 320] += (0.8 if beat % 4 == 0 else 0.4) * np.random.default_rng(beat).standard_normal(320)
    return audio.astype(np.float32)


def chord(*hertz: float) -> np.ndarray:
    time = np.arange(5 * 32000) / 32000
    return (0.1 * sum(np.sin(2 * np.pi * h * time) for h in hertz)).astype(np.float32)


@pytest.mark.parametrize("bpm", [93.75, 125.0, 150.0])
def test_tempo_of_clicks(bpm: float) -> None:
    assert measures.tempo_fits(measures.tempo(clicks(bpm)), bpm)


def test_a_beat_repeats_at_its_bar_and_nowhere_else() -> None:
    envelope = measures.onset_envelope(clicks(125.0))
    assert measures.autocorrelation(envelope, 4 * 60 / 125) > 0.5
    assert measures.autocorrelation(envelope, 1.37 * 4 * 60 / 125) < 0.2


def test_clicks_are_percussive_and_noisy_tones_are_neither() -> None:
    assert measures.percussive_share(clicks(125.0)) > 0.7
    assert measures.percussive_share(chord(220, 330)) < 0.1
    assert measures.flatness(clicks(125.0)) > 10 * measures.flatness(chord(220, 330))


def test_a_c_major_scale_is_in_c_major() -> None:
    scale = chord(*(261.63 * 2 ** (step / 12) for step in (0, 2, 4, 5, 7, 9, 11)), 261.63, 329.63, 392.0)
    assert measures.key_rank(scale, tonic=0, minor=False) == 0
    assert measures.key_rank(scale, tonic=6, minor=False) > 5


def test_silence_is_counted() -> None:
    half = np.zeros(64000, dtype=np.float32)
    half[:32000] = 0.1
    assert measures.silent_share(half) == 0.5


def test_the_classifier_tells_clicks_from_chords() -> None:
    clips = [clicks(b, 3) for b in (100, 120, 140)] + [chord(h, 2 * h)[:96000] for h in (200, 300, 400)]
    classify = measures.StyleClassifier(clips, ["clicks"] * 3 + ["chords"] * 3)
    assert classify(clicks(130.0, 3)) == "clicks"
    assert classify(chord(250, 500)) == "chords"


def test_beats_tell_how_often_onsets_come() -> None:
    often = measures.beats(clicks(240.0, 4))[-28:]  # of the highest band, from 0.5 Hz in steps of 0.49
    assert often[7] > 3 * often[2:5].max()
    assert len(measures.beats(clicks(240.0, 4))) == 5 * 31
