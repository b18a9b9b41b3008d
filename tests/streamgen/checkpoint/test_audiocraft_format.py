"""audiocraft's files against transformers' files of the same weights, and every setting that must be refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import EncodecModel

from streamgen.checkpoint import load_checkpoint
from streamgen.checkpoint.audiocraft_settings import text_encoder_name
from streamgen.checkpoint.xp_cfg import parse_settings
from streamgen.codec import StreamingDecoder, encode
from streamgen.testing import tiny_checkpoint

TWINS = [
    ("audiocraft", "mono"),
    ("audiocraft-stereo", "stereo"),
    ("audiocraft-melody", "melody"),
    ("audiocraft-melody-stereo", "melody-stereo"),
]


def assert_equal_tensors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(("kind", "twin"), TWINS)
def test_it_is_the_same_checkpoint_as_in_transformers_format(kind: str, twin: str) -> None:
    ours, theirs = load_checkpoint(str(tiny_checkpoint(kind))), load_checkpoint(str(tiny_checkpoint(twin)))
    assert (ours.format, theirs.format) == ("audiocraft", "transformers")
    assert ours.decoder == theirs.decoder
    assert ours.melody == theirs.melody
    assert ours.defaults == replace(theirs.defaults, guard=True, top_p_alone=True), "its settings know no guard"
    assert_equal_tensors(ours.weights, theirs.weights)
    assert_equal_tensors(ours.codec.state_dict(), theirs.codec.state_dict())
    assert ours.text_encoder is not None
    assert theirs.text_encoder is not None
    assert_equal_tensors(ours.text_encoder.tensors, theirs.text_encoder.tensors)
    for mine, other in zip(ours.text_projection or (), theirs.text_projection or (), strict=True):
        assert torch.equal(mine, other)
    assert (ours.melody_projection is None) == (theirs.melody_projection is None)
    for mine, other in zip(ours.melody_projection or (), theirs.melody_projection or (), strict=True):
        assert torch.equal(mine, other)


def test_codec_text_and_audio_are_the_same() -> None:
    ours, theirs = load_checkpoint(str(tiny_checkpoint("audiocraft"))), load_checkpoint(str(tiny_checkpoint("mono")))
    bandwidths = theirs.codec.config.target_bandwidths
    assert replace(ours.codec.config, target_bandwidths=bandwidths, given={}) == replace(theirs.codec.config, given={})
    audio, codes = torch.randn(1, 6400) * 0.1, torch.randint(0, 64, (1, 4, 12))
    assert torch.equal(encode(ours.codec, audio), encode(theirs.codec, audio))
    one, other = StreamingDecoder(ours.codec), StreamingDecoder(theirs.codec)
    assert torch.equal(one.decode(codes, one.new_state(1)), other.decode(codes, other.new_state(1)))
    assert ours.tokenizer is not None
    assert theirs.tokenizer is not None
    assert ours.tokenizer.ids("slow drums") == theirs.tokenizer.ids("slow drums")


def test_half_precision_stays_as_meta_stores_it(copy_of: Any, edit_package: Any) -> None:
    folder = copy_of("audiocraft")
    state = torch.load(folder / "state_dict.bin", weights_only=True)["best_state"]
    edit_package(folder / "state_dict.bin", **{name: tensor.half() for name, tensor in state.items()})
    ours = load_checkpoint(str(folder))
    assert {tensor.dtype for tensor in ours.weights.values()} == {torch.float16}
    assert ours.text_projection is not None
    assert ours.text_projection[0].dtype == torch.float32


def test_a_training_checkpoint_nests_its_state(copy_of: Any) -> None:
    folder = copy_of("audiocraft")
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    torch.save({**package, "best_state": {"model": package["best_state"]}}, folder / "state_dict.bin")
    assert_equal_tensors(load_checkpoint(str(folder)).weights, load_checkpoint(str(tiny_checkpoint("mono"))).weights)


@pytest.mark.parametrize("place", ["whole name", "last part", "path"])
def test_a_named_codec_is_found_in_transformers_format(place: str, copy_of: Any, tmp_path: Path) -> None:
    folder = copy_of("audiocraft")
    target = {
        "whole name": folder / "me/encodec_tiny",
        "last part": folder / "encodec_tiny",
        "path": tmp_path / "somewhere/encodec_tiny",
    }[place]
    shutil.copytree(tiny_checkpoint("decoder") / "audio_encoder", target)
    name = str(target) if place == "path" else "me/encodec_tiny"
    torch.save({"pretrained": name, "exported": True, "version": "1"}, folder / "compression_state_dict.bin")
    ours = load_checkpoint(str(folder)).codec
    assert_equal_tensors(ours.state_dict(), EncodecModel.from_pretrained(target).state_dict())


def test_a_named_codec_may_be_audiocraft_s_own(copy_of: Any) -> None:
    folder = copy_of("audiocraft")
    (folder / "codec").mkdir()
    (folder / "compression_state_dict.bin").rename(folder / "codec/compression_state_dict.bin")
    torch.save({"pretrained": "//pretrained/me/codec"}, folder / "compression_state_dict.bin")
    expected = load_checkpoint(str(tiny_checkpoint("mono"))).codec
    assert_equal_tensors(load_checkpoint(str(folder)).codec.state_dict(), expected.state_dict())


def test_the_text_encoder_may_lie_at_a_path_with_its_decoder(copy_of: Any, edit_package: Any, tmp_path: Path) -> None:
    folder = copy_of("audiocraft")
    (folder / "t5-tiny").rename(tmp_path / "t5-here")
    edit_package(folder / "state_dict.bin", {"conditioners.description.t5.name": str(tmp_path / "t5-here")})
    state = load_file(tmp_path / "t5-here/model.safetensors")
    whole = {**state, "lm_head.weight": torch.zeros(3), "decoder.block.0.layer.0.SelfAttention.q.weight": torch.ones(2)}
    (tmp_path / "t5-here/model.safetensors").unlink()
    torch.save(whole, tmp_path / "t5-here/pytorch_model.bin")
    ours = load_checkpoint(str(folder)).text_encoder
    assert ours is not None
    assert torch.equal(ours.tensors["shared.weight"], state["shared.weight"])


def test_a_text_encoder_that_is_nowhere_is_named(copy_of: Any, complaint: Any) -> None:
    folder = copy_of("audiocraft")
    shutil.rmtree(folder / "t5-tiny")
    text = complaint(folder)
    assert "needs 't5-tiny'" in text
    assert "copy its folder there" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lm_model": "transformer_lm_magnet"}, ["lm_model is 'transformer_lm_magnet'", "use a MusicGen"]),
        ({"transformer_lm.norm_first": False}, ["norm_first is False", "True"]),
        ({"transformer_lm.bias_attn": True}, ["bias_attn is True"]),
        ({"transformer_lm.positional_embedding": "rope"}, ["positional_embedding is 'rope'", "'sin'"]),
        ({"transformer_lm.kv_repeat": 2}, ["kv_repeat is 2"]),
        ({"transformer_lm.dim": 128}, ["the settings say"]),
        ({"transformer_lm.dim": "wide"}, ["transformer_lm.dim is 'wide'", "whole number"]),
        ({"transformer_lm.num_layers": 5}, ["layers.3", "missing from the weights"]),
        ({"transformer_lm.card": 32}, ["lm_heads.0.weight is [64, 64], the settings say [32, 64]"]),
        ({"codebooks_pattern.modeling": "parallel"}, ["modeling is 'parallel'", "'delay'"]),
        ({"codebooks_pattern.delay.delays": [0, 2, 4, 6]}, ["delays are [0, 2, 4, 6]", "[0, 1, 2, 3]"]),
        ({"interleave_stereo_codebooks.use": True}, ["delays are [0, 1, 2, 3]", "[0, 0, 1, 1]"]),
        ({"fuser.cross": [], "fuser.sum": ["description"]}, ["fuser.sum is"]),
        ({"fuser.prepend": ["style"], "fuser.cross": []}, ["prepend ['style']"]),
        ({"conditioners.description.model": "clap"}, ["'clap'", "'t5'"]),
        ({"conditioners.description.t5.name": 3}, ["names the text encoder 3"]),
        ({"classifier_free_guidance.inference_coef": "x"}, ["inference_coef is 'x'"]),
        ({"conditioners": None}, ["no conditioners.description.t5.name"]),
        ({"transformer_lm.n_q": "${transformer_lm.n_q}"}, ["refers to itself"]),
    ],
)
def test_another_architecture_gets_one_line(
    changes: dict[str, Any], words: list[str], copy_of: Any, edit_package: Any, complaint: Any
) -> None:
    folder = copy_of("audiocraft")
    edit_package(folder / "state_dict.bin", changes)
    text = complaint(folder)
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compression_model": "dac"}, ["compression_model is 'dac'", "'encodec'"]),
        ({"encodec.renormalize": True}, ["normalize=true", "encodec_32khz"]),
        ({"encodec.channels": 2}, ["2 audio channels"]),
        ({"rvq.n_q": 2}, ["2 codebooks", "4 a channel"]),
        ({"rvq.bins": 128}, ["128 codes"]),
        ({"seanet.norm": "time_group_norm"}, ["time_group_norm"]),
        ({"seanet.n_filters": 8}, ["the codec", "the settings say"]),
        ({"seanet.ratios": [8, 0]}, ["ratios are [8, 0]"]),
        ({"seanet.lstm": 3}, ["lstm", "missing"]),
        ({"seanet.decoder.final_activation": "Tanh"}, ["final_activation is 'Tanh'"]),
        ({"encodec.sample_rate": "${nowhere}"}, ["encodec.sample_rate", "has no nowhere"]),
    ],
)
def test_another_codec_gets_one_line(
    changes: dict[str, Any], words: list[str], copy_of: Any, edit_package: Any, complaint: Any
) -> None:
    folder = copy_of("audiocraft")
    edit_package(folder / "compression_state_dict.bin", changes)
    text = complaint(folder)
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    "changes", [{"conditioners.self_wav.model": "clap"}, {"conditioners.self_wav.chroma_stem.argmax": False}]
)
def test_another_melody_gets_one_line(changes: dict[str, Any], copy_of: Any, edit_package: Any, complaint: Any) -> None:
    folder = copy_of("audiocraft-melody")
    edit_package(folder / "state_dict.bin", changes)
    assert "MusicGen Melody has" in complaint(folder)


@pytest.mark.parametrize("file", ["state_dict.bin", "compression_state_dict.bin"])
@pytest.mark.parametrize(
    ("package", "words"),
    [
        ([1, 2], ["holds a list"]),
        ({}, ["no best_state", "found nothing"]),
        ({"best_state": {}, "xp.cfg": "a: 1"}, ["no best_state"]),
        ({"best_state": {"a": 1}, "xp.cfg": "a: 1"}, ["no best_state of tensors"]),
        ({"best_state": {"a": torch.ones(1)}}, ["no xp.cfg", "export"]),
        ({"best_state": {"a": torch.ones(1)}, "xp.cfg": "a: ["}, ["xp.cfg cannot be read as YAML"]),
        ({"best_state": {"a": torch.ones(1)}, "xp.cfg": "just words"}, ["'just words'"]),
        ({"best_state": {"a": torch.ones(1)}, "xp.cfg": "!!python/object/apply:os.system [ls]"}, ["YAML"]),
    ],
)
def test_a_file_of_something_else_gets_one_line(
    file: str, package: Any, words: list[str], copy_of: Any, complaint: Any
) -> None:
    folder = copy_of("audiocraft")
    torch.save(package, folder / file)
    text = complaint(folder)
    assert str(folder / file) in text
    for word in words:
        assert word in text, text


def test_a_missing_codec_is_named(copy_of: Any, complaint: Any) -> None:
    folder = copy_of("audiocraft")
    (folder / "compression_state_dict.bin").unlink()
    assert f"{folder} has no codec (compression_state_dict.bin)" in complaint(folder)


def test_references_are_followed() -> None:
    text = "name: t5-small\nalias: ${name}\nconditioners: {description: {t5: {name: '${alias}'}}}"
    assert text_encoder_name(parse_settings(text, "x"), "x") == "t5-small"
