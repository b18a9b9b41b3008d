"""Tiny checkpoints: transformers loads them, they behave like real ones, and they are built once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    EncodecModel,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

from streamgen.errors import ConfigError
from streamgen.testing import TINY_KINDS, tiny_checkpoint

WORDS = ["lofi piano, 80 bpm", "techno with a hard kick"]


def load(kind: str) -> Any:
    model = MusicgenMelodyForConditionalGeneration if "melody" in kind else MusicgenForConditionalGeneration
    return model.from_pretrained(tiny_checkpoint(kind)).eval()


@pytest.mark.parametrize("kind", ["mono", "stereo", "melody", "melody-stereo", "causal"])
def test_logits_choose_and_audio_is_heard(kind: str) -> None:
    model, tokenizer = load(kind), AutoTokenizer.from_pretrained(tiny_checkpoint(kind))
    inputs = tokenizer(WORDS, padding=True, return_tensors="pt")
    codebooks, channels = model.config.decoder.num_codebooks, model.config.decoder.audio_channels
    with torch.no_grad():
        ids = torch.randint(0, 64, (codebooks, 20)).repeat(2, 1)
        logits = model(**inputs, decoder_input_ids=ids).logits
        audio = model.generate(**inputs, do_sample=False, guidance_scale=3.0, max_new_tokens=40)
    assert 1.0 < logits.std() < 2.0
    assert audio.shape[:2] == (2, channels)
    assert 0.05 < audio.std() < 0.4
    # Of the logits, since transformers 5.17's generate forgets a melody model's prompt: the words must matter.
    assert (logits[:codebooks] - logits[codebooks:]).abs().max() > 1.0


def test_greedy_tokens_do_not_freeze() -> None:
    model = load("mono")
    tokens = model.generate(
        **AutoTokenizer.from_pretrained(tiny_checkpoint("mono"))(WORDS[:1], return_tensors="pt"),
        do_sample=False, guidance_scale=1.0, max_new_tokens=80, return_dict_in_generate=True, output_logits=True,
    ).logits  # fmt: skip
    drawn = torch.stack([step.argmax(-1) for step in tokens])[4:]  # [steps, codebooks], past the delays
    assert all(len(drawn[:, k].unique()) >= 5 for k in range(4))


def test_audio_prompts_become_many_codes() -> None:
    codec, time = load("mono").audio_encoder, torch.arange(32_000) / 32_000
    audio = 0.3 * torch.sin(2 * torch.pi * (200 + 600 * time) * time) + 0.05 * torch.randn(32_000)
    with torch.no_grad():
        codes = codec.encode(audio.view(1, 1, -1)).audio_codes
    assert codes.shape == (1, 1, 4, 50)
    assert all(len(codes[0, 0, k].unique()) >= 8 for k in range(4))


@pytest.mark.parametrize("kind", ["mono", "stereo", "causal"])
def test_the_processor_loads(kind: str) -> None:
    processor = AutoProcessor.from_pretrained(tiny_checkpoint(kind))
    inputs = processor(
        audio=torch.zeros(6_400).numpy(), sampling_rate=32_000, text=WORDS, padding=True, return_tensors="pt"
    )
    assert inputs.input_values.shape == (1, 1, 6_400)
    assert inputs.input_ids.shape[0] == 2


def test_the_melody_processor_s_files_are_as_transformers_reads_them() -> None:
    folder = tiny_checkpoint("melody")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    assert settings["feature_extractor_type"] == "MusicgenMelodyFeatureExtractor"
    assert settings["processor_class"] == "MusicgenMelodyProcessor"
    assert 1 + settings["n_samples"] // settings["hop_length"] == load("melody").config.chroma_length


def test_plain_words_are_known_to_the_tokenizer() -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint("mono"))
    ids = tokenizer("warm strings, slow drums at 80 bpm").input_ids
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "warm strings, slow drums at 80 bpm"
    assert tokenizer("日本").input_ids.count(tokenizer.unk_token_id) >= 1


def test_a_causal_codec_is_causal_and_has_one_lstm_layer() -> None:
    config = load("causal").config.audio_encoder
    assert (config.use_causal_conv, config.pad_mode, config.num_lstm_layers) == (True, "constant", 1)


def test_a_decoder_alone_has_its_codec_in_a_folder() -> None:
    folder = tiny_checkpoint("decoder")
    assert MusicgenForCausalLM.from_pretrained(folder).config.num_codebooks == 4
    assert EncodecModel.from_pretrained(folder / "audio_encoder").config.codebook_size == 64


def test_a_seed_is_a_checkpoint_and_is_built_once() -> None:
    first = tiny_checkpoint("mono", seed=1)
    built = (first / "model.safetensors").stat().st_mtime_ns
    assert tiny_checkpoint("mono", seed=1) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == built
    one, zero = (load_file(folder / "model.safetensors") for folder in (first, tiny_checkpoint("mono")))
    name = "decoder.lm_heads.0.weight"
    assert not torch.equal(one[name], zero[name])


def test_the_same_seed_is_the_same_weights_anywhere(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    torch.manual_seed(12345)
    folder = tiny_checkpoint("stereo", folder=tmp_path / "mine")
    torch.set_rng_state(state)
    assert folder == tmp_path / "mine"
    ours, cached = load_file(folder / "model.safetensors"), load_file(tiny_checkpoint("stereo") / "model.safetensors")
    assert set(ours) == set(cached)
    assert all(torch.equal(ours[name], cached[name]) for name in ours)


@pytest.mark.slow
def test_processes_may_build_the_same_one_at_once(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from streamgen.testing import tiny_checkpoint;"
        "tiny_checkpoint('mono', seed=3, folder=pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "one")]
    builders = [subprocess.Popen(command) for _ in range(3)]
    assert [builder.wait(120) for builder in builders] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]
    assert (tmp_path / "one/model.safetensors").is_file()


def test_an_unknown_kind_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match="kind is 'quadro'; tiny checkpoints come as mono, stereo, melody"):
        tiny_checkpoint("quadro")
    assert len(TINY_KINDS) == 11
