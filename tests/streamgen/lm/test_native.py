from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from streamgen import Model
from streamgen.checkpoint import Checkpoint, load_checkpoint
from streamgen.kernels import Kernels, PackedMatrix, head_order, kernels, usable
from streamgen.kernels.library import INSTRUCTION_SETS
from streamgen.lm.attention import Segment
from streamgen.lm.cross import CrossCache, TextKV
from streamgen.lm.engine import LmEngine
from streamgen.lm.evaluation import pass_seconds
from streamgen.lm.native import (
    NativeDecoder,
    PackedWeights,
    exact_weights,
    fits_native,
    matrix_names,
    pack_weights,
)
from streamgen.lm.token_stream import TokenStream
from streamgen.pocket import pocket_folder
from streamgen.stream.control_state import ControlState
from streamgen.stream.controls import new_controls
from streamgen.testing import tiny_checkpoint
from tests.streamgen.kernels.twin import DecoderTwin

pytestmark = pytest.mark.skipif(kernels() is None, reason="no native kernels: built without a compiler, or not wanted")
BITS = {"8": 8, "6": 6, "4": 4}
EXACT = 32
KINDS = BITS | {"exact": EXACT}


def library(name: str | None = None) -> Kernels:
    if name is not None and name not in usable():
        pytest.skip(f"this processor does not know {name}")
    loaded = kernels(name)
    assert loaded is not None
    return loaded


def checkpoint_of(kind: str) -> Checkpoint:
    """Of two layers: in more, a number that lies near a half and is rounded the other way moves many others.

    Of the first alone where the next ones' attention is as sharp as pocket's, whose copying heads multiply by hundreds.
    """
    checkpoint = load_checkpoint(str(pocket_folder() if kind == "pocket" else tiny_checkpoint(kind)))
    checkpoint.decoder = replace(checkpoint.decoder, num_layers=1 if kind == "pocket" else 2)
    return checkpoint


def engine(kind: str, bits: int = 8, threads: int = 2, instruction_set: str | None = None) -> LmEngine:
    checkpoint = checkpoint_of(kind)
    chosen, names = library(instruction_set), matrix_names(checkpoint.decoder)
    if bits == EXACT:
        packed = exact_weights(checkpoint.decoder, checkpoint.weights)
    else:
        packed = pack_weights(checkpoint.decoder, checkpoint.weights, dict.fromkeys(names, bits), chosen, threads)
    return LmEngine.native(checkpoint, packed, chosen, threads)


def text_of(engine: LmEngine, length: int) -> TextKV:
    return engine.projector.project(torch.randn(length, engine.config.hidden_size) / 4)


def run(engine: LmEngine, x: Tensor, texts: list[TextKV | None], pieces: list[int]) -> Tensor:
    """Run [rows, T, D] in pieces of so many positions; logits [rows, T, K, V]."""
    rows, cross = len(x), CrossCache()
    block = engine.cache.allocate(rows)
    for row, text in enumerate(texts):
        cross.set(block.start + row, text)
    past, logits = 0, []
    for length in pieces:
        piece = x[:, past : past + length].reshape(rows * length, -1)
        segment = Segment(block, past, length)
        out = engine.decoder.step(piece, [segment], engine.cache, cross, range(rows * length))
        logits.append(out.unflatten(0, (rows, length)))
        past += length
    engine.cache.release(block)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("kind", ["mono", *(pytest.param(k, marks=pytest.mark.slow) for k in ("stereo", "pocket"))])
