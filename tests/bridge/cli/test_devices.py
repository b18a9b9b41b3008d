"""`streamgen devices`, with devices and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bridge.cli import devices
from bridge.doors.sound_card.card import OutputDevice
from bridge.errors import DeviceError

Run = Callable[..., Any]

SPEAKERS = OutputDevice(1, "Speakers", "ALSA", 2, 48_000, 0.03, True)
BELL = OutputDevice(12, "Bell", "ALSA", 1, 44_100, 0.03, False)
SYSTEM = OutputDevice(13, "system", "JACK", 2, 96_000, 0.03, False)


def test_devices_are_grouped_by_host_api_and_the_default_is_marked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "output_devices", lambda: [SPEAKERS, BELL, SYSTEM])
    answer = run("devices", "--json")
    assert answer.code == 0
    assert answer.err.splitlines()[:5] == [
        "ALSA",
        "  *1   48000 Hz  stereo  Speakers",
        "   12  44100 Hz  mono    Bell",
        "JACK",
        "   13  96000 Hz  stereo  system",
    ]
    assert [row["name"] for row in answer.fields["devices"]] == ["Speakers", "Bell", "system"]
    assert answer.fields["problem"] is None


def test_no_device_is_one_line_with_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "output_devices", list)
    answer = run("devices")
    assert answer.code == 1
    assert "no sound device: PortAudio finds none that plays" in answer.error_line
    assert "streamgen render" in answer.error_line


def test_no_library_is_one_line_and_in_the_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[OutputDevice]:
        raise DeviceError("no sound: the PortAudio library is not here; install it")

    monkeypatch.setattr(devices, "output_devices", fail)
    answer = run("devices", "--json")
    assert answer.code == 1
    assert answer.error_line == "no sound: the PortAudio library is not here; install it"
    assert answer.fields == {"devices": [], "problem": "no sound: the PortAudio library is not here; install it"}
