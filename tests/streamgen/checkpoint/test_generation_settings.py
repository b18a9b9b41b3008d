"""Every field of transformers' GenerationConfig: honoured as transformers would, refused by name, or named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList, MusicgenForConditionalGeneration
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import streamgen
from streamgen.checkpoint import GenerationDefaults, load_checkpoint
from streamgen.checkpoint.generation_settings import SILENT, read_generation_settings
from streamgen.errors import CheckpointError
from streamgen.lm.sampling import Sampling, probabilities
from streamgen.stream.batch import Batch

FIELDS = sorted(vars(GenerationConfig()))
META = {"do_sample": True, "guidance_scale": 3.0, "top_k": 250, "pad_token_id": 64, "decoder_start_token_id": 64}
HONOURED = {"guidance_scale": 2.5, "temperature": 0.7, "top_k": 9, "top_p": 0.8, "do_sample": False}


def read(tmp_path: Path, edit_json: Any, **values: Any) -> tuple[GenerationDefaults, tuple[str, ...]]:
    path = tmp_path / "generation_config.json"
    path.write_text("{}")
    edit_json(path, {**META, **values})
    return read_generation_settings(path, 64)


def test_meta_s_own_file_is_read_without_a_remark(tmp_path: Path, edit_json: Any) -> None:
    assert read(tmp_path, edit_json, bos_token_id=64, eos_token_id=None, use_cache=True) == (GenerationDefaults(), ())


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in SILENT])
def test_every_field_is_honoured_refused_or_named(name: str, tmp_path: Path, edit_json: Any) -> None:
    """7 is no field's neutral value, nor the padding code."""
    try:
        defaults, notes = read(tmp_path, edit_json, **{name: HONOURED.get(name, 7)})
        outcomes = ["honoured"] * (defaults != GenerationDefaults()) + ["named"] * (name in " ".join(notes))
    except CheckpointError as error:
        outcomes = ["refused"] * (f"{name} is 7" in str(error))
    assert outcomes == ["honoured"] if name in HONOURED else outcomes in (["refused"], ["named"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repetition_penalty", 1.2), ("no_repeat_ngram_size", 2), ("suppress_tokens", [1]), ("bad_words_ids", [[1]]),
        ("begin_suppress_tokens", [1]), ("sequence_bias", [[[1], 2.0]]), ("forced_eos_token_id", 3), ("min_p", 0.1),
        ("typical_p", 0.9), ("epsilon_cutoff", 0.01), ("eta_cutoff", 0.01), ("top_h", 0.4), ("num_beams", 4),
        ("decoder_start_token_id", 3), ("pad_token_id", 0),
    ],
)  # fmt: skip
def test_what_would_change_the_draws_is_refused_with_its_value(
    name: str, value: Any, tmp_path: Path, edit_json: Any
) -> None:
    with pytest.raises(CheckpointError, match=f"{name} is ") as caught:
        read(tmp_path, edit_json, **{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("do_sample", 0, "do_sample is 0, must be true or false"),
        ("do_sample", "false", "do_sample is 'false', must be"),
        ("guard", 1, "guard is 1, must be true or false"),
        ("top_k", 9.5, "top_k is 9.5; a whole number is needed"),
        ("audition", 2.5, "audition is 2.5; a whole number"),
        (
            "unsupported_controls",
            ["temprature"],
            r"unsupported_controls is \['temprature'\], must be a list of these: ",
        ),
        ("unsupported_controls", "top_k", "unsupported_controls is 'top_k', must be a list"),
        ("unsupported_controls", [[1]], "must be a list of these"),
    ],
)
def test_a_value_that_could_mean_two_things_is_refused(
    name: str, value: Any, words: str, tmp_path: Path, edit_json: Any
) -> None:
    """A number that is no switch would sample here and be greedy in transformers."""
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path, edit_json, **{name: value})


def test_neutral_values_are_nothing_to_refuse(tmp_path: Path, edit_json: Any) -> None:
    neutral = GenerationConfig._get_default_generation_params()
    silent = {name: value for name, value in neutral.items() if name not in (*HONOURED, "max_length")}
    assert read(tmp_path, edit_json, **silent) == (GenerationDefaults(), ())


def test_what_has_no_effect_is_named_once(copy_of: Any, edit_json: Any, caplog: pytest.LogCaptureFixture) -> None:
    folder = copy_of("mono")
    edit_json(folder / "generation_config.json", {"max_time": 3.0, "colour": "red", "guidance_scale": 25.0})
    with caplog.at_level(logging.INFO, logger="streamgen"):
        notes = load_checkpoint(str(folder)).notes
    idle = next(note for note in notes if "no effect here has" in note)
    assert {"max_length", "max_time", "colour"} <= set(idle.replace(",", "").split())
    assert any("guidance_scale is 25, beyond 0 … 20: 20 is taken" in note for note in notes)
    assert any("says no top_k: MusicGen's own, 250, is taken; transformers would take 50" in note for note in notes)
    assert [record.getMessage() for record in caplog.records] == list(notes)


def test_a_checkpoint_that_does_not_sample_is_greedy_as_in_transformers(copy_of: Any, edit_json: Any) -> None:
    folder = copy_of("mono")
    edit_json(folder / "generation_config.json", {"do_sample": False, "temperature": 0.3, "top_k": 3})
    model = streamgen.load_model(str(folder), device="cpu", precision="fp32")
    theirs = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    inputs = load_checkpoint(str(folder)).tokenizer.whole(["piano"], return_tensors="pt")  # type: ignore[union-attr]
    codes: list[torch.Tensor] = []
    decode = theirs.audio_encoder.decode
    theirs.audio_encoder.decode = lambda ids, **rest: codes.append(ids) or decode(ids, **rest)
    theirs.generate(**inputs, max_length=44)
    ours = Batch(model.runtime, ["piano"], 0.8, seed=5, controls={}).codes()[0]
    assert torch.equal(ours, codes[0][0, 0])


@pytest.mark.parametrize(
    "values",
    [{"top_p": 0.0}, {"top_p": 0.6}, {"top_p": 1.0}, {"top_k": 0}, {"top_k": 5, "top_p": 0.5}, {"temperature": 0.4}],
)
def test_draws_are_those_of_transformers_processors(values: dict[str, float], tmp_path: Path, edit_json: Any) -> None:
    defaults, _ = read(tmp_path, edit_json, **values)
    wanted = {"temperature": 1.0, "top_k": 250, "top_p": 1.0, **values}
    processors = LogitsProcessorList([TemperatureLogitsWarper(wanted["temperature"])])
    if wanted["top_k"]:
        processors.append(TopKLogitsWarper(int(wanted["top_k"])))
    if wanted["top_p"] < 1:
        processors.append(TopPLogitsWarper(wanted["top_p"]))
    logits = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    expected = processors(None, logits.clone()).softmax(-1)
    sampling = Sampling(defaults.temperature, defaults.top_k, defaults.top_p)
    assert torch.equal(probabilities(logits, sampling), expected)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_guidance_below_1_guides_nothing_as_in_transformers(scale: float, tmp_path: Path, edit_json: Any) -> None:
    assert read(tmp_path, edit_json, guidance_scale=scale)[0].guidance_scale == 1.0
