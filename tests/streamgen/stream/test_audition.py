from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from streamgen.checkpoint.words import WORDINGS, Heard
from streamgen.stream import audition
from streamgen.stream.audition import score
from streamgen.stream.controls import MOST_OPENINGS

RATE, HOP, BAR = 32_000, 640, 96
HEARD = Heard("house", "house", ("drums",), 125, "A minor", (), (), BAR)


def clicks(late_frames: tuple[int, ...], pitch_hz: float = 440.0, level: float = 0.3) -> Any:
    """A bar of sixteenths, each some frames late, in turn."""
    out = np.zeros(BAR * HOP + HOP * 10, np.float32)
    at = np.arange(4 * HOP)
    note = (level * np.exp(-at / 600) * np.sin(2 * np.pi * pitch_hz * at / RATE)).astype(np.float32)
    for step in range(16):
        begin = (step * 6 + late_frames[step % len(late_frames)]) * HOP
        out[begin : begin + len(note)] += note
    return out


def test_tight_beats_loose_in_key_beats_out_of_key_and_sound_beats_silence() -> None:
    bar_seconds = BAR * HOP / RATE
    tight, loose = clicks((0,)), clicks((0, 1, 0, 2))
    assert score(tight, RATE, bar_seconds, HEARD) > score(loose, RATE, bar_seconds, HEARD) + 0.2
    assert score(tight, RATE, bar_seconds, HEARD) > score(clicks((0,), 466.2), RATE, bar_seconds, HEARD) + 0.1
    assert score(loose, RATE, bar_seconds, HEARD) > score(0 * tight, RATE, bar_seconds, HEARD) + 0.5
    assert score(tight, RATE, bar_seconds, None) > score(0 * tight, RATE, bar_seconds, None)


def test_chords_that_are_struck_beat_one_that_is_held() -> None:
    at = np.arange(2 * RATE) / RATE
    held = (0.2 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)
    struck = held * np.exp(-6 * (at % 0.48)).astype(np.float32)
    for heard in (HEARD, None):
        assert score(struck, RATE, 1.92, heard) > score(held, RATE, 1.92, heard) + 0.2


def test_without_drums_neither_onsets_nor_more_movement_than_enough_count() -> None:
    calm = replace(HEARD, instruments=("strings",))
    tight, loose = clicks((0,)), clicks((0, 1, 0, 2))
    with_drums, without = (score(tight, RATE, 1.92, one) - score(loose, RATE, 1.92, one) for one in (HEARD, calm))
    assert with_drums > without + 0.2
    at = np.arange(2 * RATE) / RATE
    held = (0.2 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)
    struck = held * np.exp(-6 * (at % 0.48)).astype(np.float32)
    assert score(struck, RATE, 1.92, calm) > score(held, RATE, 1.92, calm) + 0.2


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was heard in auditions; the loudest candidate is the best."""
    heard: list[Any] = []

    def loudness(audio: Any, *_: object) -> float:
        heard.append(audio.copy())
        return float(np.abs(audio).sum())

    monkeypatch.setattr(audition, "score", loudness)
    return heard


def test_a_stream_plays_the_opening_that_won(short_twin: Any, chosen: list[Any]) -> None:
    model = short_twin("mono").model
    with model.open_stream("piano", seed=3, audition=4) as stream:
        samples = stream.read(RATE).samples[0]
        assert stream.controls.candidate == 1 + int(np.argmax([np.abs(one).sum() for one in chosen]))
        assert len(chosen) == 4
        best = max(chosen, key=lambda one: np.abs(one).sum())
        np.testing.assert_allclose(samples, best[: len(samples)], atol=1e-4)
    with model.open_stream("piano", seed=3) as plain:
        assert plain.controls.candidate == 0


def test_texts_that_are_one_prompt_to_a_checkpoint_have_openings_of_their_own(
    short_twin: Any, chosen: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wordings, found = short_twin("mono").model, {"piano": 0, "a piano": 7, "keys": WORDINGS}, {}
    monkeypatch.setattr(model.runtime.prompts, "heard", lambda text: replace(HEARD, wording=wordings[text]))
    for text, wording in wordings.items():
        with model.open_stream(text, seed=3, audition=MOST_OPENINGS) as stream:
            found[text] = stream.controls.candidate
            first = stream.snapshot()
            before = stream.read(4 * HOP).samples
            stream.restore(first)
            assert np.array_equal(stream.read(4 * HOP).samples, before)
        assert MOST_OPENINGS * wording < found[text] <= MOST_OPENINGS * (wording + 1)
    best = [1 + int(np.argmax([np.abs(one).sum() for one in chosen[at : at + MOST_OPENINGS]])) for at in (0, 16, 32)]
    assert [number - MOST_OPENINGS * wordings[text] for text, number in found.items()] == best


@pytest.mark.slow
def test_another_prompt_is_tried_where_it_begins_anew_and_another_knob_is_not(
    short_twin: Any, chosen: list[Any]
) -> None:
    model = short_twin("mono").model
    with model.open_stream("piano", seed=3, audition=3, change_context_seconds=0.0, rewind_seconds=3.0) as stream:
        stream.read(RATE)
        mark = stream.mark()
        chosen.clear()
        stream.set(temperature=0.9)
        assert chosen == []
        at = stream.set(prompt="rock", at_sample=3 * RATE // 2)
        assert len(chosen) == 3
        stream.read(2 * RATE)
        assert stream.controls.candidate == 1 + int(np.argmax([np.abs(one).sum() for one in chosen]))
        first = stream._sound.tokens.frames(at // HOP, at // HOP + 50)
        stream.rewind(mark)
        stream.read(2 * RATE)
        assert torch.equal(first, stream._sound.tokens.frames(at // HOP, at // HOP + 50))
        assert len(chosen) == 3, "what is asked for again is not tried again"


def test_values_that_were_tried_before_are_set_as_they_are(short_twin: Any, chosen: list[Any]) -> None:
    model, steps = short_twin("mono").model, []
    with model.open_stream("piano", seed=3, audition=3, change_context_seconds=0.0) as stream:
        stream.read(RATE)
        chosen.clear()
        values = stream.auditioned({"prompt": "rock"}, lambda: steps.append(1))
        assert len(steps) > 50
        stream.set(**values)
        assert len(chosen) == 3
        assert stream.auditioned({"prompts": [("rock", 2.0)]}) == {"prompts": [("rock", 2.0)]}
        assert stream.auditioned({"prompt": "jazz"}, hold=False) == {"prompt": "jazz", "candidate": 0}
        assert len(chosen) == 3
