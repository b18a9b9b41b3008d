"""Keys and values in float16, and attention of single vectors as sums of weighted rows, which torch reads fastest.

What a query attends to is a sum of rows, weighted by softmax; its scores are one as well, if keys lie transposed: the
rows are their dimensions, the weights are the query's numbers. `torch.embedding_bag` makes such sums for all heads and
rows at once, at the memory's speed and in half of float32's bytes; torch's own attention to one query takes twice the
time that reading takes (docs/measurements.md, "Keys and values on a CPU").

    keys    [layers, rows, heads, blocks, head_dim, _BLOCK]     query · block  ─► _BLOCK scores
    values  [layers, rows, heads, positions, head_dim]          softmax · rows ─► head_dim numbers

Each sum is made by itself: a row's result does not depend on the rows beside it. Prefills, of many vectors to a row,
multiply a widened copy.

Rules: as in `cache` and `attention`, whose twins these are (tests compare them). Numbers beyond 65,504 are infinite
here: `precision` tries whether a checkpoint has any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.lm.attention import Part, Segment, attend_in_parts, cache_rows, causal_mask
from streamgen.lm.cache import KVCache

__all__ = ["HalvesAttention", "HalvesCache", "halves_pay"]

_BLOCK = 128  # positions whose keys lie together: rows of 256 bytes, read in order


def halves_pay(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether this is the fastest here: torch has such sums in vectors for x86, and tiles are faster still."""
    vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return device.type == "cpu" and dtype == torch.bfloat16 and vectors and not torch.cpu._is_amx_tile_supported()


