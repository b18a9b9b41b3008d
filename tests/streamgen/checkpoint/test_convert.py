"""Converted both ways: every tensor, the same tokens, and what cannot be said refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MusicgenForConditionalGeneration, MusicgenMelodyForConditionalGeneration

import streamgen
from streamgen.checkpoint import load_checkpoint
from streamgen.checkpoint.convert import convert_checkpoint
from streamgen.errors import CheckpointError
from streamgen.stream.batch import Batch
from streamgen.testing import tiny_checkpoint

SLOWER = (pytest.param(kind, marks=pytest.mark.slow) for kind in ("stereo", "melody"))


def codes_of(folder: Path) -> torch.Tensor:
    model = streamgen.load_model(str(folder), device="cpu", precision="fp32")
    batch = Batch(model.runtime, ["piano", None], 0.6, seed=3, controls={"guidance_scale": 3.0, "top_k": 250})
    if model.runtime.prompts.reads:
        batch.give_melodies([np.sin(np.arange(64_000) / 12).astype(np.float32), None], 32_000)
    return torch.stack(batch.codes())


@pytest.mark.parametrize("kind", ["mono", *SLOWER, "melody-stereo"])
def test_both_ways_give_the_same_tokens_and_tensors(kind: str, tmp_path: Path) -> None:
    source = load_checkpoint(str(tiny_checkpoint(kind)))
    convert_checkpoint(source, tmp_path / "audiocraft")
    there = load_checkpoint(str(tmp_path / "audiocraft"))
    assert there.format == "audiocraft"
    assert convert_checkpoint(there, tmp_path / "transformers") == []
    back = load_checkpoint(str(tmp_path / "transformers"))
    assert back.format == "transformers"
    for other in (there, back):
        assert (other.decoder, other.melody) == (source.decoder, source.melody)
        assert all(torch.equal(other.weights[name], tensor) for name, tensor in source.weights.items())
        state = source.codec.state_dict()
        assert all(torch.equal(other.codec.state_dict()[name], tensor) for name, tensor in state.items())
    expected = codes_of(tiny_checkpoint(kind))
    assert torch.equal(codes_of(tmp_path / "audiocraft"), expected)
    assert torch.equal(codes_of(tmp_path / "transformers"), expected)


@pytest.mark.parametrize("kind", ["audiocraft", "audiocraft-melody-stereo"])
def test_transformers_itself_loads_what_is_written(kind: str, tmp_path: Path) -> None:
    convert_checkpoint(load_checkpoint(str(tiny_checkpoint(kind))), tmp_path / "out")
    architecture = MusicgenMelodyForConditionalGeneration if "melody" in kind else MusicgenForConditionalGeneration
    theirs, report = architecture.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert all("embed_" in name for name in report["missing_keys"]), report
    assert not report["unexpected_keys"]
    ours = load_checkpoint(str(tmp_path / "out"))
    state = theirs.decoder.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in ours.weights.items())


def test_half_precision_is_kept(tmp_path: Path) -> None:
    source = load_checkpoint(str(tiny_checkpoint("mono")))
    half = replace(source, weights={name: tensor.half() for name, tensor in source.weights.items()})
    convert_checkpoint(half, tmp_path / "out")
    there = load_checkpoint(str(tmp_path / "out"))
    assert {tensor.dtype for tensor in there.weights.values()} == {torch.float16}


def test_what_is_not_kept_is_told(tmp_path: Path, copy_of: Any, edit_json: Any) -> None:
    folder = copy_of("mono")
    settings = {"temperature": 0.7, "guidance_scale": 2.0, "change_context_seconds": 1.5, "guard": True}
    edit_json(folder / "generation_config.json", settings)
    told = convert_checkpoint(load_checkpoint(str(folder)), tmp_path / "out")
    assert told == [
        "audiocraft's format keeps no temperature: give set_generation_params 0.7",
        "audiocraft's format keeps no change_context_seconds: it is 1.5, and must be set anew",
    ]
    there = load_checkpoint(str(tmp_path / "out"))
    assert there.defaults.guidance_scale == 2.0
    half = replace(there, defaults=replace(there.defaults, guidance_scale=0.5))
    told = convert_checkpoint(half, tmp_path / "back")
    assert told == ["transformers guides from 1 on: guidance_scale 0.5 is no guidance there"]


@pytest.mark.parametrize(
    ("file", "settings", "words"),
    [
        ("config.json", {"chroma_length": 100}, "chroma_length is 100, and would be 235 in audiocraft's format"),
        ("preprocessor_config.json", {"hop_length": 2048}, "chroma_length is 235, and would be 469"),
        ("preprocessor_config.json", {"chunk_length": 10}, "chroma_length is 235, and would be 79"),
        ("config.json", {"decoder.max_position_embeddings": 800}, "max_positions is 800, and would be 1503"),
        ("config.json", {"decoder.max_position_embeddings": 340}, "max_positions is 340, and would be 1503"),
    ],
)
def test_what_audiocraft_s_format_would_make_of_it_must_be_what_it_was(
    file: str, settings: dict[str, Any], words: str, tmp_path: Path, copy_of: Any, edit_json: Any
) -> None:
    folder = copy_of("melody")
    edit_json(folder / file, settings)
    with pytest.raises(CheckpointError, match=words):
        convert_checkpoint(load_checkpoint(str(folder)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_windows_that_audiocraft_s_format_is_too_coarse_for_are_refused(
    tmp_path: Path, copy_of: Any, edit_json: Any
) -> None:
    folder = copy_of("mono")
    edit_json(folder / "config.json", {"decoder.max_position_embeddings": 40})
    with pytest.raises(CheckpointError, match=r"segment_duration is 0\.74 s"):
        convert_checkpoint(load_checkpoint(str(folder)), tmp_path / "out")


def test_what_the_other_format_cannot_say_is_refused_by_name(tmp_path: Path) -> None:
    for kind, words in (("style", "MusicGen-Style"), ("decoder", "decoder alone")):
        with pytest.raises(CheckpointError, match=words):
            convert_checkpoint(load_checkpoint(str(tiny_checkpoint(kind))), tmp_path / kind)
    audiocraft = load_checkpoint(str(tiny_checkpoint("audiocraft")))
    longer = replace(audiocraft, decoder=replace(audiocraft.decoder, max_positions=1800))
    with pytest.raises(CheckpointError, match="windows of 1800 positions"):
        convert_checkpoint(longer, tmp_path / "longer")
    melodic = load_checkpoint(str(tiny_checkpoint("audiocraft-melody")))
    assert melodic.melody is not None
    for change, words in (({"seconds": 12.5}, r"reads 12\.5 s of a melody"), ({"win_length": 4096}, "another winlen")):
        other = replace(melodic, melody=replace(melodic.melody, **change))
        with pytest.raises(CheckpointError, match=words):
            convert_checkpoint(other, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(CheckpointError, match="is not empty"):
        convert_checkpoint(audiocraft, tmp_path / "full")
    with pytest.raises(CheckpointError, match="vocabulary of its own"):
        convert_checkpoint(load_checkpoint("pocket"), tmp_path / "pocket")
