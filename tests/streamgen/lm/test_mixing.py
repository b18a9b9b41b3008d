from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from streamgen.checkpoint import load_checkpoint
from streamgen.kernels import kernels
from streamgen.lm.attention import Segment
from streamgen.lm.cross import CrossCache
from streamgen.lm.mixing import KL_BUDGET, Lowering, choose_bits, exact_logits, lower_within, mean_kl
from streamgen.pocket import pocket_folder


def test_the_cheapest_bytes_are_saved_first_and_no_more_than_the_budget_allows() -> None:
    a, b, c = ("0.out", "1.out"), ("0.qkv",), ("0.ffn_in",)
    lowerings = [
        Lowering(a, 6, 0.001, 100), Lowering(a, 4, 0.004, 200),
        Lowering(b, 6, 0.002, 100), Lowering(b, 4, 0.090, 200),
        Lowering(c, 6, -0.0001, 10), Lowering(c, 4, 0.0020, 20),
    ]  # fmt: skip
    assert lower_within(0.0, lowerings) == {"0.ffn_in": 6}
    assert lower_within(0.001, lowerings) == {"0.out": 6, "1.out": 6, "0.ffn_in": 6}
    assert lower_within(0.0062, lowerings) == {"0.out": 4, "1.out": 4, "0.qkv": 6, "0.ffn_in": 6}
    assert lower_within(1.0, lowerings) == {"0.out": 4, "1.out": 4, "0.qkv": 4, "0.ffn_in": 4}


def test_kl_is_torchs() -> None:
    a, b = torch.randn(5, 4, 30), torch.randn(5, 4, 30)
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    wanted = torch.nn.functional.kl_div(q.flatten(0, 1), p.flatten(0, 1), reduction="batchmean", log_target=True)
    assert mean_kl(a, b) == pytest.approx(float(wanted), rel=1e-5)
    assert mean_kl(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", ["mono", "pocket"])
def test_exact_logits_are_the_float32_decoders(twin: Callable[[str], Any], kind: str) -> None:
    engine = twin(kind).torch_engine
    codes = torch.randint(0, engine.config.vocab_size, (1, 15, engine.config.num_codebooks))
    x, block = engine.decoder.embed(codes)[0], engine.cache.allocate(1)
    hidden = engine.decoder.forward(x, [Segment(block, 0, 15)], engine.cache, CrossCache())
    engine.cache.release(block)
    checkpoint = load_checkpoint(str(pocket_folder())) if kind == "pocket" else None
    if checkpoint is None:
        from streamgen.testing import tiny_checkpoint

        checkpoint = load_checkpoint(str(tiny_checkpoint("mono")))
    exact = exact_logits(engine.config, checkpoint.weights, x + engine.decoder.positions[:15])
    torch.testing.assert_close(exact, engine.decoder.logits(hidden), atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(kernels() is None, reason="no native kernels: built without a compiler, or not wanted")
def test_the_shipped_checkpoint_in_mixed_precision_stays_within_the_budget() -> None:
    library = kernels()
    assert library is not None
    bits, kl = choose_bits(load_checkpoint(str(pocket_folder())), library, 1)
    assert 0 < kl <= KL_BUDGET
    assert bits["heads"] == 8
    assert set(bits.values()) > {8}, "something is lowered"
