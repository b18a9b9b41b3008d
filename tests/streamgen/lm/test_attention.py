"""The two forms of self-attention agree; what a whole pass gives is tested in test_decoder.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from streamgen.lm.attention import Segment, cache_rows, merge
from streamgen.lm.cache import KVCache, RowRange
from streamgen.lm.cross import CrossCache

Twins = Callable[[str], Any]
TEXTS = ("piano", "drums and bass with slow techno beat")


@torch.no_grad()
def test_masked_and_segment_attention_agree_at_unlike_positions(twin: Twins) -> None:
    both = twin("mono")
    engine = both.torch_engine
    cache = KVCache(engine.config, 6, dtype=torch.float32, device=torch.device("cpu"))
    blocks = [cache.allocate(2), cache.allocate(1), cache.allocate(2)]
    cache.keys.normal_()
    cache.values.normal_()
    cross = CrossCache()
    for row, text in enumerate(TEXTS):
        cross.set(row, engine.projector.project(both.states(text)))
    segments = [Segment(blocks[0], 40), Segment(blocks[1], 3, start_position=700), Segment(blocks[2], 1502)]
    x = torch.randn(5, engine.config.hidden_size)
    memory = cache.keys.clone(), cache.values.clone()
    exact = engine.decoder.forward(x, segments, cache, cross)
    written = cache.keys.clone()
    cache.keys, cache.values = memory
    masked = engine.decoder.forward(x, segments, cache, cross, masked=True)
    assert torch.allclose(exact, masked, atol=1e-4)
    assert torch.allclose(written, cache.keys, atol=1e-4)


def test_neighbours_at_one_position_are_merged() -> None:
    a, b, c = Segment(RowRange(0, 2), 5), Segment(RowRange(2, 4), 5), Segment(RowRange(4, 6), 6)
    assert merge([a, b, c]) == [Segment(RowRange(0, 4), 5), c]
    assert merge([b, a]) == [b, a], "out of order is not a neighbour"


def test_the_rows_of_a_pass_are_those_of_its_segments_in_order() -> None:
    assert cache_rows([Segment(RowRange(4, 6), 5), Segment(RowRange(0, 1), 9)]) == [4, 5, 0]
