"""FakeModel keeps Model's contract: names, arguments, errors, and audio that says what was asked."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest

from streamgen import ConfigError, Model, PromptError, SessionClosed, Stream
from streamgen.testing import FakeClock, FakeModel, FakeStream, fake_pitch_hz

RATE_HZ = 32_000


def sine(prompt: str | None, start: int, stop: int) -> Any:
    return 0.25 * np.sin(2 * np.pi * fake_pitch_hz(prompt) * np.arange(start, stop) / RATE_HZ)


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


@pytest.mark.parametrize("name", ["read", "chunks", "set", "check", "snapshot", "restore", "mark", "rewind", "close"])
def test_a_fake_stream_takes_what_a_stream_takes(name: str) -> None:
    ours, theirs = inspect.signature(getattr(FakeStream, name)), inspect.signature(getattr(Stream, name))
    shape = [(p.name, p.kind, p.default) for p in ours.parameters.values()]
    assert shape == [(p.name, p.kind, p.default) for p in theirs.parameters.values()]


@pytest.mark.parametrize("name", ["open_stream", "generate"])
def test_a_fake_model_takes_what_a_model_takes(name: str) -> None:
    ours, theirs = inspect.signature(getattr(FakeModel, name)), inspect.signature(getattr(Model, name))
    shape = [(p.name, p.kind, p.default) for p in ours.parameters.values()]
    assert shape == [(p.name, p.kind, p.default) for p in theirs.parameters.values()]


def test_nothing_a_stream_has_is_missing_but_its_windows() -> None:
    assert set(public(Stream)) - set(public(FakeStream)) == {"plan"}


def test_each_prompt_has_its_pitch_in_every_chunking() -> None:
    whole = FakeModel().open_stream("piano", seed=1).read(10_000).samples
    assert whole.dtype == np.float32
    assert whole.shape == (2, 10_000)
    np.testing.assert_allclose(whole[0], sine("piano", 0, 10_000), atol=1e-6)
    np.testing.assert_array_equal(whole[0], whole[1])
    stream = FakeModel().open_stream("piano", seed=1)
    parts = [stream.read(n).samples for n in (1, 639, 641, 8_719)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert fake_pitch_hz(None) == 220.0
    assert len({fake_pitch_hz(word) for word in ("piano", "techno", "strings")}) == 3


def test_a_change_is_heard_from_the_next_frame() -> None:
    stream = FakeModel().open_stream("piano")
    stream.read(700)
    assert stream.set(prompt="techno") == 1280
    audio = stream.read(2000).samples[0]
    np.testing.assert_allclose(audio[:580], sine("piano", 700, 1280), atol=1e-6)
    np.testing.assert_allclose(audio[580:], sine("techno", 1280, 2700), atol=1e-6)


def test_a_change_ahead_is_heard_at_its_sample() -> None:
    stream = FakeModel().open_stream("piano")
    assert stream.set(prompts=[("techno", 3.0), ("strings", 1.0)], at_sample=6_000) == 6_400
    audio = stream.read(10_000).samples[0]
    expected = 0.75 * sine("techno", 6_400, 10_000) + 0.25 * sine("strings", 6_400, 10_000)
    np.testing.assert_allclose(audio[6_400:], expected, atol=1e-6)
    np.testing.assert_allclose(audio[:6_400], sine("piano", 0, 6_400), atol=1e-6)


def test_restore_replays_with_the_changes_that_were_waiting() -> None:
    stream = FakeModel().open_stream("piano")
    stream.set(prompt="techno", at_sample=3_200)
    stream.read(1_000)
    saved = stream.snapshot()
    once = stream.read(5_000)
    stream.set(prompt="strings")
    stream.read(5_000)
    stream.restore(saved)
    again = stream.read(5_000)
    assert again.start_sample == once.start_sample == 1_000
    np.testing.assert_array_equal(again.samples, once.samples)


def test_rewind_reaches_as_far_as_was_asked() -> None:
    stream = FakeModel().open_stream("piano", rewind_seconds=0.5)
    start = stream.mark()
    stream.read(16_000)
    stream.rewind(start)
    assert stream.position_samples == 0
    stream.read(16_001)
    with pytest.raises(ConfigError, match="26 frames back, must be within 0 … 25"):
        stream.rewind(start)


def test_a_rewind_revokes_audio_but_no_wish() -> None:
    stream = FakeModel().open_stream("piano", rewind_seconds=1.0)
    mark = stream.mark()
    stream.read(6_400)
    assert stream.set(prompt="techno") == stream.next_sample == 6_400
    stream.read(640)
    stream.rewind(mark)
    np.testing.assert_allclose(stream.read(1_280).samples[0], sine("techno", 0, 1_280), atol=1e-6)


def test_a_glide_fades_frame_by_frame() -> None:
    stream = FakeModel().open_stream("piano", glide_seconds=0.2)
    stream.set(prompt="techno")
    audio = stream.read(11 * 640).samples[0]
    for frame in range(11):
        old, new = (sine(prompt, frame * 640, (frame + 1) * 640) for prompt in ("piano", "techno"))
        share = min(frame / 10, 1.0)
        np.testing.assert_allclose(audio[frame * 640 : (frame + 1) * 640], (1 - share) * old + share * new, atol=1e-6)


def test_a_check_changes_nothing() -> None:
    stream = FakeModel().open_stream("piano", temperature=0.5)
    assert stream.check(temperature=0.7).temperature == 0.7
    assert stream.controls.temperature == 0.5
    with pytest.raises(ConfigError, match="temperature is 9"):
        stream.check(temperature=9)


def test_chunks_go_on_until_closed() -> None:
    with FakeModel().open_stream(None) as stream:
        chunks = list(itertools.islice(stream.chunks(seconds=0.05), 3))
    assert [chunk.start_sample for chunk in chunks] == [0, 1_600, 3_200]
    with pytest.raises(SessionClosed, match="open a new one"):
        stream.read(1)
    assert list(stream.chunks()) == []


def test_a_slow_model_shows_on_the_clock() -> None:
    clock = FakeClock(100.0)
    stream = FakeModel(clock, step_seconds=0.03).open_stream("piano")
    stream.read(640)
    stream.read(1)
    stream.read(639)
    assert clock() == pytest.approx(100.06)
    assert stream.metrics.steps == 2
    assert stream.metrics.lm_seconds == pytest.approx(0.06)


def test_generate_gives_each_its_own() -> None:
    heard: list[tuple[int, int]] = []
    clips = FakeModel().generate(["piano", None], 0.1, progress=lambda done, total: heard.append((done, total)))
    np.testing.assert_allclose(clips[0].samples[0], sine("piano", 0, 3_200), atol=1e-6)
    np.testing.assert_allclose(clips[1].samples[0], sine(None, 0, 3_200), atol=1e-6)
    assert heard == [(5, 5)]


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"temperature": -1.0}, ConfigError, "temperature is -1.0"),
        ({"volume": 1.0}, ConfigError, "no control 'volume'"),
        ({"prompt": ""}, PromptError, "prompt"),
        ({"melody": np.zeros(10, np.float32)}, PromptError, "tiny_checkpoint"),
        ({"rewind_seconds": 99.0}, ConfigError, "rewind_seconds is 99.0"),
    ],
)
def test_it_refuses_what_a_model_refuses(values: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        FakeModel().open_stream(**values)


@pytest.mark.parametrize(("seconds", "seed", "words"), [(0.001, None, "at least one frame"), (1.0, [1, 2], "2 seeds")])
def test_a_batch_is_checked(seconds: float, seed: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FakeModel().generate(["piano"], seconds, seed=seed)
