"""What survives another prompt, on real streams: `change_context_seconds` from nothing to everything.

The windows themselves are tested in lm/test_token_stream.py; here is when a stream drops its context, and that all of
it goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from streamgen.errors import CapacityError
from streamgen.lm.token_stream import TokenStream
from streamgen.stream.stream import Stream
from streamgen.testing import FakeModel

Twins = Callable[[str], Any]
HOP = 640
SLOWER = (("stereo", 0.3), ("stereo", 1.0), ("mono", 1.0), ("mono", 5.0), ("stereo", 5.0))
TONE = (0.3 * np.sin(np.arange(48_000) * 0.05)).astype(np.float32)


def played(stream: Stream, frames: int) -> tuple[Tensor, np.ndarray]:
    """Read one frame at a time; returns the codes completed meanwhile, which are ahead of it, and the samples."""
    codes, samples, tokens = [], [], stream._sound.tokens
    for _ in range(frames):
        before = tokens.frames_done
        samples.append(stream.read(HOP).samples)
        codes.append(tokens.frames(before, tokens.frames_done))
    return torch.cat(codes, dim=1), np.concatenate(samples, axis=1)


def step(stream: Stream) -> None:
    stream.runtime.scheduler.step([stream._sound])


def start(stream: Stream) -> int:
    return stream._sound.tokens.windows[0].start_frame


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("mono", 0.3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOWER),
    ],
)
def test_with_nothing_surviving_a_prompt_plays_as_from_its_own_beginning(
    short_twin: Twins, kind: str, seconds: float
) -> None:
    """Twins: a fresh stream of that prompt, before and after rollovers; the codec's decode of all codes as one."""
    model = short_twin(kind).model
    options: dict[str, Any] = {"temperature": 0.0, "context_seconds": 1.0, "seed": 1}
    with (
        model.open_stream("piano", **options, change_context_seconds=0) as stream,
        model.open_stream("rock", **options) as fresh,
        model.open_stream("piano", **options) as plain,
    ):
        at = stream.set(prompt="rock", at_sample=round(seconds * 32_000)) // HOP
        codes, samples = played(stream, 400)
        expected, _ = played(fresh, 400 - at)
        old, _ = played(plain, at)
    assert torch.equal(codes[:, at : at + expected.shape[1]], expected[:, : codes.shape[1] - at])
    for k, delay in enumerate(model.runtime.pattern.delays):
        assert torch.equal(codes[k, : at - delay], old[k, : at - delay])
        assert codes[k, at - delay : at].tolist() == [int(old[k, at - delay - 1])] * delay
    whole = model.runtime.codec.decode(codes[None], model.runtime.codec.new_state(1))[0].numpy()
    assert np.abs(whole[:, : samples.shape[1]] - samples).max() < 1e-4, "the codec goes on without a seam"


def test_some_seconds_survive_and_are_read_anew(short_twin: Twins) -> None:
    """Twin: a token stream that is told to drop its context at the same head."""
    model = short_twin("mono").model
    options: dict[str, Any] = {"temperature": 0.0, "context_seconds": 1.0, "seed": 1}
    with (
        model.open_stream("piano", **options, change_context_seconds=0.7) as stream,
        model.open_stream("piano", **options) as other,
    ):
        at = stream.set(prompt="rock", at_sample=2 * 32_000) // HOP
        codes, _ = played(stream, 110)
        assert start(stream) == at - 35
        while other._sound.next_frame < at:
            step(other)
        tokens, rows = other._sound.tokens, stream._sound.tokens.settings.rows
        settings = replace(tokens.settings, rows=rows, dominant="rock", surviving_frames=35)
        for _ in range(20):
            with model.runtime.computing():
                begun = tokens.begin_step(settings)
                model.runtime.engine.prefill(begun.unread)
                tokens.finish_step(*model.runtime.engine.step([begun]))
        assert torch.equal(tokens.frames(0, at + 10), codes[:, : at + 10])


