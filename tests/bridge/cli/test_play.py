"""`streamgen play`: from the stream through ring and resampler to a device, and what a typed line does."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bridge.cli import play
from bridge.doors.sound_card.card import OutputDevice
from bridge.errors import DeviceError

Run = Callable[..., Any]

SPEAKERS = OutputDevice(1, "Speakers", "ALSA", 2, 48_000, 0.03, True)


class Device:
    """A PortAudio that asks for 10 ms blocks from its own thread, ten times as fast as real time, and keeps them."""

    latency = 0.1

    def __init__(self, **options: Any) -> None:
        self.options, self.heard, self._running = options, [], False

    def start(self) -> None:
        self._running = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        frames = self.options["samplerate"] // 100
        while self._running:
            out = np.full((frames, self.options["channels"]), np.nan, np.float32)
            self.options["callback"](out, frames, None, "")
            self.heard.append(out)
            time.sleep(0.001)

    def stop(self) -> None:
        self._running = False
        self._thread.join()

    def close(self) -> None:
        pass


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    opened = SimpleNamespace(info=SPEAKERS)

    def open_stream(**options: Any) -> Device:
        opened.stream = Device(**options)
        return opened.stream

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(OutputStream=open_stream, PortAudioError=OSError))
    monkeypatch.setattr(play, "choose_device", lambda _wanted: opened.info)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    return opened


def sine(frames: int, rate_hz: int, level: float = 0.5) -> np.ndarray:
    time_seconds = np.arange(frames)[:, None] / rate_hz
    return level * np.sin(2 * np.pi * np.array([440.0, 660.0]) * time_seconds)


def test_the_device_hears_the_stream_at_its_own_rate_to_the_last_sample(run: Run, sine_model: Any, device: Any) -> None:
    answer = run("play", "a", "--seconds", "2", "--json", "--seed", "9")
    assert answer.code == 0
    heard = np.concatenate(device.stream.heard)
    assert device.stream.options["samplerate"] == 48_000
    inner = slice(1_000, 95_000)
    np.testing.assert_allclose(heard[inner], sine(96_000, 48_000)[inner], atol=2e-3)
    np.testing.assert_array_equal(heard[96_000 + 300 :], 0.0)
    fields = answer.fields
    assert (fields["audio_seconds"], fields["gaps"], fields["seed"], fields["output"]) == (2.0, 0, 9, "Speakers")
    assert sine_model.streams[0].closed
    assert "playing on Speakers (ALSA, 48000 Hz)" in answer.err


def test_a_mono_device_gets_the_mean_of_both_channels(run: Run, sine_model: Any, device: Any) -> None:
    device.info = OutputDevice(3, "Bell", "ALSA", 1, 32_000, 0.03, False)
    run("play", "a", "--seconds", "1")
    heard = np.concatenate(device.stream.heard)[:32_000]
    np.testing.assert_allclose(heard[:, 0], sine(32_000, 32_000).mean(axis=1), atol=1e-6)


def test_a_line_from_a_pipe_changes_the_prompt_and_its_end_plays_on(
    run: Run, sine_model: Any, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("techno\n\n:set top_k 7\nrefused\n"))
    answer = run("play", "a", "--seconds", "6")
    assert answer.code == 0
    assert sine_model.streams[0].changes == [{"prompt": "techno"}, {"top_k": 7}]
    assert "prompt is refused" in answer.err
    assert len(np.concatenate(device.stream.heard)) >= 6 * 48_000


def test_quitting_stops_the_music(run: Run, sine_model: Any, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(":q\n"))
    assert run("play", "a").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(run: Run, sine_model: Any, device: Any, number: int) -> None:
    sine_model.before_chunk = lambda stream: os.kill(os.getpid(), number) if stream.position == 64_000 else None
    answer = run("play", "a", "--json")
    assert answer.code == 0
    assert answer.fields["audio_seconds"] >= 2.0
    assert sine_model.streams[0].closed


def test_a_stream_slower_than_its_listener_has_gaps_that_are_counted_and_explained(
    run: Run, sine_model: Any, device: Any
) -> None:
    sine_model.before_chunk = lambda _stream: time.sleep(0.11)
    answer = run("play", "a", "--seconds", "1.5", "--buffer", "0.2", "--json")
    assert answer.fields["gaps"] > 0
    assert answer.fields["gap_seconds"] > 0
    assert "slower than real time here: choose a smaller --model, or `streamgen render`" in answer.err


def test_an_error_in_the_engines_thread_ends_the_command_with_its_line(run: Run, sine_model: Any, device: Any) -> None:
    from streamgen.errors import CapacityError

    def fail(stream: Any) -> None:
        if stream.position > 48_000:
            raise CapacityError("no memory left")

    sine_model.before_chunk = fail
    answer = run("play", "a")
    assert answer.code == 1
    assert answer.err.splitlines()[-1] == "streamgen: no memory left"


def test_without_a_device_it_offers_render_before_loading_anything(
    run: Run, sine_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_wanted: str | None) -> OutputDevice:
        raise DeviceError("no sound device: PortAudio finds none that plays")

    monkeypatch.setattr(play, "choose_device", none)
    answer = run("play", "lofi piano")
    assert answer.code == 1
    assert answer.error_line == (
        "streamgen: no sound device: PortAudio finds none that plays; "
        'to make a file instead: streamgen render "lofi piano" --seconds 30 --out music.wav'
    )
    assert sine_model.streams == []


@pytest.fixture
def player(sine_model: Any) -> play.Player:
    return play.Player(sine_model.open_stream(prompt="a"), 32_000, SPEAKERS, 1.0)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("", ""),
        ("techno, 130 bpm", "prompt: techno, 130 bpm"),
        (":set temperature 0.5", "temperature: 0.5"),
        (":set temperature hot", "temperature is 'hot', must be a number within 0 … 5"),
        (":set temperature 9", "temperature is 9.0, must be within 0 … 5"),
        (":set change_context_seconds 0", "change_context_seconds: 0"),
        (":set seed 4", play._HELP),
        (":set", play._HELP),
        (":", play._HELP),
        (":help", play._HELP),
        (":s", "0 s made, 0.00 × real time, 0.0 s ready, 0 gaps, 0.0 s of silence"),
    ],
)
def test_what_a_line_answers(player: play.Player, line: str, answer: str) -> None:
    assert play.handle_line(line, player) == answer
    assert not player.stopping.is_set()


@pytest.mark.parametrize("line", [":q", ":quit"])
def test_how_to_quit(player: play.Player, line: str) -> None:
    assert play.handle_line(line, player) == ""
    assert player.stopping.is_set()
