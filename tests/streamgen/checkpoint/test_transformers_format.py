"""Against transformers on the same files: every tensor, every state, every way a file may be written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

import streamgen
from streamgen.checkpoint import Checkpoint, GenerationDefaults, MelodyConfig, load_checkpoint
from streamgen.codec import StreamingDecoder
from streamgen.errors import CheckpointError
from streamgen.testing import tiny_checkpoint

COMPOSITES = ("mono", "stereo", "melody", "melody-stereo", "causal")


def golden(folder: Path) -> Any:
    kind = MusicgenMelodyForConditionalGeneration if "melody" in folder.name else MusicgenForConditionalGeneration
    return kind.from_pretrained(folder).eval()


def assert_same_state(ours: Any, theirs: Any) -> None:
    state, expected = ours.tensors, theirs.state_dict()
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


def assert_same_weights(checkpoint: Checkpoint, decoder: Any) -> None:
    expected = {name: tensor for name, tensor in decoder.state_dict().items() if "embed_positions" not in name}
    assert set(checkpoint.weights) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.weights[name], tensor), name


@pytest.mark.parametrize("kind", COMPOSITES)
def test_every_tensor_is_transformers(kind: str) -> None:
    folder = tiny_checkpoint(kind)
    ours, theirs = load_checkpoint(str(folder)), golden(folder)
    assert_same_weights(ours, theirs.decoder)
    assert_same_state(ours.codec, theirs.audio_encoder)
    assert_same_state(ours.text_encoder, theirs.text_encoder)
    assert ours.text_projection is not None
    assert torch.equal(ours.text_projection[0], theirs.enc_to_dec_proj.weight)
    assert torch.equal(ours.text_projection[1], theirs.enc_to_dec_proj.bias)
    if "melody" in kind:
        assert ours.melody == MelodyConfig(num_chroma=12, chroma_length=235)
        assert ours.melody_projection is not None
        assert torch.equal(ours.melody_projection[0], theirs.audio_enc_to_dec_proj.weight)
        assert torch.equal(ours.melody_projection[1], theirs.audio_enc_to_dec_proj.bias)
    else:
        assert ours.melody is None
        assert ours.melody_projection is None


@pytest.mark.parametrize("kind", ["mono", "melody"])
def test_text_states_and_audio_are_transformers(kind: str) -> None:
    folder = tiny_checkpoint(kind)
    ours, theirs = load_checkpoint(str(folder)), golden(folder)
    words, tokenizer = ["lofi piano, 80 bpm", "techno with a hard kick"], ours.tokenizer
    assert tokenizer is not None
    assert ours.text_encoder is not None
    for text in words:
        expected = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
        assert [tokenizer.ids(text)] == expected.input_ids.tolist()
        with torch.no_grad():
            states = theirs.text_encoder(**expected).last_hidden_state
        assert torch.equal(ours.text_encoder(expected.input_ids), states)
    with torch.no_grad():
        codes = torch.randint(0, ours.decoder.vocab_size, (1, 1, 4, 20))
        audio = theirs.audio_encoder.decode(codes, [None]).audio_values
    decoder = StreamingDecoder(ours.codec)
    state = decoder.new_state(1)
    heard = torch.cat([decoder.decode(codes[0], state), decoder.finish(state)], 2)
    torch.testing.assert_close(heard, audio, atol=1e-5, rtol=0)
    assert audio.std() > 0.02


@pytest.mark.parametrize(("kind", "codebooks", "channels"), [("mono", 4, 1), ("stereo", 8, 2), ("melody-stereo", 8, 2)])
def test_the_decoder_s_shape(kind: str, codebooks: int, channels: int) -> None:
    decoder = load_checkpoint(str(tiny_checkpoint(kind))).decoder
    assert (decoder.hidden_size, decoder.num_layers, decoder.num_heads, decoder.ffn_dim) == (64, 3, 4, 128)
    assert (decoder.num_codebooks, decoder.audio_channels, decoder.vocab_size) == (codebooks, channels, 64)
    assert decoder.max_positions == 1503
    assert decoder.cross_attention == ("melody" not in kind)


def test_a_decoder_alone_has_its_codec_beside_it_and_no_text() -> None:
    folder = tiny_checkpoint("decoder")
    ours = load_checkpoint(str(folder))
    assert_same_weights(ours, MusicgenForCausalLM.from_pretrained(folder))
    assert ours.text_encoder is None
    assert ours.tokenizer is None
    assert ours.text_projection is None
    assert ours.codec.config.codebook_size == 64


def test_loading_draws_nothing_from_the_global_generator() -> None:
    load_checkpoint(str(tiny_checkpoint("mono")))
    before = torch.get_rng_state()
    load_checkpoint(str(tiny_checkpoint("mono")))
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_computes_on_one_thread_and_leaves_their_number_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    before, during = torch.get_num_threads(), []

    def fails(*_: object) -> None:
        during.append(torch.get_num_threads())
        raise CheckpointError("damaged")

    torch.set_num_threads(2)
    try:
        load_checkpoint(str(tiny_checkpoint("mono")))
        assert torch.get_num_threads() == 2
        monkeypatch.setattr("streamgen.checkpoint.transformers_format.read_tensors", fails)
        with pytest.raises(CheckpointError):
            load_checkpoint(str(tiny_checkpoint("mono")))
        assert (during, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("way", ["shards", "torch", "torch shards", "legacy torch"])
def test_other_ways_to_write_the_weights(way: str, copy_of: Any, edit_json: Any) -> None:
    folder = copy_of("mono")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if "torch" in way and "shards" not in way:
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization="legacy" not in way)
    else:
        names, suffix = sorted(state), "safetensors" if way == "shards" else "bin"
        stem, half = "model" if way == "shards" else "pytorch_model", len(state) // 2
        files = {f"{stem}-0000{n}-of-00002.{suffix}": part for n, part in ((1, names[:half]), (2, names[half:]))}
        for file, part in files.items():
            tensors = {name: state[name] for name in part}
            save_file(tensors, folder / file) if way == "shards" else torch.save(tensors, folder / file)
        weight_map = {name: file for file, part in files.items() for name in part}
        (folder / f"{stem}.{suffix}.index.json").write_text("{}")
        edit_json(folder / f"{stem}.{suffix}.index.json", {"weight_map": weight_map})
    assert_same_weights(load_checkpoint(str(folder)), golden(tiny_checkpoint("mono")).decoder)


def test_old_files_hold_positions_and_weight_norm_under_old_names(copy_of: Any) -> None:
    folder = copy_of("mono")
    state = load_file(folder / "model.safetensors")
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in state.items()
    }
    old["decoder.model.decoder.embed_positions.weights"] = torch.zeros(2048, 64)
    old["text_encoder.encoder.embed_tokens.weight"] = old["text_encoder.shared.weight"].clone()
    save_file(old, folder / "model.safetensors")
    ours, theirs = load_checkpoint(str(folder)), golden(tiny_checkpoint("mono"))
    assert_same_weights(ours, theirs.decoder)
    assert_same_state(ours.codec, theirs.audio_encoder)
    assert_same_state(ours.text_encoder, theirs.text_encoder)


def test_half_precision_stays_in_the_decoder_only(copy_of: Any) -> None:
    folder = copy_of("mono")
    state = load_file(folder / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in state.items()}, folder / "model.safetensors")
    ours = load_checkpoint(str(folder))
    assert {tensor.dtype for tensor in ours.weights.values()} == {torch.float16}
    assert ours.text_encoder is not None
    assert ours.text_projection is not None
    parts = [*ours.codec.tensors.values(), *ours.text_encoder.tensors.values(), *ours.text_projection]
    assert {tensor.dtype for tensor in parts} == {torch.float32}


def test_sampling_defaults_come_from_generation_config(copy_of: Any, edit_json: Any) -> None:
    folder = copy_of("mono")
    assert load_checkpoint(str(folder)).defaults == GenerationDefaults(guard=False), "tiny ones want none"
    changes = {"guidance_scale": 2.5, "temperature": 0.9, "top_k": 40, "top_p": 1.0}
    edit_json(folder / "generation_config.json", changes)
    assert load_checkpoint(str(folder)).defaults == GenerationDefaults(2.5, 0.9, 40, 0.0, 30.0, guard=False)
    edit_json(folder / "generation_config.json", {"change_context_seconds": 0})
    assert load_checkpoint(str(folder)).defaults == GenerationDefaults(2.5, 0.9, 40, 0.0, 0.0, guard=False)
    (folder / "generation_config.json").unlink()
    ours = load_checkpoint(str(folder))
    assert ours.defaults == GenerationDefaults()
    assert ours.notes[0].startswith("there is no generation_config.json: MusicGen's own is taken"), ours.notes
    assert "among 250 codes with guidance 3; transformers would take the likeliest code, without" in ours.notes[0]


def test_a_default_that_no_control_allows_is_cut_to_the_nearest(copy_of: Any, edit_json: Any) -> None:
    """Else every stream of it would be refused for a value that nobody set."""
    folder = copy_of("mono")
    edit_json(folder / "generation_config.json", {"guidance_scale": 25.0, "top_k": 100_000, "temperature": 9})
    defaults = load_checkpoint(str(folder)).defaults
    assert (defaults.guidance_scale, defaults.top_k, defaults.temperature) == (20.0, 2048, 5.0)
    with streamgen.load_model(str(folder), device="cpu").open_stream("piano", seed=1) as stream:
        assert stream.read(640).samples.shape == (2, 640)


def test_transformers_minds_no_setting_of_our_own(copy_of: Any, edit_json: Any, tmp_path: Path) -> None:
    """Warnings are errors here; what transformers logs is caught too. Saved again it must be set again."""
    folder = copy_of("mono")
    plain = codes_of_transformers(folder)
    edit_json(folder / "generation_config.json", {"change_context_seconds": 0.0})
    with catch_logs() as said:
        assert torch.equal(codes_of_transformers(folder), plain)
        again = golden(folder)
        again.generation_config.change_context_seconds = 2.0
        again.save_pretrained(tmp_path / "saved")
    assert said == []
    assert load_checkpoint(str(folder)).defaults.change_context_seconds == 0.0
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert saved["change_context_seconds"] == 2.0


def codes_of_transformers(folder: Path) -> Any:
    model = golden(folder)
    words = AutoTokenizer.from_pretrained(folder)("piano", return_tensors="pt")
    return model.generate(**words, do_sample=False, max_new_tokens=8)


@contextmanager
def catch_logs() -> Iterator[list[str]]:
    """Collect what transformers' loggers say at warning or above; they do not propagate."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def test_chroma_settings_come_from_the_processor(copy_of: Any, edit_json: Any) -> None:
    folder = copy_of("melody")
    edit_json(folder / "preprocessor_config.json", {"n_fft": 8192, "hop_length": 2048})
    edit_json(folder / "config.json", {"chroma_length": 100})
    assert load_checkpoint(str(folder)).melody == MelodyConfig(12, 100, 8192, 2048, 32000)
    features = (folder / "preprocessor_config.json").read_text()
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(f'{{"feature_extractor": {features}}}')
    assert load_checkpoint(str(folder)).melody == MelodyConfig(12, 100, 8192, 2048, 32000)


