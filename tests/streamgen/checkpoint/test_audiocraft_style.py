"""The style part of an audiocraft folder: what is read of it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from streamgen.checkpoint import load_checkpoint
from streamgen.checkpoint.types import StyleConfig
from streamgen.testing import tiny_checkpoint


def test_a_style_checkpoint_is_read_whole() -> None:
    ours, melody = load_checkpoint(str(tiny_checkpoint("style"))), load_checkpoint(str(tiny_checkpoint("melody")))
    assert ours.style == StyleConfig("encodec", 64, 3, 256, 8, 4, 6, 64, 15, 32_000)
    assert (ours.melody, ours.decoder.cross_attention, ours.decoder.prefix_positions) == (None, False, 214)
    assert (ours.defaults.eval_q, ours.defaults.excerpt_seconds) == (3, 3.0)
    assert all(torch.equal(ours.weights[name], tensor) for name, tensor in melody.weights.items())
    assert ours.style_features is not None
    state = ours.codec.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.style_features.state_dict().items())


STYLE = "conditioners.self_wav.style"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{STYLE}.model_name": "clap"}, ["model_name is 'clap'", "encodec, mert"]),
        ({f"{STYLE}.transformer_scale": "huge"}, ["transformer_scale is 'huge'", "xsmall, default, large, none"]),
        ({f"{STYLE}.transformer_scale": "default"}, ["the style part", "transformer.layers.4"]),
        ({f"{STYLE}.n_q_out": 7}, ["rvq.vq.layers.6._codebook.embed", "missing"]),
        ({f"{STYLE}.bins": 32}, ["[64, 256], the settings say [32, 256]"]),
        ({f"{STYLE}.encodec_n_q": 2}, ["embed.2.weight", "not in this architecture"]),
        ({f"{STYLE}.batch_norm": False}, ["batch_norm.running_mean"]),
        ({f"{STYLE}.encodec_checkpoint": 3}, ["encodec_checkpoint is 3"]),
        ({f"{STYLE}.encodec_checkpoint": "//pretrained/nowhere/codec"}, ["needs 'nowhere/codec'"]),
        ({f"{STYLE}.ds_factor": 0}, ["ds_factor is 0"]),
    ],
)
def test_another_style_gets_one_line(
    changes: dict[str, Any], words: list[str], copy_of: Any, edit_package: Any, complaint: Any
) -> None:
    folder: Path = copy_of("style")
    edit_package(folder / "state_dict.bin", changes)
    text = complaint(folder)
    for word in words:
        assert word in text, text
