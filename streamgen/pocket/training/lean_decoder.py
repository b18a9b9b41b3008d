"""The codec's decoder in the layout that a CPU is fast in, channels last: two thirds of a step's time.

Rules: takes its weights from transformers' decoder and writes them back, weight norm folded; it makes the same sound.

A transposed convolution of stride r and 2·r taps makes r samples of every input and the one before it:

    out[r·t + p] = w[p] · x[t] + w[p + r] · x[t - 1]

Of a constant input the sum w[p] + w[p + r] is left. Where it depends on the phase p, whatever stands still in the music
leaves a pattern of r samples: lines at all multiples of its rate, a comb. `even` makes all phases sum alike.
Such kernels are the convolutions of a box of r taps with r + 1 others: repeat every sample, then convolve.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.encodec.modeling_encodec import (
    EncodecConv1d,
    EncodecConvTranspose1d,
    EncodecLSTM,
    EncodecResnetBlock,
)


class Weights(nn.Module):
    """The folded weight and the bias of one convolution."""

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
        """Copy both."""
        super().__init__()
        assert conv.bias is not None
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.bias = nn.Parameter(conv.bias.detach().clone())

    def write(self, conv: Any) -> None:
        """Put both into a weight-normed convolution."""
        set_weight(conv, self.weight)
        conv.bias.copy_(self.bias)


def _causal(x: Tensor, weight: Tensor, bias: Tensor, dilation: int = 1) -> Tensor:
    """Convolve [B, T, in] with [out, in, taps], with zeros before the first sample."""
    if weight.shape[2] == 1:
        return F.linear(x, weight[..., 0], bias)
    rows = F.pad(x.transpose(1, 2)[:, :, None], ((weight.shape[2] - 1) * dilation, 0))  # a picture one row high
    return F.conv2d(rows, weight[:, :, None], bias, dilation=(1, dilation))[:, :, 0].transpose(1, 2)


class Convolution(nn.Module):
    """A causal convolution of stride 1 on [B, T, in]."""

    def __init__(self, module: EncodecConv1d) -> None:
        """Copy the weights of transformers' layer."""
        super().__init__()
        self.own = Weights(module.conv)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, out]."""
        return _causal(x, self.own.weight, self.own.bias)

    def write(self, module: Any) -> None:
        """Put the weights into transformers' layer."""
        self.own.write(module.conv)


class _Upsample(nn.Module):
    def __init__(self, module: EncodecConvTranspose1d) -> None:
        super().__init__()
        self.own, self.stride = Weights(module.conv), int(module.conv.stride[0])

    def forward(self, x: Tensor) -> Tensor:
        into, out, _ = self.own.weight.shape
        phases = self.own.weight.view(into, out, 2, self.stride).flip(2).permute(3, 1, 0, 2)
        made = _causal(x, phases.reshape(self.stride * out, into, 2), self.own.bias.repeat(self.stride))
        return made.reshape(x.shape[0], -1, out)

    def write(self, module: Any) -> None:
        self.own.write(module.conv)


class Residual(nn.Module):
    """Two convolutions beside the way through, on [B, T, dim]."""

    def __init__(self, module: EncodecResnetBlock) -> None:
        """Copy the weights of transformers' layer."""
        super().__init__()
        parts: Any = module.block
        self.wide, self.point, self.dilation = (
            Weights(parts[1].conv),
            Weights(parts[3].conv),
            parts[1].conv.dilation[0],
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim]."""
        inner = _causal(F.elu(x), self.wide.weight, self.wide.bias, self.dilation)
        return x + _causal(F.elu(inner), self.point.weight, self.point.bias)

    def write(self, module: Any) -> None:
        """Put the weights into transformers' block."""
        self.wide.write(module.block[1].conv)
        self.point.write(module.block[3].conv)


