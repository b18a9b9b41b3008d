from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from streamgen.batch import Batch
from streamgen.errors import CapacityError, ConfigError, PromptError, SessionClosed
from streamgen.model import load_model
from streamgen.stream import Stream
from streamgen.testing import tiny_checkpoint

Twins = Callable[[str], Any]
TONE = (0.3 * np.sin(np.arange(48_000) * 0.05)).astype(np.float32)
TUNE = np.concatenate([(0.3 * np.sin(np.arange(9_000) * f)).astype(np.float32) for f in (0.05, 0.087, 0.12, 0.07)])


def take(stream: Stream, seconds: float, chunk: float = 0.1) -> np.ndarray:
    pieces, samples = [], 0
    for piece in stream.chunks(chunk):
        pieces.append(piece.samples)
        samples += piece.samples.shape[1]
        if samples >= round(seconds * stream.sample_rate_hz):
            return np.concatenate(pieces, axis=1)[:, : round(seconds * stream.sample_rate_hz)]
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("kind", ["mono", "stereo", "causal", "melody"])
def test_streamed_audio_is_the_batch_audio(twin: Twins, kind: str) -> None:
    """Same seed: chunks of a stream equal the clip, but for the clip's end, which knows that it ends."""
    model = twin(kind).model
    with model.open_stream("piano", seed=7) as stream:
        streamed = take(stream, 3.0, chunk=0.13)
    clip = model.generate(["piano"], 3.5, seed=7)[0].samples
    assert np.abs(streamed - clip[:, : 3 * 32_000]).max() < 1e-4
    assert streamed.std() > 0.01


@pytest.mark.parametrize("chunk", [0.02, 0.0333, 0.5])
def test_chunking_changes_no_sample(twin: Twins, chunk: float) -> None:
    model = twin("mono").model
    with model.open_stream("piano", seed=7) as stream, model.open_stream("piano", seed=7) as other:
        assert np.abs(take(stream, 1.0, chunk) - take(other, 1.0, 0.1)).max() < 1e-5


def test_chunks_know_where_they_are_and_mono_is_duplicated(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=7) as stream:
        first, second = stream.read(1000), stream.read(640)
        assert (first.start_sample, second.start_sample, stream.position_samples) == (0, 1000, 1640)
        assert first.samples.dtype == np.float32
        assert first.samples.shape == (2, 1000)
        assert np.array_equal(first.samples[0], first.samples[1])


def test_left_and_right_of_a_stereo_checkpoint_differ(twin: Twins) -> None:
    with twin("stereo").model.open_stream("piano", seed=7) as stream:
        samples = take(stream, 0.5)
        assert np.abs(samples[0] - samples[1]).max() > 0.01


def test_snapshot_restore_is_bit_identical(twin: Twins) -> None:
    model = twin("stereo").model
    with model.open_stream("piano", seed=7, context_seconds=1.0, context_start_seconds=27.0) as stream:
        take(stream, 28.0, chunk=0.5)
        stream.set(prompt="rock", at_sample=stream.position_samples + 40_000)
        saved = stream.snapshot()
        first = take(stream, 10.0)
        position = stream.position_samples
        stream.restore(saved)
        second = take(stream, 10.0)
        assert np.array_equal(first, second)
        assert stream.position_samples == position
        assert stream.metrics.rollovers >= 2


def test_same_seed_same_music_other_seed_other_music(twin: Twins) -> None:
    model = twin("mono").model
    runs = []
    for seed in (1, 1, 2):
        with model.open_stream("piano", seed=seed) as stream:
            runs.append(take(stream, 1.0))
    assert np.array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2], atol=1e-2)


def test_an_audio_prompt_is_continued_without_a_seam(twin: Twins) -> None:
    model = twin("mono").model
    with model.open_stream("piano", audio_prompt=TONE, audio_prompt_rate_hz=32_000, seed=3) as stream:
        streamed = take(stream, 1.0)
    whole = model.generate(["piano"], 1.5, audio_prompt=TONE, audio_prompt_rate_hz=32_000, seed=3, include_prompt=True)[
        0
    ]
    assert np.abs(streamed - whole.samples[:, 48_000 : 48_000 + 32_000]).max() < 1e-4


