"""Settings against transformers' configuration classes: defaults, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from transformers import EncodecConfig, MusicgenDecoderConfig, MusicgenMelodyDecoderConfig, T5Config

from streamgen.checkpoint.settings import (
    DecoderSettings,
    EncodecSettings,
    MelodyDecoderSettings,
    T5Settings,
    read_settings,
)
from streamgen.errors import CheckpointError

PAIRS = [
    (DecoderSettings, MusicgenDecoderConfig),
    (MelodyDecoderSettings, MusicgenMelodyDecoderConfig),
    (EncodecSettings, EncodecConfig),
    (T5Settings, T5Config),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_names_and_defaults_are_transformers(ours: Any, theirs: Any) -> None:
    assert ours.model_type == theirs.model_type
    written = read_settings(ours, theirs().to_dict(), "here")
    for one in fields(ours):
        if one.name != "given":
            assert getattr(ours(), one.name) == getattr(theirs(), one.name), one.name
            read = getattr(written, one.name)
            assert (tuple(read) if isinstance(read, list) else read) == getattr(ours(), one.name), one.name


@pytest.mark.parametrize("activation", ["relu", "gated-gelu", "gated-silu", "gelu"])
def test_t5s_activation_is_transformers(activation: str) -> None:
    ours, theirs = T5Settings(feed_forward_proj=activation), T5Config(feed_forward_proj=activation)
    assert (ours.activation, ours.is_gated) == (theirs.dense_act_fn, theirs.is_gated_act)


def test_other_names_of_transformers_are_known() -> None:
    other = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "head_dim": 4}
    ours = read_settings(T5Settings, other, "here")
    assert (ours.d_model, ours.num_heads, ours.num_layers, ours.d_kv) == (8, 2, 3, 4)


@pytest.mark.parametrize(
    ("kind", "found", "complaint"),
    [
        (T5Settings, None, "not an object"),
        (T5Settings, {"model_type": "bert"}, "is a 'bert'; streamgen needs a 't5'"),
        (T5Settings, {"d_model": "wide"}, "d_model is 'wide'"),
        (T5Settings, {"d_model": True}, "d_model is True"),
        (T5Settings, {"d_model": 1.5}, "d_model is 1.5"),
        (T5Settings, {"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
        (T5Settings, {"feed_forward_proj": None}, "feed_forward_proj is None"),
        (EncodecSettings, {"normalize": 1}, "normalize is 1"),
        (EncodecSettings, {"upsampling_ratios": [8, "x"]}, "upsampling_ratios is"),
        (EncodecSettings, {"upsampling_ratios": []}, "upsampling_ratios is"),
        (EncodecSettings, {"target_bandwidths": 2}, "target_bandwidths is 2"),
    ],
)
def test_what_is_of_a_wrong_type_is_named(kind: Any, found: Any, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=r"download them again|use a MusicGen checkpoint") as caught:
        read_settings(kind, found, "here")
    assert complaint in str(caught.value)


def test_whole_numbers_are_floats_too() -> None:
    assert read_settings(EncodecSettings, {"trim_right_ratio": 1, "chunk_length_s": None}, "x").trim_right_ratio == 1
