"""The listener of styles: what is counted of it, and that it tells the songs it never heard."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from streamgen.pocket.training import listening
from streamgen.pocket.training.compose import held_out_song, songs_of_every_style, training_song
from streamgen.pocket.training.corpus import Pcm
from streamgen.pocket.training.listening import Confusion, confusion, examine, style_listener, table
from streamgen.pocket.training.styles import STYLES
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ, SOUNDFONT


def test_what_is_heard_as_something_else_is_named() -> None:
    found = Confusion()
    for style, heard in (("house", "house"), ("house", "rock"), ("house", "funk"), ("rock", "rock")):
        found.add(style, heard)
    assert found.right == 0.5
    assert found.row("house") == "1 of 3 (funk 1, rock 1)"
    assert found.row("rock") == "1 of 1"
    assert math.isnan(Confusion().right)
    text = table({"real": found, "codec": Confusion()})
    assert "| style | real | codec |" in text
    assert "| house | 1 of 3 (funk 1, rock 1) | 0 of 0 |" in text
    assert "| right | 0.5 | nan |" in text


def test_the_first_five_seconds_are_heard() -> None:
    lengths = []

    def classify(audio: np.ndarray) -> str:
        lengths.append(len(audio))
        return "house"

    song = held_out_song(0)
    found = confusion(classify, [(song, np.zeros(8 * SAMPLE_RATE_HZ, np.float32))])
    assert lengths == [5 * SAMPLE_RATE_HZ]
    assert found.counts == {(song.style, "house"): 1}


def test_the_examination_has_songs_of_its_own() -> None:
    exam = songs_of_every_style(24, listening._FIRST_EXAM_SONG)
    own = [training_song(listening._FIRST_OWN_SONG + number) for number in range(60)]
    assert not {repr(song.loops) for song in exam} & {repr(song.loops) for song in own + songs_of_every_style(48)}


@pytest.mark.slow
@pytest.mark.skipif(not Path(SOUNDFONT).exists(), reason="no soundfont on this machine")
def test_sixty_songs_teach_most_of_twelve_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that changes nothing stands for the real one, which takes minutes over so many songs."""

    def untouched(_codec: object, pcm: Pcm) -> Any:
        return listening.to_floats(pcm)

    monkeypatch.setattr(listening, "as_codec_plays", untouched)
    codec = cast(Any, None)
    classify = style_listener(codec, 60)
    assert set(classify.names) <= set(STYLES)
    found = examine(classify, codec, 12)
    assert found["codec"].counts == found["real"].counts
    assert found["real"].counts.total() == 12
    assert found["real"].right > 0.6
