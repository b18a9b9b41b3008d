"""What is counted of streams, on sounds whose answer is known, and a few seconds of the shipped checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from streamgen import Model
from streamgen.pocket import pocket_folder
from streamgen.pocket.training import streams
from streamgen.pocket.training.captions import captioned_songs
from streamgen.pocket.training.compose import Song
from streamgen.pocket.training.streams import Performance, hear, judge_streams, perform, shares, table
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ, SOUNDFONT
from streamgen.testing.fake import FakeModel, fake_pitch_hz

DRUMMED = Performance(0, "some house", "house", "house", True, 0.9, 0.8)
HELD = Performance(1000, "some piano", "piano", "ambient", False, None, None)


def test_means_leave_out_what_has_no_drums() -> None:
    found = shares([DRUMMED, HELD])
    assert found["style right"] == found["named key"] == 0.5
    assert found["onsets within 12 ms of the 16th grid, drums"] == 0.8
    assert found["onset autocorrelation at the bar lag, drums"] == 0.9


def test_the_table_names_what_sounds_like_another_style() -> None:
    text = table([DRUMMED, HELD, Performance(1000, "some rock", "rock", "rock", True, 0.7, 1.0)])
    assert "| row | seed 0 | seed 1000 | all |" in text
    assert "| style right | 1 | 0.5 | 0.667 |" in text
    assert "| some piano | 1000 | ambient |" in text
    assert "some house" not in text


def test_every_caption_has_its_own_stream() -> None:
    model, songs = cast(Model, FakeModel()), captioned_songs(3)
    heard = perform(model, songs, seed=0, seconds=2)
    for (_, text), audio in zip(songs, heard, strict=True):
        assert len(audio) == 2 * model.sample_rate_hz
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
        assert abs(spectrum.argmax() / len(audio) * model.sample_rate_hz - fake_pitch_hz(text)) < 1


def clicks(song: Song, late_seconds: float) -> np.ndarray:
    """A click on every beat, every second one late."""
    audio, beat = np.zeros(10 * SAMPLE_RATE_HZ, np.float32), song.frames_per_bar // 4 * 640
    for number, at in enumerate(range(0, len(audio) - 2 * beat, beat)):
        begin = at + number % 2 * round(late_seconds * SAMPLE_RATE_HZ)
        audio[begin : begin + 640] += np.random.default_rng(0).standard_normal(640).astype(np.float32) * 0.3
    return audio


def test_a_stream_is_held_to_its_songs_grid() -> None:
    song, text = next(pair for pair in captioned_songs(12) if pair[0].has_drums)
    lengths = []

    def classify(audio: np.ndarray) -> str:
        lengths.append(len(audio))
        return song.style

    tight, loose = (hear(song, text, clicks(song, late), cast(Any, classify), 0) for late in (0.0, 0.04))
    assert lengths == [5 * SAMPLE_RATE_HZ] * 2
    assert tight.on_grid == 1.0
    assert tight.bar_correlation is not None
    assert tight.bar_correlation > 0.9
    assert loose.on_grid is not None
    assert loose.on_grid < 0.7
    assert tight.heard == tight.style == song.style


@pytest.mark.slow
@pytest.mark.skipif(not Path(SOUNDFONT).exists(), reason="no soundfont on this machine")
def test_a_few_seconds_of_two_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SEEDS", (0, 1000))
    heard = judge_streams(pocket_folder(), tmp_path, clips=2, listener_songs=24)
    assert [one.seed for one in heard] == [0, 0, 1000, 1000]
    assert len(json.loads((tmp_path / "streams.json").read_text())) == 4
    assert "| style | streams |" in (tmp_path / "streams.md").read_text()
