"""The command line as a newcomer meets it: quick help, one-line errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import streamgen
from bridge.cli import main as cli
from streamgen.errors import CapacityError, CheckpointError, ConfigError, PromptError

Run = Callable[..., Any]

_HELP_WITHOUT_TORCH = """
import sys
from bridge.cli.main import main
try:
    main({})
finally:
    assert "torch" not in sys.modules
"""


def test_help_answers_in_half_a_second_without_torch() -> None:
    code = _HELP_WITHOUT_TORCH.format(["--help"])
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - began)
        assert done.stderr == ""
    assert min(times) < 0.5


@pytest.mark.parametrize("command", ["render", "play", "serve", "models", "devices", "doctor", "bench"])
def test_no_command_needs_torch_to_tell_its_options(command: str) -> None:
    code = _HELP_WITHOUT_TORCH.format([command, "--help"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: streamgen {command}")


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
        (("paint",), "invalid choice: 'paint'"),
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
    run = partial(subprocess.run, capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": page})
    for name in cli._COMMANDS:
        assert b"--help" in run([sys.executable, "-m", "bridge.cli.main", name, "--help"]).stdout
    code = "from bridge.cli.terminal import lenient_output, print_json, say; lenient_output(); say('音 …')"
    done = run([sys.executable, "-c", code + "; print_json({'out': '音é.wav'})"])
    assert json.loads(done.stdout.decode("utf-8")) == {"out": "音é.wav"}
