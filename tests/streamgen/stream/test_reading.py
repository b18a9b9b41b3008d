"""Several streams in one pass: each is what it is alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import streamgen
from streamgen.errors import CapacityError, ConfigError, SessionClosed

Twins = Callable[[str], Any]
TONE = (0.3 * np.sin(np.arange(48_000) * 0.05)).astype(np.float32)


def opened(model: streamgen.Model, number: int, temperature: float) -> streamgen.Stream:
    """Streams that differ in all that a pass could mix up: rows, texts, positions, sampling, windows."""
    options: list[dict[str, Any]] = [
        {"prompt": "piano"},
        {"prompts": [("drums and bass with slow techno beat", 1), ("rock", 2)], "negative_prompt": "noise"},
        {"prompt": None, "context_start_seconds": 1.0},
        {"prompt": "rock", "guidance_scale": 1.0, "audio_prompt": TONE, "audio_prompt_rate_hz": 32_000},
    ]
    return model.open_stream(**options[number], seed=number, temperature=temperature, context_seconds=1.0)


@pytest.mark.parametrize("kind", ["mono", pytest.param("stereo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("temperature", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
def test_streams_read_together_give_what_each_gives_alone(short_twin: Twins, kind: str, temperature: float) -> None:
    """Through rollovers and changes, joining and leaving; to the bit, for a row does not depend on its neighbours."""
    model = short_twin(kind).model
    alone = []
    for number in range(4):
        with opened(model, number, temperature) as stream:
            pieces = [stream.read(16_000).samples for _ in range(4)]
            stream.set(prompts=[("jazz", 1), ("piano", 1)], glide_seconds=0.3)
            alone.append(np.concatenate([*pieces, *(stream.read(16_000).samples for _ in range(6))], axis=1))
    streams: list[streamgen.Stream] = []
    found: list[list[np.ndarray]] = [[] for _ in range(4)]
    for turn in range(20):
        if turn % 2 == 0 and len(streams) < 4:
            streams.append(opened(model, len(streams), temperature))
        playing = [number for number in range(len(streams)) if len(found[number]) < 10]
        for number in playing:
            if len(found[number]) == 4:
                streams[number].set(prompts=[("jazz", 1), ("piano", 1)], glide_seconds=0.3)
        chunks = model.read_together({streams[number]: 16_000 for number in playing})
        for number in playing:
            found[number].append(chunks[streams[number]].samples)
    for number, stream in enumerate(streams):
        assert np.array_equal(np.concatenate(found[number], axis=1), alone[number]), number
        assert stream.metrics.rollovers >= 1
        stream.close()
    assert all(model.runtime.engine.cache._free)


@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_tokens_are_the_codes_of_what_would_sound(short_twin: Twins, kind: str) -> None:
    """Beside the same music as sound: through a rollover, a change and a rewind, in pieces of any length."""
    model = short_twin(kind).model
    options: dict[str, Any] = {"seed": 3, "context_seconds": 1.0, "rewind_seconds": 2.0}
    with model.open_stream("piano", **options) as stream, model.open_stream("piano", **options) as sung:
        stream.set(prompt="rock", at_sample=128_000)
        sung.set(prompt="rock", at_sample=128_000)
        found = [stream.tokens(frames) for frames in (1, 190, 60)]
        mark, saved = stream.mark(), stream.snapshot()
        found.append(stream.tokens(29))
        stream.rewind(mark)
        assert torch.equal(stream.tokens(29), found[-1])
        stream.restore(saved)
        assert torch.equal(stream.tokens(29), found[-1])
        assert (stream.position_samples, stream.metrics.rollovers) == (280 * 640, sung.metrics.rollovers + 1)
        samples = sung.read(250 * 640).samples
        codes = torch.cat(found, dim=1)
        codec = model.runtime.codec
        whole = codec.decode(codes[None], codec.new_state(1))[0].expand(2, -1)
        assert np.abs(whole[:, : 250 * 640].numpy() - samples).max() < 1e-5


def test_tokens_go_on_from_an_audio_prompt_without_its_own(twin: Twins) -> None:
    model = twin("mono").model
    prompt = model.prompt_codes(TONE, 32_000)
    with model.open_stream("piano", seed=1, audio_prompt_codes=prompt) as stream:
        codes = stream.tokens(20)
    with model.open_stream("piano", seed=1, audio_prompt=TONE, audio_prompt_rate_hz=32_000) as stream:
        heard = stream.read(10 * 640).samples
    codec = model.runtime.codec
    whole = codec.decode(torch.cat([prompt, codes], dim=1)[None], codec.new_state(1))[0, :, TONE.size :]
    assert np.abs(whole[:, : heard.shape[1]].numpy() - heard).max() < 1e-5


def test_a_stream_is_read_as_sound_or_as_tokens(twin: Twins) -> None:
    model = twin("mono").model
    with model.open_stream("piano", seed=1) as stream, model.open_stream("piano", seed=1) as other:
        stream.read(1)
        with pytest.raises(ConfigError, match="this stream is read as sound, so it gives no tokens: open another one"):
            stream.tokens(1)
        other.tokens(1)
        with pytest.raises(ConfigError, match="this stream is read as tokens, so it has no sound: open another one"):
            other.read(1)
        for frames in (0, 1.5, "2", True):
            with pytest.raises(ConfigError, match=r"frames is .*, must be a whole number, at least 1"):
                other.tokens(frames)
    with pytest.raises(SessionClosed):
        other.tokens(1)


def test_streams_read_together_share_their_passes(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model
    step, together = model.runtime.engine.step, []
    monkeypatch.setattr(model.runtime.engine, "step", lambda steps: (together.append(len(steps)), step(steps))[1])
    with model.open_stream("piano", seed=1) as one, model.open_stream("rock", seed=2) as two:
        chunks = model.read_together({one: 640, two: 6_400})
        assert [chunk.samples.shape[1] for chunk in chunks.values()] == [640, 6_400]
        assert one.metrics.steps < two.metrics.steps
        assert together == [2] * one.metrics.steps + [1] * (two.metrics.steps - one.metrics.steps)
        assert model.read_together({}) == {}


def test_a_hook_sees_every_step_and_may_change_what_comes(twin: Twins) -> None:
    """Twin: the same change, made between two reads."""
    model = twin("mono").model
    with model.open_stream("piano", seed=1) as stream, model.open_stream("piano", seed=1) as other:
        steps: list[int] = []

        def between() -> None:
            steps.append(stream.metrics.steps)
            if len(steps) == 20:
                assert stream.set(prompt="rock") == stream.next_sample == 20 * 640

        hooked = stream.read(32_000, between).samples
        assert steps == list(range(1, stream.metrics.steps + 1))
        assert other.set(prompt="rock", at_sample=20 * 640) == 20 * 640
        assert np.array_equal(hooked, other.read(32_000).samples)


def test_a_stream_without_room_does_not_stop_the_others(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twins: streams that were always alone and had room."""
    model = twin("mono").model
    cache = model.runtime.engine.cache
    names = ("piano", "rock")
    with contextlib.ExitStack() as stack:
        one, two, first, second = (stack.enter_context(model.open_stream(name, seed=1)) for name in names * 2)
        for stream in (two, second):
            stream.set(prompts=[(word, 1.0) for word in "abcdefgh"])
        with monkeypatch.context() as narrow:
            narrow.setattr(cache, "max_rows", cache.rows)
            narrow.setattr(cache, "_free", [False] * cache.rows)
            with pytest.raises(CapacityError, match="close a stream or use fewer prompts"):
                model.read_together({two: 6_400, one: 6_400})
            assert two.metrics.steps == 0 < one.metrics.steps
        both = model.read_together({one: 6_400, two: 6_400})
        assert np.array_equal(both[one].samples, first.read(6_400).samples)
        assert np.array_equal(both[two].samples, second.read(6_400).samples)


def test_reading_together_makes_the_checks_of_reading(twin: Twins) -> None:
    model = twin("mono").model
    with model.open_stream("piano", seed=1) as stream, twin("stereo").model.open_stream("piano") as other:
        with pytest.raises(ConfigError, match=r"samples is 0, must be a whole number, at least 1"):
            model.read_together({stream: 0})
        with pytest.raises(ConfigError, match="another model's; read it with the model that opened it"):
            model.read_together({stream: 640, other: 640})
        assert (stream.position_samples, stream.metrics.steps) == (0, 0)
    with pytest.raises(SessionClosed):
        model.read_together({stream: 640})
