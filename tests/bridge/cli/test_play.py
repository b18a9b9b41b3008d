"""`streamgen play`: the application with a sound card and a terminal, from the model to what the device hears."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import bridge.threads
from bridge.audio.ring import Ring
from bridge.doors.device.feeder import Feeder
from bridge.doors.sound_card import card as sound_card
from bridge.doors.sound_card import door as sound_door
from bridge.doors.sound_card.card import OutputDevice
from bridge.errors import DeviceError
from bridge.session.events import Block
from streamgen.errors import CapacityError
from streamgen.testing import fake_pitch_hz, tiny_checkpoint
from streamgen.testing.fake import AMPLITUDE

from ..conftest import ToyModel

Run = Callable[..., Any]

FADED_SECONDS = 0.02  # before the end, where the resampler hears the fade behind it
SPEAKERS = OutputDevice(1, "Speakers", "ALSA", 2, 48_000, 0.03, True)


class Card:
    """A sound card that asks for 10 ms from its own thread, in real time, and keeps them."""

    latency_seconds, late_callbacks = 0.02, 0
    opened: list[Card]

    def __init__(self, device: OutputDevice, ring: Ring, _latency_seconds: float) -> None:
        self.device, self.ring, self.active = device, ring, True
        self.heard: list[np.ndarray] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        Card.opened.append(self)

    def _run(self) -> None:
        due = time.monotonic()
        while self.active:
            out = np.full((self.device.sample_rate_hz // 100, self.device.channels), np.nan, np.float32)
            self.ring.read_into(out)
            self.heard.append(out)
            due += 0.01
            time.sleep(max(0.0, due - time.monotonic()))

    def __enter__(self) -> Card:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.active = False
        self.thread.join()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    found = SimpleNamespace(info=SPEAKERS)
    Card.opened = []
    for module in (sound_card, sound_door):
        monkeypatch.setattr(module, "choose_device", lambda _wanted: found.info)
    monkeypatch.setattr(sound_door, "SoundCard", Card)
    monkeypatch.setattr(bridge.threads, "go_first", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    yield found
    for card in Card.opened:
        card.active = False


def heard() -> np.ndarray:
    return np.concatenate(Card.opened[0].heard)


def sounding(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Cut off the silence before and behind the music."""
    at = np.flatnonzero(np.abs(samples).max(axis=1) > 0.01)
    return samples[at[0] : at[-1] + 1]


def pitch_hz(samples: np.ndarray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples)), 1 << 18))
    return float(np.argmax(spectrum)) * rate_hz / (1 << 18)


@pytest.mark.slow
def test_the_device_hears_the_music_at_its_own_rate_to_its_end(run: Run, toy_model: ToyModel, device: Any) -> None:
    device.info = OutputDevice(1, "Speakers", "ALSA", 2, 44_100, 0.03, True)
    answer = run("play", "a", "--seconds", "2", "--json", "--seed", "9")
    assert answer.code == 0, answer.err
    music = sounding(heard(), 44_100)
    assert len(music) / 44_100 == pytest.approx(2.02, abs=0.03), "two seconds, and a fade"
    assert pitch_hz(music[4_410:-4_410], 44_100) == pytest.approx(fake_pitch_hz("a"), rel=2e-3)
    assert np.abs(music[4_410:-4_410]).max() == pytest.approx(AMPLITUDE, rel=0.02)
    assert np.abs(np.diff(music, axis=0)).max() < 1.5 * AMPLITUDE * 2 * np.pi * 440 / 44_100, "no click anywhere"
    np.testing.assert_array_equal(heard()[-1], 0.0)
    fields = answer.fields
    assert (fields["audio_seconds"], fields["gaps"], fields["seed"], fields["output"]) == (2.0, 0, 9, "Speakers")
    assert (fields["sample_rate_hz"], fields["channels"], fields["windows"]) == (44_100, 2, 1)
    assert set(fields) == {
        "model", "precision", "device", "output", "sample_rate_hz", "channels", "audio_seconds", "realtime_factor",
        "gaps", "late_callbacks", "gap_seconds", "windows", "seed",
    }  # fmt: skip
    assert toy_model.all_closed
    assert "playing on Speakers (ALSA, 44100 Hz); a change is heard in about 0." in answer.err


