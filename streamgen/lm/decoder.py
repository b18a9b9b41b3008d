"""MusicGen's decoder, lean: static KV, several sequences at their own positions in one pass over the weights.

    codes ─ sum of K embeddings ─ + position ─┐
       ┌──────────────────────────────────────┘
       └─ ( + self-attention(norm) ─ + cross-attention(norm) ─ + ffn(norm) ) × layers ─ norm ─ K heads

A pass takes rows of vectors laid end to end and a list of `Segment`s that say which rows of the cache they belong to
and at which position they stand. Everything but attention runs on all rows at once, so the weights are read once for
leader, successor, guidance and every other stream. Attention has two forms that agree (tests compare them):
`_attend_segments` works on exact views, fastest on a CPU; `_attend_masked` has one fixed shape for all rows with an
execution mask, which is what a captured graph needs.

Rules: weights and arithmetic only; state is an argument; knows no prompt text, no window plan, no sampling.
Source: MusicGen, arXiv:2306.05284; arithmetic as transformers' MusicgenDecoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.activations import ACT2FN

from streamgen.checkpoint.types import DecoderConfig
from streamgen.linear import Linear
from streamgen.lm.cache import Block, KVCache
from streamgen.lm.cross import CrossCache

__all__ = ["Decoder", "Segment", "sinusoids"]


@dataclass(frozen=True)
class Segment:
    """Consecutive rows of one pass that stand at the same position.

    Attributes:
        block: their rows in the cache.
        past: vectors that these rows have read before; the cache is written from there.
        length: vectors per row (1 for a step, more for a prefill).
        start_position: position of the rows' very first vector.
    """

    block: Block
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


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, self.weight.shape, self.weight, self.bias)


@dataclass(frozen=True)
class _Cross:
    norm: _Norm
    query: Linear
    out: Linear


@dataclass(frozen=True)
class _Layer:
    attention_norm: _Norm
    qkv: Linear
    out: Linear
    cross: _Cross | None
    ffn_norm: _Norm
    ffn_in: Linear
    ffn_out: Linear


def sinusoids(positions: int, width: int) -> Tensor:
    """Return the position vectors that are added at the input, float32 [positions, width].

    Source: transformers' MusicgenSinusoidalPositionalEmbedding.get_embedding.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.int64).float() * -(math.log(10000) / (half - 1)))
    angles = torch.arange(positions, dtype=torch.int64).float().unsqueeze(1) * rates.unsqueeze(0)
    table = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(table, (0, width % 2))


def merge(segments: Sequence[Segment]) -> list[Segment]:
    """Join neighbours in the cache that stand at the same position: fewer, larger attention calls."""
    merged: list[Segment] = []
    for segment in segments:
        last = merged[-1] if merged else None
        if last and last.block.stop == segment.block.start and _same_place(last, segment):
            merged[-1] = replace(last, block=Block(last.block.start, segment.block.stop))
        else:
            merged.append(segment)
    return merged


def _same_place(a: Segment, b: Segment) -> bool:
    return (a.past, a.length, a.start_position) == (b.past, b.length, b.start_position)


