"""Options from the tables: what reaches settings, session and engine, and what never gets that far."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import streamgen
from bridge import settings
from bridge.cli.options import (
    add_music_options,
    add_prompt,
    add_prompt_files,
    add_settings,
    first_values,
    load_model,
    prompt_files,
    prompt_of,
    settings_of,
)
from bridge.errors import UsageError
from bridge.session.parameters import session_table
from bridge.settings import OPTIONS, Settings, music_table
from streamgen.checkpoint import known
from streamgen.config import ControlSpec, number
from streamgen.testing import FakeModel, tiny_checkpoint

from ..conftest import ToyModel


def all_options(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, *OPTIONS, model=False)
    add_music_options(parser)
    add_prompt_files(parser)


def prompted(parser: argparse.ArgumentParser) -> None:
    add_prompt(parser)
    add_settings(parser, "session_rate")
    add_music_options(parser)
    add_prompt_files(parser)


Parse = Callable[..., argparse.Namespace]


def test_nothing_said_is_every_default(parsed: Parse) -> None:
    assert settings_of(parsed(of=all_options)) == Settings()


def test_every_setting_has_an_option(parsed: Parse) -> None:
    words = "--prompt a --host ::1 --port 1 --osc-port 2 --token t --insecure --allow-origin x --allow-origin y"
    words += (
        " --record r.wav --state s --fresh --rack r.toml --presets p --scene c --no-soundcard --output o --latency 0.5"
    )
    words += " --latency 0.5 --session-rate 44100 --link --link-interface 10.0.0.1 --midi k --midi-clock in"
    words += " --osc-target h:1 --announce --icecast http://i/x.ogg --takes t"
    words += " --reastream h --rtp i --jack --jack-connect system --jack-transport follow"
    words += " --tls-cert c.pem --tls-key k.pem --model m --threads 3 --device cuda:1 --precision bf16"
    found = settings_of(parsed(*words.split(), of=all_options))
    assert found == Settings(
        prompt="a", host="::1", port=1, osc_port=2, token="t", insecure=True, allow_origin=("x", "y"),
        record=Path("r.wav"), state=Path("s"), fresh=True, rack=Path("r.toml"), presets=Path("p"),
        tls_cert=Path("c.pem"), tls_key=Path("k.pem"), scene=Path("c"), soundcard=False,
        link=True, link_interface="10.0.0.1", midi=("k",), midi_clock="in",
        osc_target=("h:1",), announce=True, icecast=("http://i/x.ogg",), takes=Path("t"), reastream=("h",), rtp="i",
        jack=True, jack_connect="system", jack_transport="follow",
        output="o", latency=0.5, session_rate=44_100, model="m", threads=3, device="cuda:1", precision="bf16",
        music={"arrange": True}, said=frozenset(OPTIONS) | {"arrange"},  # a scene implies it
    )  # fmt: skip


def _number(spec: ControlSpec) -> str:
    return str(int(spec.limits[1])) if spec.type == "int" else "0.5"


def test_every_parameter_of_the_music_has_an_option(parsed: Parse) -> None:
    words = {
        spec.name: (spec.choices or ("yes",))[-1] if spec.type == "string" else _number(spec)
        for spec in music_table().values()
        if spec.type != "bool"
    }
    said = [word for name, value in words.items() for word in ("--" + name.replace("_", "-"), value)]
    switches = [spec for spec in music_table().values() if spec.type == "bool"]
    said += [("--no-" if spec.default else "--") + spec.name.replace("_", "-") for spec in switches]
    music = settings_of(parsed(*said, of=all_options)).music
    assert set(music) == set(music_table())
    assert (music["mute"], music["guard"]) == (True, False)
    assert (music["negative_prompt"], music["temperature"]) == ("yes", 0.5)
    assert music["master"] == "gentle"
    assert music["top_k"] == 2_048
    assert isinstance(music["top_k"], int)


def test_a_parameter_added_to_the_table_is_an_option_of_every_command(
    parsed: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparkle = replace(number(0, 10, 2, "", "how much it glitters"), name="sparkle")
    monkeypatch.setattr(settings, "session_table", lambda: session_table() | {"sparkle": sparkle})
    from bridge.cli import play, render, serve

    for command, words in ((render, ["a", "--out", "a.wav"]), (play, ["a"]), (serve, [])):
        found = settings_of(parsed(*words, "--sparkle", "7", of=command.add_arguments))
        assert found.music == {"sparkle": 7.0}


def test_a_switch_can_be_said_both_ways(parsed: Parse, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("mute = true\ninsecure = true\n")
    args = parsed("--no-mute", "--no-insecure", of=all_options)
    args.config = tmp_path / "a.toml"
    found = settings_of(args)
    assert (found.music["mute"], found.insecure) == (False, False)


def test_a_session_begins_with_what_was_said_and_a_seed_that_is_always_known(parsed: Parse) -> None:
    found = settings_of(parsed("--top-k", "5", "--temperature", "0", of=all_options))
    first = first_values(found, "piano", {"top_k": 9, "width": 0.5})
    seed = first.pop("seed")
    assert first == {"prompt/1/text": "piano", "top_k": 5, "temperature": 0.0, "width": 0.5}
    assert 0 <= int(seed) < 2**31
    assert seed != first_values(found, "piano", {})["seed"]
    of_none = first_values(settings_of(parsed("--seed", "0", of=all_options)), None, {})
    assert of_none == {"prompt/1/text": "", "seed": 0}


def test_files_are_read_with_their_rate(parsed: Parse, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((50, 1), 0.25), 22_050)
    names = ("audio_prompt", "melody", "style")
    words = [word for name in names for word in (f"--{name.replace('_', '-')}", str(tmp_path / "a.wav"))]
    found = prompt_files(parsed(*words, of=all_options))
    for name in names:
        assert found[f"{name}_rate_hz"] == 22_050
        np.testing.assert_array_equal(found[name], np.full((1, 50), 0.25, np.float32))


def test_no_prompt_is_none_only_when_asked_for(parsed: Parse) -> None:
    assert prompt_of(parsed("--unconditional", of=prompted)) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no PROMPT"),
        (["a", "--unconditional"], "choose one"),
        (["  "], "PROMPT is empty"),
        (["x" * 2_001], "PROMPT has 2,001 characters, the limit is 2,000"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(parsed: Parse, words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        prompt_of(parsed(*words, of=prompted))


def test_a_file_that_is_not_there_is_refused(parsed: Parse) -> None:
    with pytest.raises(UsageError, match=r"--melody is '/no/such\.wav': there is no such file"):
        prompt_files(parsed("--melody", "/no/such.wav", of=all_options))


def test_the_help_tells_limits_and_defaults() -> None:
    parser = argparse.ArgumentParser()
    all_options(parser)
    text = " ".join(parser.format_help().split())
    for words in (
        "OSC, UDP and TCP (default: 8712)",
        "samples a second, of everything that is heard; 32000 … 96000 Hz (default: 48000)",
        "same seed, same music; 0 … 2147483647 (default: random)",
        "how adventurous the draws are; 0 is greedy; 0 … 5 (default: 1, or the model's)",
        "--soundcard, --no-soundcard play here, if there is a sound device (default: on)",
        "record the output: .flac or .wav (default: no recording)",
    ):
        assert words in text


def test_the_model_is_loaded_as_asked(parsed: Parse, toy_model: ToyModel) -> None:
    said = settings_of(parsed("--model", "m", "--precision", "bf16", "--device", "cpu", of=all_options))
    loaded: Any = load_model(said)
    assert loaded is toy_model
    assert toy_model.loaded_with == {"name": "m", "device": "cpu", "precision": "bf16", "threads": None}


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), (2, 2)])
def test_what_torch_does_beside_a_model_is_done_on_as_many_threads(
    three_threads: None, asked: int | None, threads: int
) -> None:
    model = load_model(Settings(model=str(tiny_checkpoint("mono")), precision="fp32", threads=asked))
    assert model.threads == torch.get_num_threads() == threads


def test_where_a_model_leaves_that_to_torch_so_does_the_command(three_threads: None, toy_model: ToyModel) -> None:
    load_model(Settings())
    assert torch.get_num_threads() == 3


def test_the_shipped_model_names_metas_until_one_is_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(vars(streamgen), "load_model", lambda *_, **__: FakeModel())
    here: list[Path] = []
    monkeypatch.setattr(known, "cached_folder", lambda _: here[0] if here else None)
    said = []
    for model in ("pocket", str(tiny_checkpoint("mono")), "pocket"):
        load_model(Settings(model=model))
        said.append("--model facebook/musicgen-small, CC-BY-NC-4.0" in capsys.readouterr().err)
        here = [tmp_path] if len(said) == 2 else []
    assert said == [True, False, False]
