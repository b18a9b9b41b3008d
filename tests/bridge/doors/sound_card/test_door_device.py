"""The sound door through real sound servers, PulseAudio's null sink and JACK's dummy, recorded, against the stream."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ....real_parts import jack as jack_parts
from ....real_parts.comparison import found, resampled, snr_db, snrs_db
from ....real_parts.jack import Jack
from ....real_parts.pulseaudio import RATE_HZ, PulseAudio, recorded

pytestmark = pytest.mark.device

SOURCE_HZ = 32_000
# A session of seeded noise, made 0.2 s before it is due; a line of statistics every half second.
PLAYER = """
import asyncio, dataclasses, json, sys, time
import numpy as np
from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.sound_card.door import SoundCardDoor
from bridge.metrics import Metrics
from bridge.session.events import Block
from bridge.settings import Settings

class Session:
    name, model, rate_hz = "live", "noise", 32_000
    def __init__(self):
        self.live = self
        self.listeners, self.sample, self.start = [], 0, time.time()
        self.music = np.load(sys.argv[1])
    def add(self, listener):
        self.listeners.append(listener)
        return []
    def remove(self, listener):
        self.listeners.remove(listener)
    def block(self):
        due = self.start + 0.2 + self.sample / 32_000
        samples = self.music[:, self.sample : self.sample + 3_200]
        block = Block(samples, self.sample, time_us=round(due * 1e6))
        self.sample += samples.shape[1]
        return block

async def main():
    session = Session()
    output = sys.argv[2] if len(sys.argv) > 2 else None
    door = SoundCardDoor(Service(Settings(output=output, latency=0.3), Access(), Metrics()))
    await door.open(session)
    session.start, told = time.time(), 0.0
    while session.sample < session.music.shape[1]:
        await asyncio.sleep(0.005)
        while session.start + session.sample / 32_000 < time.time() and session.sample < session.music.shape[1]:
            for listener in session.listeners:
                listener.audio(session.block())
        if time.time() - told > 0.5:
            told = time.time()
            print(json.dumps(dataclasses.asdict(door.sound_stats())), flush=True)
    print(json.dumps(dataclasses.asdict(door.sound_stats())), flush=True)  # what comes now runs dry, as it must
    await asyncio.sleep(0.6)
    await door.close("the end")

asyncio.run(main())
"""


def music(seconds: float) -> np.ndarray:
    """Noise below 12 kHz at half scale: every misplaced sample shows."""
    noise = np.random.default_rng(11).standard_normal((2, round(seconds * SOURCE_HZ)))
    spectrum = np.fft.rfft(noise)
    spectrum[:, round(12_000 * seconds) :] = 0
    return (0.5 * np.fft.irfft(spectrum) / np.abs(np.fft.irfft(spectrum)).max()).astype(np.float32)


@contextmanager
def playing(
    environment: dict[str, str], samples: np.ndarray, folder: Path, *device: str
) -> Iterator[Callable[[], dict[str, Any]]]:
    """The player's process; call for the next line of statistics, {} at the end."""
    np.save(folder / "music.npy", samples)
    command = [sys.executable, "-c", PLAYER, str(folder / "music.npy"), *device]
    player = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert player.stdout is not None
    lines = player.stdout
    try:
        yield lambda: json.loads(lines.readline() or "{}")
    finally:
        player.terminate()
        player.wait(10)
        lines.close()


def assert_flawless(stats: dict[str, Any]) -> None:
    """What was skipped because a device stood still when it opened is no fault."""
    assert (stats["starvations"], stats["dropped_blocks"], stats["reopened"]) == (0, 0, 0)


def assert_same(heard: np.ndarray, samples: np.ndarray, rate_hz: int, first_seconds: float, seconds: float) -> None:
    """The recording holds the stream from so far on, for so long, with nothing put in or left out."""
    expected = resampled(samples.T, SOURCE_HZ, rate_hz)
    first, stop, middle = (round(at * rate_hz) for at in (first_seconds, first_seconds + seconds, first_seconds + 2))
    offset = found(expected[middle : middle + rate_hz], heard) - middle
    each = snrs_db(heard[offset + first : offset + stop], expected[first:stop], rate_hz // 2)
    assert len(each) == 2 * seconds
    assert min(each) > 60, [round(one) for one in each]


def test_what_the_sink_hears_is_the_stream_resampled_without_a_gap(pulseaudio: PulseAudio, tmp_path: Path) -> None:
    samples, last = music(14.0), {}
    file = tmp_path / "heard.raw"
    with pulseaudio.recording(file), playing(pulseaudio.environment, samples, tmp_path) as next_stats:
        while stats := next_stats():
            last = stats
    assert_flawless(last)
    assert_same(recorded(file), samples, RATE_HZ, 3, 10.5)


def test_jack_hears_the_stream_resampled_without_a_gap(jack: Jack, tmp_path: Path) -> None:
    """In one of two takes: jackd, without real-time rights here, misses a period when others have both cores."""
    try:
        hear_through_jack(jack, tmp_path)
    except AssertionError:
        hear_through_jack(jack, tmp_path)


def hear_through_jack(jack: Jack, tmp_path: Path) -> None:
    samples, last = music(12.0), {}
    with playing(jack.environment, samples, tmp_path, jack_parts.HOST_API) as next_stats:
        assert next_stats()["device"] == f"{jack_parts.HOST_API}: system"
        recorder = jack.record(tmp_path / "heard.wav", 9)
        while stats := next_stats():
            last = stats
        assert recorder.wait(10) == 0
    assert_flawless(last)
    assert_same(jack_parts.recorded(tmp_path / "heard.wav"), samples, jack_parts.RATE_HZ, 3, 5)


def test_a_sound_server_that_dies_and_comes_back_is_heard_again(pulseaudio: PulseAudio, tmp_path: Path) -> None:
    samples = music(25.0)
    with playing(pulseaudio.environment, samples, tmp_path) as next_stats:
        while next_stats()["device"] == "":
            pass
        pulseaudio.kill()
        deadline = time.monotonic() + 10
        while next_stats()["device"] != "":
            assert time.monotonic() < deadline, "nobody noticed"
        pulseaudio.start()
        deadline = time.monotonic() + 12
        while (stats := next_stats())["device"] == "":
            assert time.monotonic() < deadline, "it was not opened again"
        assert stats["reopened"] == 1
        with pulseaudio.recording(tmp_path / "heard.raw"):
            time.sleep(2.5)
    piece = recorded(tmp_path / "heard.raw")[RATE_HZ : 2 * RATE_HZ]
    expected = resampled(samples.T, SOURCE_HZ, RATE_HZ)
    offset = found(piece, expected)
    assert snr_db(piece, expected[offset : offset + RATE_HZ]) > 60
