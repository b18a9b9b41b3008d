from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from streamgen.pocket.training.compose import training_song
from streamgen.pocket.training.synth import HOP_SAMPLES, SOUNDFONT, Synthesizer, schedule

needs_soundfont = pytest.mark.skipif(not Path(SOUNDFONT).exists(), reason="no soundfont on this machine")


def test_onsets_lie_on_the_grid_and_every_bar_is_the_same() -> None:
    song = training_song(3)
    step = song.frames_per_bar // 16
    timeline = schedule([song.loops[0]] * 3, step)
    assert all(frame % step == 0 for frame in timeline)
    onsets = [{f % song.frames_per_bar for f in timeline if f // song.frames_per_bar == bar} for bar in (1, 2)]
    assert onsets[0] == onsets[1]


def test_a_release_comes_before_the_next_strike() -> None:
    for events in schedule(training_song(3).loops[:2], 5).values():
        assert events == sorted(events)  # False, a release, sorts before True


@pytest.mark.slow
@needs_soundfont
def test_a_repeated_bar_is_the_same_sound() -> None:
    for number in range(6):
        song = training_song(number)
        with Synthesizer() as synth:
            audio = synth.render([song.loops[0]] * 4, song.bpm)
        bar = song.frames_per_bar * HOP_SAMPLES
        assert len(audio) == 4 * bar
        assert np.abs(audio[3 * bar :] - audio[2 * bar : 3 * bar]).max() < 0.05
        assert 0.02 < audio.std() < 0.2
        assert np.abs(audio).max() <= 0.96


def test_a_missing_soundfont_says_what_to_install() -> None:
    with pytest.raises(FileNotFoundError, match="fluid-soundfont-gm"):
        Synthesizer("/nowhere.sf2")


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    with pytest.raises(FileNotFoundError, match=r"pip install pyfluidsynth.*libfluidsynth3"):
        Synthesizer()


@needs_soundfont
def test_a_song_starts_from_silence_whatever_was_played_before_it() -> None:
    song, other = training_song(2), training_song(4)
    with Synthesizer() as synth:
        first = synth.render([song.loops[0]] * 2, song.bpm)
        synth.render([other.loops[0]], other.bpm)
        again = synth.render([song.loops[0]] * 2, song.bpm)
    assert first[0] == again[0] == 0
    assert np.std(first - again) < 0.01 * np.std(first)  # a voice's filter starts where its last note left it
    assert np.unique(first).size > 65536  # finer than 16 bits