def test_max_positions_never_exceed_what_was_trained_nor_what_the_settings_say(copy_of: Any, edit_json: Any) -> None:
    folder = copy_of("mono")
    edit_json(folder / "config.json", {"decoder.max_position_embeddings": 500})
    assert load_checkpoint(str(folder)).decoder.max_positions == 500


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, ["'gpt2'", "musicgen", "pocket"]),
        ({"model_type": None}, ["None model", "musicgen"]),
        ({"decoder": 7}, ["the decoder is 7", "download"]),
        ({"decoder.hidden_size": "x"}, ["the decoder cannot be read", "hidden_size"]),
        ({"decoder.hidden_size": 128}, ["is [64, 64], the settings say [64, 128]", "download both"]),
        ({"decoder.num_hidden_layers": 4}, ["layers.3.encoder_attn.k_proj.weight", "missing from the weights"]),
        ({"decoder.num_hidden_layers": 2}, ["layers.2", "more tensors are in the weights, but not in this"]),
        ({"decoder.num_hidden_layers": 10**9}, ["num_layers is 1000000000"]),
        ({"decoder.num_attention_heads": 5}, ["hidden_size 64 is not a multiple of num_heads 5"]),
        ({"decoder.activation_function": "snake"}, ["activation 'snake'"]),
        ({"decoder.max_position_embeddings": 8}, ["max_position_embeddings is 8", "at least 10"]),
        ({"decoder.pad_token_id": 3}, ["pad_token_id is 3", "64", "config.json"]),
        ({"text_encoder.model_type": "bert"}, ["'bert'", "'t5'"]),
        ({"text_encoder.d_model": 32}, ["the text encoder", "the settings say"]),
        ({"audio_encoder.model_type": "dac"}, ["'dac'", "'encodec'"]),
        ({"audio_encoder.normalize": True}, ["normalize=true", "encodec_32khz"]),
        ({"audio_encoder.chunk_length_s": 1.0, "audio_encoder.overlap": 0.01}, ["frames of 1.0 s", "encodec_32khz"]),
        ({"audio_encoder.codebook_size": 128}, ["128 codes", "64", "equal"]),
        ({"audio_encoder.target_bandwidths": [0.6]}, ["2 codebooks", "4 a channel"]),
        ({"audio_encoder.audio_channels": 2}, ["2 audio channels", "mono"]),
        ({"audio_encoder.norm_type": "time_group_norm"}, ["time_group_norm", "weight_norm"]),
        ({"audio_encoder.num_filters": 8}, ["the codec", "the settings say"]),
        ({"audio_encoder.upsampling_ratios": []}, ["upsampling_ratios"]),
        ({"audio_encoder.pad_mode": "x"}, ["pad_mode is 'x'"]),
        ({"audio_encoder.codebook_dim": 64}, ["codebook_dim is 64", "hidden_size 32"]),
    ],
)
def test_a_wrong_model_gets_one_line(
    changes: dict[str, Any], words: list[str], copy_of: Any, complaint: Any, edit_json: Any
) -> None:
    folder = copy_of("mono")
    edit_json(folder / "config.json", changes)
    text = complaint(folder)
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("generation_config.json", {"guidance_scale": "loud"}, ["guidance_scale is 'loud'", "a number"]),
        ("generation_config.json", {"top_k": -1}, ["top_k is -1"]),
        ("generation_config.json", {"change_context_seconds": "all"}, ["change_context_seconds is 'all'"]),
        ("generation_config.json", {"least_movement": 2}, ["least_movement is 2", "0 … 1"]),
        ("tokenizer_config.json", {"extra_ids": 10**9}, ["extra_ids is 1000000000"]),
        ("tokenizer_config.json", {"extra_special_tokens": ["<a>"]}, ["122 tokens", "embeds 121"]),
        ("tokenizer.json", {"model": {}}, ["the tokenizer in", "cannot be read", "download"]),
    ],
)
def test_wrong_settings_files_get_one_line(
    file: str, changes: dict[str, Any], words: list[str], copy_of: Any, complaint: Any, edit_json: Any
) -> None:
    folder = copy_of("mono")
    edit_json(folder / file, changes)
    text = complaint(folder)
    for word in words:
        assert word in text, text


