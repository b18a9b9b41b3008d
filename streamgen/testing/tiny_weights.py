"""Seeded random weights that behave: logits that choose, audio one could hear.

Rules: fills a model's tensors in place, by name; knows no file and no format. A library's own initialisation is of no
use here: MusicGen's gives logits near zero, EnCodec's does not reach weight-normed convolutions, codebooks stay zero.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

__all__ = ["fill_codec", "fill_decoder", "fill_text_encoder", "fill_vector"]

CODEBOOK_STD = (1.0, 0.6, 0.4, 0.3)  # residual stages shrink, as trained ones do


def fill_decoder(decoder: nn.Module, generator: Generator) -> None:
    """Fill MusicGen's decoder: embeddings comparable to the positions' sines, logits of standard deviation 1.5."""
    for name, tensor in _in_order(decoder):
        if "norm" in name:
            _fill_norm(name, tensor, generator)
        elif "embed_tokens" in name:
            _normal(tensor, 0.7, generator)
        elif "embed_positions" not in name:
            gain = 1.5 if "lm_heads" in name or "q_proj" in name or "k_proj" in name else 1.0
            _normal(tensor, gain / math.sqrt(tensor.shape[-1]), generator)


def fill_text_encoder(encoder: nn.Module, head_width: int, generator: Generator) -> None:
    """Fill a T5 encoder; its attention is not scaled, so queries are drawn smaller by sqrt(head_width)."""
    for name, tensor in _in_order(encoder):
        if "norm" in name:
            _fill_norm(name, tensor, generator)
        elif "shared" in name or "embed_tokens" in name or "relative" in name:
            _normal(tensor, 1.0, generator)
        else:
            scale = math.sqrt(head_width) if ".q." in name else 1.0
            _normal(tensor, 1.0 / (scale * math.sqrt(tensor.shape[-1])), generator)


def fill_codec(codec: nn.Module, generator: Generator, output_std: float = 0.12) -> None:
    """Fill an EnCodec: each convolution keeps its input's variance; codebooks random; audio of about `output_std`."""
    for module_name, module in sorted(codec.named_modules()):
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            _fill_convolution(module, _gain(codec, module_name, output_std), generator)
        elif isinstance(module, nn.LSTM):
            for _, tensor in _in_order(module):
                _normal(tensor, 1.0 / math.sqrt(module.hidden_size), generator)
    for stage, layer in enumerate(codec.quantizer.layers):  # type: ignore[union-attr, arg-type]
        _normal(layer.codebook.embed, CODEBOOK_STD[min(stage, 3)], generator)
        layer.codebook.embed_avg.copy_(layer.codebook.embed)
        layer.codebook.cluster_size.fill_(1.0)


def fill_vector(linear: nn.Linear, generator: Generator) -> None:
    """Fill a projection, bias included, so that a forgotten or misplaced bias shows."""
    _normal(linear.weight.data, 1.0 / math.sqrt(linear.in_features), generator)
    _normal(linear.bias.data, 0.3, generator)


def _in_order(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters by name: the order of drawing must not depend on a library's version."""
    return sorted(((name, parameter.data) for name, parameter in module.named_parameters()), key=lambda pair: pair[0])


def _normal(tensor: Tensor, std: float, generator: Generator) -> None:
    tensor.copy_(torch.randn(tensor.shape, generator=generator) * std)


def _fill_norm(name: str, tensor: Tensor, generator: Generator) -> None:
    _normal(tensor, 0.1, generator)
    if name.endswith("weight"):
        tensor.add_(1.0)


def _gain(codec: nn.Module, name: str, output_std: float) -> float:
    """Outer convolutions change the level: audio is about 0.1 in, `output_std` out; inner ones make up for ELU."""
    last = f"decoder.layers.{len(codec.decoder.layers) - 1}.conv"  # type: ignore[union-attr, arg-type]
    if name == "encoder.layers.0.conv":
        return 8.0
    return output_std if name == last else 1.2


def _fill_convolution(conv: nn.Conv1d | nn.ConvTranspose1d, gain: float, generator: Generator) -> None:
    direction = torch.randn(conv.weight.shape, generator=generator)
    norms = direction.flatten(1).norm(dim=1).view(-1, 1, 1)
    if isinstance(conv, nn.ConvTranspose1d):  # every output sample sums kernel/stride taps of each input channel
        taps = conv.in_channels * conv.kernel_size[0] / conv.stride[0]
        gain *= math.sqrt(conv.out_channels * conv.kernel_size[0] / taps)
    if hasattr(conv, "parametrizations"):
        conv.parametrizations.weight.original0.data.copy_(torch.full_like(norms, gain))  # type: ignore[union-attr, operator]
        conv.parametrizations.weight.original1.data.copy_(direction)  # type: ignore[union-attr, operator]
    else:
        conv.weight.data.copy_(direction / norms * gain)
    if conv.bias is not None:
        _normal(conv.bias.data, 0.1 * gain if gain < 1 else 0.05, generator)
