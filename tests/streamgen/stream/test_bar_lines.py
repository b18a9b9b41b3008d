"""Changes wait for the bar line where a checkpoint tells its bars; here a fake one whose every bar is 50 frames."""

from __future__ import annotations

from typing import Any

import pytest

from streamgen.checkpoint.words import Heard
from streamgen.stream.stream import Stream
from streamgen.testing.fake import HOP_SAMPLES as HOP
from streamgen.testing.fake import FakeModel

BAR = 50 * HOP


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel()
    heard = Heard("a", "a", (), 60, "C major", (), (), 50)
    monkeypatch.setattr(model.runtime.prompts, "heard", lambda text: None if text is None else heard)
    return model


def opened(model: FakeModel, **controls: Any) -> Stream:
    return model.open_stream("a", **{"change_context_seconds": 0.0, "seed": 1, **controls})


def test_another_prompt_waits_for_the_bar_line_and_its_own_bars_begin_there(model: FakeModel) -> None:
    with opened(model) as stream:
        stream.read(30 * HOP)
        assert stream.set(prompt="b") == BAR
        stream.read(50 * HOP)
        assert stream.controls.mix.dominant == "b"
        assert stream.bar_line() == 2 * BAR
        at = stream.set(prompt="c", at_sample=85 * HOP)
        assert at == 85 * HOP, "a sample that was named is kept to"
        stream.read(20 * HOP)
        assert stream.bar_line() == at + BAR, "bars are counted from where the music began anew"


def test_knobs_and_who_asks_not_to_wait_do_not(model: FakeModel) -> None:
    with opened(model) as stream:
        stream.read(30 * HOP)
        now = stream.next_sample
        assert stream.set(temperature=0.5) == now
        assert stream.set(prompt="b", on_bar=False) == now
    with opened(model, on_bar=False) as stream:
        stream.read(30 * HOP)
        assert stream.set(prompt="b") == stream.next_sample


def test_who_has_just_asked_not_to_wait_does_not(model: FakeModel) -> None:
    with opened(model) as stream:
        stream.read(30 * HOP)
        stream.set(on_bar=False)
        assert stream.set(prompt="b") == stream.next_sample
        stream.set(on_bar=True)
        assert stream.set(prompt="c") > stream.next_sample


@pytest.mark.parametrize("rewound", [False, True])
def test_what_waits_for_the_line_does_not_undo_what_was_asked_for_later_and_came_sooner(
    model: FakeModel, rewound: bool
) -> None:
    with opened(model, rewind_seconds=5.0) as stream:
        stream.read(20 * HOP)
        mark = stream.mark()
        stream.read(5 * HOP)
        assert stream.set(prompt="b", take=2, temperature=0.5) == BAR
        stream.read(5 * HOP)
        assert stream.set(prompts=[("c", 1.0)], on_bar=False) < BAR
        if rewound:
            stream.rewind(mark)
        stream.read(60 * HOP)
        assert (stream.controls.mix.dominant, stream.controls.take) == ("c", 2), "of the rest nothing else was said"
        assert stream.controls.temperature == 0.5
        assert stream.set(take=3) == stream.next_sample
        named = stream.set(prompt="d", at_sample=stream.next_sample + 20 * HOP)
        stream.set(prompt="e")
        stream.read(30 * HOP)
        assert stream.position_samples > named
        assert stream.controls.mix.dominant == "d", "a sample that was named is kept to"


def test_a_take_waits_too_and_no_prompt_has_no_bars(model: FakeModel) -> None:
    with opened(model) as stream:
        stream.read(60 * HOP)
        assert stream.set(take=3) == 2 * BAR
        stream.set(prompt=None)
        stream.read(50 * HOP)
        assert stream.bar_line() is None
        assert stream.set(prompt="b") == stream.next_sample


def test_rewound_before_the_line_it_still_waits_for_it(model: FakeModel) -> None:
    with opened(model, rewind_seconds=5.0) as stream:
        stream.read(20 * HOP)
        mark = stream.mark()
        stream.read(15 * HOP)
        assert stream.set(prompt="b") == BAR
        stream.read(40 * HOP)
        stream.rewind(mark)
        stream.read(25 * HOP)
        assert stream.controls.mix.dominant == "a"
        stream.read(10 * HOP)
        assert stream.controls.mix.dominant == "b"