@pytest.mark.slow
def test_everything_survives_by_default(short_twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: a stream that could not drop anything."""
    model = short_twin("mono").model
    runs = []
    for able in (True, False):
        with monkeypatch.context() as patched, model.open_stream("piano", seed=1, context_seconds=1.0) as stream:
            if not able:
                patched.setattr(TokenStream, "_dropped_start", lambda *_: None)
            for frame, text in ((50, "rock"), (202, "techno"), (300, "piano")):
                stream.set(prompt=text, at_sample=frame * HOP)
            runs.append(played(stream, 350)[0])
    assert torch.equal(*runs)


@pytest.mark.parametrize(("seconds", "survives"), [(30.0, 1502), (29.98, 1499), (1.0, 50)])
def test_thirty_seconds_are_all_that_a_full_window_knows(seconds: float, survives: int) -> None:
    """A window's 1503 positions know 1502 frames at their last: more than 30 s."""
    with FakeModel().open_stream("piano", context_seconds=0.02, change_context_seconds=seconds) as stream:
        at = stream.set(prompt="rock", at_sample=1502 * HOP) // HOP
        stream.read(1502 * HOP)
        with stream.runtime.alone():
            stream._sound.begin_step()
        assert stream._sound.tokens.settings.rows.names[0] == "rock"
        assert at - start(stream) == survives


@pytest.mark.parametrize(
    "values",
    [
        {"prompts": [("piano", 1.0), ("rock", 0.9)]},
        {"prompts": [("piano", 1.0), ("rock", 1.0)]},
        {"negative_prompt": "rock"},
        {"guidance_scale": 1.0},
        {"temperature": 0.1, "seed": 9, "top_k": 5},
        {"prompt": "piano", "glide_seconds": 1.0},
        {"change_context_seconds": 0.5},
    ],
)
def test_while_the_same_prompt_dominates_nothing_is_dropped(twin: Twins, values: dict[str, Any]) -> None:
    with twin("mono").model.open_stream("piano", seed=1, change_context_seconds=0) as stream:
        stream.read(20 * HOP)
        stream.set(**values)
        stream.read(20 * HOP)
        assert start(stream) == 0


def test_other_weights_of_the_same_texts_drop_where_another_dominates(twin: Twins) -> None:
    mix = ("piano", "rock")
    with twin("mono").model.open_stream(prompts=[(t, 1) for t in mix], seed=1, change_context_seconds=0) as stream:
        starts = []
        for weights in ((2, 1), (1, 2), (1, 3), (1, 1)):
            stream.read(10 * HOP)
            at = stream.set(prompts=list(zip(mix, weights, strict=True))) // HOP
            stream.read(10 * HOP)
            starts.append((start(stream), at))
    assert [begun for begun, _ in starts] == [0, starts[1][1], starts[1][1], starts[3][1]]
    assert stream._sound.tokens.settings.rows.names == ("piano", "rock", None)


@pytest.mark.parametrize("head", range(6))
def test_within_the_first_frames_there_is_nothing_to_drop(twin: Twins, head: int) -> None:
    """The first frame is complete, and could be held, after the step at head 2."""
    model = twin("mono").model
    with model.open_stream("piano", seed=1, change_context_seconds=0, temperature=0.0) as stream:
        for _ in range(head):
            step(stream)
        stream.set(prompt="rock")
        codes, _ = played(stream, 30)
        assert start(stream) == (0 if head < 4 else head)
        assert stream._sound.tokens.settings.rows.names == ("rock", None)
    assert 0 <= codes.min() <= codes.max() < model.runtime.config.vocab_size


def test_a_glide_drops_where_the_other_prompt_becomes_the_heavier(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, change_context_seconds=0) as stream:
        stream.read(20 * HOP)
        at = stream.set(prompt="rock", glide_seconds=1.0) // HOP
        stream.read(20 * HOP)
        assert (start(stream), stream._sound.tokens.settings.rows.count) == (0, 3)
        stream.read(15 * HOP)
        assert (start(stream), stream._sound.tokens.settings.rows.count) == (at + 26, 3)
        stream.read(30 * HOP)
        assert (start(stream), stream._sound.tokens.settings.rows.count) == (at + 26, 2)


@pytest.mark.parametrize("seconds", [0.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.02, 0.5))])
def test_going_back_before_or_after_a_change_plays_what_was(short_twin: Twins, seconds: float) -> None:
    """Twins: a stream that never changed, and one that did once. As a performer does it: rewind, then ask."""
    model = short_twin("stereo").model
    options = {"seed": 1, "context_seconds": 1.0, "rewind_seconds": 6.0, "change_context_seconds": seconds}
    with (
        model.open_stream("piano", **options) as stream,
        model.open_stream("piano", **options) as never,
        model.open_stream("piano", **options) as once,
    ):
        for each in (stream, never, once):
            each.read(60 * HOP)
        before = stream.mark()
        stream.read(20 * HOP)
        stream.set(prompt="rock")
        once.set(prompt="rock")
        stream.read(2 * HOP)
        held = stream.mark()
        ahead = stream.read(230 * HOP).samples
        stream.rewind(held)
        assert np.array_equal(stream.read(230 * HOP).samples, ahead)
        stream.rewind(before)  # the change stays asked for: now it comes here
        assert np.array_equal(stream.read(2 * HOP).samples, once.read(2 * HOP).samples)
        saved, changed = stream.snapshot(), once.read(260 * HOP).samples
        for _ in range(2):
            assert np.array_equal(stream.read(260 * HOP).samples, changed)
            stream.restore(saved)
        never.read(2 * HOP)
        assert not np.array_equal(never.read(260 * HOP).samples, changed)
    assert all(model.runtime.engine.cache._free)