def test_a_decoder_alone_without_codec_is_taken_and_says_where_one_belongs(copy_of: Any) -> None:
    folder = copy_of("decoder")
    (folder / "audio_encoder").rename(folder / "elsewhere")
    ours = load_checkpoint(str(folder))
    assert ours.codec is None
    assert (ours.sample_rate_hz, ours.hop_samples, ours.frame_rate_hz) == (32_000, 640, 50)
    assert ours.notes[0] == f"no codec lies in {folder / 'audio_encoder'}: tokens come of this checkpoint, no sound"


def test_prelu_has_a_weight_in_each_layer(tmp_path: Path) -> None:
    """It plays: see the random configurations. A file without it is refused by name."""
    model = golden(tiny_checkpoint("mono"))
    layers = model.decoder.model.decoder.layers
    for number, layer in enumerate(layers):
        layer.activation_fn = torch.nn.PReLU(init=0.1 + number)
    model.config.decoder.activation_function = "prelu"
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_checkpoint("mono")).save_pretrained(tmp_path)
    words = AutoTokenizer.from_pretrained(tmp_path)("piano", return_tensors="pt")
    ours = streamgen.load_model(str(tmp_path), device="cpu", precision="fp32")
    columns = torch.full((4, 1), 64)
    theirs = golden_prelu(tmp_path)(**words, decoder_input_ids=columns).logits
    torch.testing.assert_close(ours.logits(torch.zeros(4, 1, dtype=torch.int64), "piano")[0], theirs[0])


def golden_prelu(folder: Path) -> Any:
    return MusicgenForConditionalGeneration.from_pretrained(folder).eval().requires_grad_(False)


def test_integer_weights_are_refused(copy_of: Any, complaint: Any) -> None:
    folder = copy_of("mono")
    state = load_file(folder / "model.safetensors")
    state["decoder.lm_heads.0.weight"] = state["decoder.lm_heads.0.weight"].to(torch.int8)
    save_file(state, folder / "model.safetensors")
    assert "lm_heads.0.weight is torch.int8; float32" in complaint(folder)


def test_a_melody_s_windows_have_room_for_two_prefixes(copy_of: Any, complaint: Any, edit_json: Any) -> None:
    folder = copy_of("melody")
    edit_json(folder / "config.json", {"decoder.max_position_embeddings": 100})
    assert "max_position_embeddings is 100, a melody's windows need 309" in complaint(folder)
