"""Steps of fixed shape beside the decoder's own; on a CPU they are computed, on a GPU (`-m gpu`) replayed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from streamgen import Model, load_model
from streamgen.checkpoint import load_checkpoint
from streamgen.errors import CapacityError
from streamgen.lm import captured as captured_module
from streamgen.lm.attention import Segment, new_mask
from streamgen.lm.cache import KVCache
from streamgen.lm.captured import CapturedDecoder, _Texts
from streamgen.lm.cross import CrossCache, TextProjector
from streamgen.lm.engine import NOT_DRAWN, LmEngine
from streamgen.testing import tiny_checkpoint
from tests.streamgen.lm.test_engine import open_tokens, step

Twins = Callable[[str], Any]
CPU = torch.device("cpu")
TEXTS = ("piano", "drums and bass with slow techno beat")


def memory_of(engine: Any, rows: int, fill: bool = True) -> KVCache:
    cache = KVCache(engine.config, rows, dtype=torch.float32, device=CPU)
    if fill:
        cache.keys.normal_()
        cache.values.normal_()
    return cache


@torch.no_grad()
def test_a_step_is_the_decoders_at_unlike_positions_and_touches_no_other_row(twin: Twins) -> None:
    """Five vectors in a pass for eight, of rows 1, 2, 4, 6 and 7; two of them have texts of unlike lengths."""
    both = twin("mono")
    engine = both.torch_engine
    cache = memory_of(engine, 9)
    cache.allocate(1)
    blocks = [cache.allocate(2), cache.allocate(1), cache.allocate(1), cache.allocate(1), cache.allocate(2)]
    cross = CrossCache()
    for row, text in zip((1, 6), TEXTS, strict=True):
        cross.set(row, engine.projector.project(both.states(text)))
    segments = [Segment(blocks[0], 40), Segment(blocks[2], 3, start_position=700), Segment(blocks[4], 1502)]
    x = torch.randn(5, engine.config.hidden_size)
    memory = cache.keys.clone(), cache.values.clone()
    exact = engine.decoder.step(x, segments, cache, cross, [0, 1, 4])
    written = cache.keys.clone(), cache.values.clone()
    cache.keys, cache.values = memory
    captured = CapturedDecoder(engine.decoder)
    torch.testing.assert_close(captured.step(x, segments, cache, cross, [0, 1, 4]), exact, atol=1e-4, rtol=1e-4)
    for ours, theirs in zip((cache.keys, cache.values), written, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    again = captured.step(x, segments, cache, cross, range(5))
    torch.testing.assert_close(again[[0, 1, 4]], exact, atol=1e-4, rtol=1e-4)
    kept = again.clone()
    captured.step(x.flip(0), segments, cache, cross, range(5))
    assert torch.equal(again, kept), "what was returned is not a buffer that the next step overwrites"


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_step_in_halves_is_the_decoders(dtype: torch.dtype) -> None:
    """Weights, keys, values and texts, all as on a GPU."""
    checkpoint = load_checkpoint(str(tiny_checkpoint("mono")))
    engine, config, cross = LmEngine.on_torch(checkpoint, device=CPU, dtype=dtype), checkpoint.decoder, CrossCache()
    projector = TextProjector(config, checkpoint.weights, device=CPU, dtype=dtype, kept=dtype)
    cache, captured = KVCache(config, 4, dtype=dtype, device=CPU), CapturedDecoder(engine.decoder)
    block = cache.allocate(3)
    cross.set(1, projector.project(torch.randn(5, config.hidden_size)))
    for past in range(4):
        x, segments = torch.randn(3, config.hidden_size).to(dtype), [Segment(block, past)]
        wanted = engine.decoder.step(x, segments, cache, cross, range(3))
        found = captured.step(x, segments, cache, cross, range(3))
        assert found.dtype == torch.float32
        assert (found - wanted).norm() < 0.02 * wanted.norm()


def test_a_mask_is_as_a_gpus_kernels_take_it() -> None:
    for positions in (1, 64, 1_503):
        mask = new_mask(3, positions, torch.zeros(0, dtype=torch.float16))
        assert (mask.shape, mask.dtype, mask.stride(-1)) == ((3, 1, 1, positions), torch.float16, 1)
        assert all(stride % 16 == 0 for stride in mask.stride()[:-1])
        assert (mask == 0).sum() == 3


@torch.no_grad()
def test_texts_that_come_go_and_are_long(twin: Twins) -> None:
    both = twin("mono")
    engine, cross = both.torch_engine, CrossCache()
    cache, captured = memory_of(engine, 2), CapturedDecoder(both.torch_engine.decoder)
    block = cache.allocate(2)
    projected = [engine.projector.project(torch.randn(length, engine.config.hidden_size)) for length in (3, 150, 7)]
    for past, texts in enumerate([(0, None), (None, None), (1, 0), (2, 1), (None, 2), (0, 0)]):
        for row, text in enumerate(texts):
            cross.set(row, None if text is None else projected[text])
        x, segments = torch.randn(2, engine.config.hidden_size), [Segment(block, past)]
        wanted = engine.decoder.step(x, segments, cache, cross, range(2))
        found = captured.step(x, segments, cache, cross, range(2))
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def model_of(kind: str) -> Model:
    """With windows of a second or two."""
    checkpoint = load_checkpoint(str(tiny_checkpoint(kind)))
    checkpoint.decoder = replace(checkpoint.decoder, max_positions=90 if kind == "melody" else 60)
    if checkpoint.melody is not None:
        checkpoint.melody = replace(checkpoint.melody, seconds=3, chroma_length=24)
    return Model.from_checkpoint(checkpoint, device="cpu", precision="fp32")


@pytest.mark.parametrize("kind", ["mono", "stereo", "melody", "causal"])
def test_streams_that_join_leave_and_roll_over_play_the_same_tokens(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through growth of the cache, in passes of one to eight vectors, with another guidance interval each."""
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    found = []
    for captured in (False, True):
        model = model_of(kind)
        engine = model.runtime.engine
        if captured:
            engine.decoder = CapturedDecoder(engine.decoder)
        values = {"temperature": 0.0, "context_seconds": 0.3}
        streams: list[Any] = []
        for number in range(150):
            if number % 30 == 0 and len(streams) < 4:
                prompt = ("piano", None, "rock", "drums and bass")[len(streams)]
                streams.append(open_tokens(model, prompt, guidance_interval=1 + len(streams), **values))
            step(engine, *(stream for at, stream in enumerate(streams) if at != 1 or number < 110))
        found.append([stream.frames(stream.frames_done - 20, stream.frames_done) for stream in streams])
        assert streams[0].rollovers > 0
    assert all(map(torch.equal, *found))


