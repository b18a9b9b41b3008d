"""`streamgen listen` as a command, against a server in another thread."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.cli.listen import settings
from bridge.errors import UsageError

from ..doors.web_session import RATE_HZ, Open, serving, sine

EXAMPLE = Path(__file__).parents[3] / "examples" / "websocket_client.py"


@pytest.fixture
def door() -> Iterator[Open]:
    """A server that plays a sine, five times as fast as real time."""
    ready, stop, found = threading.Event(), threading.Event(), []

    async def go() -> None:
        async with serving() as opened:
            pace = asyncio.create_task(opened.session.pace(5.0))
            found.append(opened)
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)
            pace.cancel()

    thread = threading.Thread(target=asyncio.run, args=(go(),))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    stop.set()
    thread.join()


def test_it_saves_what_was_sent(door: Open, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "a.wav"
    url = f"127.0.0.1:{door.web.port}"
    words = ("--seconds", 0.5, "--out", out, "--set", "prompt/1/text=a=b", "--set", "mute=on", "--json")
    answer = run("listen", url, *words)
    assert answer.code == 0, answer.err
    assert door.session.now["prompt/1/text"] == "a=b"
    assert door.session.now["mute"] is True
    samples, rate_hz = soundfile.read(out, dtype="float32")
    assert (samples.shape, rate_hz) == ((RATE_HZ // 2, 2), RATE_HZ)
    start = answer.fields["audio_seconds"] and _start_of(samples)
    np.testing.assert_allclose(samples.T, sine(start, start + RATE_HZ // 2), atol=2e-4)
    fields = {name: answer.fields[name] for name in ("audio_seconds", "gaps", "codec", "out", "interrupted", "model")}
    assert fields == {
        "audio_seconds": 0.5, "gaps": 0, "codec": "s16le", "out": str(out), "interrupted": False, "model": "sine"
    }  # fmt: skip


def _start_of(samples: np.ndarray) -> int:
    """The sine repeats every 1,600 samples: find the phase."""
    errors = [np.abs(samples[:64].T - sine(start, start + 64)).max() for start in range(1_600)]
    return int(np.argmin(errors))


def test_settings_are_read_by_the_table() -> None:
    wanted = {"top_k": 5, "mute": False, "negative_prompt": "1", "temperature": 0.5}
    assert settings(["top_k=5", "mute=off", "negative_prompt=1", "temperature=.5"]) == wanted


@pytest.mark.parametrize(
    ("word", "problem"),
    [("seed", "NAME=VALUE"), ("x=1", "no parameter 'x'"), ("top_k=many", "must be a number"), ("top_k=-1", "within")],
)
def test_a_wrong_setting_is_a_wrong_use(word: str, problem: str, run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=problem):
        settings([word])
    answer = run("listen", "127.0.0.1:9", "--out", tmp_path / "a.wav", "--set", word)
    assert (answer.code, answer.error_line.startswith("streamgen: --set")) == (2, True)


def test_nobody_there_is_one_line_and_no_file(run: Callable[..., Any], tmp_path: Path) -> None:
    answer = run("listen", "127.0.0.1:9", "--out", tmp_path / "a.wav", "--seconds", 1)
    assert answer.code == 1
    assert "no streamgen answers at ws://127.0.0.1:9/v1/stream" in answer.error_line
    assert not list(tmp_path.iterdir())


def test_the_example_hears_and_steers_too(door: Open, tmp_path: Path) -> None:
    out = tmp_path / "heard.wav"
    words = ["--url", door.stream, "--seconds", "0.5", "--prompt", "waltz", "--out", str(out)]
    subprocess.run([sys.executable, EXAMPLE, *words], check=True, timeout=60, capture_output=True)
    samples, rate_hz = soundfile.read(out, dtype="float32")
    assert rate_hz == RATE_HZ
    assert RATE_HZ // 2 <= len(samples) < RATE_HZ
    start = _start_of(samples)
    np.testing.assert_allclose(samples.T, sine(start, start + len(samples)), atol=2e-4)
    assert door.session.now["prompt/1/text"] == "waltz"
