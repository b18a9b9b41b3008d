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
from collections.abc import Sequence

import torch
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.lm.attention import Part, Segment, attend_in_parts, causal_mask
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


class HalvesAttention:
    """Self-attention of one pass over a `HalvesCache`, one call per segment.

    Args:
        segments: of this pass, in the order of its vectors.
        cache: written in place after each segment's past.
    """

    def __init__(self, segments: Sequence[Segment], cache: HalvesCache) -> None:
        self._parts: list[Part] = [
            (_Steps if segment.length == 1 else _Prefill)(segment, cache) for segment in segments
        ]

    def __call__(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        """Write the keys and values of qkv [N, 3·D] and return what the queries attend to, [N, D]."""
        return attend_in_parts(self._parts, layer, qkv, config).to(qkv.dtype)


class _Steps:
    """A segment of single vectors: which rows are summed is the same in every layer, and worked out once a pass."""

    def __init__(self, segment: Segment, cache: HalvesCache) -> None:
        rows, past, self.vectors = segment.block.slice(), segment.past, segment.vectors
        block, place = divmod(past, _BLOCK)
        keys, values = cache.keys[:, rows], cache.values[:, rows]
        self._total, self._blocks = past + 1, block + 1
        self._new_keys = keys[:, :, :, block, :, place].unbind()
        self._new_values = values[:, :, :, past].unbind()
        self._keys, self._values = keys.flatten(1, 4).unbind(), values.flatten(1, 3).unbind()
        heads, each, head_dim = self.vectors * values.shape[2], keys.shape[3], keys.shape[4]
        places = torch.arange(heads)[:, None]
        self._key_rows = (places * (each * head_dim) + torch.arange(self._blocks * head_dim)).flatten()
        self._key_sums = torch.arange(0, heads * self._blocks * head_dim, head_dim)
        self._value_rows = (places * values.shape[3] + torch.arange(self._total)).flatten()
        self._value_sums = torch.arange(0, heads * self._total, self._total)

    def attend(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        """Return what each vector attends to, float16 [n, D]."""
        q, k, v = qkv.to(torch.float16).view(self.vectors, 3, config.num_heads, config.head_dim).unbind(1)
        self._new_keys[layer].copy_(k)
        self._new_values[layer].copy_(v)
        weights = (q * (1 / math.sqrt(config.head_dim))).view(-1, 1, config.head_dim)
        weights = weights.expand(-1, self._blocks, -1).reshape(-1)
        scores = _sums(self._keys[layer], self._key_rows, self._key_sums, weights)
        scores = scores.view(self.vectors * config.num_heads, -1)[:, : self._total]
        shares = scores.softmax(-1, dtype=torch.float32).to(torch.float16)
        attended = _sums(self._values[layer], self._value_rows, self._value_sums, shares.view(-1))
        return attended.view(self.vectors, config.hidden_size)


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