def test_texts_stay_where_they_are_whoever_comes_first(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    both = twin("mono")
    engine, cross = both.torch_engine, CrossCache()
    cache, captured = memory_of(engine, 3), CapturedDecoder(both.torch_engine.decoder)
    blocks = [cache.allocate(1) for _ in range(3)]
    for row, text in enumerate(TEXTS):
        cross.set(row, engine.projector.project(both.states(text)))
    x, written = torch.randn(3, engine.config.hidden_size), []
    write = _Texts._write
    monkeypatch.setattr(_Texts, "_write", lambda *given: (written.append(given[1]), write(*given)))
    for order in ([2, 0, 1], [0, 1, 2], [1, 2, 0]):
        segments = [Segment(blocks[row], 9) for row in order]
        wanted = engine.decoder.step(x[order], segments, cache, cross, [2, 1])
        found = captured.step(x[order], segments, cache, cross, [2, 1])
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert sorted(written) == [0, 1], "the third has none"
    for rests in ([1], [0, 1, 2], [2, 0]):
        captured.step(x[rests], [Segment(blocks[row], 10) for row in rests], cache, cross, [0])
    assert len(written) == 2, "in a pass of any shape"


def test_a_text_that_is_no_number_goes_with_its_row(twin: Twins) -> None:
    """What is left of a longer one before it is masked, but NaN would stay NaN."""
    engine, cross = twin("mono").torch_engine, CrossCache()
    cache, captured = memory_of(engine, 2), CapturedDecoder(engine.decoder)
    segments, x = [Segment(cache.allocate(2), 5)], torch.randn(2, engine.config.hidden_size)
    long, short = (engine.projector.project(torch.randn(length, engine.config.hidden_size)) for length in (9, 4))
    long.keys.fill_(torch.nan)
    long.values.fill_(torch.nan)
    for text in (long, short):
        cross.set(1, text)
        found = captured.step(x, segments, cache, cross, range(2))
        assert found[0].isfinite().all()
    torch.testing.assert_close(found, engine.decoder.step(x, segments, cache, cross, range(2)), atol=1e-4, rtol=1e-4)


def test_passes_are_few_and_end_with_their_memory(twin: Twins) -> None:
    engine = twin("mono").torch_engine
    captured, cross = CapturedDecoder(engine.decoder), CrossCache()
    cache = memory_of(engine, 16)
    blocks = [cache.allocate(1) for _ in range(16)]
    for count in range(1, 17):
        x, segments = torch.randn(count, engine.config.hidden_size), [Segment(block, 5) for block in blocks[:count]]
        captured.step(x, segments, cache, cross, range(count))
    assert sorted(captured._passes) == [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)]
    blocks.append(cache.allocate(1))
    wanted = engine.decoder.step(x[:1], [Segment(blocks[-1], 0)], cache, cross, [0])
    torch.testing.assert_close(captured.step(x[:1], [Segment(blocks[-1], 0)], cache, cross, [0]), wanted)
    assert sorted(captured._passes) == [(1, 17)], "the cache has grown: it lies elsewhere"


