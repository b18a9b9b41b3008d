"""Random checkpoints of a shape: the same bytes load in both engines, and say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

import streamgen
from bridge.measuring import shapes
from bridge.measuring.shapes import SHAPES, Shape, write_random_checkpoint

SMALLEST = Shape(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, ffn_dim=96)
CODEC = shapes._CODEC | {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16}
TEXT = shapes._TEXT | {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 1, "num_heads": 4}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the layout is made small, so that a test writes kilobytes."""
    monkeypatch.setitem(SHAPES, "musicgen-small", SMALLEST)
    monkeypatch.setattr(shapes, "_CODEC", CODEC)
    monkeypatch.setattr(shapes, "_TEXT", TEXT)


@pytest.mark.parametrize("stereo", [False, True])
def test_both_engines_load_it_and_draw_the_same_tokens(small_parts: None, tmp_path: Path, stereo: bool) -> None:
    write_random_checkpoint("musicgen-small", stereo, tmp_path)
    model = streamgen.load_model(str(tmp_path), precision="fp32")
    assert (model.channels, model.config.num_codebooks) == ((2, 8) if stereo else (1, 4))
    ours = model.generate(["piano"], seconds=0.4, temperature=0.0)[0].samples
    twin: Any = MusicgenForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    inputs = AutoTokenizer.from_pretrained(tmp_path)(["piano"], return_tensors="pt")
    theirs = twin.generate(**inputs, do_sample=False, guidance_scale=3.0, max_new_tokens=20 + 3)[0].numpy()
    np.testing.assert_allclose(ours, np.broadcast_to(theirs, ours.shape), atol=1e-4)


def test_the_same_weights_every_time(small_parts: None, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_random_checkpoint("musicgen-small", False, tmp_path / name)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    ("name", "millions"), [("musicgen-small", 420), ("musicgen-medium", 1_840), ("musicgen-large", 3_240)]
)
def test_shapes_have_metas_sizes(name: str, millions: int) -> None:
    """Parameters of the decoder, its embeddings and heads included, counted on weights that hold no memory."""
    from transformers import AutoModelForTextToWaveform

    with torch.device("meta"):
        model = AutoModelForTextToWaveform.from_config(shapes._config(SHAPES[name], stereo=False))
    assert sum(parameter.numel() for parameter in model.decoder.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