class HalvesCache(KVCache):
    """Keys and values of every layer in float16, laid out as above.

    Args:
        config: decoder shape.
        rows: rows to start with.
        max_rows: refuse to grow past it.
    """

    def __init__(self, config: DecoderConfig, rows: int, *, max_rows: int = 256) -> None:
        super().__init__(config, rows, dtype=torch.float16, device=torch.device("cpu"), max_rows=max_rows)

    def _empty(self, rows: int) -> tuple[Tensor, Tensor]:
        layers, heads, positions, head_dim = self._shape
        shapes = (heads, self._reach(positions), head_dim, _BLOCK), (heads, positions, head_dim)
        keys, values = (torch.zeros(layers, rows, *shape, dtype=self._dtype) for shape in shapes)
        return keys, values

    def _reach(self, length: int) -> int:
        return -(-length // _BLOCK)

    def _remember_as(self, mine: Tensor, theirs: Tensor, at: Tensor) -> None:
        block, place = at // _BLOCK, at % _BLOCK
        self.keys[:, mine, :, block, :, place] = self.keys[:, theirs, :, block, :, place]
        self.values[:, mine, :, at] = self.values[:, theirs, :, at]


class HalvesAttention:
    """Self-attention of one pass over a `HalvesCache`: one call for neighbours of single vectors and as many blocks.

    Args:
        segments: of this pass, in the order of its vectors.
        cache: written in place after each segment's past.
    """

    def __init__(self, segments: Sequence[Segment], cache: HalvesCache) -> None:
        self._parts: list[Part] = []
        for blocks, together in groupby(segments, lambda one: one.past // _BLOCK + 1 if one.length == 1 else 0):
            if blocks:
                self._parts.append(_Steps(list(together), blocks, cache))
            else:
                self._parts += [_Prefill(segment, cache) for segment in together]

    def __call__(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        """Write the keys and values of qkv [N, 3·D] and return what the queries attend to, [N, D]."""
        return attend_in_parts(self._parts, layer, qkv, config).to(qkv.dtype)


class _Steps:
    """Segments of single vectors: which rows are summed is the same in every layer, and worked out once a pass."""

    def __init__(self, segments: Sequence[Segment], blocks: int, cache: HalvesCache) -> None:
        (_, _, heads, each, head_dim, _), positions = cache.keys.shape, cache.values.shape[3]
        rows = torch.tensor(cache_rows(segments))
        self.vectors = len(rows)
        self._total: int | None = None  # where all have seen as many
        self._remember = _remembering(segments, rows, cache)
        self._keys, self._values = cache.keys.flatten(1, 4).unbind(), cache.values.flatten(1, 3).unbind()
        self._blocks = blocks
        places = (rows[:, None] * heads + torch.arange(heads)).view(-1, 1)
        self._key_rows = (places * (each * head_dim) + torch.arange(blocks * head_dim)).flatten()
        self._key_sums = torch.arange(0, len(places) * blocks * head_dim, head_dim)
        if all(one.past == segments[0].past for one in segments):
            self._total = total = segments[0].past + 1
            self._value_rows = (places * positions + torch.arange(total)).flatten()
            self._value_sums = torch.arange(0, len(places) * total, total)
            return
        totals = (_pasts(segments) + 1).repeat_interleave(heads)
        self._value_sums = totals.cumsum(0) - totals
        seen = torch.arange(blocks * _BLOCK) < totals[:, None]
        self._beyond, self._shares = ~seen, seen.flatten().nonzero()[:, 0]
        self._value_rows = (places * positions + torch.arange(blocks * _BLOCK))[seen]

    def attend(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        """Return what each vector attends to, float16 [n, D]."""
        q, k, v = qkv.to(torch.float16).view(self.vectors, 3, config.num_heads, config.head_dim).unbind(1)
        self._remember(layer, k, v)
        weights = (q * (1 / math.sqrt(config.head_dim))).view(-1, 1, config.head_dim)
        weights = weights.expand(-1, self._blocks, -1).reshape(-1)
        scores = _sums(self._keys[layer], self._key_rows, self._key_sums, weights)
        shares = self._shares_of(scores.view(self.vectors * config.num_heads, -1))
        attended = _sums(self._values[layer], self._value_rows, self._value_sums, shares)
        return attended.view(self.vectors, config.hidden_size)

    def _shares_of(self, scores: Tensor) -> Tensor:
        """Return the softmax over what each head of each row has seen, one after the other."""
        if self._total is not None:
            return scores[:, : self._total].softmax(-1, dtype=torch.float32).to(torch.float16).view(-1)
        shares = scores.masked_fill_(self._beyond, -torch.inf).softmax(-1, dtype=torch.float32).to(torch.float16)
        return shares.view(-1).index_select(0, self._shares)


def _pasts(segments: Sequence[Segment]) -> Tensor:
    return torch.tensor([one.past for one in segments for _ in range(one.block.rows)])


def _remembering(
    segments: Sequence[Segment], rows: Tensor, cache: HalvesCache
) -> Callable[[int, Tensor, Tensor], object]:
    """Return what writes a layer's keys and values [n, heads, head_dim]: into one place quicker than into several."""
    if len(segments) == 1:
        block, place = divmod(segments[0].past, _BLOCK)
        own = segments[0].block.slice()
        new_keys, new_values = cache.keys[:, own, :, block, :, place], cache.values[:, own, :, segments[0].past]
        return lambda layer, k, v: (new_keys[layer].copy_(k), new_values[layer].copy_(v))
    pasts = _pasts(segments)
    blocks, places = pasts // _BLOCK, pasts % _BLOCK

    def write(layer: int, k: Tensor, v: Tensor) -> None:
        cache.keys[layer][rows, :, blocks, :, places] = k
        cache.values[layer][rows, :, pasts] = v

    return write


def _sums(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Sum weighted rows of a table; each sum's rows are those from its start to the next one's."""
    return torch.embedding_bag(table, rows, starts, False, 0, False, weights)[0]


class _Prefill:
    """A segment of several vectors to a row."""

    def __init__(self, segment: Segment, cache: HalvesCache) -> None:
        rows, past, self.vectors = segment.block.slice(), segment.past, segment.vectors
        self._rows, self._length, self._total = segment.block.rows, segment.length, past + segment.length
        self._keys = cache.keys[:, rows, :, : cache._reach(self._total)]
        self._values = cache.values[:, rows, :, : self._total]
        self._at = torch.arange(past, self._total)
        self._mask = causal_mask(segment.length, past, cache.keys.device)

    def attend(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        """Return what each vector attends to, float32 [n, D]."""
        split = qkv.float().view(self._rows, self._length, 3, config.num_heads, config.head_dim)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, self._at // _BLOCK, :, self._at % _BLOCK] = k.permute(2, 0, 1, 3).to(keys.dtype)
        values[:, :, self._at] = v.to(values.dtype)
        scores = torch.matmul(q[:, :, None] / math.sqrt(config.head_dim), keys.float())  # a block at a time
        scores = scores.transpose(2, 3).flatten(3)[..., : self._total]
        shares = scores.masked_fill(~self._mask, -torch.inf).softmax(-1)
        out = torch.matmul(shares, values.float())
        return out.transpose(1, 2).reshape(self.vectors, config.hidden_size)