@pytest.mark.parametrize("bits", BITS.values(), ids=BITS)
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_a_step_is_its_slow_twins(kind: str, bits: int, instruction_set: str) -> None:
    native = engine(kind, bits, instruction_set=instruction_set)
    decoder, config = native.decoder, native.config
    assert isinstance(decoder, NativeDecoder)
    x = decoder.embed(torch.randint(0, config.vocab_size, (1, 20, config.num_codebooks)))
    text = text_of(native, 5) if config.cross_attention else None
    ours = run(native, x, [text], [1] * 20)[0].flatten(1)
    checkpoint = checkpoint_of(kind)
    order = head_order(config.num_heads, config.head_dim)
    twin = DecoderTwin(config, checkpoint.weights, decoder.matrices, order)
    vectors = x[0] + decoder.positions[:20]
    wanted = twin.logits(vectors, None if text is None else (text.keys, text.values))[:, : ours.shape[1]]
    errors = (ours - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert errors.min() < 2e-5, "bit for bit, but for the last digits"
    assert errors.median() < 2e-3


@pytest.mark.parametrize("kind", ["mono", "stereo", "causal"])
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_an_exact_step_is_torchs_in_float32(kind: str, instruction_set: str) -> None:
    native = engine(kind, EXACT, instruction_set=instruction_set)
    exact = LmEngine.on_torch(checkpoint_of(kind), device=torch.device("cpu"), dtype=torch.float32)
    codes = torch.randint(0, native.config.vocab_size + 1, (3, 40, native.config.num_codebooks))
    texts = [text_of(native, 5), None, text_of(native, 2)] if native.config.cross_attention else [None] * 3
    x = native.decoder.embed(codes)
    assert torch.equal(x, exact.decoder.embed(codes))
    wanted = run(exact, x, texts, [1] * 40)
    for pieces in ([1] * 40, [40]):
        torch.testing.assert_close(run(native, x, texts, pieces), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bits", [8, EXACT])
def test_sharp_attention_takes_no_longer(bits: int) -> None:
    """Shares of what is far below the loudest are subnormal, which some processors add a hundred times slower."""
    plain, sharp = engine("mono", bits), checkpoint_of("mono")
    for name, weight in sharp.weights.items():
        if "self_attn.q_proj" in name:
            sharp.weights[name] = 3_000 * weight
    names = dict.fromkeys(matrix_names(sharp.decoder), bits)
    exact = bits == EXACT
    config, chosen = sharp.decoder, library()
    packed = exact_weights(config, sharp.weights) if exact else pack_weights(config, sharp.weights, names, chosen, 2)
    loud = LmEngine.native(sharp, packed, chosen, 2)
    took: dict[LmEngine, list[float]] = {plain: [], loud: []}
    for _ in range(8):  # in turns
        for one, times in took.items():
            times.append(pass_seconds(one, 2, config.max_positions - 1))
    assert min(took[loud]) < 3 * min(took[plain])


@torch.inference_mode()
def test_exact_weights_give_the_same_bits_in_whatever_they_are_kept() -> None:
    """Those of the tiny checkpoint are no halves: each half of them is rounded to one, which float32 holds as well."""
    checkpoint = checkpoint_of("mono")
    halves = {name: weight.to(torch.float16) for name, weight in checkpoint.weights.items()}
    wide = {name: half.float() for name, half in halves.items()}
    config, chosen = checkpoint.decoder, library()
    narrow, stored, full = (exact_weights(config, weights) for weights in (wide, halves, checkpoint.weights))
    assert {matrix.dtype for matrix in narrow.matrices.values()} == {torch.float16}
    assert narrow.kept_as == stored.kept_as == "weights kept as fp16 without loss"
    assert full.kept_as == ""
    assert full.bytes == 2 * narrow.bytes
    as_floats = {
        name: PackedMatrix(matrix.tiles.view(torch.float16).float().view(torch.uint8), matrix.outputs, matrix.inputs, 3)
        for name, matrix in narrow.matrices.items()
    }
    x, cross, logits = torch.randn(5, config.hidden_size), CrossCache(), []
    for packed in (narrow, stored, PackedWeights(as_floats, exact=True)):
        decoder = NativeDecoder(config, wide, packed, chosen, 2)
        cache = decoder.new_cache()
        logits.append(decoder.step(x, [Segment(cache.allocate(1), 0, 5)], cache, cross, range(5)))
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_an_odd_matrix_out_is_kept_wide_and_said() -> None:
    checkpoint = checkpoint_of("mono")
    weights = {name: 2.0**-20 * weight.bfloat16().float() for name, weight in checkpoint.weights.items()}
    weights["lm_heads.0.weight"] = checkpoint.weights["lm_heads.0.weight"]
    packed = exact_weights(checkpoint.decoder, weights)
    assert packed.matrices["heads"].dtype == torch.float32
    assert packed.kept_as == "weights kept as bf16 where that is without loss"


def test_what_layers_read_is_what_torchs_read() -> None:
    native, cross = engine("mono", EXACT, threads=3), CrossCache()
    exact = LmEngine.on_torch(checkpoint_of("mono"), device=torch.device("cpu"), dtype=torch.float32)
    x = torch.randn(7, native.config.hidden_size)
    seen = [
        one.decoder.hidden_states(x, [Segment(one.cache.allocate(1), 0, 7)], one.cache, cross)
        for one in (native, exact)
    ]
    assert seen[0].shape == (3, 7, native.config.hidden_size)
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bits", KINDS.values(), ids=KINDS)
def test_a_rows_logits_are_bit_for_bit_the_same_beside_others_in_pieces_and_on_any_threads(bits: int) -> None:
    one, three = engine("mono", bits, threads=1), engine("mono", bits, threads=3)
    x = torch.randn(11, 24, one.config.hidden_size)
    texts = [text_of(one, 3 + row) if row % 3 else None for row in range(11)]
    alone = torch.cat([run(one, x[row : row + 1], [texts[row]], [1] * 24) for row in range(11)])
    for native in (one, three):
        for rows in (2, 3, 8, 11):
            assert torch.equal(run(native, x[:rows], texts[:rows], [1] * 24), alone[:rows])
        assert torch.equal(run(native, x, texts, [24]), alone)
        assert torch.equal(run(native, x, texts, [5, 1, 11, 7]), alone)


def test_only_the_wanted_logits_are_made() -> None:
    native, cross = engine("mono"), CrossCache()
    block, x = native.cache.allocate(3), torch.randn(3, native.config.hidden_size)
    every = native.decoder.step(x, [Segment(block, 0)], native.cache, cross, (0, 1, 2))
    some = native.decoder.step(x, [Segment(block, 0)], native.cache, cross, (2, 0))
    assert torch.equal(some, every[[2, 0]])


@pytest.mark.parametrize("bits", [8, EXACT])
def test_a_copied_block_goes_on_as_the_one_it_was_copied_from(bits: int) -> None:
    native, cross = engine("mono", bits), CrossCache()
    x = torch.randn(2, 21, native.config.hidden_size)
    block = native.cache.allocate(2)
    native.decoder.read(x[:, :20].reshape(40, -1), [Segment(block, 0, 20)], native.cache, cross)
    copy = native.cache.copy_out(block, 20)
    wanted = native.decoder.step(x[:, 20], [Segment(block, 20)], native.cache, cross, (0, 1))
    native.cache.allocate(1)
    other = native.cache.allocate(2)
    native.cache.copy_in(other, copy, [1, 0])
    swapped = native.decoder.step(x[[1, 0], 20], [Segment(other, 20)], native.cache, cross, (0, 1))
    assert torch.equal(swapped, wanted[[1, 0]])


def test_memory_of_free_rows_at_the_end_is_given_back_and_the_others_play_on() -> None:
    native, cross = engine("mono"), CrossCache()
    cache, x = native.cache, torch.randn(6, native.config.hidden_size)
    begun, kept, gone = cache.rows, cache.allocate(6), cache.allocate(7)
    before = native.decoder.step(x, [Segment(kept, 0)], cache, cross, (0, 1))
    cache.release(gone)
    cache.give_back()
    assert cache.rows == kept.stop > begun
    again = cache.allocate(7)
    assert torch.equal(native.decoder.step(x, [Segment(kept, 0)], cache, cross, (0, 1)), before)
    cache.release(again)
    cache.release(kept)
    cache.give_back()
    assert cache.rows == begun


def test_what_shapes_the_kernels_run() -> None:
    config = load_checkpoint(str(tiny_checkpoint("mono"))).decoder
    assert fits_native(config)
    assert not fits_native(replace(config, hidden_size=80)), "no whole groups"
    assert not fits_native(replace(config, num_heads=8)), "heads of 8"
    assert not fits_native(replace(config, activation="silu"))


def opened(model: Model, **values: Any) -> TokenStream:
    runtime = model.runtime
    conditioner = runtime.prompts.conditioner()
    controls = new_controls(runtime, conditioner, {"context_seconds": 0.6, **values})
    return runtime.open_tokens(ControlState(runtime.layout, conditioner, controls).memory.settings)


def step(model: Model, *streams: TokenStream) -> None:
    drawn = model.runtime.engine.step([stream.begin_step(stream.settings) for stream in streams])
    for stream, codes in zip(streams, drawn, strict=True):
        stream.finish_step(codes)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int6", "int4"])
def test_tokens_are_those_of_a_stream_alone_whoever_joins_and_leaves(precision: str) -> None:
    """Bit for bit, through rollovers, with unlike rows, beside others that come and go as chance has it."""
    checkpoint = load_checkpoint(str(tiny_checkpoint("mono")))
    checkpoint.decoder = replace(checkpoint.decoder, max_positions=83)
    model = Model.from_checkpoint(checkpoint, device="cpu", precision=precision)
    wanted: list[dict[str, Any]] = [
        {"prompt": "piano", "seed": 1},
        {"prompt": "drums and bass", "seed": 2, "guidance_scale": 1.0},
        {"prompt": None, "seed": 3},
        {"prompts": [("rock", 0.5), ("jazz", 0.5)], "seed": 4, "temperature": 0.0},
    ]
    alone = []
    for values in wanted:
        stream = opened(model, **values)
        while stream.frames_done < 150:
            step(model, stream)
        assert stream.rollovers > 1
        alone.append(stream.frames(100, 150))
        stream.close()
    streams, chance = [opened(model, **values) for values in wanted], torch.Generator().manual_seed(5)
    while running := [one for one in streams if one.frames_done < 150]:
        together = [one for one in running if torch.rand((), generator=chance) < 0.6]
        step(model, *(together or running))
    for stream, codes in zip(streams, alone, strict=True):
        assert torch.equal(stream.frames(100, 150), codes)
        stream.close()


@pytest.mark.parametrize("bits", [4, EXACT])
def test_tokens_after_a_rollover_are_those_of_a_full_reread(bits: int) -> None:
    """Bit for bit: a prefill's vectors are rows like a step's."""
    checkpoint = load_checkpoint(str(tiny_checkpoint("mono")))
    native, cross = engine("mono", bits), CrossCache()
    x = torch.randn(1, 40, checkpoint.decoder.hidden_size)
    warmed, read = native.cache.allocate(1), native.cache.allocate(1)
    for at in range(40):
        native.decoder.read(x[:, at], [Segment(warmed, at, 1, 7)], native.cache, cross)
    native.decoder.read(x[0], [Segment(read, 0, 40, 7)], native.cache, cross)
    new = torch.randn(1, checkpoint.decoder.hidden_size)
    a, b = (native.decoder.step(new, [Segment(one, 40, 1, 7)], native.cache, cross, (0,)) for one in (warmed, read))
    assert torch.equal(a, b)