def test_a_prompt_too_long_keeps_its_newest_part_and_says_so(twin: Twins, caplog: pytest.LogCaptureFixture) -> None:
    model = twin("mono").model
    long = np.tile(TONE, 18)  # 27 s
    long[-24 * 32_000 :] *= np.linspace(0.2, 1.0, 24 * 32_000, dtype=np.float32)
    with model.open_stream("piano", audio_prompt=long, audio_prompt_rate_hz=32_000, seed=3) as stream:
        assert "its newest part is kept" in caplog.text
        assert stream._first_frame == stream.plan.longest_prompt()
        codes = stream._tokens.frames(0, stream._first_frame)
        whole = model.prompt_codes(long, 32_000)
        assert torch.equal(codes, whole[:, -stream._first_frame :])
        take(stream, 15.0, chunk=0.5)
        assert stream.metrics.rollovers == 1


def test_a_control_lands_exactly_at_its_frame(twin: Twins) -> None:
    """Greedy until sample 19,200 (frame 30), hot from there: nothing drawn before that column differs."""
    model = twin("mono").model
    tokens = []
    for change in (False, True):
        with model.open_stream("piano", seed=1, temperature=0.0) as stream:
            if change:
                assert stream.set(temperature=3.0, at_sample=19_100) == 19_200
            take(stream, 2.0)
            tokens.append(stream._tokens.frames(0, 100))
    for k, delay in enumerate(twin("mono").model.pattern.delays):
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
        take(stream, 1.2)
        changed = stream._tokens.frames(0, 60)
    plain = Batch(model, ["piano"], 1.2, seed=1, controls={"temperature": 0.0}).codes()[0]
    assert torch.equal(changed[0, :20], plain[0, :20])
    assert not torch.equal(changed[0, 20:57], plain[0, 20:57])


def test_weights_and_glide_change_the_rows_and_settle(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        take(stream, 0.2)
        stream.set(prompts=[("piano", 1.0), ("rock", 1.0)], glide_seconds=0.5)
        take(stream, 0.3)
        gliding = stream._tokens.rows.coefficients
        take(stream, 0.6)
        settled = stream._tokens.rows.coefficients
        assert len(gliding) == len(settled) == 3
        assert settled == (1.5, 1.5, -2.0)
        assert 1.5 < gliding[0] < 3.0
        stream.set(prompt="techno", negative_prompt="drums", glide_seconds=0)
        take(stream, 0.3)
        assert stream._texts == ("techno", "drums")
        assert stream._tokens.rows.coefficients == (3.0, -2.0)


def test_equal_prompts_in_a_mix_are_one_prompt(twin: Twins) -> None:
    model = twin("mono").model
    with (
        model.open_stream("piano", seed=1) as one,
        model.open_stream(prompts=[("piano", 2), ("piano", 3)], seed=1) as two,
    ):
        assert np.array_equal(take(one, 0.5), take(two, 0.5))


def test_a_melody_stream_takes_a_new_prompt_by_rereading_its_context(twin: Twins) -> None:
    model = twin("melody").model
    with model.open_stream("piano", seed=1, melody=TONE, melody_rate_hz=32_000) as stream:
        take(stream, 1.0)
        stream.set(prompt="rock")
        take(stream, 1.0)
        assert stream._texts == ("rock", None)
        assert stream._tokens.windows[0].start_frame == 0
        assert stream.metrics.window_position > stream._tokens.rows.prefix + 90


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
        ({"context_seconds": 20.0}, ConfigError, "1000 frames .* within 1 … 751"),
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
    rows = model.engine.cache.rows
    with pytest.raises(error, match=words):
        model.open_stream(**{"prompt": "piano", **values})
    assert model.engine.cache.rows == rows


def test_too_many_pending_changes_are_refused(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        for number in range(1000):
            stream.set(temperature=1.0, at_sample=10**9 + number)
        with pytest.raises(CapacityError, match="1000 changes are waiting"):
            stream.set(temperature=1.0)


def test_a_closed_stream_says_so_and_gives_its_rows_back(twin: Twins) -> None:
    stream = twin("mono").model.open_stream("piano", seed=1)
    stream.close()
    stream.close()
    for call in (lambda: stream.read(1), lambda: stream.set(seed=1), stream.snapshot):
        with pytest.raises(SessionClosed, match="open a new one"):
            call()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 61.0])
