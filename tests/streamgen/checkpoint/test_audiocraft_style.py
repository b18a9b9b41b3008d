"""The style part of an audiocraft folder: what is read of it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamgen.checkpoint import load_checkpoint
from streamgen.checkpoint.types import StyleConfig
from streamgen.conditioning.style import StyleConditioner
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


def test_a_style_is_heard_with_more_codebooks_than_the_decoder_has(
    copy_of: Any, edit_package: Any, complaint: Any
) -> None:
    folder: Path = copy_of("style")
    codec = folder / "encodec-tiny" / "compression_state_dict.bin"
    state = torch.load(codec, weights_only=True)["best_state"]
    tables = {f"condition_provider.conditioners.self_wav.embed.{k}.weight": torch.randn(64, 256) for k in (3, 4, 5)}
    edit_package(folder / "state_dict.bin", {f"{STYLE}.encodec_n_q": 6}, **tables)
    assert "the codec has 4 codebooks, 6 a channel are needed: pair the decoder or the style" in complaint(folder)
    more = {
        name.replace("layers.3.", f"layers.{k}."): tensor.clone() + 0.25 * k
        for name, tensor in state.items()
        if ".layers.3._codebook" in name
        for k in (4, 5, 6, 7)
    }
    edit_package(codec, {"rvq.n_q": 8}, **more)
    ours = load_checkpoint(str(folder))
    assert (ours.style_features.codebooks, ours.codec.codebooks) == (6, 4)  # type: ignore[union-attr]
    style = StyleConditioner(ours)
    assert style.tokens(style.style(np.full(32_000, 0.1, np.float32), 32_000), 3, 1.0, 0).shape == (4, 64)


@pytest.mark.parametrize(
    ("changes", "defaults", "note"),
    [
        ({f"{STYLE}.eval_q": 9}, (6, 3.0, 3.0), f"xp.cfg: {STYLE}.eval_q is 9, beyond 1 … 6 codebooks: 6 is taken"),
        ({f"{STYLE}.length": 50}, (3, 30.0, 3.0), f"xp.cfg: {STYLE}.length is 50, beyond 0.1 … 30 s: 30 is taken"),
        (
            {"classifier_free_guidance.inference_coef": 25.0}, (3, 3.0, 20.0),
            "xp.cfg: classifier_free_guidance.inference_coef is 25, beyond 0 … 20: 20 is taken",
        ),
    ],
)  # fmt: skip
def test_what_no_control_allows_is_cut_and_told(
    changes: dict[str, Any], defaults: tuple[float, ...], note: str, copy_of: Any, edit_package: Any
) -> None:
    folder: Path = copy_of("style")
    edit_package(folder / "state_dict.bin", changes)
    ours = load_checkpoint(str(folder))
    assert (ours.defaults.eval_q, ours.defaults.excerpt_seconds, ours.defaults.guidance_scale) == defaults
    assert ours.notes[0] == note
