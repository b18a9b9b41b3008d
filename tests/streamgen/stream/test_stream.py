from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from streamgen.errors import ConfigError, NumericError, SessionClosed
from streamgen.model import load_model
from streamgen.stream.stream import Stream
from streamgen.testing import tiny_checkpoint

Twins = Callable[[str], Any]
TONE = (0.3 * np.sin(np.arange(48_000) * 0.05)).astype(np.float32)


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
        streamed = take(stream, 1.5, chunk=0.13)
    clip = model.generate(["piano"], 2.0, seed=7)[0].samples
    assert np.abs(streamed - clip[:, :48_000]).max() < 1e-4
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
    codes = model.prompt_codes(TONE, 32_000)
    with model.open_stream("piano", audio_prompt_codes=codes, seed=3) as stream:
        elsewhere = stream.read(3_200).samples
    with model.open_stream("piano", audio_prompt=TONE, audio_prompt_rate_hz=32_000, seed=3) as stream:
        assert np.array_equal(stream.read(3_200).samples, elsewhere), "codes made elsewhere are the same prompt"
    with model.open_stream("piano", audio_prompt=TONE, audio_prompt_rate_hz=32_000, seed=3) as stream:
        streamed = take(stream, 1.0)
    whole = model.generate(["piano"], 1.5, audio_prompt=TONE, audio_prompt_rate_hz=32_000, seed=3, include_prompt=True)[
        0
    ]
    assert np.abs(streamed - whole.samples[:, 48_000 : 48_000 + 32_000]).max() < 1e-4


def test_a_prompt_too_long_keeps_its_newest_part_and_says_so(
    short_twin: Twins, caplog: pytest.LogCaptureFixture
) -> None:
    model = short_twin("mono").model
    long = np.tile(TONE, 4)  # 6 s
    long[-5 * 32_000 :] *= np.linspace(0.2, 1.0, 5 * 32_000, dtype=np.float32)
    with model.open_stream("piano", audio_prompt=long, audio_prompt_rate_hz=32_000, seed=3) as stream:
        assert "its newest part is kept" in caplog.text
        assert stream._sound.tokens.prompt_frames == stream.plan.longest_prompt()
        codes = stream._sound.tokens.frames(0, stream._sound.tokens.prompt_frames)
        whole = model.prompt_codes(long, 32_000)
        assert torch.equal(codes, whole[:, -stream._sound.tokens.prompt_frames :])
        take(stream, 2.5, chunk=0.5)
        assert stream.metrics.rollovers == 1


def test_a_closed_stream_says_so_and_gives_its_rows_back(twin: Twins) -> None:
    stream = twin("mono").model.open_stream("piano", seed=1)
    stream.close()
    stream.close()
    for call in (lambda: stream.read(1), lambda: stream.set(seed=1), stream.snapshot, lambda: next(stream.chunks())):
        with pytest.raises(SessionClosed, match="open a new one"):
            call()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 61.0])
def test_impossible_chunks_are_refused(twin: Twins, seconds: float) -> None:
    with twin("mono").model.open_stream("piano", seed=1) as stream, pytest.raises(ConfigError, match="must be within"):
        next(stream.chunks(seconds))


@pytest.mark.slow
def test_memory_stays_flat(short_twin: Twins) -> None:
    """Python's own allocations; the slow twin of this in test_endless.py watches the process for an hour of audio."""
    with short_twin("mono").model.open_stream("piano", seed=1, context_seconds=1.0) as stream:
        take(stream, 6.0, chunk=1.0)
        tracemalloc.start()
        for _ in range(5):
            stream.read(32_000)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            stream.read(32_000)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # step_seconds keeps 8,192 floats (24 bytes and a slot each) before it forgets: 500 a second of music
        assert after - before < 25_000


def test_a_step_that_is_interrupted_is_done_again(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: the same stream, undisturbed."""
    model = twin("mono").model

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with model.open_stream("piano", seed=1) as stream, model.open_stream("piano", seed=1) as other:
        stream.read(6400)
        with monkeypatch.context() as disturbed:
            disturbed.setattr("streamgen.lm.engine.sample_together", interrupt)
            with pytest.raises(KeyboardInterrupt):
                stream.read(6400)
        stream.read(12_800)
        other.read(19_200)
        assert torch.equal(stream._sound.tokens.frames(0, 30), other._sound.tokens.frames(0, 30))


def test_a_stream_that_cannot_begin_leaves_no_rows_taken(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model.runtime.codec, "new_state", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.open_stream("piano")
    assert all(model.runtime.engine.cache._free)


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


@pytest.mark.gpu
def test_a_gpu_plays_and_batches_the_same_music(twin: Twins) -> None:
    """Tokens are kept on the CPU, weights and codec are not."""
    model = load_model(str(tiny_checkpoint("mono")), device="cuda", precision="fp32")
    with model.open_stream("piano", seed=7) as stream:
        streamed = take(stream, 1.0)
    clip = model.generate(["piano"], 1.5, seed=7)[0].samples
    assert np.abs(streamed - clip[:, :32_000]).max() < 1e-3


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers_are_told_and_never_heard(
    twin: Twins, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    """One code for ever was what became of them. Once they are numbers again, it goes on where it was."""
    model = twin("mono").model
    decoder = model.runtime.engine.decoder
    step = decoder.step

    def broken(*given: Any) -> torch.Tensor:
        found = step(*given).clone()
        found[0, 2, 5] = wrong
        return found

    with model.open_stream("piano", seed=7) as stream, model.open_stream("piano", seed=7) as twin_stream:
        assert np.array_equal(stream.read(2_000).samples, twin_stream.read(2_000).samples)
        with monkeypatch.context() as disturbed:
            disturbed.setattr(decoder, "step", broken)
            for _ in range(2):
                with pytest.raises(NumericError, match=r"NaN or infinite in fp32: .*damaged"):
                    stream.read(6_400)
            with pytest.raises(NumericError):
                model.generate(["piano"], 0.1)
        assert np.array_equal(stream.read(6_400).samples, twin_stream.read(6_400).samples)


def test_a_codec_that_makes_no_numbers_is_told(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    model = twin("mono").model
    decode = model.runtime.codec.decode
    monkeypatch.setattr(model.runtime.codec, "decode", lambda *given: decode(*given) * float("nan"))
    with model.open_stream("piano", seed=7) as stream, pytest.raises(NumericError, match="codec's sound is NaN"):
        stream.read(6_400)