class Decoder:
    """The decoder's weights, laid out for one device and dtype.

    Args:
        config: shape.
        weights: tensors under transformers' names (see `Checkpoint.weights`).
        dtype: float32, bfloat16 or float16.
        int8: round the large matrices to 8 bits (see `linear`); the dtype is bfloat16 then, on a CPU.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: dict[str, Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        int8: bool = False,
    ) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        take = _Weights(weights, device, dtype, int8)
        vocab = config.vocab_size
        self._embed = torch.cat([take(f"model.decoder.embed_tokens.{k}.weight") for k in range(config.num_codebooks)])
        self._embed_offsets = torch.arange(config.num_codebooks, device=device) * (vocab + 1)
        self._positions = sinusoids(config.max_positions, config.hidden_size).to(device, dtype)
        self._layers = [_load_layer(take, i, config.cross_attention) for i in range(config.num_layers)]
        self._norm = take.norm("model.decoder.layer_norm")
        self._heads = take.linear(*(f"lm_heads.{k}" for k in range(config.num_codebooks)))
        self._activation = ACT2FN[config.activation]
        self.weight_bytes = self._heads.bytes + sum(_layer_bytes(layer) for layer in self._layers)

    def embed(self, columns: Tensor) -> Tensor:
        """Sum the K code embeddings of each column.

        Args:
            columns: int64 [..., K]; the padding code is vocab_size.

        Returns:
            [..., D] without positions.
        """
        return F.embedding(columns + self._embed_offsets, self._embed).sum(dim=-2)

    def forward(
        self, x: Tensor, segments: Sequence[Segment], cache: KVCache, cross: CrossCache, *, masked: bool = False
    ) -> Tensor:
        """Run all layers over the vectors of several segments and write their keys and values.

        Args:
            x: [N, D] input vectors without positions; segment after segment, row after row, time last.
            segments: who the vectors belong to; Σ vectors = N.
            cache: written in place after each segment's past.
            cross: text keys and values per cache row.
            masked: attend in one fixed shape under a mask (single-vector segments only).

        Returns:
            [N, D] after the final norm.
        """
        segments = merge(segments)
        x = x + self._gather_positions(segments)
        rows = _cache_rows(segments)
        attend = _MaskedAttention(segments, cache) if masked else _SegmentAttention(segments, cache)
        text = cross.select(rows, [s.length for s in segments for _ in range(s.block.rows)])
        for index, layer in enumerate(self._layers):
            x = x + layer.out(attend(index, layer.qkv(layer.attention_norm(x)), self.config))
            if layer.cross is not None and text is not None:
                x = text.add(index, x, layer.cross.norm, layer.cross.query, layer.cross.out)
            x = x + layer.ffn_out(self._activation(layer.ffn_in(layer.ffn_norm(x))))
        normed: Tensor = self._norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Project [N, D] to float32 [N, K, V]."""
        return self._heads(hidden).float().view(len(hidden), self.config.num_codebooks, self.config.vocab_size)

    def _gather_positions(self, segments: Sequence[Segment]) -> Tensor:
        parts = [
            self._positions[s.position : s.position + s.length]
            .expand(s.block.rows, s.length, -1)
            .reshape(s.vectors, -1)
            for s in segments
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _cache_rows(segments: Sequence[Segment]) -> list[int]:
    return [row for s in segments for row in range(s.block.start, s.block.stop)]


class _Weights:
    """Reads tensors by name, in the decoder's device and dtype."""

    def __init__(self, weights: dict[str, Tensor], device: torch.device, dtype: torch.dtype, int8: bool) -> None:
        self._weights, self._device, self._dtype, self._int8 = weights, device, dtype, int8

    def __call__(self, name: str) -> Tensor:
        return self._weights[name].to(self._device, self._dtype)

    def linear(self, *names: str) -> Linear:
        tensors = [self(f"{name}.weight") for name in names]
        return Linear(torch.cat(tensors) if len(tensors) > 1 else tensors[0], int8=self._int8)

    def norm(self, name: str) -> _Norm:
        return _Norm(self(f"{name}.weight"), self(f"{name}.bias"))


def _load_layer(take: _Weights, index: int, cross_attention: bool) -> _Layer:
    name = f"model.decoder.layers.{index}"
    cross = None
    if cross_attention:
        cross = _Cross(
            take.norm(f"{name}.encoder_attn_layer_norm"),
            take.linear(f"{name}.encoder_attn.q_proj"),
            take.linear(f"{name}.encoder_attn.out_proj"),
        )
    return _Layer(
        attention_norm=take.norm(f"{name}.self_attn_layer_norm"),
        qkv=take.linear(*(f"{name}.self_attn.{part}_proj" for part in "qkv")),
        out=take.linear(f"{name}.self_attn.out_proj"),
        cross=cross,
        ffn_norm=take.norm(f"{name}.final_layer_norm"),
        ffn_in=take.linear(f"{name}.fc1"),
        ffn_out=take.linear(f"{name}.fc2"),
    )


def _layer_bytes(layer: _Layer) -> int:
    linears = [layer.qkv, layer.out, layer.ffn_in, layer.ffn_out]
    if layer.cross is not None:
        linears += [layer.cross.query, layer.cross.out]
    return sum(linear.bytes for linear in linears)


class _SegmentAttention:
    """Self-attention on exact views of the cache, one call per segment."""

    def __init__(self, segments: Sequence[Segment], cache: KVCache) -> None:
        self._dtype = cache.keys.dtype
        self._parts = [_Part(segment, cache) for segment in segments]

    def __call__(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        kept = qkv.to(self._dtype)  # all at once: in a small model a call costs more than its numbers
        outs, offset = [], 0
        for part in self._parts:
            outs.append(part.attend(layer, kept[offset : offset + part.vectors], config))
            offset += part.vectors
        return (outs[0] if len(outs) == 1 else torch.cat(outs)).to(qkv.dtype)


class _Part:
    """One segment's views of the cache, of all layers: cut once a pass, for cutting takes a small model's time."""

    def __init__(self, segment: Segment, cache: KVCache) -> None:
        rows, past, self._length = segment.block.slice(), segment.past, segment.length
        total, self._rows, self.vectors = past + segment.length, segment.block.rows, segment.vectors
        keys, values = cache.keys[:, rows, :, :total], cache.values[:, rows, :, :total]
        self._keys, self._values = keys.unbind(), values.unbind()
        self._new_keys, self._new_values = keys[..., past:, :].unbind(), values[..., past:, :].unbind()
        self._mask = _causal_mask(segment.length, past, keys.device) if segment.length > 1 else None

    def attend(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        split = qkv.view(self._rows, self._length, 3, config.num_heads, config.head_dim)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
        self._new_keys[layer].copy_(k)
        self._new_values[layer].copy_(v)
        out = F.scaled_dot_product_attention(q, self._keys[layer], self._values[layer], attn_mask=self._mask)
        return out.transpose(1, 2).reshape(self.vectors, config.hidden_size)


def _causal_mask(length: int, past: int, device: torch.device) -> Tensor:
    """Bool [length, past + length]: vector i sees everything up to itself."""
    return torch.ones(length, past + length, dtype=torch.bool, device=device).tril(past)


class _MaskedAttention:
    """Self-attention over every row of the cache in one fixed shape: rows that do not run are masked out.

    A row that does not run attends to its first key alone and writes nothing; its result is not read.
    """

    def __init__(self, segments: Sequence[Segment], cache: KVCache) -> None:
        assert all(s.length == 1 for s in segments), "the masked form takes single steps"
        self._cache = cache
        device = cache.keys.device
        self._rows = torch.tensor(_cache_rows(segments), device=device)
        self._at = torch.tensor([s.past for s in segments for _ in range(s.block.rows)], device=device)
        places = torch.arange(cache.keys.shape[3], device=device)
        self._mask = torch.zeros(cache.rows, 1, 1, len(places), dtype=torch.bool, device=device)
        self._mask[..., 0] = True  # a row that does not run needs one key, else its softmax is NaN
        self._mask[self._rows, 0, 0] = places <= self._at[:, None]

    def __call__(self, layer: int, qkv: Tensor, config: DecoderConfig) -> Tensor:
        q, k, v = qkv.view(len(qkv), 3, config.num_heads, config.head_dim).unbind(1)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._rows, :, self._at] = k
        values[self._rows, :, self._at] = v
        queries = torch.zeros(len(keys), config.num_heads, 1, config.head_dim, dtype=q.dtype, device=q.device)
        queries[self._rows, :, 0] = q
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=self._mask)
        return out[self._rows, :, 0].reshape(len(qkv), config.hidden_size)
