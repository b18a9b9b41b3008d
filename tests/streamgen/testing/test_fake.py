"""FakeModel keeps Model's contract: names, arguments, errors, and audio that says what was asked."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streamgen import ConfigError, Model, PromptError, SessionClosed, Stream, StreamgenError, load_model
from streamgen.checkpoint import GenerationDefaults
from streamgen.testing import FakeClock, FakeModel, fake_pitch_hz, tiny_checkpoint

RATE_HZ = 32_000


@pytest.fixture(scope="module")
def real() -> Model:
    """One of this file's own: its streams are left open."""
    return load_model(str(tiny_checkpoint("mono")), device="cpu")


def sine(prompt: str | None, start: int, stop: int) -> Any:
    return 0.25 * np.sin(2 * np.pi * fake_pitch_hz(prompt) * np.arange(start, stop) / RATE_HZ)


def replaced(kind: type) -> list[tuple[str, Any, Any]]:
    """What a part of the fake has in the real part's place."""
    real = kind.__mro__[1]
    own = {name: part for name, part in vars(kind).items() if inspect.isfunction(part) and name != "__init__"}
    return [(name, part, getattr(real, name)) for name, part in own.items() if hasattr(real, name)]


def test_a_fake_is_a_model_and_its_streams_are_streams() -> None:
    fake = FakeModel()
    assert isinstance(fake, Model)
    assert type(fake.open_stream("piano")) is Stream


def test_a_fake_has_all_that_a_model_has(real: Model) -> None:
    fake = FakeModel()
    assert set(vars(real)) - set(vars(fake)) == set()
    assert set(vars(real.runtime)) == set(vars(fake.runtime))
    for name in ("engine", "codec", "prompts"):
        part, made_up = getattr(real.runtime, name), getattr(fake.runtime, name)
        assert isinstance(made_up, type(part)), name
        missing = {word for word in vars(part) if not word.startswith("_")} - set(vars(made_up))
        assert missing <= {"decoder", "projector", "text", "chroma", "style"}, "what only the real parts use"


def test_of_the_model_itself_nothing_is_replaced_but_the_clock() -> None:
    own = {name for name in vars(FakeModel) if not name.startswith("__")}
    assert own == {"clock"}


@pytest.mark.parametrize("part", ["engine", "codec", "prompts"])
def test_whatever_is_replaced_takes_the_same_arguments(part: str) -> None:
    pairs = replaced(type(getattr(FakeModel().runtime, part)))
    assert pairs
    for name, ours, theirs in pairs:
        shape = [(p.name, p.kind, p.default) for p in inspect.signature(ours).parameters.values()]
        assert shape == [(p.name, p.kind, p.default) for p in inspect.signature(theirs).parameters.values()], name


def test_its_clock_and_its_defaults_may_be_assigned() -> None:
    model, clock = FakeModel(step_seconds=0.5), FakeClock(7.0)
    model.clock = clock
    model.defaults = GenerationDefaults(guidance_scale=1.0, top_k=15)
    with model.open_stream("piano") as stream:
        stream.read(640)
        assert (stream.controls.guidance_scale, stream.controls.top_k) == (1.0, 15)
    assert clock() == 7.5
    assert model.control_specs["top_k"].default == 15


def without_end(stream: Stream) -> None:
    stream.close()
    stream.read(1)


def too_far_back(stream: Stream) -> None:
    mark = stream.mark()
    stream.read(3_200)
    stream.rewind(mark)


