"""Every layer, fed in random pieces, against transformers' layer on the whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import EncodecConfig
from transformers.models.encodec.modeling_encodec import (
    EncodecConv1d,
    EncodecConvTranspose1d,
    EncodecLSTM,
    EncodecResnetBlock,
)

from streamgen.codec.layers import Conv, Layer, Recurrent, Residual, Upsample
from streamgen.codec.weights import Weights

LIKE = torch.empty(0)
LENGTHS = [1, 2, 3, 5, 8, 60]
SETTINGS = [
    {"use_causal_conv": False, "pad_mode": "reflect"},
    {"use_causal_conv": False, "pad_mode": "constant"},
    {"use_causal_conv": True, "pad_mode": "reflect"},
    {"use_causal_conv": True, "pad_mode": "constant"},
]


def weights(config: EncodecConfig, theirs: torch.nn.Module) -> Weights:
    return Weights(config, theirs.state_dict(), LIKE)


def run(layer: Layer, x: Tensor, seed: int) -> Tensor:
    """Feed [B, C, T] in pieces of 1 to 6 steps, and end."""
    rng, at, out = random.Random(seed), 0, []
    state = layer.new_state(x.shape[0], LIKE)
    while at < x.shape[2]:
        steps = rng.randint(1, 6)
        out.append(layer(x[..., at : at + steps].transpose(1, 2).clone(), state, False))
        at += steps
    out.append(layer(x[..., :0].transpose(1, 2).clone(), state, True))
    return torch.cat(out, 1).transpose(1, 2)


def check(layer: Layer, reference: Callable[[Tensor], Tensor], channels: int) -> None:
    for length in LENGTHS:
        x = torch.randn(2, channels, length)
        for seed in range(3):
            torch.testing.assert_close(run(layer, x, seed), reference(x), atol=3e-6, rtol=0)


@pytest.fixture(autouse=True)
def without_gradients() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("kernel", "dilation"), [(7, 1), (4, 1), (3, 3), (1, 1)])
@pytest.mark.parametrize("elu", [True, False])
def test_conv(settings: dict[str, Any], kernel: int, dilation: int, elu: bool) -> None:
    config = EncodecConfig(**settings)
    theirs = EncodecConv1d(config, 4, 6, kernel, dilation=dilation)
    before = torch.nn.ELU() if elu else torch.nn.Identity()
    check(Conv(weights(config, theirs), elu=elu, dilation=dilation), lambda x: theirs(before(x)), 4)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 9), (2, 1), (1, 1)])
def test_residual(settings: dict[str, Any], shortcut: bool, kernel: int, dilation: int) -> None:
    config = EncodecConfig(**settings, use_conv_shortcut=shortcut, residual_kernel_size=kernel)
    theirs = EncodecResnetBlock(config, 8, [dilation, 1])
    check(Residual(weights(config, theirs), dilation), theirs, 8)


@pytest.mark.parametrize("settings", [*SETTINGS, {"trim_right_ratio": 0.4}, {"trim_right_ratio": 0.0}])
@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (10, 5), (2, 1), (7, 3), (3, 3), (13, 4)])
def test_upsample(settings: dict[str, Any], kernel: int, stride: int) -> None:
    config = EncodecConfig(**settings)
    theirs = EncodecConvTranspose1d(config, 6, 4, kernel, stride)

    def reference(x: Tensor) -> Tensor:
        return theirs(torch.nn.functional.elu(x))

    check(Upsample(weights(config, theirs), stride), reference, 6)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("width", [6, 160])
def test_recurrent(layers: int, width: int) -> None:
    config = EncodecConfig(num_lstm_layers=layers)
    theirs = EncodecLSTM(config, width)
    check(Recurrent(weights(config, theirs)), theirs, width)


def test_lag_counts_what_is_held_back() -> None:
    config = EncodecConfig(use_causal_conv=False)
    for layer, into, stride in (
        (Conv(weights(config, EncodecConv1d(config, 4, 4, 7)), elu=False), 4, 1),
        (Residual(weights(config, EncodecResnetBlock(config, 4, [4, 1])), 4), 4, 1),
        (Upsample(weights(config, EncodecConvTranspose1d(config, 4, 4, 10, 5)), 5), 4, 5),
    ):
        state = layer.new_state(1, LIKE)
        out = sum(layer(torch.randn(1, 1, into), state, False).shape[1] for _ in range(40))
        assert 40 * stride - out == layer.lag(0) > 0, layer
