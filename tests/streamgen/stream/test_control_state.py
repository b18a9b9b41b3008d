"""Controls of a real stream: in force at their frame, as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from streamgen.errors import CapacityError, ConfigError, PromptError
from streamgen.stream.batch import Batch
from streamgen.testing import FakeModel

Twins = Callable[[str], Any]
TONE = (0.3 * np.sin(np.arange(48_000) * 0.05)).astype(np.float32)
TUNE = np.concatenate([(0.3 * np.sin(np.arange(9_000) * f)).astype(np.float32) for f in (0.05, 0.087, 0.12, 0.07)])


def test_a_control_lands_exactly_at_its_frame(twin: Twins) -> None:
    """Greedy until sample 19,200 (frame 30), hot from there: nothing drawn before that column differs."""
    model = twin("mono").model
    tokens = []
    for change in (False, True):
        with model.open_stream("piano", seed=1, temperature=0.0) as stream:
            if change:
                assert stream.set(temperature=3.0, at_sample=19_100) == 19_200
            stream.read(64_000)
            tokens.append(stream._sound.tokens.frames(0, 100))
    for k, delay in enumerate(twin("mono").model.runtime.pattern.delays):
        assert torch.equal(tokens[0][k, : 30 - delay], tokens[1][k, : 30 - delay])
    assert not torch.equal(tokens[0][0, 30:40], tokens[1][0, 30:40])


def test_a_past_or_missing_sample_means_the_next_frame(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        stream.read(3200)
        now = stream.set(guidance_scale=2.0)
        assert now == stream.set(guidance_scale=2.5, at_sample=0)
        assert now >= 3200
        assert now % 640 == 0
        stream.read(640)
        assert stream.controls.guidance_scale == 2.5


def test_a_new_prompt_equals_transformers_with_swapped_text(twin: Twins) -> None:
    """Twin: a batch whose row attends to the second text from the same step on, past kept."""
    model = twin("mono").model
    with model.open_stream("piano", seed=1, temperature=0.0) as stream:
        stream.set(prompt="rock", at_sample=640 * 20)
        stream.read(38_400)
        changed = stream._sound.tokens.frames(0, 60)
    plain = Batch(model.runtime, ["piano"], 1.2, seed=1, controls={"temperature": 0.0}).codes()[0]
    assert torch.equal(changed[0, :20], plain[0, :20])
    assert not torch.equal(changed[0, 20:57], plain[0, 20:57])


def test_weights_and_glide_change_the_rows_and_settle(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        stream.read(6_400)
        stream.set(prompts=[("piano", 1.0), ("rock", 1.0)], glide_seconds=0.5)
        stream.read(9_600)
        gliding = stream._sound.tokens.settings.rows.coefficients
        stream.read(19_200)
        settled = stream._sound.tokens.settings.rows.coefficients
        assert len(gliding) == len(settled) == 3
        assert settled == (1.5, 1.5, -2.0)
        assert 1.5 < gliding[0] < 3.0
        stream.set(prompt="techno", negative_prompt="drums", glide_seconds=0)
        stream.read(9_600)
        assert stream._sound.tokens.settings.rows.names == ("techno", "drums")
        assert stream._sound.tokens.settings.rows.coefficients == (3.0, -2.0)


def test_equal_prompts_in_a_mix_are_one_prompt(twin: Twins) -> None:
    model = twin("mono").model
    with (
        model.open_stream("piano", seed=1) as one,
        model.open_stream(prompts=[("piano", 2), ("piano", 3)], seed=1) as two,
    ):
        assert np.array_equal(one.read(16_000).samples, two.read(16_000).samples)


def test_a_melody_stream_takes_a_new_prompt_by_rereading_its_context(twin: Twins) -> None:
    model = twin("melody").model
    with model.open_stream("piano", seed=1, melody=TONE, melody_rate_hz=32_000) as stream:
        stream.read(32_000)
        stream.set(prompt="rock")
        stream.read(32_000)
        assert stream._sound.tokens.settings.rows.names == ("rock", None)
        assert stream._sound.tokens.windows[0].start_frame == 0
        assert stream.metrics.window_position > stream._sound.tokens.settings.rows.prefix + 90


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"prompt": ""}, PromptError, "is empty"),
        ({"prompt": 7}, PromptError, "not int"),
        ({"prompt": "x" * 2001}, PromptError, "2,001 characters, the limit is 2,000"),
        ({"temperature": -1}, ConfigError, "temperature is -1, must be within 0 … 5"),
        ({"top_k": 1.5}, ConfigError, "whole number"),
        ({"guidance_scale": float("nan")}, ConfigError, "guidance_scale is nan"),
        ({"seed": True}, ConfigError, "seed is True"),
        ({"loudness": 3}, ConfigError, "there is no control 'loudness'; there are prompt, "),
        ({"context_seconds": 20.0}, ConfigError, "must be at most 15.02 s"),
    ],
)
def test_bad_values_change_nothing(twin: Twins, values: dict[str, Any], error: type, words: str) -> None:
    model = twin("mono").model
    with model.open_stream("piano", seed=1) as stream:
        before = stream.controls
        with pytest.raises(error, match=words):
            stream.set(**values)
        stream.read(640)
        assert stream.controls == before
    rows = model.runtime.engine.cache.rows
    with pytest.raises(error, match=words):
        model.open_stream(**{"prompt": "piano", **values})
    assert model.runtime.engine.cache.rows == rows


WINDOWS = "this checkpoint's windows have 753 positions"


@pytest.mark.parametrize(
    ("context", "start", "words"),
    [
        (12, 0.0, f"context_seconds is 12, must be at most 7.52 s: {WINDOWS}"),
        (1, 14.0, f"context_seconds is 1, must be at most 0.52 s: {WINDOWS}, 700 of them before context_start_seconds"),
    ],
)
def test_a_context_that_windows_have_no_room_for_is_refused_with_the_limit(
    context: float, start: float, words: str
) -> None:
    """The table's range is every checkpoint's; the pocket one's windows are half as long."""
    model = FakeModel(max_positions=753)
    values = {"context_seconds": context, "context_start_seconds": start}
    with pytest.raises(ConfigError) as opened:
        model.open_stream("piano", **values)
    with model.open_stream("piano") as stream:
        assert stream.controls.context_seconds == 7.52, "the default is cut"
        with pytest.raises(ConfigError) as changed:
            stream.set(**values)
    assert (str(opened.value), str(changed.value)) == (words, words)


