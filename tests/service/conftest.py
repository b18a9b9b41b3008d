"""The stage: a real `streamgen serve` with the shipped checkpoint, PulseAudio's null sink as its sound card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..real_parts.chromium import launched
from ..real_parts.pulseaudio import BROWSER, PulseAudio
from .running import Service, plugins_run, rack_options

PROMPT = "house, drums and synth bass, 125 bpm"


@pytest.fixture
def stage(tmp_path: Path, pulseaudio: PulseAudio) -> Iterator[Service]:
    """A service that plays and records; `card.raw` and `page.raw` are what the sinks heard."""
    options = ["--prompt", PROMPT, "--record", str(tmp_path / "take.flac")]
    if plugins_run():
        options += rack_options(tmp_path)
    with (
        pulseaudio.recording(tmp_path / "card.raw"),  # before anything plays: who joins a sink disturbs it for a second
        pulseaudio.recording(tmp_path / "page.raw", BROWSER),
        Service(tmp_path, *options, model="pocket", environment=pulseaudio.environment) as running,
    ):
        yield running


@pytest.fixture
def browser(pulseaudio: PulseAudio) -> Iterator[Any]:
    """A Chromium that plays at a sink of its own; asked for before the stage, it is there before the music."""
    with launched(pulseaudio.environment | {"PULSE_SINK": BROWSER}) as running:
        yield running
