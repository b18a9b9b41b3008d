"""Our T5 encoder against transformers' T5EncoderModel, of the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from streamgen.checkpoint.settings import T5Settings, read_settings
from streamgen.checkpoint.t5 import T5Encoder, t5_shapes

SHAPES: dict[str, dict[str, Any]] = {
    "pocket's": {"d_model": 128, "d_ff": 256, "d_kv": 32, "num_layers": 2, "num_heads": 4},
    "t5-base's activation": {"d_model": 48, "d_ff": 100, "d_kv": 8, "num_layers": 3, "num_heads": 6},
    "gated": {"feed_forward_proj": "gated-gelu", "d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4},
    "seldom seen": {
        "feed_forward_proj": "gated-silu", "d_model": 32, "d_ff": 40, "d_kv": 16, "num_layers": 1, "num_heads": 3,
    },
    "of its own distances": {
        "d_model": 32, "d_ff": 40, "d_kv": 8, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 12,
        "relative_attention_max_distance": 40, "layer_norm_epsilon": 1e-3,
    },
    "an activation that is transformers' alone": {
        "feed_forward_proj": "relu6", "d_model": 32, "d_ff": 40, "d_kv": 8, "num_layers": 1, "num_heads": 2,
    },
}  # fmt: skip


def pair(shape: str) -> tuple[T5EncoderModel, T5Encoder]:
    with torch.random.fork_rng():
        torch.manual_seed(len(shape))
        theirs = T5EncoderModel(T5Config(vocab_size=200, initializer_factor=0.7, **SHAPES[shape])).eval()
    settings = read_settings(T5Settings, theirs.config.to_dict(), "here")
    return theirs, T5Encoder(settings, theirs.state_dict())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("length", [1, 2, 40, 300])
def test_states_are_transformers(shape: str, length: int) -> None:
    theirs, ours = pair(shape)
    ids = torch.randint(0, 200, (1, length), generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        wanted = theirs(input_ids=ids).last_hidden_state
    assert wanted.std() > 0.1, "else this test says nothing"
    assert torch.equal(ours(ids), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_tensors_are_transformers(shape: str) -> None:
    theirs, ours = pair(shape)
    assert t5_shapes(ours.config) == {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}


def test_another_device_gets_its_own_copy() -> None:
    ours = pair("gated")[1]
    assert ours.to(torch.device("cpu")) is ours
    assert ours.to(torch.device("meta")).device.type == "meta"
    assert ours.device.type == "cpu"
