"""The codec's encoder in the layout that a CPU is fast in, channels last.

Rules: takes its weights from transformers' encoder and writes them back, weight norm folded; it says the same.

A downsampling convolution of stride r and 2·r taps hears a block of r samples and the one before it: of blocks laid
side by side it is one matrix.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncodecModel
from transformers.models.encodec.modeling_encodec import EncodecConv1d, EncodecLSTM, EncodecResnetBlock

from streamgen.pocket.training.corpus import Pcm
from streamgen.pocket.training.lean_decoder import Convolution, Recurrent, Residual, Weights, write_layers
from streamgen.pocket.training.synth import HOP_SAMPLES
from streamgen.pocket.training.widening import narrowed


class Downsample(nn.Module):
    """A causal convolution of stride r and 2·r taps on [B, T, in], T a multiple of r."""

    def __init__(self, module: EncodecConv1d) -> None:
        """Copy the weights of transformers' layer."""
        super().__init__()
        self.own, self.stride = Weights(module.conv), int(module.conv.stride[0])

    def forward(self, x: Tensor) -> Tensor:
        """[B, T / r, out]."""
        blocks = x.reshape(x.shape[0], -1, self.stride * x.shape[2])
        both = torch.cat([F.pad(blocks, (0, 0, 1, 0))[:, :-1], blocks], dim=2)
        return F.linear(both, self.own.weight.transpose(1, 2).flatten(1), self.own.bias)

    def write(self, module: Any) -> None:
        """Put the weights into transformers' layer."""
        self.own.write(module.conv)


class FirstConvolution(nn.Module):
    """The convolution that hears samples, [B, T, 1]."""

    def __init__(self, module: EncodecConv1d) -> None:
        """Copy the weights of transformers' layer."""
        super().__init__()
        self.own = Weights(module.conv)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, out]."""
        taps = self.own.weight.shape[2]
        return F.linear(F.pad(x[..., 0], (taps - 1, 0)).unfold(1, taps, 1), self.own.weight[:, 0], self.own.bias)

    def write(self, module: Any) -> None:
        """Put the weights into transformers' layer."""
        self.own.write(module.conv)


class LeanEncoder(nn.Module):
    """A causal EnCodec encoder of mono sound, for training."""

    def __init__(self, encoder: nn.Module) -> None:
        """Copy the weights of transformers' encoder."""
        super().__init__()
        layers: Any = encoder.layers
        self.layers = nn.ModuleList([_lean(layer) for layer in layers])

    def forward(self, audio: Tensor) -> Tensor:
        """Latents [B, dim, frames] of samples [B, frames x hop]."""
        x = audio[..., None]
        for layer in self.layers:
            x = layer(x)
        return x.transpose(1, 2)

    @torch.no_grad()
    def write(self, encoder: nn.Module) -> None:
        """Put the weights into transformers' encoder of the same shape."""
        write_layers(self.layers, encoder.layers)


def front_and_rest(codec: EncodecModel) -> tuple[nn.Sequential, nn.ModuleList]:
    """Layers down to 400 Hz without what is silent in them, and all those after them, whole: copies of the weights."""
    encoder: Any = codec.encoder
    sounding = int((encoder.layers[0].conv.weight.flatten(1).abs().amax(1) > 0).sum())
    whole, own = LeanEncoder(encoder).layers, list(LeanEncoder(narrowed(codec, sounding)).layers)
    last = max(place for place, layer in enumerate(whole) if isinstance(layer, Downsample))
    first: Any = whole[last]
    heard: Any = own[last]
    first.own.weight = nn.Parameter(first.own.weight[:, : heard.own.weight.shape[1]].clone())
    return nn.Sequential(*own[:last]), whole[last:]


class CodeReader:
    """Reads sound as codes: `codec.sound_to_codes` on the CPU, in a third of the time where filters are silent."""

    def __init__(self, codec: EncodecModel) -> None:
        """Copy the weights."""
        front, rest = front_and_rest(codec)
        self._layers = nn.Sequential(*front, *rest)
        self._quantizer: Any = codec.quantizer

    @torch.no_grad()
    def __call__(self, pcm: Pcm) -> Tensor:
        """Codes int64 [4, frames] of one clip of whole frames: what transformers pads others with is no silence."""
        assert len(pcm) % HOP_SAMPLES == 0, len(pcm)
        latents = self._layers(torch.from_numpy(pcm.astype(np.float32) / 32767)[None, :, None])
        codes: Tensor = self._quantizer.encode(latents.transpose(1, 2))[:, 0]
        return codes


def _lean(layer: Any) -> nn.Module:
    if isinstance(layer, EncodecLSTM):
        return Recurrent(layer)
    if isinstance(layer, EncodecResnetBlock):
        return Residual(layer)
    if not isinstance(layer, EncodecConv1d):
        return nn.ELU(layer.alpha)
    if layer.conv.stride[0] > 1:
        return Downsample(layer)
    return FirstConvolution(layer) if layer.conv.in_channels == 1 else Convolution(layer)
