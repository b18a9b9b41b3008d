"""Devices as PortAudio lists them, with its library in place, missing, or failing; a real device is in test_play.py."""

from __future__ import annotations

import builtins
import os
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bridge.audio.ring import Ring
from bridge.doors.sound_card.card import SoundCard, choose_device, output_devices, rescan
from bridge.errors import DeviceError


class PortAudioError(Exception):
    pass


def row(index: int, name: str, outputs: int, hostapi: int = 0, rate: float = 48_000.0) -> dict[str, Any]:
    return {
        "index": index, "name": name, "hostapi": hostapi, "max_output_channels": outputs, "default_samplerate": rate,
        "default_high_output_latency": 0.03,
    }  # fmt: skip


class OutputStream:
    """Calls back as PortAudio does, when the test says so."""

    latency = 0.1

    def __init__(self, **options: Any) -> None:
        if options["device"] == 2:
            raise PortAudioError("Device unavailable", -9985)
        self.options, self.running = options, False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def close(self) -> None:
        assert not self.running

    def play(self, frames: int, status: str = "") -> np.ndarray:
        out = np.full((frames, self.options["channels"]), np.nan, np.float32)
        self.options["callback"](out, frames, None, status)
        return out


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    fake = SimpleNamespace(
        query_hostapis=lambda: (
            {"name": "ALSA", "default_output_device": 1},
            {"name": "JACK", "default_output_device": 3},
        ),
        query_devices=lambda: [
            row(0, "Microphone", 0),
            row(1, "Speakers", 8),
            row(2, "Busy", 2),
            row(3, "Mono bell", 1, 1, 44_100.0),
        ],
        default=SimpleNamespace(device=(-1, -1)),
        PortAudioError=PortAudioError,
        OutputStream=OutputStream,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def test_only_what_plays_is_listed_with_its_host_api_and_rate(portaudio: SimpleNamespace) -> None:
    found = [(d.index, d.name, d.host_api, d.channels, d.sample_rate_hz, d.default) for d in output_devices()]
    assert found == [
        (1, "Speakers", "ALSA", 2, 48_000, True),
        (2, "Busy", "ALSA", 2, 48_000, False),
        (3, "Mono bell", "JACK", 1, 44_100, False),
    ]


def test_the_systems_default_is_taken_when_portaudio_names_one(portaudio: SimpleNamespace) -> None:
    portaudio.default.device = (0, 3)
    assert choose_device().name == "Mono bell"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (None, "Speakers"), ("3", "Mono bell"), ("bell", "Mono bell"), ("SPEAK", "Speakers"), ("jack", "Mono bell"),
        ("alsa: busy", "Busy"), ("ALSA", "Speakers"), ("busy", "Busy"),
    ],
)  # fmt: skip
def test_a_device_is_chosen_by_number_name_or_host_api(
    portaudio: SimpleNamespace, wanted: str | None, name: str
) -> None:
    assert choose_device(wanted).name == name


def test_a_device_that_is_not_there_is_refused_with_those_that_are(portaudio: SimpleNamespace) -> None:
    with pytest.raises(DeviceError, match="no sound device fits 'x'; there are: 1 'Speakers', 2 'Busy'"):
        choose_device("x")


def test_a_number_is_a_number_before_it_is_part_of_a_name(portaudio: SimpleNamespace) -> None:
    portaudio.query_devices = lambda: [row(1, "Card 2", 2), row(2, "Other", 2)]
    assert choose_device("2").name == "Other"


def test_a_rescan_starts_portaudio_anew(portaudio: SimpleNamespace) -> None:
    calls: list[str] = []
    portaudio._terminate, portaudio._initialize = lambda: calls.append("end"), lambda: calls.append("begin")
    rescan()
    assert calls == ["end", "begin"]


def test_a_device_that_opens_but_does_not_start_is_released_and_told(portaudio: SimpleNamespace) -> None:
    released: list[str] = []

    class Stubborn(OutputStream):
        def start(self) -> None:
            raise PortAudioError("Host error", -9999)

        def abort(self) -> None:
            released.append("abort")

        def close(self) -> None:
            released.append("close")

    portaudio.OutputStream = Stubborn
    with pytest.raises(DeviceError, match=r"'Speakers' does not start: Host error$"):
        SoundCard(choose_device(), Ring(10, 2)).__enter__()
    assert released == ["abort", "close"]


def test_no_device_at_all_is_said(portaudio: SimpleNamespace) -> None:
    portaudio.query_devices = list
    with pytest.raises(DeviceError, match="finds none that plays"):
        choose_device()


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DeviceError, match=r"PortAudio library is not here; install PortAudio .*libportaudio2"):
        output_devices()


def test_the_callback_copies_the_ring_and_counts_late_calls(portaudio: SimpleNamespace) -> None:
    ring = Ring(1_000, 2)
    ring.write(np.arange(200, dtype=np.float32).reshape(100, 2))
    with SoundCard(choose_device(), ring) as card:
        stream: OutputStream = card._stream
        assert (stream.options["samplerate"], stream.options["device"], stream.options["dtype"]) == (
            48_000,
            1,
            "float32",
        )
        np.testing.assert_array_equal(stream.play(60)[:, 1], np.arange(1, 121, 2))
        stream.play(40, status="output underflow")
        assert card.late_callbacks == 1
    assert not stream.running


def test_a_busy_device_is_one_line(portaudio: SimpleNamespace) -> None:
    with pytest.raises(DeviceError, match=r"sound device 'Busy' does not open: Device unavailable$"):
        SoundCard(choose_device("Busy"), Ring(10, 2))


def test_what_drivers_print_while_looking_is_hidden(
    portaudio: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    def chatter(**_options: Any) -> OutputStream:
        os.write(2, b"ALSA lib pcm.c: Unknown PCM\n")
        return OutputStream(device=1, channels=2)

    portaudio.OutputStream = chatter
    SoundCard(choose_device(), Ring(10, 2))
    assert capfd.readouterr().err == ""
