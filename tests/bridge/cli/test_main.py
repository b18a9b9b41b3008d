"""The command line as a newcomer meets it: quick help, one-line errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import streamgen
from bridge.cli import main as cli
from streamgen.errors import CapacityError, CheckpointError, ConfigError, PromptError

Run = Callable[..., Any]

_HELPS = """
import sys
from contextlib import suppress
from bridge.cli.main import main
for words in {}:
    with suppress(SystemExit):
        main([*words, "--help"])
    assert "torch" not in sys.modules, words
"""


def helps(*commands: list[str], **environment: str) -> bytes:
    """What a process of its own, which must not load torch for it, says of itself and of commands."""
    code = _HELPS.format(commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_help_takes_half_a_second_of_processor_and_no_torch() -> None:
    before = os.times()
    helps([])
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5


def test_no_command_needs_torch_to_tell_its_options() -> None:
    told = helps(*([command] for command in cli._COMMANDS)).decode()
    assert [command for command in cli._COMMANDS if f"usage: streamgen {command} " not in told] == []


def test_the_overview_names_every_command(run: Run) -> None:
    text = run("--help").out
    for command in ("render", "play", "serve", "listen", "models", "devices", "doctor", "bench"):
        assert f"\n    {command} " in text


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").out == "0.1.0\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no command: choose one of render"),
        (("paint",), "no command 'paint'; there are render, play, "),
        (("rendr",), "no command 'rendr'; did you mean render?"),
        (("render", "a", "--out", "a.wav", "--secs", "3"), "arguments: --secs 3; did you mean --seconds?"),
        (("render", "house", "125", "bpm", "--out", "a.wav"), 'of several words stands in quotes: "house 125 bpm"'),
        (("render", "a", "--out", "a.wav", "--bpm", "120"), "arguments: --bpm 120; did you mean --tempo?"),
        (("render", "a", "--out", "a.wav", "--duration=5"), "arguments: --duration=5; did you mean --seconds?"),
        (("render", "a", "-o", "a.wav", "--out", "a.wav"), "arguments: -o a.wav; did you mean --out?"),
        (("render", "a", "--out", "a.wav", "--chorus", "3"), "arguments: --chorus 3; see `streamgen render --help`"),
        (("play", "house", "125", "bpm"), 'of several words stands in quotes: "house 125 bpm"'),
        (("serve", "house"), 'unrecognized arguments: house; a prompt is said as --prompt "house"'),
        (("models", "all"), "unrecognized arguments: all; see `streamgen models --help`"),
        (("render",), "the following arguments are required: --out"),
        (("render", "a", "--out", "a.wav", "--second", "3"), "unrecognized arguments: --second"),
        (("render", "a", "--out", "a.wav", "--seconds", "0"), "argument --seconds: it is 0.0, must be within 0.1 … "),
        (("render", "a", "--out", "a.wav", "--seconds", "ten"), "argument --seconds: it is 'ten', must be a number"),
        (
            ("render", "a", "--out", "a.wav", "--temperature", "-1"),
            "argument --temperature: it is -1.0, must be within 0 … 5",
        ),
        (("render", "a", "--out", "a.wav", "--top-k", "2.5"), "argument --top-k: it is '2.5', must be a whole number"),
        (
            ("render", "a", "--out", "a.wav", "--sample-rate", "1"),
            "argument --sample-rate: it is 1, must be within 8000 … 192000 Hz",
        ),
        (("render", "a", "--out", "a.wav", "--precision", "fp8"), "invalid choice: 'fp8'"),
        (("render", "a", "--out", "a.aac"), "--out is 'a.aac': its suffix must be .wav, .flac, .ogg or .mp3"),
        (("render", "a", "--out", "/no/such/a.wav"), "there is no folder '/no/such'; make it first"),
        (("render", "", "--out", "a.wav"), "PROMPT is empty"),
        (("render", "--out", "a.wav"), "no PROMPT"),
        (("bench", "--stereo"), "--stereo belongs to --shape"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(run: Run, words: tuple[str, ...], says: str) -> None:
    answer = run(*words)
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.error_line
    assert answer.error_line.startswith("streamgen")


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError, 2), (PromptError, 2), (CheckpointError, 1), (CapacityError, 1), (KeyboardInterrupt, 1)],
)
def test_the_engines_errors_are_one_line_with_their_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: type[BaseException], code: int
) -> None:
    def load_model(*_words: str, **_options: str) -> None:
        raise error("what, the\nvalue, the remedy")

    monkeypatch.setitem(vars(streamgen), "load_model", load_model)
    answer = run("render", "a", "--out", tmp_path / "a.wav")
    assert answer.code == code
    said = "interrupted" if error is KeyboardInterrupt else "what, the value, the remedy"
    assert answer.err.splitlines() == ["loading pocket …", f"streamgen: {said}"]


@pytest.mark.parametrize("page", ["cp1252", *(pytest.param(p, marks=pytest.mark.slow) for p in ("cp850", "ascii"))])
def test_a_legacy_console_gets_help_and_json(page: str) -> None:
    """Windows writes pipes and files in its code page, which lacks … and most of the world's names."""
    told = helps(*([command] for command in cli._COMMANDS), PYTHONIOENCODING=page)
    assert told.count(b"\nusage: ") == len(cli._COMMANDS) - 1
    code = "from bridge.cli.terminal import lenient_output, print_json, say; lenient_output(); say('音 …')"
    words = [sys.executable, "-c", code + "; print_json({'out': '音é.wav'})"]
    done = subprocess.run(words, capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": page})
    assert json.loads(done.stdout.decode("utf-8")) == {"out": "音é.wav"}
