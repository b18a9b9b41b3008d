"""Self-attention of one pass over the cache, in two forms that agree (tests compare them).

    SegmentAttention   one call per segment, on exact views of the cache: fastest on a CPU
    MaskedAttention    one fixed shape for all rows of the cache, under an execution mask: what `captured` needs

Rules: reads and writes the cache, holds no weights; knows no stream and no window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.lm.cache import KVCache, RowRange

__all__ = [
    "MaskedAttention",
    "Part",
    "Segment",
    "SegmentAttention",
    "attend_by_rows",
    "attend_in_parts",
    "cache_rows",
    "causal_mask",
    "merge",
    "new_mask",
]


@dataclass(frozen=True)
class Segment:
    """Consecutive rows of one pass that stand at the same position.

    Attributes:
        block: their rows in the cache.
        past: vectors that these rows have read before; the cache is written from there.
        length: vectors per row (1 for a step, more for a prefill).
        start_position: position of the rows' very first vector.
    """

    block: RowRange
    past: int
    length: int = 1
    start_position: int = 0

    @property
    def position(self) -> int:
        """Position of the first vector of this pass."""
        return self.start_position + self.past

    @property
    def vectors(self) -> int:
        """Vectors this segment contributes to the pass."""
        return self.block.rows * self.length


def merge(segments: Sequence[Segment]) -> list[Segment]:
    """Join neighbours in the cache that stand at the same position: fewer, larger attention calls."""
    merged: list[Segment] = []
    for segment in segments:
        last = merged[-1] if merged else None
        if last and last.block.stop == segment.block.start and _same_place(last, segment):
            merged[-1] = replace(last, block=RowRange(last.block.start, segment.block.stop))
        else:
            merged.append(segment)
    return merged


def _same_place(a: Segment, b: Segment) -> bool:
    return (a.past, a.length, a.start_position) == (b.past, b.length, b.start_position)


def cache_rows(segments: Sequence[Segment]) -> list[int]:
    """Return the rows of the cache that some segments run, in order."""
    return [row for s in segments for row in range(s.block.start, s.block.stop)]


class SegmentAttention:
    """Self-attention on exact views of the cache, one call per segment.

    Args:
        segments: of this pass, in the order of its vectors.
        cache: written in place after each segment's past.
    """

    def __init__(self, segments: Sequence[Segment], cache: KVCache) -> None:
        self._dtype = cache.keys.dtype
        self._parts = [_SegmentViews(segment, cache) for segment in segments]

    def __call__(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        """Write the keys and values of qkv [N, 3·D] and return what the queries attend to, [N, D]."""
        kept = qkv.to(self._dtype)  # all at once: in a small model a call costs more than its numbers
        return attend_in_parts(self._parts, layer, kept, config).to(qkv.dtype)


class Part(Protocol):
    """Self-attention of one segment's vectors.

    Attributes:
        vectors: how many of the pass's, in its order, are this segment's.
    """

    vectors: int

    def attend(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        """Write the keys and values of qkv [vectors, 3·D] and return what the queries attend to, [vectors, D]."""
        ...


def attend_in_parts(parts: Sequence[Part], layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
    """Return what a pass's queries attend to, [N, D], a segment after the other."""
    outs, offset = [], 0
    for part in parts:
        outs.append(part.attend(layer, qkv[offset : offset + part.vectors], config))
        offset += part.vectors
    return outs[0] if len(outs) == 1 else torch.cat(outs)


class _SegmentViews:
    """One segment's views of the cache, of all layers: cut once a pass, for cutting takes a small model's time."""

    def __init__(self, segment: Segment, cache: KVCache) -> None:
        rows, past, self._length = segment.block.slice(), segment.past, segment.length
        total, self._rows, self.vectors = past + segment.length, segment.block.rows, segment.vectors
        keys, values = cache.keys[:, rows, :, :total], cache.values[:, rows, :, :total]
        self._keys, self._values = keys.unbind(), values.unbind()
        self._new_keys, self._new_values = keys[..., past:, :].unbind(), values[..., past:, :].unbind()
        self._mask = causal_mask(segment.length, past, keys.device) if segment.length > 1 else None

    def attend(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        split = qkv.view(self._rows, self._length, 3, config.num_heads, config.head_dim)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
        self._new_keys[layer].copy_(k)
        self._new_values[layer].copy_(v)
        out = F.scaled_dot_product_attention(q, self._keys[layer], self._values[layer], attn_mask=self._mask)
        return out.transpose(1, 2).reshape(self.vectors, config.hidden_size)


def causal_mask(length: int, past: int, device: torch.device) -> Tensor:
    """Bool [length, past + length]: vector i sees everything up to itself."""
    return torch.ones(length, past + length, dtype=torch.bool, device=device).tril(past)


def new_mask(rows: int, positions: int, like: Tensor) -> Tensor:
    """Return what is added to the scores of single vectors, [rows, 1, 1, positions]: all but the first is masked.

    In the dtype of keys, and with rows that begin at multiples of 16 numbers: a GPU's kernels take it as it is, where a
    mask of bools is made into this anew in each layer.
    """
    mask = like.new_full((rows, 1, 1, -(-positions // 16) * 16), -torch.inf)[..., :positions]
    mask[..., 0] = 0
    return mask


def attend_by_rows(q: Tensor, rows: Tensor, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attend by single queries in one fixed shape: as many as there are rows, of which those that are given count.

    Args:
        q: [N, heads, head_dim].
        rows: int64 [N], whose they are.
        queries: [R, heads, 1, head_dim], written in place.
        keys: [R, heads, positions, head_dim].
        values: as keys.
        mask: as `new_mask` makes it.

    Returns:
        [N, heads, head_dim].
    """
    queries[rows, :, 0] = q
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)[rows, :, 0]


class MaskedAttention:
    """Self-attention over the first rows of the cache in one fixed shape: rows that do not run are masked out.

    A row that does not run attends to its first key alone and writes nothing; its result is not read. Nothing here asks
    the device for a number, so it can be captured. A vector may be there twice: both write the same.

    Args:
        rows: int64 [N], of the cache, that single vectors belong to.
        at: int64 [N], the place of each.
        keys, values: [layers, R, heads, positions, head_dim], every row's that may run; written in place.
    """

    def __init__(self, rows: Tensor, at: Tensor, keys: Tensor, values: Tensor) -> None:
        self._rows, self._at, self._keys, self._values = rows, at, keys, values
        _, count, heads, positions, head_dim = keys.shape
        places = torch.arange(positions, device=keys.device)
        self._mask = new_mask(count, positions, keys)  # a row that does not run has its first key, else NaN
        self._mask[rows, 0, 0] = keys.new_zeros(len(rows), positions).masked_fill_(places > at[:, None], -torch.inf)
        self._queries = torch.zeros(count, heads, 1, head_dim, dtype=keys.dtype, device=keys.device)

    def __call__(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        """Write the keys and values of qkv [N, 3·D] and return what the queries attend to, [N, D]."""
        kept = qkv.to(self._keys.dtype).view(len(qkv), 3, config.num_heads, config.head_dim)
        keys, values = self._keys[layer], self._values[layer]
        keys[self._rows, :, self._at], values[self._rows, :, self._at] = kept[:, 1], kept[:, 2]
        out = attend_by_rows(kept[:, 0], self._rows, self._queries, keys, values, self._mask)
        return out.reshape(len(qkv), config.hidden_size).to(qkv.dtype)