def test_impossible_chunks_are_refused(twin: Twins, seconds: float) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream, pytest.raises(ConfigError, match="does not go"):
        next(stream.chunks(seconds))


def test_memory_stays_flat(twin: Twins) -> None:
    """Python's own allocations; the slow twin of this in test_endless.py watches the process for an hour of audio."""
    with twin("mono").model.open_stream("piano", seed=1, context_seconds=1.0, context_start_seconds=28.0) as stream:
        take(stream, 32.0, chunk=1.0)
        tracemalloc.start()
        for _ in range(10):
            stream.read(32_000)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10):
            stream.read(32_000)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # step_seconds keeps 8,192 floats (24 bytes and a slot each) before it forgets: 500 a second of music
        assert after - before < 50_000


def test_a_rewind_replays_exactly_across_a_handover_and_a_new_row(twin: Twins) -> None:
    """Twin: snapshot and restore, which clone everything. The change is scheduled, so it replays where it was."""
    model = twin("mono").model
    options: dict[str, Any] = {"seed": 1, "context_seconds": 1.0, "context_start_seconds": 28.0, "rewind_seconds": 4.0}
    with model.open_stream("piano", **options) as stream:
        take(stream, 28.5, chunk=0.5)
        mark, saved = stream.mark(), stream.snapshot()
        change = {"prompts": [("piano", 1), ("rock", 1)], "at_sample": stream.position_samples + 48_000}
        stream.set(**change)
        first = take(stream, 3.0)
        assert stream.metrics.rollovers >= 2
        stream.rewind(mark)
        again = take(stream, 3.0)
        stream.rewind(mark)
        third = take(stream, 3.0)
        stream.restore(saved)
        stream.set(**change)
        cloned = take(stream, 3.0)
    assert np.array_equal(again, first)
    assert np.array_equal(again, third)
    assert np.array_equal(again, cloned)
    assert all(model.engine.cache._free), "retired windows are given back"


def test_after_a_rewind_a_change_is_heard_at_once(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, temperature=0.0, rewind_seconds=2.0) as stream:
        take(stream, 0.5)
        mark = stream.mark()
        ahead = take(stream, 1.0)
        stream.rewind(mark)
        stream.set(temperature=4.0)
        changed = take(stream, 1.0)
        assert stream.position_samples == 48_000
    # three delayed frames and the codec's look-ahead were drawn before the mark
    assert np.abs(ahead - changed)[:, 10 * 640 :].max() > 1e-2


def test_a_mark_too_far_back_is_refused(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, rewind_seconds=0.5) as stream:
        mark = stream.mark()
        take(stream, 1.0)
        with pytest.raises(ConfigError, match=r"frames back, must be within 0 … 25"):
            stream.rewind(mark)


def test_a_rewind_revokes_audio_but_no_wish(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, rewind_seconds=3.0) as stream:
        take(stream, 0.5)
        mark = stream.mark()
        stream.set(temperature=0.5)
        take(stream, 1.0)
        stream.set(top_k=9, at_sample=64_000)
        stream.rewind(mark)
        stream.set(temperature=0.25)
        stream.read(640)
        assert (stream.controls.temperature, stream.controls.top_k) == (0.25, 250)
        take(stream, 2.0)
        assert (stream.controls.temperature, stream.controls.top_k) == (0.25, 9)


def test_the_start_after_an_audio_prompt_replays_exactly(twin: Twins) -> None:
    """The codec still owes the prompt's last samples there, which are no part of the stream."""
    model = twin("mono").model
    options: dict[str, Any] = {"audio_prompt": TONE, "audio_prompt_rate_hz": 32_000, "seed": 1, "rewind_seconds": 1.0}
    with model.open_stream("piano", **options) as stream:
        mark, saved = stream.mark(), stream.snapshot()
        first = stream.read(16_000).samples
        stream.rewind(mark)
        assert np.array_equal(stream.read(16_000).samples, first)
        stream.restore(saved)
        assert np.array_equal(stream.read(16_000).samples, first)


