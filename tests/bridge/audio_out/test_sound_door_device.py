"""The sound door through a real sound server: PulseAudio's null sink, recorded by parec, against the stream itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

pytestmark = pytest.mark.device

SOURCE_HZ, RATE_HZ = 32_000, 44_100  # the second is what PortAudio takes for the default device's own through ALSA
ASOUNDRC = "pcm.!default { type pulse }\nctl.!default { type pulse }\npcm.pulse { type pulse }\n"
MODULES = (
    "load-module module-native-protocol-unix\n"
    f"load-module module-null-sink sink_name=sg rate={RATE_HZ} channels=2 format=float32le\n"
)

# A session of seeded noise, made 0.2 s before it is due; a line of statistics every half second.
PLAYER = """
import asyncio, dataclasses, json, sys, time
import numpy as np
from bridge.audio_out.sound_card import choose_device
from bridge.audio_out.sound_door import SoundDoor
from bridge.commands import Block

class Session:
    name, model, sample_rate_hz = "live", "noise", 32_000
    def __init__(self):
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
    door = SoundDoor(session, choose_device())
    await door.open()
    session.start, told = time.time(), 0.0
    while session.sample < session.music.shape[1]:
        await asyncio.sleep(0.005)
        while session.start + session.sample / 32_000 < time.time() and session.sample < session.music.shape[1]:
            for listener in session.listeners:
                listener.audio(session.block())
        if time.time() - told > 0.5:
            told = time.time()
            print(json.dumps(dataclasses.asdict(door.stats())), flush=True)
    await asyncio.sleep(0.3)
    print(json.dumps(dataclasses.asdict(door.stats())), flush=True)
    await asyncio.sleep(0.3)
    await door.close()

asyncio.run(main())
"""


@dataclass
class Server:
    """A PulseAudio of our own, that can be killed and started again."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["pulseaudio", "-n", "-F", "pa.pa", "--daemonize=no", "--exit-idle-time=-1"]
        self.environment = os.environ | {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home / "run")}
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.home, env=self.environment, stdout=log, stderr=log)
        for _ in range(100):
            if (
                subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False).returncode
                == 0
            ):
                return
            time.sleep(0.1)
        pytest.fail("PulseAudio did not start")

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        for left in (self.home / "run").rglob("pid"):
            left.unlink()

    @contextmanager
    def recording(self, path: Path) -> Iterator[None]:
        parec = ["parec", "-d", "sg.monitor", "--format=float32le", f"--rate={RATE_HZ}", "--channels=2", "--raw"]
        with path.open("wb") as file:
            recorder = subprocess.Popen(parec, stdout=file, env=self.environment)
        time.sleep(0.5)
        yield
        recorder.terminate()
        recorder.wait(10)


@pytest.fixture
def server() -> Iterator[Server]:
    if not shutil.which("pulseaudio") or not shutil.which("parec"):
        pytest.skip("needs pulseaudio, pulseaudio-utils and libasound2-plugins")
    home = Path(tempfile.mkdtemp(prefix="sg-"))  # pytest's own folders are too long for a socket's path
    (home / "run").mkdir(mode=0o700)
    (home / ".asoundrc").write_text(ASOUNDRC)
    (home / "pa.pa").write_text(MODULES)
    pulse = Server(home)
    pulse.start()
    yield pulse
    pulse.stop()
    shutil.rmtree(home)


def music(seconds: float) -> np.ndarray:
    """Noise below 12 kHz at half scale: every misplaced sample shows."""
    noise = np.random.default_rng(11).standard_normal((2, round(seconds * SOURCE_HZ)))
    spectrum = np.fft.rfft(noise)
    spectrum[:, round(12_000 * seconds) :] = 0
    return (0.5 * np.fft.irfft(spectrum) / np.abs(np.fft.irfft(spectrum)).max()).astype(np.float32)


@contextmanager
def playing(server: Server, samples: np.ndarray, folder: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """The player's process; call for the next line of statistics, {} at the end."""
    np.save(folder / "music.npy", samples)
    command = [sys.executable, "-c", PLAYER, str(folder / "music.npy")]
    player = subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, text=True)
    assert player.stdout is not None
    lines = player.stdout
    try:
        yield lambda: json.loads(lines.readline() or "{}")
    finally:
        player.terminate()
        player.wait(10)
        lines.close()


def aligned(heard: np.ndarray, expected: np.ndarray, window: slice) -> int:
    """Where in the recording the expected stream begins, found by one window of it."""
    size = len(heard) + len(expected)
    spectrum = np.fft.rfft(heard[:, 0], size) * np.conj(np.fft.rfft(expected[window, 0], size))
    return int(np.argmax(np.fft.irfft(spectrum, size)[: len(heard)])) - window.start


def snr_db(heard: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10((expected**2).mean() / (((heard - expected) ** 2).mean() + 1e-16)))


def test_what_the_sink_hears_is_the_stream_resampled_without_a_gap(server: Server, tmp_path: Path) -> None:
    samples, last = music(12.0), {}
    with server.recording(tmp_path / "heard.raw"), playing(server, samples, tmp_path) as next_stats:
        while stats := next_stats():
            last = stats
    assert (last["starvations"], last["jumps"], last["dropped_blocks"], last["reopened"]) == (0, 0, 0, 0)
    heard = np.fromfile(tmp_path / "heard.raw", "<f4").reshape(-1, 2)
    expected = soxr.resample(samples.T, SOURCE_HZ, RATE_HZ, quality="HQ")
    offset = aligned(heard, expected, slice(5 * RATE_HZ, 6 * RATE_HZ))
    first, end = 3 * RATE_HZ, len(expected) - RATE_HZ // 2  # opening a sink may lose up to seconds of a busy machine
    each = [snr_db(heard[offset + at : offset + at + RATE_HZ // 2], expected[at : at + RATE_HZ // 2])
            for at in range(first, end - RATE_HZ // 2, RATE_HZ // 2)]  # fmt: skip
    assert min(each) > 60


def test_a_sound_server_that_dies_and_comes_back_is_heard_again(server: Server, tmp_path: Path) -> None:
    samples = music(25.0)
    with playing(server, samples, tmp_path) as next_stats:
        while next_stats()["device"] == "":
            pass
        server.stop()
        deadline = time.monotonic() + 10
        while next_stats()["device"] != "":
            assert time.monotonic() < deadline, "nobody noticed"
        server.start()
        deadline = time.monotonic() + 12
        while (stats := next_stats())["device"] == "":
            assert time.monotonic() < deadline, "it was not opened again"
        assert stats["reopened"] == 1
        with server.recording(tmp_path / "heard.raw"):
            time.sleep(2.5)
    heard = np.fromfile(tmp_path / "heard.raw", "<f4").reshape(-1, 2)
    expected = soxr.resample(samples.T, SOURCE_HZ, RATE_HZ, quality="HQ")
    piece = heard[RATE_HZ : 2 * RATE_HZ]
    size = len(expected) + len(piece)
    spectrum = np.fft.rfft(expected[:, 0], size) * np.conj(np.fft.rfft(piece[:, 0], size))
    offset = int(np.argmax(np.fft.irfft(spectrum, size)[: len(expected)]))
    assert snr_db(piece, expected[offset : offset + RATE_HZ]) > 60
