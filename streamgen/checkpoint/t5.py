"""T5's encoder, which turns the tokens of a text into its states: transformers' arithmetic, without its classes.

    tokens ─ embedded ─┬─ norm ─ attention ─┬─ norm ─ feed forward ─┬─ …, layer by layer ─ norm ─ states
                       └────────────────────┴───────────────────────┘

Importing transformers' model takes longer than all else that pocket needs before it plays (docs/measurements.md,
"Starting"). One text at a time is read, so that there is no padding to mask.

Rules: holds weights and settings, remembers nothing. Any thread.
Source: arXiv:1910.10683; transformers, models/t5/modeling_t5.py, whose order of operations it keeps, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.settings import T5Settings
from streamgen.linear import activation

__all__ = ["T5Encoder", "t5_shapes"]


def t5_shapes(settings: T5Settings) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that an encoder has."""
    width, inner = settings.d_model, settings.num_heads * settings.d_kv
    table = (settings.vocab_size, width)
    shapes: dict[str, tuple[int, ...]] = {"shared.weight": table, "encoder.embed_tokens.weight": table}
    for number in range(settings.num_layers):
        block = f"encoder.block.{number}.layer"
        shapes |= {f"{block}.0.SelfAttention.{part}.weight": (inner, width) for part in "qkv"}
        shapes[f"{block}.0.SelfAttention.o.weight"] = (width, inner)
        if number == 0:
            buckets = (settings.relative_attention_num_buckets, settings.num_heads)
            shapes[f"{block}.0.SelfAttention.relative_attention_bias.weight"] = buckets
        for part in ("wi_0", "wi_1") if settings.is_gated else ("wi",):
            shapes[f"{block}.1.DenseReluDense.{part}.weight"] = (settings.d_ff, width)
        shapes[f"{block}.1.DenseReluDense.wo.weight"] = (width, settings.d_ff)
        shapes |= {f"{block}.{part}.layer_norm.weight": (width,) for part in (0, 1)}
    return shapes | {"encoder.final_layer_norm.weight": (width,)}


class T5Encoder:
    """An encoder.

    Args:
        config: its settings.
        tensors: float32, under the names of `t5_shapes`; kept, not copied.
    """

    def __init__(self, config: T5Settings, tensors: Mapping[str, Tensor]) -> None:
        self.config, self.tensors = config, dict(tensors)
        self._activation = activation(config.activation)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.tensors["shared.weight"].device

    def to(self, device: torch.device) -> T5Encoder:
        """Return it on a device; itself if it is there."""
        if device == self.device:
            return self
        return T5Encoder(self.config, {name: tensor.to(device) for name, tensor in self.tensors.items()})

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """Return the states [B, T, d_model] of tokens, int64 [B, T], all of them to be read."""
        x = F.embedding(ids, self.tensors["encoder.embed_tokens.weight"])
        bias = self._position_bias(ids.shape[1])
        for number in range(self.config.num_layers):
            block = f"encoder.block.{number}.layer"
            x = x + self._attention(f"{block}.0.SelfAttention", self._norm(f"{block}.0.layer_norm", x), bias)
            x = x + self._feed_forward(f"{block}.1.DenseReluDense", self._norm(f"{block}.1.layer_norm", x))
        return self._norm("encoder.final_layer_norm", x)

    def _times(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        """Scale by the root of the mean square; no shift."""
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config.layer_norm_epsilon)
        return self.tensors[f"{name}.weight"] * (x * scale)

    def _attention(self, name: str, x: Tensor, bias: Tensor) -> Tensor:
        """Attend to all tokens; T5 does not divide by the root of the width."""
        query, key, value = (
            self._times(f"{name}.{part}", x).unflatten(-1, (-1, self.config.d_kv)).transpose(1, 2) for part in "qkv"
        )
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        return self._times(f"{name}.o", heard.transpose(1, 2).flatten(2))

    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        if self.config.is_gated:
            return self._times(
                f"{name}.wo", self._activation(self._times(f"{name}.wi_0", x)) * self._times(f"{name}.wi_1", x)
            )
        return self._times(f"{name}.wo", self._activation(self._times(f"{name}.wi", x)))

    def _position_bias(self, length: int) -> Tensor:
        """What attention adds for distances, [1, heads, T, T]: the first layer's, for all of them."""
        table = self.tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        places = torch.arange(length, device=table.device)
        return F.embedding(self._buckets(places[None, :] - places[:, None]), table).permute(2, 0, 1)[None]

    def _buckets(self, distance: Tensor) -> Tensor:
        """Number distances: half for each direction, near ones each its own, far ones by their logarithm."""
        half = self.config.relative_attention_num_buckets // 2
        exact, size = half // 2, distance.abs()
        far = torch.log(size.float() / exact) / math.log(self.config.relative_attention_max_distance / exact)
        far = (exact + (far * (half - exact)).to(torch.int64)).clamp_max(half - 1)
        return (distance > 0).to(torch.int64) * half + torch.where(size < exact, size, far)
