"""Every field of the configurations that audiocraft ships: honoured, refused by name, or named as without effect."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from streamgen.checkpoint import GenerationDefaults, load_checkpoint
from streamgen.checkpoint.audiocraft_fields import CODEC_FIELDS, LM_FIELDS, notes_of
from streamgen.checkpoint.audiocraft_settings import (
    codec_settings,
    decoder_config,
    generation_defaults,
    melody_config,
    owns_text_encoder,
    segment_seconds,
    text_encoder_name,
)
from streamgen.checkpoint.audiocraft_style import features_name, style_config, style_defaults
from streamgen.checkpoint.xp_cfg import parse_settings
from streamgen.codec import StreamingDecoder, encode
from streamgen.errors import CheckpointError
from streamgen.testing import tiny_checkpoint

HERE = Path(__file__).parent
# Where another value is another way to say what the fuser says, or says nothing beside what others have.
IMPLIED = {
    "transformer_lm.cross_attention", "seanet.decoder.final_activation_params",
    "conditioners.self_wav.chroma_stem.radix2_exp",  # winlen is said in this file
}  # fmt: skip


def names(file: str) -> list[str]:
    """Each line is a field, or "section: fields below it"."""
    found = []
    for line in (HERE / file).read_text().splitlines():
        section, _, below = line.partition(": ")
        found += [f"{section}.{name}" for name in below.split()] or [section]
    return found


@cache
def settings_of(kind: str, file: str) -> dict[str, Any]:
    """Not to be changed."""
    package = torch.load(tiny_checkpoint(kind) / file, weights_only=True)
    return parse_settings(package["xp.cfg"], file)


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "more"]
    return {"more": 1} if isinstance(value, dict) else "other"


def changed(settings: dict[str, Any], path: str) -> dict[str, Any]:
    copy = deepcopy(settings)
    *parents, last = path.split(".")
    place = copy
    for parent in parents:
        found = place.get(parent)
        place[parent] = found if isinstance(found, dict) else {}
        place = place[parent]
    place[last] = other(place.get(last))
    return copy


def read_lm(settings: dict[str, Any]) -> tuple[Any, ...]:
    decoder = decoder_config(settings, "x")
    style = style_config(settings, decoder, "x")
    heard = style and (features_name(settings, style, "x"), style_defaults(settings, style, GenerationDefaults(), "x"))
    return (
        decoder, style, heard, melody_config(settings, "x"), text_encoder_name(settings, "x"),
        owns_text_encoder(settings, "x"), segment_seconds(settings, "x"), generation_defaults(settings, "x"),
    )  # fmt: skip


@pytest.mark.parametrize("name", names("audiocraft_lm_fields.txt"))
def test_every_field_of_a_decoder_is_honoured_refused_or_named(name: str) -> None:
    kind = "style" if ".style." in name else "audiocraft-melody" if "self_wav" in name else "audiocraft"
    check(settings_of(kind, "state_dict.bin"), name, read_lm, LM_FIELDS)


@pytest.mark.parametrize("name", names("audiocraft_codec_fields.txt"))
def test_every_field_of_a_codec_is_honoured_refused_or_named(name: str) -> None:
    settings = settings_of("audiocraft", "compression_state_dict.bin")
    check(settings, name, lambda settings: codec_settings(settings, "x"), CODEC_FIELDS)


def check(settings: dict[str, Any], name: str, read: Any, fields: Any) -> None:
    before, loud = read(settings), changed(settings, name)
    section, last = name.split(".")[0], name.split(".")[-1]
    try:
        honoured = read(loud) != before
    except CheckpointError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert last in refusal or section in refusal, refusal
        return
    named = any(section in note for note in notes_of(loud, fields, "x"))
    silent = name in fields.read or not named  # others of its section may be named, and it is not
    assert honoured or name in IMPLIED or not silent, f"{name} is ignored in silence"


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("state_dict.bin", "interleave_stereo_codebooks.use", "other"),
        ("state_dict.bin", "conditioners.description.t5.finetune", 1),
        ("state_dict.bin", "conditioners", 3),
        ("compression_state_dict.bin", "seanet", ["a"]),
        ("compression_state_dict.bin", "seanet.encoder", 2.5),
        ("compression_state_dict.bin", "seanet.causal", "no"),
        ("compression_state_dict.bin", "seanet.true_skip", 0),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(
    file: str, name: str, value: Any, copy_of: Any, edit_package: Any, complaint: Any
) -> None:
    folder = copy_of("audiocraft")
    edit_package(folder / file, {name: value})
    assert f"xp.cfg's {name} is {value!r}; " in complaint(folder)


def test_a_style_s_switches_are_true_or_false(copy_of: Any, edit_package: Any, complaint: Any) -> None:
    folder = copy_of("style")
    edit_package(folder / "state_dict.bin", {"conditioners.self_wav.style.use_middle_of_segment": []})
    assert "use_middle_of_segment is []; true or false is needed" in complaint(folder)
    edit_package(folder / "state_dict.bin", {"conditioners.self_wav.style.transformer_scale": []})
    assert "style.transformer_scale is []; xsmall, default, large, none are possible" in complaint(folder)


def test_what_nobody_knows_is_named(copy_of: Any, edit_package: Any) -> None:
    folder = copy_of("audiocraft")
    edit_package(folder / "state_dict.bin", {"transformer_lm.rotary": True, "colour": "red"})
    notes = load_checkpoint(str(folder)).notes
    assert any("unknown: colour, transformer_lm.rotary" in note for note in notes), notes


def test_a_t5_that_was_trained_with_the_decoder_is_read(copy_of: Any, edit_package: Any) -> None:
    folder = copy_of("audiocraft")
    plain = load_checkpoint(str(folder)).text_encoder
    assert plain is not None
    trained = {name: tensor + 0.5 for name, tensor in plain.tensors.items()}
    place = "condition_provider.conditioners.description.t5."
    tensors = {f"{place}{name}": tensor for name, tensor in trained.items()}
    edit_package(folder / "state_dict.bin", {"conditioners.description.t5.finetune": True}, **tensors)
    ours = load_checkpoint(str(folder)).text_encoder
    assert ours is not None
    assert all(torch.equal(ours.tensors[name], tensor) for name, tensor in trained.items())


@pytest.mark.parametrize(("seconds", "positions"), [(10, 503), (30, 1503), (45, 2253)])
def test_windows_are_as_long_as_the_music_it_was_trained_on(
    seconds: int, positions: int, copy_of: Any, edit_package: Any
) -> None:
    folder = copy_of("audiocraft")
    edit_package(folder / "state_dict.bin", {"dataset.segment_duration": seconds})
    assert load_checkpoint(str(folder)).decoder.max_positions == positions


def test_windows_too_short_for_their_delays_are_refused(copy_of: Any, edit_package: Any, complaint: Any) -> None:
    folder = copy_of("audiocraft")
    edit_package(folder / "compression_state_dict.bin", {"sample_rate": 80})
    assert "segment_duration comes to windows of 7 positions with this codec, at least 10 are" in complaint(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seanet.decoder.pad_mode": "constant"}, ["seanet.pad_mode is 'reflect' in the encoder, 'constant' in the"]),
        ({"seanet.encoder": {"dilation_base": 3}}, ["seanet.dilation_base is 3 in the encoder, 2 in the decoder"]),
        ({"seanet.decoder.activation": "ReLU"}, ["seanet.activation"]),
        ({"seanet.decoder.causal": True}, ["seanet.causal"]),
        ({"seanet.norm_params": {"eps": 1}}, ["seanet.norm_params"]),
    ],
)
def test_a_codec_whose_sides_differ_is_refused_by_name(
    changes: dict[str, Any], words: list[str], copy_of: Any, edit_package: Any, complaint: Any
) -> None:
    folder = copy_of("audiocraft")
    edit_package(folder / "compression_state_dict.bin", changes)
    text = complaint(folder)
    assert all(word in text for word in words), text


def test_a_codec_s_own_causality_is_its_convolutions(copy_of: Any, edit_package: Any) -> None:
    folder = copy_of("audiocraft")
    edit_package(folder / "compression_state_dict.bin", {"seanet.causal": True})
    assert load_checkpoint(str(folder)).codec.config.use_causal_conv
    edit_package(folder / "compression_state_dict.bin", {"seanet.causal": False, "encodec.causal": True})
    assert not load_checkpoint(str(folder)).codec.config.use_causal_conv


def test_of_a_codec_with_more_codebooks_the_first_are_used(copy_of: Any, edit_package: Any) -> None:
    folder = copy_of("audiocraft")
    state = torch.load(folder / "compression_state_dict.bin", weights_only=True)["best_state"]
    more = {
        name.replace("layers.3.", f"layers.{k}."): tensor.clone() + 0.25 * k
        for name, tensor in state.items()
        if ".layers.3._codebook" in name
        for k in (4, 5, 6, 7)
    }
    edit_package(folder / "compression_state_dict.bin", {"rvq.n_q": 8}, **more)
    ours, plain = load_checkpoint(str(folder)).codec, load_checkpoint(str(tiny_checkpoint("mono"))).codec
    codes = encode(ours, torch.sin(torch.arange(6400) / 20)[None])
    assert torch.equal(codes, encode(plain, torch.sin(torch.arange(6400) / 20)[None]))
    one, other = StreamingDecoder(ours), StreamingDecoder(plain)
    assert torch.equal(one.decode(codes[None], one.new_state(1)), other.decode(codes[None], other.new_state(1)))


@pytest.mark.parametrize(("kind", "codebooks"), [("audiocraft", 4), ("audiocraft-stereo", 4)])
def test_the_codebooks_that_the_codec_is_cut_to_are_the_decoder_s_of_a_channel(
    kind: str, codebooks: int, copy_of: Any, edit_package: Any, complaint: Any
) -> None:
    """Audiocraft sets as many before it interleaves left and right (models/builders.py)."""
    folder = copy_of(kind)
    edit_package(folder / "state_dict.bin", {"compression_model_n_q": codebooks})
    assert load_checkpoint(str(folder)).codec.codebooks == codebooks
    edit_package(folder / "state_dict.bin", {"compression_model_n_q": 8})
    assert "xp.cfg's compression_model_n_q is 8, the decoder has 4 codebooks a channel" in complaint(folder)


def test_top_k_is_not_looked_at_where_top_p_is_on() -> None:
    import streamgen

    model = streamgen.load_model(str(tiny_checkpoint("audiocraft")), device="cpu", precision="fp32")
    with model.open_stream("piano", top_k=5, top_p=0.9, seed=1) as stream:
        assert (stream.controls.sampling.top_k, stream.controls.sampling.top_p) == (0, 0.9)
        stream.set(top_p=1.0)  # audiocraft then draws among all
        stream.read(640)
        assert (stream.controls.sampling.top_k, stream.controls.sampling.top_p) == (0, 1.0)
        stream.set(top_p=0.0)
        stream.read(640)
        assert stream.controls.sampling.top_k == 5
