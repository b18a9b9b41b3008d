"""Random checkpoints of a shape in both engines; and the comparison: the same work, in turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

import streamgen
from bridge import comparison
from bridge.comparison import SHAPES, Comparison, DecoderSize, compare, write_random_checkpoint
from streamgen.testing import tiny_checkpoint

SMALLEST = DecoderSize(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, ffn_dim=96)
CODEC = comparison._CODEC | {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16}
TEXT = comparison._TEXT | {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 1, "num_heads": 4}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the layout is made small, so that a test writes kilobytes."""
    monkeypatch.setitem(SHAPES, "musicgen-small", SMALLEST)
    monkeypatch.setattr(comparison, "_CODEC", CODEC)
    monkeypatch.setattr(comparison, "_TEXT", TEXT)


@pytest.mark.parametrize("stereo", [False, True])
def test_both_engines_load_it_and_draw_the_same_tokens(small_parts: None, tmp_path: Path, stereo: bool) -> None:
    write_random_checkpoint("musicgen-small", stereo, tmp_path)
    model = streamgen.load_model(str(tmp_path), precision="fp32")
    assert (model.channels, model.runtime.config.num_codebooks) == ((2, 8) if stereo else (1, 4))
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
        model = AutoModelForTextToWaveform.from_config(comparison._config(SHAPES[name], stereo=False))
    assert sum(parameter.numel() for parameter in model.decoder.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


def test_both_make_the_same_length_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, float]] = []
    model = streamgen.load_model(str(tiny_checkpoint("stereo")), precision="fp32")
    ours = model.generate

    def remembered(*words: Any, **options: Any) -> Any:
        clips = ours(*words, **options)
        made.append(("ours", clips[0].seconds))
        assert options["guidance_scale"] == 3.0
        return clips

    monkeypatch.setattr(model, "generate", remembered)
    their_job = comparison._their_job

    def remembered_job(folder: str, model: Any) -> Callable[[float], None]:
        job = their_job(folder, model)
        return lambda seconds: made.append(("theirs", job(seconds).shape[-1] / 32_000))

    monkeypatch.setattr(comparison, "_their_job", remembered_job)
    lines: list[str] = []
    result = compare(model, str(tiny_checkpoint("stereo")), 0.4, lines.append)
    assert made == [("ours", 0.2), ("theirs", 0.2), ("ours", 0.4), ("theirs", 0.4), ("ours", 0.4), ("theirs", 0.4)]
    assert len(lines) == 2
    assert result.precision == "fp32"
    assert result.ours > 0
    assert result.theirs > 0


def test_a_melody_checkpoint_is_played_by_its_own_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one invents weights that it lacks, and says so in a warning."""
    model = streamgen.load_model(str(tiny_checkpoint("melody")), precision="fp32")
    played: list[str] = []
    generate = MusicgenMelodyForConditionalGeneration.generate

    def remembered(self: Any, *words: Any, **options: Any) -> Any:
        played.append(type(self).__name__)
        return generate(self, *words, **options)

    monkeypatch.setattr(MusicgenMelodyForConditionalGeneration, "generate", remembered)
    made = comparison._their_job(str(tiny_checkpoint("melody")), model)(0.2)
    assert made.shape[-1] == 6_400
    assert played == ["MusicgenMelodyForConditionalGeneration"]


def test_the_ratio_is_ours_over_theirs() -> None:
    assert Comparison("fp32", ours=3.0, theirs=1.5).ratio == 2.0


def test_beside_int8_they_run_in_bf16() -> None:
    model = streamgen.load_model(str(tiny_checkpoint("mono")), precision="int8")
    result = compare(model, str(tiny_checkpoint("mono")), 0.1, lambda line: None)
    assert result.precision == "bf16"
