"""Shared options: what reaches the engine, and what never gets that far."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import streamgen
from bridge.cli.options import add_model_options, add_music_options, add_prompt, load_model, prompt_of, stream_options
from bridge.errors import UsageError
from streamgen.checkpoint import known
from streamgen.testing import FakeModel, tiny_checkpoint


def all_options(parser: argparse.ArgumentParser) -> None:
    add_prompt(parser)
    add_model_options(parser)
    add_music_options(parser)


Parse = Callable[..., argparse.Namespace]


def test_only_what_was_said_reaches_the_engine_and_a_seed_is_always_known(parsed: Parse) -> None:
    options = stream_options(parsed("piano", "--top-k", "5", "--temperature", "0", of=all_options))
    seed = options.pop("seed")
    assert options == {"prompt": "piano", "top_k": 5, "temperature": 0.0}
    assert 0 <= seed < 2**31
    assert seed != stream_options(parsed("piano", of=all_options))["seed"]


def test_a_seed_that_was_said_is_kept(parsed: Parse) -> None:
    assert stream_options(parsed("piano", "--seed", "0", of=all_options))["seed"] == 0


def test_every_parameter_has_an_option(parsed: Parse) -> None:
    words = "--guidance-scale 2 --temperature 0.9 --top-k 9 --top-p 0.5 --seed 3 --glide-seconds 1 --context-seconds 5"
    words += " --context-start-seconds 2 --change-context-seconds 0"
    options = stream_options(parsed("a", *words.split(), of=all_options))
    assert options == {
        "prompt": "a", "guidance_scale": 2.0, "temperature": 0.9, "top_k": 9, "top_p": 0.5, "seed": 3,
        "glide_seconds": 1.0, "context_seconds": 5.0, "context_start_seconds": 2.0,
        "change_context_seconds": 0.0,
    }  # fmt: skip


def test_files_are_read_with_their_rate(parsed: Parse, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((50, 1), 0.25), 22_050)
    words = ("--audio-prompt", str(tmp_path / "a.wav"), "--melody", str(tmp_path / "a.wav"))
    options = stream_options(parsed("a", *words, of=all_options))
    for name in ("audio_prompt", "melody"):
        assert options[f"{name}_rate_hz"] == 22_050
        np.testing.assert_array_equal(options[name], np.full((1, 50), 0.25, np.float32))


def test_no_prompt_is_none_only_when_asked_for(parsed: Parse) -> None:
    assert prompt_of(parsed("--unconditional", of=all_options)) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no PROMPT"),
        (["a", "--unconditional"], "choose one"),
        (["  "], "PROMPT is empty"),
        (["x" * 2_001], "PROMPT has 2001 characters: at most 2000"),
        (["a", "--negative-prompt", ""], "--negative-prompt is empty"),
        (["a", "--melody", "/no/such.wav"], "--melody is '/no/such.wav': there is no such file"),
    ],
)
def test_what_cannot_be_is_refused(parsed: Parse, words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        stream_options(parsed(*words, of=all_options))


def test_the_model_is_loaded_as_asked(parsed: Parse, sine_model: Any) -> None:
    assert load_model(parsed("--model", "m", "--precision", "bf16", "--device", "cpu", of=all_options)) is sine_model
    assert sine_model.loaded_with == {
        "name": "m",
        "device": "cpu",
        "precision": "bf16",
        "threads": None,
    }


def test_the_shipped_model_names_metas_until_one_is_here(
    parsed: Parse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(vars(streamgen), "load_model", lambda *_, **__: FakeModel())
    here: list[Path] = []
    monkeypatch.setattr(known, "cached_folder", lambda _: here[0] if here else None)
    said = []
    for model in ("pocket", str(tiny_checkpoint("mono")), "pocket"):
        load_model(parsed("a", "--model", model, of=all_options))
        said.append("--model facebook/musicgen-small (CC-BY-NC-4.0" in capsys.readouterr().err)
        here = [tmp_path] if len(said) == 2 else []
    assert said == [True, False, False]
