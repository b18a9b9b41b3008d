"""Weights by name against what transformers' modules hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from streamgen.codec.weights import Weights


def test_weight_norm_is_folded_as_torch_does(lab: Any) -> None:
    codec = lab.make()
    weights = Weights(codec.config, codec.state_dict(), torch.empty(0))
    for number in (0, 3, 9):
        weight, bias = weights.of(f"decoder.layers.{number}").convolution()
        assert torch.equal(weight, codec.decoder.layers[number].conv.weight), number
        assert torch.equal(bias, codec.decoder.layers[number].conv.bias), number


def test_parts_are_told_from_those_whose_names_begin_alike(lab: Any) -> None:
    weights = Weights(None, {"layers.12.bias": torch.ones(2)}, torch.empty(0, dtype=torch.float64))
    assert weights.has("layers.12")
    assert not weights.has("layers.1")
    assert weights.of("layers").of("12")("bias").dtype == torch.float64
    with pytest.raises(KeyError):
        weights("bias")