class Recurrent(nn.Module):
    """An LSTM beside the way through, on [B, T, dim]."""

    def __init__(self, module: EncodecLSTM) -> None:
        """Copy the weights of transformers' layer."""
        super().__init__()
        lstm = module.lstm
        self.lstm = nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers)
        self.lstm.load_state_dict(lstm.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim]."""
        made: Tensor = self.lstm(x.transpose(0, 1))[0]
        return made.transpose(0, 1) + x

    def write(self, module: Any) -> None:
        """Put the weights into transformers' layer."""
        module.lstm.load_state_dict(self.lstm.state_dict())


_LEAN: dict[type, Callable[[Any], nn.Module]] = {
    EncodecConv1d: Convolution,
    EncodecConvTranspose1d: _Upsample,
    EncodecResnetBlock: Residual,
    EncodecLSTM: Recurrent,
    nn.ELU: copy.deepcopy,
}


class LeanDecoder(nn.Module):
    """A causal EnCodec decoder for training."""

    def __init__(self, decoder: nn.Module) -> None:
        """Copy the weights of transformers' decoder."""
        super().__init__()
        layers: Any = decoder.layers
        self.layers = nn.ModuleList([_LEAN[type(layer)](layer) for layer in layers])

    def forward(self, latents: Tensor) -> Tensor:
        """Samples [B, frames x hop] of latents [B, dim, frames]."""
        x = latents.transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x[..., 0]

    @torch.no_grad()
    def write(self, decoder: nn.Module) -> None:
        """Put the weights into transformers' decoder of the same shape."""
        write_layers(self.layers, decoder.layers)

    @torch.no_grad()
    def even(self) -> None:
        """Move every upsampling kernel to the nearest one whose phases all sum alike."""
        for layer in self.layers:
            if isinstance(layer, _Upsample):
                even(layer.own.weight, layer.stride)


def write_layers(layers: Any, targets: Any) -> None:
    """Put the weights of lean layers into transformers' of the same shapes."""
    for layer, target in zip(layers, targets, strict=True):
        if not isinstance(layer, nn.ELU):
            layer.write(target)


@torch.no_grad()
def even(weight: Tensor, stride: int) -> None:
    """Move a kernel [..., 2·stride], in place, to the nearest one whose phases all sum alike."""
    early, late = weight[..., :stride], weight[..., stride:]
    sums = early + late
    excess = (sums - sums.mean(-1, keepdim=True)) / 2
    early -= excess
    late -= excess


# -- weight norm, along the first axis, as transformers' codec has it --------------------------------------------------

HALF_STEPS = 2047  # float16 holds every whole number up to 2,048


def norm_pair(conv: Any) -> tuple[Tensor, Tensor]:
    """The magnitude [n, 1, 1] and the direction [n, m, k] of a weight-normed convolution."""
    pair = conv.parametrizations.weight
    return pair.original0, pair.original1


@torch.no_grad()
def set_weight(conv: Any, weight: Tensor) -> None:
    """Give a convolution this weight [n, m, k]; a row of zeros gets the magnitude 0 and some direction."""
    magnitude, direction = norm_pair(conv)
    length = weight.flatten(1).norm(dim=1)[:, None, None]
    magnitude.copy_(length)
    direction.copy_(torch.where(length > 0, weight, torch.ones_like(weight)))


@torch.no_grad()
def round_evenly(conv: Any) -> None:
    """Make the directions of an even upsampling kernel whole numbers, which float16 keeps, with even sums as before.

    Rounded one by one, the sums of a kernel's phases differ in their eleventh bit, and the comb is back at -70 dB.
    """
    _, direction = norm_pair(conv)
    stride = direction.shape[2] // 2
    largest = direction.abs().amax((1, 2), keepdim=True)
    whole = direction * ((HALF_STEPS - 1) / largest)  # one to spare: a late tap is a difference of two rounded numbers
    early = whole[..., :stride].round()
    sums = (whole[..., :stride] + whole[..., stride:]).mean(-1, keepdim=True).round()
    direction.copy_(torch.cat([early, sums - early], dim=2))
