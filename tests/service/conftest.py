"""The stage: a real `streamgen serve` with the shipped checkpoint, PulseAudio's null sink as its sound card."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ..real_parts.chromium import launched
from ..real_parts.jack import Jack
from ..real_parts.pulseaudio import BROWSER, PulseAudio
from .running import Service, plugins_run, rack_options

PROMPT = "house, drums and synth bass, 125 bpm"


@contextmanager
def playing(home: Path, pulseaudio: PulseAudio, *more: str, **environment: str) -> Iterator[Service]:
    """Play and record; `card.raw` and `page.raw` are what the sinks heard."""
    options = ["--prompt", PROMPT, "--record", str(home / "take.flac"), *more]
    if plugins_run():
        options += rack_options(home)
    with (
        pulseaudio.recording(home / "card.raw"),  # before anything plays: who joins a sink disturbs it for a second
        pulseaudio.recording(home / "page.raw", BROWSER),
        Service(home, *options, model="pocket", environment=pulseaudio.environment | environment) as running,
    ):
        yield running


@pytest.fixture
def stage(tmp_path: Path, pulseaudio: PulseAudio) -> Iterator[Service]:
    """A service that plays and records."""
    with playing(tmp_path, pulseaudio) as running:
        yield running


@pytest.fixture
def full_stage(tmp_path: Path, pulseaudio: PulseAudio, jack: Jack) -> Iterator[Service]:
    """The same with every door open that has one end here: Link, MIDI, JACK, RTP and ReaStream besides."""
    needed = [name for name in ("jack", "rtmidi", "zeroconf") if find_spec(name) is None]
    if needed:
        pytest.skip(f"needs {', '.join(needed)}, of the extra `test`")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    doors = ["--link", "--link-interface", "127.0.0.1", "--midi", "all", "--midi-clock", "out", "--announce", "--jack"]
    doors += ["--rtp", f"127.0.0.1:{port}", "--reastream", "127.0.0.1"]
    server = {name: jack.environment[name] for name in ("JACK_DEFAULT_SERVER", "JACK_NO_START_SERVER")}
    with playing(tmp_path, pulseaudio, *doors, **server) as running:
        yield running


@pytest.fixture
def browser(pulseaudio: PulseAudio) -> Iterator[Any]:
    """A Chromium that plays at a sink of its own; asked for before the stage, it is there before the music."""
    with launched(pulseaudio.environment | {"PULSE_SINK": BROWSER}) as running:
        yield running
