from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers.models.musicgen.modeling_musicgen import MusicgenSinusoidalPositionalEmbedding

from streamgen import Model, linear
from streamgen.checkpoint import load_checkpoint
from streamgen.lm.attention import Segment
from streamgen.lm.cache import KVCache
from streamgen.lm.captured import CapturedDecoder
from streamgen.lm.cross import CrossCache
from streamgen.lm.decoder import sinusoids
from streamgen.lm.engine import LmEngine
from streamgen.testing import tiny_checkpoint

Twins = Callable[[str], object]
TEXTS = ("piano", "drums and bass with slow techno beat", "rock")


def own_memory(engine: LmEngine, rows: int) -> KVCache:
    return KVCache(engine.config, rows, dtype=torch.float32, device=torch.device("cpu"))


def columns(engine: LmEngine, rows: int, length: int) -> Tensor:
    return torch.randint(0, engine.config.vocab_size + 1, (rows, length, engine.config.num_codebooks))


@torch.no_grad()
def reference_logits(twin, codes: Tensor, texts: list[Tensor]) -> Tensor:
    """Transformers' decoder over whole sequences: [rows, length, K, V]."""
    longest = max(len(text) for text in texts)
    states = torch.stack([torch.cat([t, t.new_zeros(longest - len(t), t.shape[1])]) for t in texts])
    mask = torch.stack([(torch.arange(longest) < len(t)).long() for t in texts])
    rows, length, k = codes.shape
    out = twin.reference.decoder(
        input_ids=codes.transpose(1, 2).reshape(rows * k, length),
        encoder_hidden_states=states,
        encoder_attention_mask=mask,
    )
    return out.logits.view(rows, k, length, -1).transpose(1, 2)


def attach(engine: LmEngine, block, texts: list[Tensor]) -> CrossCache:
    cross = CrossCache()
    for row, text in enumerate(texts):
        cross.set(block.start + row, engine.projector.project(text))
    return cross


def test_positions_are_transformers() -> None:
    for width in (64, 65):
        theirs = MusicgenSinusoidalPositionalEmbedding.get_embedding(1503, width)
        assert torch.equal(sinusoids(1503, width), theirs)


@pytest.mark.parametrize("kind", ["mono", "stereo"])
@pytest.mark.parametrize("captured", [False, True])
@torch.no_grad()
def test_single_steps_give_transformers_logits(twin: Twins, kind: str, captured: bool) -> None:
    both = twin(kind)
    engine = both.torch_engine
    texts = [both.states(text) for text in TEXTS]
    codes = columns(engine, 3, 12)
    expected = reference_logits(both, codes, texts)
    cache = own_memory(engine, 5)
    cache.allocate(1)
    block = cache.allocate(3)
    cross = attach(engine, block, texts)
    decoder = CapturedDecoder(engine.decoder) if captured else engine.decoder
    for position in range(12):
        x = decoder.embed(codes[:, position])
        logits = decoder.step(x, [Segment(block, position)], cache, cross, range(3))
        assert torch.allclose(logits, expected[:, position], atol=2e-4)


@torch.no_grad()
def test_a_prefill_in_pieces_equals_transformers(twin: Twins) -> None:
    both = twin("mono")
    engine = both.torch_engine
    texts = [both.states(text) for text in TEXTS]
    codes = columns(engine, 3, 30)
    expected = reference_logits(both, codes, texts)
    cache = own_memory(engine, 3)
    block = cache.allocate(3)
    cross = attach(engine, block, texts)
    position = 0
    for length in (1, 7, 22):
        piece = engine.decoder.embed(codes[:, position : position + length]).reshape(3 * length, -1)
        hidden = engine.decoder.forward(piece, [Segment(block, position, length)], cache, cross)
        ours = engine.decoder.logits(hidden).view(3, length, engine.config.num_codebooks, -1)
        assert torch.allclose(ours, expected[:, position : position + length], atol=2e-4)
        position += length


@torch.no_grad()
def test_a_row_without_text_equals_transformers_null_row(twin: Twins) -> None:
    both = twin("mono")
    engine = both.torch_engine
    text = both.states(TEXTS[0])
    codes = columns(engine, 1, 5).expand(2, -1, -1)
    null = torch.zeros(0, text.shape[1])
    expected = reference_logits(both, codes, [text, null])
    cache = own_memory(engine, 2)
    block = cache.allocate(2)
    cross = attach(engine, block, [text, null])
    for position in range(5):
        hidden = engine.decoder.forward(
            engine.decoder.embed(codes[:, position]), [Segment(block, position)], cache, cross
        )
        assert torch.allclose(engine.decoder.logits(hidden), expected[:, position], atol=2e-4)


@torch.no_grad()
def test_rows_do_not_touch_each_other(twin: Twins) -> None:
    """Changing one row's input and past leaves the others' results alone, to the last bit."""
    engine = twin("mono").torch_engine
    cache = own_memory(engine, 4)
    blocks = [cache.allocate(2), cache.allocate(2)]
    cache.keys.normal_()
    segments = [Segment(blocks[0], 9), Segment(blocks[1], 20)]
    x = torch.randn(4, engine.config.hidden_size)
    first = engine.decoder.forward(x, segments, cache, CrossCache())
    x[2:] += 1
    cache.keys[:, 2:] += 1
    second = engine.decoder.forward(x, segments, cache, CrossCache())
    assert torch.equal(first[:2], second[:2])
    assert not torch.allclose(first[2:], second[2:])


@torch.no_grad()
def test_the_future_changes_nothing(twin: Twins) -> None:
    engine = twin("mono").torch_engine
    cache = own_memory(engine, 1)
    block = cache.allocate(1)
    x = torch.randn(10, engine.config.hidden_size)
    first = engine.decoder.forward(x, [Segment(block, 0, 10)], cache, CrossCache())
    x[6:] = torch.randn(4, engine.config.hidden_size)
    second = engine.decoder.forward(x, [Segment(block, 0, 10)], cache, CrossCache())
    assert torch.allclose(first[:6], second[:6], atol=1e-6)
    assert not torch.allclose(first[6:], second[6:], atol=1e-2)


@pytest.mark.parametrize(("precision", "error"), [("bf16", 0.05), ("int8", 0.15)])
@torch.no_grad()
def test_fewer_bits_stay_near_float32(
    twin: Twins, monkeypatch: pytest.MonkeyPatch, precision: str, error: float
) -> None:
    both = twin("mono")
    monkeypatch.setenv("STREAMGEN_KERNELS", "torch")
    monkeypatch.setattr(linear, "_PACK_NUMEL", 1)  # as if this small one's matrices were large
    model = Model.from_checkpoint(load_checkpoint(str(tiny_checkpoint("mono"))), device="cpu", precision=precision)
    logits = []
    for engine in (both.torch_engine, model.runtime.engine):
        block = engine.cache.allocate(1)
        codes = torch.arange(4).view(1, 4)
        hidden = engine.decoder.forward(engine.decoder.embed(codes), [Segment(block, 0)], engine.cache, CrossCache())
        engine.cache.release(block)
        logits.append(engine.decoder.logits(hidden))
    assert 0 < (logits[0] - logits[1]).abs().max() < error * logits[0].std()
