from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from streamgen.lm.cross import CrossCache, TextKV

Twins = Callable[[str], Any]


def text(length: int) -> TextKV:
    return TextKV(torch.randn(2, 2, length, 4), torch.randn(2, 2, length, 4))


def test_projection_is_transformers_keys_and_values(twin: Twins) -> None:
    both = twin("mono")
    states = both.states("rock")
    kv = both.model.runtime.engine.projector.project(states)
    config = both.model.runtime.config
    for index, layer in enumerate(both.reference.decoder.model.decoder.layers):
        with torch.no_grad():
            keys = layer.encoder_attn.k_proj(states).view(-1, config.num_heads, config.head_dim).transpose(0, 1)
            values = layer.encoder_attn.v_proj(states).view(-1, config.num_heads, config.head_dim).transpose(0, 1)
        assert torch.allclose(kv.keys[index], keys, atol=1e-5)
        assert torch.allclose(kv.values[index], values, atol=1e-5)


def test_rows_without_text_are_left_out() -> None:
    cross = CrossCache()
    cross.set(1, text(3))
    cross.set(2, text(0))
    assert cross.select([0, 2], [1, 1]) is None
    chosen = cross.select([0, 1, 2], [1, 1, 1])
    assert chosen is not None
    assert chosen._index.tolist() == [1]
    cross.set(1, None)
    assert cross.select([0, 1, 2], [1, 1, 1]) is None


def test_a_changed_text_is_seen_at_once() -> None:
    cross = CrossCache()
    first, second = text(3), text(5)
    cross.set(0, first)
    before = cross.select([0], [1])
    cross.set(0, second)
    after = cross.select([0], [1])
    assert before is not None
    assert after is not None
    assert torch.equal(before._keys[:, 0], first.keys)
    assert torch.equal(after._keys[:, 0], second.keys)


def test_unlike_lengths_are_masked() -> None:
    cross = CrossCache()
    cross.set(0, text(3))
    cross.set(1, text(5))
    chosen = cross.select([0, 1], [1, 1])
    assert chosen is not None
    assert chosen._mask is not None
    assert chosen._mask[:, 0, 0].sum(-1).tolist() == [3, 5]
