"""A codec with more filters that gives the same tokens: the encoder's new channels are silent, the decoder's can learn.

Rules: transformers has one number of filters for encoder and decoder, so the encoder must grow too; its new weights are
zeros, and every code stays what it was. `narrowed` leaves them out again, for who asks an encoder often.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncodecModel
from transformers.models.encodec.modeling_encodec import (
    EncodecConv1d,
    EncodecConvTranspose1d,
    EncodecLSTM,
    EncodecResnetBlock,
)

from streamgen.pocket.training.lean_decoder import norm_pair, set_weight

LEAK = 0.1  # how loud new channels are in what the old ones hear, relative to a fresh layer


@torch.no_grad()
def widened(codec: EncodecModel, filters: int, seed: int = 0) -> EncodecModel:
    """A codec of `filters` filters: the same codes from the same sound, nearly the same sound from the same codes."""
    torch.manual_seed(seed)
    config = copy.deepcopy(codec.config)
    config.num_filters = filters
    wide: Any = EncodecModel(config).eval()
    old: Any = codec
    for narrow, layer in zip(old.encoder.layers, wide.encoder.layers, strict=True):
        _grow(narrow, layer, fresh=0.0)
    for narrow, layer in zip(old.decoder.layers, wide.decoder.layers, strict=True):
        _grow(narrow, layer, fresh=1.0)
    wide.quantizer.load_state_dict(old.quantizer.state_dict())
    return wide  # type: ignore[no-any-return]


@torch.no_grad()
def narrowed(codec: EncodecModel, filters: int) -> nn.Module:
    """The encoder alone, in its first filters: a quarter of the work, where as many more are silent."""
    config = copy.deepcopy(codec.config)
    config.num_filters = filters
    narrow: Any = EncodecModel(config).eval().encoder
    theirs = dict(codec.encoder.named_parameters())
    for name, weight in narrow.named_parameters():
        gates = 4 if ".lstm." in name else 1
        for own, wide in zip(weight.chunk(gates), theirs[name].chunk(gates), strict=True):
            own.copy_(wide[tuple(slice(0, size) for size in own.shape)])
    return narrow  # type: ignore[no-any-return]


def _grow(narrow: Any, wide: Any, fresh: float) -> None:
    """Fill one layer: the old weights in the first channels, and `fresh` times new ones around them."""
    if isinstance(wide, EncodecConv1d | EncodecConvTranspose1d):
        (_grow_convolution if fresh else _pad_convolution)(narrow.conv, wide.conv)
        bias: Any = wide.conv.bias
        bias.zero_()
        bias[: len(narrow.conv.bias)] = narrow.conv.bias
    elif isinstance(wide, EncodecResnetBlock):
        for inner, layer in zip(narrow.block, wide.block, strict=True):
            _grow(inner, layer, fresh)
    elif isinstance(wide, EncodecLSTM):
        for name, weight in wide.lstm.named_parameters():
            _grow_gates(getattr(narrow.lstm, name), weight, fresh)


def _pad_convolution(narrow: Any, wide: Any) -> None:
    """Magnitudes and directions as they were, so that not even float16 rounds them anew; all else is silent."""
    (magnitude, direction), (wide_magnitude, wide_direction) = norm_pair(narrow), norm_pair(wide)
    rows, columns = direction.shape[:2]
    wide_magnitude.zero_()
    wide_direction.fill_(1.0)  # of a row with magnitude 0, any
    wide_direction[:rows] = 0.0
    wide_magnitude[:rows], wide_direction[:rows, :columns] = magnitude, direction


def _grow_convolution(narrow: Any, wide: Any) -> None:
    transposed = isinstance(wide, nn.ConvTranspose1d)
    old, new = narrow.weight, torch.empty_like(wide.weight)
    if transposed:  # [in, out, taps] as [out, in, taps]; the views write through
        old, new = old.transpose(0, 1), new.transpose(0, 1)
    taps = new.shape[2] / wide.stride[0] if transposed else new.shape[2]
    new.normal_(0.0, 1 / math.sqrt(new.shape[1] * taps))
    _place(old, new)
    set_weight(wide, new.transpose(0, 1).contiguous() if transposed else new)


def _place(old: Tensor, new: Tensor) -> None:
    """Old outputs hear old inputs as before and new ones faintly."""
    out, into = old.shape[:2]
    new[:out, into:] *= LEAK
    new[:out, :into] = old


def _grow_gates(old: Tensor, new: Tensor, fresh: float) -> None:
    """An LSTM's weights or biases, four gates one below the other; torch's own fresh values stay where they may."""
    new *= fresh
    for narrow, wide in zip(old.chunk(4), new.chunk(4), strict=True):
        if old.dim() == 2:
            _place(narrow, wide)
        else:
            wide[: len(narrow)] = narrow
