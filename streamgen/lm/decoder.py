"""MusicGen's decoder, lean: static KV, several sequences at their own positions in one pass over the weights.

    codes ─ sum of K embeddings ─ + position ─┐
       ┌──────────────────────────────────────┘
       └─ ( + self-attention(norm) ─ + cross-attention(norm) ─ + ffn(norm) ) × layers ─ norm ─ K heads

A pass takes rows of vectors laid end to end and a list of `Segment`s that say which rows of the cache they belong to
and at which position they stand. Everything but attention (`attention.py`) runs on all rows at once, so the weights are
read once for leader, successor, guidance and every other stream.

Rules: weights and arithmetic only; state is an argument; knows no prompt text, no window plan, no sampling.
Source: MusicGen, arXiv:2306.05284; arithmetic as transformers' MusicgenDecoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.checkpoint.validate import finite
from streamgen.linear import Linear, activation
from streamgen.lm.attention import Segment, SegmentAttention, cache_rows, merge
from streamgen.lm.cache import KVCache
from streamgen.lm.cross import CrossCache
from streamgen.lm.halves import HalvesAttention, HalvesCache

__all__ = ["AddText", "Attend", "Decoder", "sinusoids"]

Attend = Callable[[int, Tensor, DecoderConfig], Tensor]  # of a layer, qkv [N, 3·D] to [N, D]; writes keys and values


class AddText(Protocol):
    """The texts of a pass."""

    def add(self, layer: int, x: Tensor, norm: Callable[[Tensor], Tensor], query: Linear, out: Linear) -> Tensor:
        """Return x [N, D] with the cross-attention of the rows that have text added."""
        ...


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
class _DecoderLayer:
    attention_norm: _Norm
    qkv: Linear
    out: Linear
    cross: _Cross | None
    ffn_norm: _Norm
    ffn_in: Linear
    activation: Callable[[Tensor], Tensor]
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


class Decoder:
    """The decoder's weights, laid out for one device and dtype.

    Args:
        config: shape.
        weights: tensors under transformers' names (see `Checkpoint.weights`).
        dtype: float32, bfloat16 or float16.
        int8: round the large matrices to 8 bits (see `linear`); the dtype is bfloat16 then, on a CPU.

    Attributes:
        positions: [positions, D], added to what `embed` gives.
        weight_bytes: bytes of weights that one step reads.
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
        self.positions = sinusoids(config.positions, config.hidden_size).to(device, dtype)
        self._layers = [_load_layer(take, i, config) for i in range(config.num_layers)]
        self._norm = take.norm("model.decoder.layer_norm")
        self._heads = take.linear(*(f"lm_heads.{k}" for k in range(config.num_codebooks)))
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
        self,
        x: Tensor,
        segments: Sequence[Segment],
        cache: KVCache,
        cross: CrossCache,
        *,
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        """Run all layers over the vectors of several segments and write their keys and values.

        Args:
            x: [N, D] input vectors without positions; segment after segment, row after row, time last.
            segments: who the vectors belong to; Σ vectors = N.
            cache: written in place after each segment's past.
            cross: text keys and values per cache row.
            seen: is given what each layer reads, [N, D], and what comes of the final norm.

        Returns:
            [N, D] after the final norm.
        """
        segments = merge(segments)
        x = x + self._gather_positions(segments)
        rows = cache_rows(segments)
        attend = (
            HalvesAttention(segments, cache) if isinstance(cache, HalvesCache) else SegmentAttention(segments, cache)
        )
        text = cross.select(rows, [s.length for s in segments for _ in range(s.block.rows)])
        return self.run(x, attend, text, seen)

    def run(self, x: Tensor, attend: Attend, text: AddText | None, seen: list[Tensor] | None = None) -> Tensor:
        """Run all layers over vectors that know their positions.

        Args:
            x: [N, D].
            attend: to the past of each, which it writes.
            text: to be attended to; None for none.
            seen: as in `forward`.

        Returns:
            [N, D] after the final norm.
        """
        for index, layer in enumerate(self._layers):
            if seen is not None:
                seen.append(x)
            x = x + layer.out(attend(index, layer.qkv(layer.attention_norm(x)), self.config))
            if layer.cross is not None and text is not None:
                x = text.add(index, x, layer.cross.norm, layer.cross.query, layer.cross.out)
            x = x + layer.ffn_out(layer.activation(layer.ffn_in(layer.ffn_norm(x))))
        normed: Tensor = self._norm(x)
        if seen is not None:
            seen.append(normed)
        return normed

    def step(
        self, x: Tensor, segments: Sequence[Segment], cache: KVCache, cross: CrossCache, wanted: Sequence[int]
    ) -> Tensor:
        """Run single vectors through all layers and return the logits of some.

        Args:
            x: [N, D] as in `forward`.
            segments: the same.
            cache: the same.
            cross: the same.
            wanted: vectors whose logits are wanted.

        Returns:
            float32 [len(wanted), K, V].
        """
        hidden = self.forward(x, segments, cache, cross)
        return self.logits(hidden if len(wanted) == len(hidden) else hidden[torch.tensor(wanted)])

    def read(self, x: Tensor, segments: Sequence[Segment], cache: KVCache, cross: CrossCache) -> None:
        """Run vectors through all layers for their keys and values alone. Arguments as in `forward`."""
        self.forward(x, segments, cache, cross)

    def evaluate(self, x: Tensor, segments: Sequence[Segment], cache: KVCache, cross: CrossCache) -> Tensor:
        """Run vectors through all layers and return all their logits, float32 [N, K, V]. Arguments as in `forward`."""
        return self.logits(self.forward(x, segments, cache, cross))

    def hidden_states(self, x: Tensor, segments: Sequence[Segment], cache: KVCache, cross: CrossCache) -> Tensor:
        """Return what each layer reads and what comes of the last norm, [layers + 1, N, D]. As in `forward`."""
        seen: list[Tensor] = []
        self.forward(x, segments, cache, cross, seen=seen)
        return torch.stack(seen)

    def logits(self, hidden: Tensor) -> Tensor:
        """Project [N, D] to float32 [N, K, V]."""
        return self._heads(hidden).float().view(len(hidden), self.config.num_codebooks, self.config.vocab_size)

    def _gather_positions(self, segments: Sequence[Segment]) -> Tensor:
        parts = [
            self.positions[s.position : s.position + s.length].expand(s.block.rows, s.length, -1).reshape(s.vectors, -1)
            for s in segments
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Weights:
    """Reads tensors by name, in the decoder's device and dtype."""

    def __init__(self, weights: dict[str, Tensor], device: torch.device, dtype: torch.dtype, int8: bool) -> None:
        self._weights, self._device, self._dtype, self._int8 = weights, device, dtype, int8

    def __call__(self, name: str) -> Tensor:
        return finite(name, self._weights[name]).to(self._device, self._dtype)

    def linear(self, *names: str) -> Linear:
        tensors = [self(f"{name}.weight") for name in names]
        return Linear(torch.cat(tensors) if len(tensors) > 1 else tensors[0], int8=self._int8)

    def norm(self, name: str) -> _Norm:
        return _Norm(self(f"{name}.weight"), self(f"{name}.bias"))


def _load_layer(take: _Weights, index: int, config: DecoderConfig) -> _DecoderLayer:
    name = f"model.decoder.layers.{index}"
    cross = None
    if config.cross_attention:
        cross = _Cross(
            take.norm(f"{name}.encoder_attn_layer_norm"),
            take.linear(f"{name}.encoder_attn.q_proj"),
            take.linear(f"{name}.encoder_attn.out_proj"),
        )
    return _DecoderLayer(
        attention_norm=take.norm(f"{name}.self_attn_layer_norm"),
        qkv=take.linear(*(f"{name}.self_attn.{part}_proj" for part in "qkv")),
        out=take.linear(f"{name}.self_attn.out_proj"),
        cross=cross,
        ffn_norm=take.norm(f"{name}.final_layer_norm"),
        ffn_in=take.linear(f"{name}.fc1"),
        activation=_activation(take, name, config.activation),
        ffn_out=take.linear(f"{name}.fc2"),
    )


def _activation(take: _Weights, layer: str, name: str) -> Callable[[Tensor], Tensor]:
    """Return transformers' function of that name; PReLU is the one with a weight of its own, in every layer."""
    if name == "prelu":
        return partial(F.prelu, weight=take(f"{layer}.activation_fn.weight"))
    return activation(name)


def _layer_bytes(layer: _DecoderLayer) -> int:
    linears = [layer.qkv, layer.out, layer.ffn_in, layer.ffn_out]
    if layer.cross is not None:
        linears += [layer.cross.query, layer.cross.out]
    return sum(linear.bytes for linear in linears)