def test_the_device_is_given_what_render_writes_to_the_last_bit(
    run: Run, device: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A device of the session's rate is given its samples as they are: test_feeder.py."""
    given: list[Block] = []
    feed = Feeder.feed
    monkeypatch.setattr(Feeder, "feed", lambda feeder, block: (given.append(block), feed(feeder, block)))
    words = ("house, drums", "--model", tiny_checkpoint("stereo"), "--precision", "fp32", "--seed", 7)
    assert run("play", *words, "--seconds", 0.5 + FADED_SECONDS).code == 0
    assert run("render", *words, "--seconds", 0.5, "--bits", 32, "--out", tmp_path / "a.wav").code == 0
    assert [block.start_sample for block in given] == [0, *(block.end_sample for block in given[:-1])]
    rendered, played = soundfile.read(tmp_path / "a.wav", dtype="float32")[0], np.hstack([one.samples for one in given])
    assert len(rendered) == SPEAKERS.sample_rate_hz // 2
    assert rendered.std() > 0
    np.testing.assert_array_equal(played.T[: len(rendered)], rendered)


@pytest.mark.slow
def test_a_mono_device_gets_the_mean_of_both_channels(run: Run, toy_model: ToyModel, device: Any) -> None:
    device.info = OutputDevice(3, "Bell", "ALSA", 1, 48_000, 0.03, False)
    run("play", "a", "--seconds", "1")
    music = sounding(heard(), 48_000)
    assert music.shape[1] == 1
    assert np.abs(music).max() == pytest.approx(AMPLITUDE, rel=0.02)


@pytest.mark.slow
def test_a_line_from_a_pipe_changes_the_prompt_and_its_end_plays_on(
    run: Run, toy_model: ToyModel, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("techno\n\n:set top_k 7\n:set top_k 9999\nno \0 text\n"))
    answer = run("play", "a", "--seconds", "3")
    assert answer.code == 0
    assert toy_model.opened[0][0].controls.top_k == 7
    assert "prompt: techno" in answer.err
    assert "top_k is 9999, must be within 0 … 2048" in answer.err
    music = sounding(heard(), 48_000)
    assert pitch_hz(music[-48_000:-4_800], 48_000) == pytest.approx(fake_pitch_hz("techno"), rel=2e-3)
    assert len(music) / 48_000 == pytest.approx(3.02, abs=0.05)


def test_quitting_stops_the_music(run: Run, toy_model: ToyModel, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(":q\n"))
    assert run("play", "a").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(run: Run, toy_model: ToyModel, device: Any, number: int) -> None:
    toy_model.before_step = lambda steps: os.kill(os.getpid(), number) if steps == 120 else None
    answer = run("play", "a", "--json")
    assert answer.code == 0
    assert answer.fields["audio_seconds"] >= 1.0
    assert toy_model.all_closed


@pytest.mark.slow
def test_a_stream_slower_than_its_listener_has_gaps_that_are_counted_and_explained(
    run: Run, toy_model: ToyModel, device: Any
) -> None:
    toy_model.before_step = lambda _steps: time.sleep(0.03)
    answer = run("play", "a", "--seconds", "1.5", "--buffer", "0.2", "--json")
    assert answer.fields["gaps"] > 0
    assert answer.fields["gap_seconds"] > 0
    assert "slower than real time here: choose a smaller --model, or `streamgen render`" in answer.err


def test_an_error_in_the_engines_thread_ends_the_command_with_its_line(
    run: Run, toy_model: ToyModel, device: Any
) -> None:
    def fail(steps: int) -> None:
        if steps > 75:
            raise CapacityError("no memory left")

    toy_model.before_step = fail
    answer = run("play", "a")
    assert answer.code == 1
    assert answer.err.splitlines()[-1] == "streamgen: no memory left"
    assert "Traceback" not in answer.err


def test_without_a_device_it_offers_render_before_loading_anything(
    run: Run, toy_model: ToyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_wanted: str | None) -> OutputDevice:
        raise DeviceError("no sound device: PortAudio finds none that plays")

    monkeypatch.setattr(sound_card, "choose_device", none)
    answer = run("play", "lofi piano")
    assert answer.code == 1
    assert answer.error_line == (
        "streamgen: no sound device: PortAudio finds none that plays; "
        'to make a file instead: streamgen render "lofi piano" --seconds 30 --out music.wav'
    )
    assert toy_model.opened == []