def test_of_many_rows_few_are_read_in_vain() -> None:
    buckets = [captured_module._rows_bucket(count) for count in range(1, 1_025)]
    assert all(count <= bucket for count, bucket in enumerate(buckets, 1))
    assert buckets[:33] == [1, 2, 4, 4, 8, 8, 8, 8, *[16] * 8, *[32] * 16, 40]
    assert all(bucket < 1.25 * count for count, bucket in enumerate(buckets, 1) if count > 32)
    assert len({*buckets}) == 6 + 4 * 5


def test_a_pass_that_is_not_captured_ends_with_its_memory(twin: Twins) -> None:
    """At once: where nothing more is captured memory is short."""
    engine = twin("mono").torch_engine
    captured, cache, x = (
        CapturedDecoder(engine.decoder),
        memory_of(engine, 1),
        torch.randn(1, engine.config.hidden_size),
    )
    block = cache.allocate(1)
    gc.disable()
    try:
        captured.step(x, [Segment(block, 3)], cache, CrossCache(), [0])
        (one,) = (weakref.ref(one) for one in captured._passes.values())
        cache.allocate(1)
        captured.step(x, [Segment(block, 4)], cache, CrossCache(), [0])
        assert one() is None
    finally:
        gc.enable()


def test_a_gpus_memory_doubles_and_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device: it has no memory, and is no CPU."""
    config = load_checkpoint(str(tiny_checkpoint("mono"))).decoder
    cache = KVCache(config, 4, dtype=torch.float16, device=torch.device("meta"), max_rows=20)
    cache.allocate(4)
    cache.allocate(1)
    assert cache.rows == 8
    cache.allocate(4)
    assert cache.rows == 16
    cache.allocate(11)
    assert cache.rows == 20

    def full(_: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    larger = KVCache(config, 1, dtype=torch.float16, device=torch.device("meta"))
    monkeypatch.setattr(larger, "_grow_to", full)
    with pytest.raises(CapacityError, match="there is no memory for 3 rows; close a stream or use fewer prompts"):
        larger.allocate(3)
    assert larger.allocate(1).rows == 1


def test_where_there_is_no_memory_for_twice_as_many_rows_it_takes_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_checkpoint(str(tiny_checkpoint("mono"))).decoder
    cache = KVCache(config, 4, dtype=torch.float16, device=torch.device("meta"))
    grow, tried = cache._grow_to, []

    def narrow(rows: int) -> None:
        tried.append(rows)
        if rows > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        grow(rows)

    monkeypatch.setattr(cache, "_grow_to", narrow)
    cache.allocate(4)
    assert (cache.allocate(2).stop, cache.rows, cache.keys.shape[1], tried) == (6, 6, 6, [8, 6])


def test_what_was_no_number_is_not_heard_by_whoever_gets_its_rows_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masked attention multiplies by zero what lies ahead: NaN, of a prompt too loud for float16, would stay NaN."""
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    model = model_of("mono")
    engine = model.runtime.engine
    engine.decoder = CapturedDecoder(engine.decoder)

    def played() -> torch.Tensor:
        tokens = open_tokens(model, "rock")
        while tokens.frames_done < 20:
            step(engine, tokens)
        tokens.close()
        return tokens.frames(0, 20)

    wanted, spoilt = played(), open_tokens(model, "piano")
    for _ in range(12):
        step(engine, spoilt)
    with monkeypatch.context() as loud:
        loud.setattr(
            engine.decoder, "embed", lambda columns: torch.full((len(columns), engine.config.hidden_size), torch.nan)
        )
        (drawn,) = engine.step([spoilt.begin_step(spoilt.settings)])
    assert (drawn == NOT_DRAWN).all()
    assert engine.cache.keys.isnan().any()
    spoilt.close()
    assert torch.equal(played(), wanted)


