"""The kernels' arithmetic in torch, slow and obvious, in float64: what they are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from streamgen.checkpoint.types import DecoderConfig
from streamgen.kernels import PackedMatrix


def unpacked(matrix: PackedMatrix) -> Tensor:
    """Read every weight back from its tile, [outputs, inputs]."""
    if matrix.bits >= 16:
        tiles = matrix.tiles.view(torch.float32 if matrix.bits == 32 else torch.bfloat16).view(-1, matrix.inputs, 32)
        return tiles.transpose(1, 2).reshape(matrix.outputs, matrix.inputs).double()
    groups = matrix.tiles.view(matrix.outputs // 32, matrix.inputs // 32, -1)
    scales = groups[..., :64].contiguous().view(torch.bfloat16).double()  # [tiles, groups, 32 outputs]
    data = groups[..., 64:].reshape(*groups.shape[:2], -1, 32, 4).int()  # rows of 128 bytes: [32 outputs][4]
    if matrix.bits == 8:
        quads = data
    else:
        low = data[:, :, :4]
        quads = torch.stack([low & 15, low >> 4], dim=3).flatten(2, 3)
        if matrix.bits == 6:
            pairs = data[:, :, 4:]
            top = torch.stack([pairs >> shift & 3 for shift in (0, 2, 4, 6)], dim=3).flatten(2, 3)
            quads = quads | top << 4
    whole = (quads - 2 ** (matrix.bits - 1)).permute(0, 3, 1, 2, 4).flatten(3)  # [tiles, outputs, groups, 32 inputs]
    return (whole * scales.transpose(1, 2)[..., None]).reshape(matrix.outputs, matrix.inputs)


def rounded(rows: Tensor) -> Tensor:
    """Round rows to 127ths of the largest of each 32, [..., n]."""
    groups = rows.unflatten(-1, (-1, 32))
    scale = groups.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return ((groups / scale).round() * scale).flatten(-2)


def remembered(rows: Tensor) -> Tensor:
    """Round keys or values [..., width] to 127ths of a bfloat16 that is at least the largest."""
    exact = rows.float().abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    scale = exact.bfloat16()
    scale = torch.where(scale.float() < exact, (scale.view(torch.int16) + 1).view(torch.bfloat16), scale).double()
    return (rows / scale).round() * scale


def in_two_bytes(query: Tensor) -> Tensor:
    """Round queries [..., width] to 127ths of the largest, and what is left to 254ths of a 127th."""
    scale = query.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    coarse = (query / scale).round()
    return (coarse + ((query / scale - coarse) * 254).round() / 254) * scale


class DecoderTwin:
    """One sequence through the rounded decoder, all positions at once."""

    def __init__(
        self,
        config: DecoderConfig,
        weights: Mapping[str, Tensor],
        matrices: Mapping[str, PackedMatrix],
        order: list[int],
    ) -> None:
        self.config, self._weights = config, weights
        self._matrices = {name: unpacked(matrix) for name, matrix in matrices.items()}
        back = torch.tensor(order).argsort()
        for layer in range(config.num_layers):
            self._matrices[f"{layer}.qkv"] = self._matrices[f"{layer}.qkv"][back]

    def logits(self, x: Tensor, text: tuple[Tensor, Tensor] | None) -> Tensor:
        """Vectors [T, D], positions added, to logits [T, K · V]; text: keys and values [layers, heads, n, width]."""
        x = x.double()
        for layer in range(self.config.num_layers):
            x = x + self._attention(layer, x)
            if text is not None:
                x = x + self._cross(layer, x, text[0][layer].double(), text[1][layer].double())
            inner = F.gelu(self._product(f"{layer}.ffn_in", self._norm(f"layers.{layer}.final_layer_norm", x)))
            x = x + self._product(f"{layer}.ffn_out", inner)
        return self._product("heads", self._norm("layer_norm", x))

    def _product(self, name: str, rows: Tensor) -> Tensor:
        return rounded(rows) @ self._matrices[name].T

    def _norm(self, name: str, x: Tensor) -> Tensor:
        read: Callable[[str], Tensor] = lambda part: self._weights[f"model.decoder.{name}.{part}"].double()  # noqa: E731
        return F.layer_norm(x, x.shape[-1:], read("weight"), read("bias"))

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (self.config.num_heads, -1)).transpose(0, 1)

    def _attention(self, layer: int, x: Tensor) -> Tensor:
        projected = self._product(f"{layer}.qkv", self._norm(f"layers.{layer}.self_attn_layer_norm", x))
        q, k, v = (self._split(part) for part in projected.chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(in_two_bytes(q), remembered(k), remembered(v), is_causal=True)
        return self._product(f"{layer}.out", out.transpose(0, 1).flatten(1))

    def _cross(self, layer: int, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        rows = self._norm(f"layers.{layer}.encoder_attn_layer_norm", x)
        q = self._split(self._product(f"{layer}.cross_query", rows))
        out = F.scaled_dot_product_attention(q, keys, values)
        return self._product(f"{layer}.cross_out", out.transpose(0, 1).flatten(1))