def read_by_others(stream: Stream, other: Stream) -> None:
    stream.restore(other.snapshot())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda model: model.open_stream(""),
        lambda model: model.open_stream("x" * 2_001),
        lambda model: model.open_stream("piano", prompts=[("piano", 1.0)]),
        lambda model: model.open_stream(temperature=-1.0),
        lambda model: model.open_stream(volume=1.0),
        lambda model: model.open_stream(context_seconds=16.0),
        lambda model: model.open_stream(rewind_seconds=99.0),
        lambda model: model.open_stream().read(0),
        lambda model: model.open_stream().set(top_k=1.5),
        lambda model: model.open_stream().set(context_seconds=20.0),
        lambda model: model.open_stream().set(temperature=1.0, at_sample=float("nan")),
        lambda model: model.open_stream().check(seed=-1),
        lambda model: next(model.open_stream().chunks(seconds=61.0)),
        lambda model: without_end(model.open_stream()),
        lambda model: too_far_back(model.open_stream()),
        lambda model: read_by_others(model.open_stream(), model.open_stream()),
        lambda model: model.generate("piano", 1.0),
        lambda model: model.generate([], 1.0),
        lambda model: model.generate(["piano"], 0.001),
        lambda model: model.generate(["piano"], 1.0, seed=[1, 2]),
        lambda model: model.generate(["piano"], 1.0, prompt="rock"),
        lambda model: model.generate(["piano"], 1.0, audition=4),
    ],
)
def test_it_refuses_what_a_model_refuses_in_the_same_words(real: Model, wrong: Callable[[Any], None]) -> None:
    answers = []
    for model in (real, FakeModel()):
        with pytest.raises(StreamgenError) as caught:
            wrong(model)
        # how far a real codec looks ahead is its own
        answers.append((type(caught.value), re.sub(r"\d+ frames back", "… frames back", str(caught.value))))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "options",
    [
        {"melody": np.zeros(10, np.float32), "melody_rate_hz": RATE_HZ},
        {"audio_prompt": np.zeros(10, np.float32), "audio_prompt_rate_hz": RATE_HZ},
    ],
)
def test_it_takes_no_audio_and_says_what_does(options: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match="tiny_checkpoint"):
        FakeModel().open_stream("piano", **options)


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


def test_a_change_is_told_from_the_next_frame() -> None:
    stream = FakeModel().open_stream("piano")
    stream.read(700)
    assert stream.set(prompt="techno") == 1280
    audio = stream.read(2000).samples[0]
    np.testing.assert_allclose(audio[:580], sine("piano", 700, 1280), atol=1e-6)
    np.testing.assert_allclose(audio[580:], sine("techno", 1280, 2700), atol=1e-6)


def test_a_change_ahead_is_told_at_its_sample() -> None:
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


def test_a_rewind_revokes_audio_but_no_request() -> None:
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
    with pytest.raises(SessionClosed, match="open a new one"):
        next(stream.chunks())


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
    told: list[tuple[int, int]] = []
    clips = FakeModel().generate(["piano", None], 0.1, progress=lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(clips[0].samples[0], sine("piano", 0, 3_200), atol=1e-6)
    np.testing.assert_allclose(clips[1].samples[0], sine(None, 0, 3_200), atol=1e-6)
    assert told == [(frames, 5) for frames in range(1, 6)]


def test_guidance_below_one_lets_the_unprompted_in_and_zero_leaves_it_alone() -> None:
    model = FakeModel()
    half = model.open_stream("piano", guidance_scale=0.5).read(6_400).samples[0]
    np.testing.assert_allclose(half, 0.5 * sine("piano", 0, 6_400) + 0.5 * sine(None, 0, 6_400), atol=1e-6)
    none = model.open_stream("piano", guidance_scale=0.0, negative_prompt="drums").read(6_400).samples[0]
    np.testing.assert_allclose(none, sine("drums", 0, 6_400), atol=1e-6)


def test_its_windows_roll_over_as_a_models_do() -> None:
    model = FakeModel(max_positions=103)
    stream = model.open_stream("piano", context_seconds=0.5)
    samples = stream.read(5 * RATE_HZ).samples[0]
    assert stream.metrics.rollovers == 2
    np.testing.assert_allclose(samples, sine("piano", 0, 5 * RATE_HZ), atol=1e-6)
    stream.close()
    assert all(model.runtime.engine.cache._free)


def test_the_clock_moves_only_forward() -> None:
    clock = FakeClock()
    clock.sleep(1.5)
    clock.advance(0.5)
    assert clock() == 2.0
    assert clock.slept == [1.5]
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="time passes by 0 or more"):
            clock.advance(bad)