def test_prompts_are_what_they_were_when_they_were_set(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        stream.set(prompts=iter([("rock", 1.0), ("techno", 1.0)]))
        pairs = [["drums", 1.0], ["bass", 1.0]]
        stream.set(prompts=pairs, at_sample=6400)
        pairs[0][0] = ""
        pairs.pop()
        stream.read(640)
        assert stream._texts == ("rock", "techno", None)
        stream.read(16_000)
        assert stream._texts == ("drums", "bass", None)


@pytest.mark.parametrize("rewind_seconds", [0.0, 5.0])
def test_rows_without_room_change_nothing_and_wait(
    twin: Twins, monkeypatch: pytest.MonkeyPatch, rewind_seconds: float
) -> None:
    """Twin: the same stream, which always has room."""
    model = twin("mono").model
    cache, most = model.engine.cache, [(word, 1.0) for word in "abcdefgh"]
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
                assert stream._tokens.rows.count == 2
        assert np.array_equal(stream.read(16_000).samples, other.read(16_000).samples)
        assert stream._tokens.rows.count == 9
    assert all(cache._free)


def test_fewer_prompts_help_where_there_is_no_room(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model
    with monkeypatch.context() as narrow:
        narrow.setattr(model.engine.cache, "max_rows", 4)
        narrow.setattr(model.engine.cache, "_free", [True] * 4)
        with model.open_stream("piano", seed=1) as stream:
            stream.set(prompts=[(word, 1.0) for word in "abcdefgh"])
            with pytest.raises(CapacityError):
                stream.read(640)
            stream.set(prompt="rock")
            stream.read(640)
            assert stream._texts == ("rock", None)


def test_a_snapshot_without_room_changes_nothing(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model
    with monkeypatch.context() as narrow:
        narrow.setattr(model.engine.cache, "max_rows", 6)
        narrow.setattr(model.engine.cache, "_free", [True] * 6)
        options: dict[str, Any] = {"seed": 1, "guidance_scale": 1.0, "glide_seconds": 0.0}
        with model.open_stream(prompts=[(word, 1.0) for word in "abcd"], **options) as stream:
            saved = stream.snapshot()
            stream.set(prompt="a")
            first = stream.read(6400).samples
            with model.open_stream("b", **options) as other, model.open_stream("c", **options):
                other.set(prompts=[("b", 1), ("d", 1)])
                other.read(640)
                with pytest.raises(CapacityError):
                    stream.restore(saved)
                stream.read(640)
                assert stream.position_samples == 7040
            stream.restore(saved)
            stream.set(prompt="a")
            assert np.array_equal(stream.read(6400).samples, first)
            stream.read(640)
        assert all(model.engine.cache._free)


def test_settings_that_fit_only_after_a_change_ahead_are_cut_until_then(twin: Twins) -> None:
    with twin("mono").model.open_stream("piano", seed=1, context_seconds=1.0, context_start_seconds=28.0) as stream:
        stream.set(context_start_seconds=0.0, at_sample=32_000)
        stream.set(context_seconds=10.0)
        stream.read(640)
        assert stream.controls.context_seconds == 10.0
        assert (stream.plan.context_frames, stream.plan.start_position) == (51, 1400)
        stream.read(48_000)
        assert (stream.plan.context_frames, stream.plan.start_position) == (500, 0)


def test_a_step_that_is_interrupted_is_done_again(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: the same stream, undisturbed."""
    model = twin("mono").model

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with model.open_stream("piano", seed=1) as stream, model.open_stream("piano", seed=1) as other:
        stream.read(6400)
        with monkeypatch.context() as disturbed:
            disturbed.setattr("streamgen.lm.token_stream.sample", interrupt)
            with pytest.raises(KeyboardInterrupt):
                stream.read(6400)
        stream.read(12_800)
        other.read(19_200)
        assert torch.equal(stream._tokens.frames(0, 30), other._tokens.frames(0, 30))


def test_a_stream_that_cannot_begin_leaves_no_rows_taken(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model.engine, "prefill", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.open_stream("piano")
    assert all(model.engine.cache._free)


def test_a_mark_off_the_streams_way_is_refused(twin: Twins) -> None:
    """Its cache rows may be another stream's by now."""
    model = twin("mono").model
    options: dict[str, Any] = {"seed": 1, "rewind_seconds": 5.0}
    with model.open_stream("piano", **options) as stream, model.open_stream("piano", **options) as other:
        early, saved = stream.mark(), stream.snapshot()
        stream.read(640)
        stream.set(prompts=[("a", 1), ("b", 1)])
        stream.read(640)
        revoked = stream.mark()
        stream.rewind(early)
        stream.read(6400)
        other.read(6400)
        for mark in (revoked, other.mark()):
            with pytest.raises(ConfigError, match="of another stream, or of music that was revoked"):
                stream.rewind(mark)
        stream.rewind(early)
        stream.restore(saved)
        with pytest.raises(ConfigError, match="revoked"):
            stream.rewind(early)
        stream.rewind(stream.mark())
    assert all(model.engine.cache._free)


def test_a_snapshot_of_another_stream_is_refused(twin: Twins) -> None:
    model = twin("mono").model
    with (
        model.open_stream("piano", seed=1) as stream,
        model.open_stream("piano", seed=1) as other,
        twin("stereo").model.open_stream("piano", seed=1) as stereo,
    ):
        saved = stream.snapshot()
        for each in (other, stereo):
            with pytest.raises(ConfigError, match="the snapshot is another stream's"):
                each.restore(saved)
            assert each.read(640).start_sample == 0


def test_the_row_guided_away_from_never_hears_the_melody(twin: Twins) -> None:
    """Twin: a stream that begins with those settings. A text may change from prompt to negative where it stands."""
    model = twin("melody").model
    melody = {"melody": TUNE, "melody_rate_hz": 32_000}
    with model.open_stream(prompts=[("piano", 1), ("rock", 1)], guidance_scale=1.0, seed=1, **melody) as stream:
        heard = stream._tokens.rows.prefixes
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
                assert torch.equal(stream._tokens.rows.prefixes, fresh._tokens.rows.prefixes)
        length = len(stream._melody)
        assert not torch.equal(heard[1, :length], stream._tokens.rows.prefixes[0, :length])
        assert torch.equal(stream._tokens.rows.prefixes[0, :length], model._chroma.null_prefix())


def test_a_melody_stream_by_default_takes_no_text_and_longer_ones(twin: Twins) -> None:
    """Its default context is all that the first text leaves room for."""
    with twin("melody").model.open_stream(seed=1, melody=TUNE, melody_rate_hz=32_000) as stream:
        assert (stream._tokens.rows.prefix, stream.plan.context_frames) == (236, 515)
        stream.read(640)
        stream.set(prompt="drums and bass with slow techno beat")
        stream.read(640)
        prefix = stream._tokens.rows.prefix
        assert prefix > 236
        assert stream.plan.context_frames == (1503 - 2 * prefix) // 2
        with pytest.raises(ConfigError, match="does not fit"):
            stream.set(context_seconds=stream.controls.context_seconds)
        with pytest.raises(ConfigError, match="does not fit"):
            stream.set(prompt="a " * 1000)


@pytest.mark.parametrize("samples", [0, -1, 1.5, "1", float("nan"), True, None])
def test_impossible_reads_are_refused(twin: Twins, samples: Any) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        with pytest.raises(ConfigError, match="must be a whole number, at least 1"):
            stream.read(samples)
        assert stream.read(np.int64(640)).start_sample == 0


@pytest.mark.parametrize("at_sample", [float("nan"), float("inf"), "640"])
def test_impossible_places_are_refused(twin: Twins, at_sample: Any) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream:
        with pytest.raises(ConfigError, match=r"at_sample is .* must be a position in samples"):
            stream.set(temperature=0.5, at_sample=at_sample)
        stream.read(640)
        assert stream.controls.temperature == 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_plays_and_batches_the_same_music(twin: Twins) -> None:
    """Tokens are kept on the CPU, weights and codec are not."""
    model = load_model(str(tiny_checkpoint("mono")), device="cuda", precision="fp32")
    with model.open_stream("piano", seed=7) as stream:
        streamed = take(stream, 1.0)
    clip = model.generate(["piano"], 1.5, seed=7)[0].samples
    assert np.abs(streamed - clip[:, :32_000]).max() < 1e-3