def test_a_change_still_ahead_may_be_rewound_over(short_twin: Twins) -> None:
    model = short_twin("mono").model
    options: dict[str, Any] = {"seed": 1, "rewind_seconds": 3.0, "context_seconds": 1.0, "change_context_seconds": 0}
    with model.open_stream("piano", **options) as stream, model.open_stream("piano", **options) as once:
        for each in (stream, once):
            each.read(30 * HOP)
            each.set(prompt="rock", at_sample=60 * HOP)
        mark = stream.mark()
        stream.read(61 * HOP)
        assert start(stream) == 60
        stream.rewind(mark)
        assert start(stream) == 0
        assert np.array_equal(stream.read(100 * HOP).samples, once.read(100 * HOP).samples)


@pytest.mark.parametrize("rewind_seconds", [0.0, 2.0])
def test_without_room_for_it_all_waits(twin: Twins, monkeypatch: pytest.MonkeyPatch, rewind_seconds: float) -> None:
    """Twin: the same stream, which always has room."""
    model = twin("mono").model
    cache, options = (
        model.runtime.engine.cache,
        {"seed": 1, "rewind_seconds": rewind_seconds, "change_context_seconds": 0},
    )
    with model.open_stream("piano", **options) as stream, model.open_stream("piano", **options) as other:
        for each in (stream, other):
            each.read(20 * HOP)
            each.set(prompts=[("rock", 1), ("techno", 1), ("jazz", 1)])
        with monkeypatch.context() as narrow:
            narrow.setattr(cache, "max_rows", 4)
            narrow.setattr(cache, "_free", cache._free[:4])
            for _ in range(2):
                with pytest.raises(CapacityError):
                    stream.read(20 * HOP)
                assert (stream._sound.tokens.settings.dominant, start(stream), stream._sound.tokens.origin) == (
                    "piano",
                    0,
                    0,
                )
        assert np.array_equal(stream.read(30 * HOP).samples, other.read(30 * HOP).samples)
        assert start(stream) == start(other) > 20
    assert all(cache._free)


def test_a_melody_stream_begins_anew_under_its_melody(short_twin: Twins) -> None:
    """Twin: a fresh stream of that prompt and melody; then a text that must be read again, but nothing from before."""
    model = short_twin("melody").model
    options: dict[str, Any] = {"temperature": 0.0, "seed": 1, "melody": TONE, "melody_rate_hz": 32_000}
    with (
        model.open_stream("piano", **options, context_seconds=1.0, change_context_seconds=0) as stream,
        model.open_stream("rock", **options, context_seconds=1.0) as fresh,
    ):
        stream.read(20 * HOP)
        at = stream.set(prompt="rock") // HOP
        codes, expected = played(stream, 60)[0], played(fresh, 40)[0]
        assert torch.equal(stream._sound.tokens.frames(at, at + 40), expected[:, :40])
        assert codes.max() < model.runtime.config.vocab_size
        stream.set(negative_prompt="noise", context_seconds=1.5)
        now = stream._sound.tokens.head + 1
        stream.read(HOP)
        assert start(stream) == max(at, now - 75) == at
        stream.read(60 * HOP)
        now = stream.set(negative_prompt="drums") // HOP
        stream.read(HOP)
        assert start(stream) == now - 75


@pytest.mark.parametrize(("seconds", "survives"), [(0.0, 0), (0.02, 1), (0.4, 20), (1.5, 50), (30.0, 50)])
def test_of_a_melody_stream_no_more_survives_than_its_context(short_twin: Twins, seconds: float, survives: int) -> None:
    model = short_twin("melody").model
    melody = {"melody": TONE, "melody_rate_hz": 32_000}
    with model.open_stream("piano", seed=1, context_seconds=1.0, change_context_seconds=seconds, **melody) as stream:
        stream.read(90 * HOP)
        at = stream.set(prompt="rock") // HOP
        stream.read(HOP)
        assert at - start(stream) == survives
        codes, _ = played(stream, 30)
        assert codes.max() < model.runtime.config.vocab_size
