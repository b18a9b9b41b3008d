"""`streamgen listen` as a command, against a server in another thread."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.cli.listen import values_of, words_of
from bridge.doors.sound_card.card import OutputDevice
from bridge.errors import UsageError
from bridge.session.parameters import session_table
from streamgen.config import number
from streamgen.errors import ConfigError

from ..doors.sound_card.test_door import SPEAKERS, Card, scans  # noqa: F401 - a fixture
from ..doors.web_session import RATE_HZ, Open, serving, sine

EXAMPLE = Path(__file__).parents[3] / "examples" / "websocket_client.py"


@pytest.fixture
def door(request: pytest.FixtureRequest) -> Iterator[Open]:
    """A server that plays a sine, five times as fast as real time, or as a test says."""
    ready, stop, found = threading.Event(), threading.Event(), []

    async def go() -> None:
        async with serving() as opened:
            pace = asyncio.create_task(opened.session.pace(getattr(request, "param", 5.0)))
            found.append(opened)
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)
            pace.cancel()

    thread = threading.Thread(target=asyncio.run, args=(go(),))
    thread.start()
    assert ready.wait(10)
    found[0].ends = stop
    yield found[0]
    stop.set()
    thread.join()


def eventually(true: Callable[[], bool]) -> None:
    """Wait for it: a server goes on with what was asked when its client has left already."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_saves_what_was_sent(door: Open, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "a.wav"
    url = f"127.0.0.1:{door.web.port}"
    words = ("--seconds", 0.5, "--out", out, "--set", "prompt/1/text=a=b", "--set", "mute=on", "--json")
    answer = run("listen", url, *words)
    assert answer.code == 0, answer.err
    eventually(lambda: door.session.now["prompt/1/text"] == "a=b" and door.session.now["mute"] is True)
    samples, rate_hz = soundfile.read(out, dtype="float32")
    assert (samples.shape, rate_hz) == ((RATE_HZ // 2, 2), RATE_HZ)
    start = answer.fields["audio_seconds"] and _start_of(samples)
    np.testing.assert_allclose(samples.T, sine(start, start + RATE_HZ // 2), atol=2e-4)
    fields = {name: answer.fields[name] for name in ("audio_seconds", "gaps", "codec", "out", "interrupted", "model")}
    assert fields == {
        "audio_seconds": 0.5, "gaps": 0, "codec": "s16le", "out": str(out), "interrupted": False, "model": "sine"
    }  # fmt: skip


def _start_of(samples: np.ndarray) -> int:
    """The sine repeats twenty times a second: find the phase."""
    errors = [np.abs(samples[:64].T - sine(start, start + 64)).max() for start in range(RATE_HZ // 20)]
    return int(np.argmin(errors))


ROWS = [spec.as_dict() for spec in session_table().values()]


def test_changes_are_read_by_the_servers_table() -> None:
    words = words_of(["top_k=5", "mute=off", "negative_prompt=1=2", "temperature=.5"])
    assert values_of(words, ROWS) == {"top_k": 5, "mute": False, "negative_prompt": "1=2", "temperature": 0.5}


def test_what_only_the_server_knows_can_be_set(door: Open, tmp_path: Path, run: Callable[..., Any]) -> None:
    """A server of another version, or with plugins of its own."""
    for table in (door.session.table, door.session.parameters.table):
        table["sparkle"] = replace(number(0, 10, 2, "", ""), name="sparkle")  # type: ignore[index]
    url, out = f"127.0.0.1:{door.web.port}", tmp_path / "a.wav"
    assert run("listen", url, "--seconds", 0.5, "--out", out, "--set", "sparkle=7").code == 0
    eventually(lambda: door.session.now.get("sparkle") == 7)
    answer = run("listen", url, "--seconds", 0.1, "--out", out, "--force", "--set", "sparkle=11")
    assert (answer.code, answer.err.splitlines()[-1]) == (
        2, "streamgen: --set: sparkle is 11.0, must be within 0 … 10"
    )  # fmt: skip


def test_what_the_server_refuses_is_told_by_the_exit_code(
    door: Open, tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: object) -> int:
        raise ConfigError("another hand has the gain")

    monkeypatch.setattr(door.session, "do", refused)
    url, out = f"127.0.0.1:{door.web.port}", tmp_path / "a.wav"
    answer = run("listen", url, "--seconds", 1, "--out", out, "--set", "gain_db=-6", "--json")
    assert (answer.code, answer.fields["errors"], answer.fields["audio_seconds"]) == (1, 1, 1.0)
    assert "another hand has the gain" in answer.err


@pytest.mark.parametrize(
    ("word", "problem"),
    [("x=1", "no parameter 'x'"), ("top_k=many", "must be a whole number"), ("top_k=-1", "within")],
)
def test_what_does_not_fit_the_servers_table_is_a_wrong_use(word: str, problem: str) -> None:
    with pytest.raises(UsageError, match=f"^--set: .*{problem}"):
        values_of(words_of([word]), ROWS)


def test_a_change_without_a_value_is_refused_before_anybody_is_called(run: Callable[..., Any], tmp_path: Path) -> None:
    answer = run("listen", "127.0.0.1:9", "--out", tmp_path / "a.wav", "--set", "seed")
    assert (answer.code, "NAME=VALUE" in answer.error_line) == (2, True)


def test_it_ends_at_once_when_the_server_does(door: Open, tmp_path: Path, run: Callable[..., Any]) -> None:
    threading.Timer(0.5, door.ends.set).start()  # type: ignore[attr-defined]
    began = time.monotonic()
    answer = run("listen", f"127.0.0.1:{door.web.port}", "--out", tmp_path / "a.wav", "--json")
    assert time.monotonic() - began < 2.0
    assert answer.code == 0
    assert "the server says goodbye" in answer.err
    assert "trying again" not in answer.err
    assert soundfile.info(tmp_path / "a.wav").frames == round(answer.fields["audio_seconds"] * RATE_HZ) > 0


@pytest.mark.parametrize("number_", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_within_a_second_of_a_signal_even_where_nobody_answers(
    run: Callable[..., Any], tmp_path: Path, number_: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the connection, says nothing
        threading.Timer(0.5, os.kill, (os.getpid(), number_)).start()
        began = time.monotonic()
        answer = run("listen", f"127.0.0.1:{deaf.getsockname()[1]}", "--out", tmp_path / "a.wav")
        assert 0.4 < time.monotonic() - began < 1.5 + 0.5
    assert answer.code == 0
    assert not list(tmp_path.iterdir())


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


@pytest.fixture
def card(scans: list[OutputDevice], monkeypatch: pytest.MonkeyPatch) -> type[Card]:  # noqa: F811 - imported for this
    """A device that can be pulled out; of a rate beyond the server's 96 kHz."""
    scans[:] = [replace(SPEAKERS, sample_rate_hz=192_000)]
    for module in ("card", "door"):
        monkeypatch.setattr(f"bridge.doors.sound_card.{module}.choose_device", lambda _wanted: scans[0])
    monkeypatch.setattr("bridge.cli.listen.choose_device", lambda _wanted: scans[0])
    return Card


@pytest.mark.slow
@pytest.mark.parametrize("door", [1.0], indirect=True)
def test_a_device_that_goes_away_is_opened_again_at_its_own_rate(
    door: Open, card: type[Card], run: Callable[..., Any]
) -> None:
    def pull_out() -> None:
        card.plugged = card.opened[0].active = False
        threading.Timer(0.5, setattr, (card, "plugged", True)).start()

    threading.Timer(0.7, pull_out).start()
    answer = run("listen", f"127.0.0.1:{door.web.port}", "--seconds", 4, "--json")
    assert (answer.code, answer.fields["gaps"], answer.fields["sample_rate_hz"]) == (0, 1, 96_000)
    assert 0.3 < answer.fields["gap_seconds"] < 2
    assert "device 'Speakers' went away; trying again" in answer.err
    assert answer.err.endswith("s of it while the sound device was away\n")
    first, second = (np.concatenate(one.heard)[:, 0] for one in card.opened)
    assert np.abs(first).max() > 0.1
    assert np.abs(second).max() > 0.1