@torch.no_grad()
def test_nothing_is_sent_to_the_device_behind_a_pass(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have to wait for the pass, with nothing queued behind it."""
    engine, told = twin("mono").torch_engine, []  # type: ignore[var-annotated]
    send = captured_module.sent
    monkeypatch.setattr(captured_module, "sent", lambda *what: (told.append("sent"), send(*what))[1])
    captured = CapturedDecoder(engine.decoder, lambda compute: lambda: (told.append("replayed"), compute())[1])
    cache = memory_of(engine, 4)
    segments = [Segment(cache.allocate(2), 7), Segment(cache.allocate(1), 3)]
    captured.step(torch.randn(3, engine.config.hidden_size), segments[::-1], cache, CrossCache(), [0])
    assert told == ["sent", "sent", "replayed"]


class Recorder:
    """In place of CUDA graphs: a capture computes nothing that counts, a replay computes it all again."""

    def __init__(self) -> None:
        self.replays: list[int] = []

    def __call__(self, compute: Callable[[], None]) -> Callable[[], None]:
        number = len(self.replays)
        self.replays.append(0)
        compute()

        def replay() -> None:
            self.replays[number] += 1
            compute()

        return replay


@torch.no_grad()
def test_each_pass_is_captured_once_and_replayed_and_anew_where_texts_need_room(
    twin: Twins,
) -> None:
    engine, cross, recorder = twin("mono").torch_engine, CrossCache(), Recorder()
    captured = CapturedDecoder(engine.decoder, recorder)
    cache, other = memory_of(engine, 4), memory_of(engine, 4)
    other.keys, other.values = cache.keys.clone(), cache.values.clone()
    blocks = [cache.allocate(1) for _ in range(4)]
    texts = [engine.projector.project(torch.randn(length, engine.config.hidden_size)) for length in (3, 70)]
    cross.set(0, texts[0])
    for past, count in enumerate([2, 2, 4, 2, 3, 2, 2]):
        if past == 5:
            cross.set(1, texts[1])
        x, segments = torch.randn(count, engine.config.hidden_size), [Segment(one, past) for one in blocks[:count]]
        wanted = engine.decoder.step(x, segments, other, cross, range(count))
        found = captured.step(x, segments, cache, cross, range(count))
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert recorder.replays == [3, 2, 2], "of two vectors, of four, of two with a long text"


@pytest.mark.gpu
def test_graphs_play_what_a_cpu_plays() -> None:
    """Sessions that join, through rollovers: replays of passes of two to sixteen vectors."""
    found = []
    for device in ("cpu", "cuda"):
        model = load_model(str(tiny_checkpoint("mono")), device=device, precision="fp32")
        values = {"temperature": 0.0, "context_seconds": 5.0}
        clips = model.generate(["piano", None, "rock", "techno"], 40.0, seed=1, **values)
        with model.open_stream("piano", seed=7, **values) as one, model.open_stream("rock", seed=8, **values) as two:
            one.read(64_000)
            blocks = [stream.read(32_000).samples for stream in (one, two, one)]
        found.append([clip.samples for clip in clips] + blocks)
    for cpu, gpu in zip(*found, strict=True):
        assert np.abs(cpu - gpu).max() < 1e-3
