"""EnCodec as a file has it: which layers follow each other, what each is called, and how large its tensors are.

    encoder   conv ─ (residual … conv, coarser) … ─ LSTM ─ conv          quantizer   a codebook after another
    decoder   conv ─ LSTM ─ (conv, finer ─ residual …) … ─ conv

Importing transformers' model of it takes longer than all else that pocket needs before it plays (docs/measurements.md,
"Starting"); `streamgen.codec` does the arithmetic.

Rules: names and numbers, no arithmetic; importing this imports no torch.
Source: arXiv:2210.13438, section 3; transformers, models/encodec/modeling_encodec.py, whose names these are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamgen.checkpoint.settings import EncodecSettings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STATISTICS", "Codec", "CodecLayer", "codec_shapes", "decoder_layers", "encoder_layers"]

# Written by training, unused by encode and decode: a file that was slimmed down may lack them.
STATISTICS = re.compile(r"quantizer\.layers\.\d+\.codebook\.(inited|cluster_size|embed_avg)")
WEIGHT = "parametrizations.weight.original"  # 0 is weight norm's length, 1 its direction
Shapes = dict[str, tuple[int, ...]]


class Codec:
    """An EnCodec's settings and weights.

    Args:
        config: its settings.
        tensors: float32, under the names of `codec_shapes`; kept, not copied.
        codebooks: how many are used; each refines those before it.
    """

    def __init__(self, config: EncodecSettings, tensors: Mapping[str, Tensor], codebooks: int) -> None:
        self.config, self.codebooks = config, codebooks
        unused = tuple(f"quantizer.layers.{number}." for number in range(codebooks, config.num_quantizers))
        self.tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors by name, as a module of transformers' does."""
        return dict(self.tensors)


@dataclass(frozen=True)
class CodecLayer:
    """One layer.

    Attributes:
        name: before its tensors' names.
        kind: "residual" is two convolutions beside a way past them, "finer" a transposed convolution.
        inputs, outputs: channels.
        kernel, stride, dilation: of its (first) convolution.
        elu: whether an ELU comes before it.
    """

    name: str
    kind: Literal["conv", "residual", "finer", "lstm"]
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    elu: bool = False


def decoder_layers(config: EncodecSettings) -> list[CodecLayer]:
    """Return the layers from a code's vector to samples, first to last."""
    width = config.num_filters << len(config.upsampling_ratios)
    layers = [
        CodecLayer("decoder.layers.0", "conv", config.hidden_size, width, config.kernel_size),
        CodecLayer("decoder.layers.1", "lstm", width, width),
    ]
    at = 3  # an ELU takes a number of its own
    for ratio in config.upsampling_ratios:
        layers.append(CodecLayer(f"decoder.layers.{at}", "finer", width, width // 2, 2 * ratio, ratio, elu=True))
        width //= 2
        layers += _residuals(config, "decoder", at + 1, width)
        at += 2 + config.num_residual_layers
    last = CodecLayer(
        f"decoder.layers.{at}", "conv", config.num_filters, config.audio_channels, config.last_kernel_size, elu=True
    )
    return [*layers, last]


def encoder_layers(config: EncodecSettings) -> list[CodecLayer]:
    """Return the layers from samples to a code's vector, first to last."""
    width, at = config.num_filters, 1
    layers = [CodecLayer("encoder.layers.0", "conv", config.audio_channels, width, config.kernel_size)]
    for ratio in reversed(config.upsampling_ratios):
        layers += _residuals(config, "encoder", at, width)
        at += config.num_residual_layers + 1
        layers.append(CodecLayer(f"encoder.layers.{at}", "conv", width, 2 * width, 2 * ratio, ratio, elu=True))
        width, at = 2 * width, at + 1
    layers.append(CodecLayer(f"encoder.layers.{at}", "lstm", width, width))
    last = CodecLayer(f"encoder.layers.{at + 2}", "conv", width, config.hidden_size, config.last_kernel_size, elu=True)
    return [*layers, last]


def _residuals(config: EncodecSettings, part: str, at: int, width: int) -> list[CodecLayer]:
    return [
        CodecLayer(
            f"{part}.layers.{at + number}", "residual", width, width, config.residual_kernel_size,
            dilation=config.dilation_growth_rate**number,
        )
        for number in range(config.num_residual_layers)
    ]  # fmt: skip


def codec_shapes(config: EncodecSettings) -> Shapes:
    """Return the name and shape of every tensor that an EnCodec has."""
    shapes: Shapes = {}
    for layer in (*encoder_layers(config), *decoder_layers(config)):
        shapes |= dict(_layer_shapes(layer, config))
    for number in range(config.num_quantizers):
        book = f"quantizer.layers.{number}.codebook"
        table = (config.codebook_size, config.codebook_dim or config.hidden_size)
        shapes |= {f"{book}.embed": table, f"{book}.embed_avg": table}
        shapes |= {f"{book}.inited": (1,), f"{book}.cluster_size": table[:1]}
    return shapes


def _layer_shapes(layer: CodecLayer, config: EncodecSettings) -> Iterator[tuple[str, tuple[int, ...]]]:
    name, into, out = layer.name, layer.inputs, layer.outputs
    if layer.kind == "lstm":
        for number in range(config.num_lstm_layers):
            for part in ("ih", "hh"):
                yield f"{name}.lstm.weight_{part}_l{number}", (4 * out, into)
                yield f"{name}.lstm.bias_{part}_l{number}", (4 * out,)
    elif layer.kind == "residual":
        inner = out // config.compress
        yield from _convolution(f"{name}.block.1", into, inner, layer.kernel)
        yield from _convolution(f"{name}.block.3", inner, out, 1)
        if config.use_conv_shortcut:
            yield from _convolution(f"{name}.shortcut", into, out, 1)
    else:
        yield from _convolution(name, into, out, layer.kernel, transposed=layer.kind == "finer")


def _convolution(
    name: str, into: int, out: int, kernel: int, *, transposed: bool = False
) -> Iterator[tuple[str, tuple[int, ...]]]:
    first, second = (into, out) if transposed else (out, into)
    yield f"{name}.conv.bias", (out,)
    yield f"{name}.conv.{WEIGHT}0", (first, 1, 1)
    yield f"{name}.conv.{WEIGHT}1", (first, second, kernel)
