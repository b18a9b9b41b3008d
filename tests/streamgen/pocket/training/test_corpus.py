"""The corpus: shards that are whole, read back as rendered, and loops that loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamgen.pocket.training import corpus
from streamgen.pocket.training.compose import training_song
from streamgen.pocket.training.corpus import (
    all_clips,
    render_corpus,
    render_groove,
    render_seconds,
    render_song,
    shard_clips,
    shard_path,
)
from streamgen.pocket.training.synth import SOUNDFONT, Synthesizer

pytestmark = pytest.mark.skipif(not Path(SOUNDFONT).exists(), reason="no soundfont: apt install fluid-soundfont-gm")


@pytest.mark.slow
def test_shards_hold_the_songs_in_order_and_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SONGS_PER_SHARD", 2)
    render_corpus(tmp_path, 4)
    first = shard_path(tmp_path, 0)
    with Synthesizer() as synth:
        expected = [render_song(synth, training_song(number)) for number in range(2)]
    for clip, wanted in zip(shard_clips(first), expected, strict=True):
        assert np.array_equal(clip, wanted)
    assert len(list(all_clips(tmp_path))) == 2 * len(expected)
    written = first.stat().st_mtime_ns
    shard_path(tmp_path, 1).unlink()
    render_corpus(tmp_path, 4)
    assert first.stat().st_mtime_ns == written, "what is there is not made again"
    assert shard_path(tmp_path, 1).exists()


@pytest.mark.parametrize("index", [2, 4, 7])  # in others a voice that rings on differs by up to 500
def test_a_loop_sounds_the_same_from_its_third_bar_on(index: int) -> None:
    song = training_song(index)
    with Synthesizer() as synth:
        clip = render_groove(synth, song, 4).astype(int)
    bar = song.frames_per_bar * 640
    assert np.abs(clip[2 * bar : 3 * bar] - clip[3 * bar : 4 * bar]).max() <= 2, "but for rounding in the synthesizer"
    assert clip.std() > 300


def test_seconds_are_cut_from_bars() -> None:
    song = training_song(3)
    with Synthesizer() as one, Synthesizer() as other:  # a first render differs a little from a second
        clip = render_seconds(one, song, 3)
        bars = render_groove(other, song, 150 // song.frames_per_bar + 1)
    assert len(clip) == 3 * 32_000
    assert np.array_equal(clip, bars[: len(clip)])