def test_too_many_pending_changes_are_refused(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        for number in range(1000):
            stream.set(temperature=1.0, at_sample=10**9 + number)
        with pytest.raises(CapacityError, match="1000 changes are waiting"):
            stream.set(temperature=1.0)


def test_prompts_are_what_they_were_when_they_were_set(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        stream.set(prompts=iter([("rock", 1.0), ("techno", 1.0)]))
        pairs = [["drums", 1.0], ["bass", 1.0]]
        stream.set(prompts=pairs, at_sample=6400)
        pairs[0][0] = ""
        pairs.pop()
        stream.read(640)
        assert stream._sound.tokens.settings.rows.names == ("rock", "techno", None)
        stream.read(16_000)
        assert stream._sound.tokens.settings.rows.names == ("drums", "bass", None)


@pytest.mark.parametrize("rewind_seconds", [0.0, 5.0])
def test_rows_without_room_change_nothing_and_wait(
    twin: Twins, monkeypatch: pytest.MonkeyPatch, rewind_seconds: float
) -> None:
    """Twin: the same stream, which always has room."""
    model = twin("mono").model
    cache, most = model.runtime.engine.cache, [(word, 1.0) for word in "abcdefgh"]
    options: dict[str, Any] = {"seed": 1, "rewind_seconds": rewind_seconds}
    with model.open_stream("piano", **options) as stream, model.open_stream("piano", **options) as other:
        for each in (stream, other):
            each.read(6400)
            each.set(prompts=most, temperature=0.5)
        with monkeypatch.context() as narrow:
            narrow.setattr(cache, "max_rows", 4)
            narrow.setattr(cache, "_free", cache._free[:4])
            for _ in range(2):
                with pytest.raises(CapacityError, match="close a stream or use fewer prompts"):
                    stream.read(6400)
                assert stream.controls.temperature == 1.0
                assert stream._sound.tokens.settings.rows.count == 2
        assert np.array_equal(stream.read(16_000).samples, other.read(16_000).samples)
        assert stream._sound.tokens.settings.rows.count == 9
    assert all(cache._free)


def test_fewer_prompts_help_where_there_is_no_room(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model
    with monkeypatch.context() as narrow:
        narrow.setattr(model.runtime.engine.cache, "max_rows", 4)
        narrow.setattr(model.runtime.engine.cache, "_free", [True] * 4)
        with model.open_stream("piano", seed=1) as stream:
            stream.set(prompts=[(word, 1.0) for word in "abcdefgh"])
            with pytest.raises(CapacityError):
                stream.read(640)
            stream.set(prompt="rock")
            stream.read(640)
            assert stream._sound.tokens.settings.rows.names == ("rock", None)


def test_settings_that_fit_only_after_a_change_ahead_are_cut_until_then(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, context_seconds=1.0, context_start_seconds=28.0) as stream:
        stream.set(context_start_seconds=0.0, at_sample=32_000)
        stream.set(context_seconds=10.0)
        stream.read(640)
        assert stream.controls.context_seconds == 10.0
        assert (stream.plan.context_frames, stream.plan.start_position) == (51, 1400)
        stream.read(48_000)
        assert (stream.plan.context_frames, stream.plan.start_position) == (500, 0)


def test_the_row_guided_away_from_never_has_the_melody(twin: Twins) -> None:
    """Twin: a stream that begins with those settings. A text may change from prompt to negative where it stands."""
    model = twin("melody").model
    melody = {"melody": TUNE, "melody_rate_hz": 32_000}
    with model.open_stream(prompts=[("piano", 1), ("rock", 1)], guidance_scale=1.0, seed=1, **melody) as stream:
        both = stream._sound.tokens.settings.rows.prefixes.of(0)
        for values in (
            {"prompt": "piano", "negative_prompt": "rock", "guidance_scale": 3.0},
            {"prompt": None, "negative_prompt": None, "guidance_scale": 1.0},
            {"guidance_scale": 0.0},
        ):
            stream.read(640)
            stream.set(**values)
            stream.read(640)
            given = {name: value for name, value in values.items() if value is not None}
            with model.open_stream(**given, seed=1, **melody) as fresh:
                ours, theirs = (one._sound.tokens.settings.rows.prefixes.of(7) for one in (stream, fresh))
                assert torch.equal(ours, theirs)
        null, now = model.runtime.prompts.chroma.null_prefix(), stream._sound.tokens.settings.rows.prefixes.of(7)
        assert not torch.equal(both[1, : len(null)], now[0, : len(null)])
        assert torch.equal(now[0, : len(null)], null)


def test_a_melody_stream_by_default_takes_no_text_and_longer_ones(twin: Twins) -> None:
    """Windows have as many positions beside the prefix as those of other checkpoints have."""
    with twin("melody").model.open_stream(seed=1, melody=TUNE, melody_rate_hz=32_000) as stream:
        assert (stream._sound.tokens.settings.rows.prefix, stream.plan.context_frames) == (236, 600)
        stream.read(640)
        stream.set(prompt="drums and bass with slow techno beat")
        stream.read(640)
        prefix = stream._sound.tokens.settings.rows.prefix
        assert prefix > 236
        assert (stream.plan.limit, stream.plan.context_frames) == (1503 + prefix, 600)
        with pytest.raises(ConfigError, match=r"must be at most .* under melody and prompt, so shorten the prompt"):
            stream.set(context_seconds=13.0)
        with pytest.raises(ConfigError, match=r"must be at most .* under melody and prompt, so shorten the prompt"):
            stream.set(prompt="a " * 1000)


def test_a_melody_set_while_it_plays_begins_at_its_sample(short_twin: Twins) -> None:
    """Tokens before its frame are those without it; the window after it has its chroma, counted from that frame."""
    model = short_twin("melody").model
    options: dict[str, Any] = {"seed": 1, "context_seconds": 1.0, "melody": TUNE, "melody_rate_hz": 32_000}
    other = np.sin(2 * np.pi * 440 * np.arange(64_000) / 32_000).astype(np.float32)
    with model.open_stream("piano", **options) as stream, model.open_stream("piano", **options) as plain:
        frame = 100
        assert stream.set(melody=other, melody_rate_hz=32_000, at_sample=frame * 640 - 1) == frame * 640
        assert plain.set(melody=None, at_sample=10_000 * 640) == 10_000 * 640
        for one in (stream, plain):
            while one._sound.tokens.head < frame - 1:
                one.read(640)
        assert torch.equal(stream._sound.tokens.frames(40, frame - 3), plain._sound.tokens.frames(40, frame - 3))
        assert stream.controls.melody is not None
        assert len(stream.controls.melody.samples) == len(TUNE)
        stream.read(640)
        assert stream.controls.melody.start_frame == frame
        (window,) = stream._sound.tokens.windows
        assert window.start_frame == frame - 50, "its context is read again under it"
        tune, chroma = stream.controls.melody, model.runtime.prompts.chroma
        prefix = stream._sound.tokens.settings.rows.prefixes.of(window.start_frame)[0, : chroma.length]
        assert torch.equal(prefix, chroma.window(tune, frame - 50))
        stream.set(melody=None)
        stream.read(640)
        assert stream.controls.melody is None
        with pytest.raises(PromptError, match="sample rate is missing"):
            stream.set(melody=other)


@pytest.mark.slow
def test_a_melody_stream_goes_on_in_its_melody_from_window_to_window(short_twin: Twins) -> None:
    model = short_twin("melody").model
    audio = np.sin(2 * np.pi * np.repeat([262.0, 330, 392, 440, 494], 128_000) * np.arange(640_000) / 32_000)
    with model.open_stream(
        "piano", seed=1, context_seconds=1.0, melody=audio.astype(np.float32), melody_rate_hz=32_000
    ) as stream:
        chroma, tune, seen = model.runtime.prompts.chroma, stream.controls.melody, []
        while stream._sound.tokens.rollovers < 3:
            stream.read(6_400)
            window = stream._sound.tokens.windows[0]
            prefix = stream._sound.tokens.settings.rows.prefixes.of(window.start_frame)[0, : chroma.length]
            assert torch.equal(prefix, chroma.window(tune, window.start_frame))
            if not seen or not torch.equal(prefix, seen[-1]):
                seen.append(prefix)
        assert len(seen) == 4, "each window has another part of it"
