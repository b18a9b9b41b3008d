"""A JACK of our own on its dummy driver: periods in real time, with real-time rights if we have any; no hardware."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

RATE_HZ = 48_000
HOST_API = "JACK Audio Connection Kit"  # as PortAudio calls it
_PERIOD_FRAMES = 512


class Jack:
    """A server of our own.

    Args:
        period_frames: of its driver.

    Attributes:
        environment: of programs that shall play there.
    """

    def __init__(self, period_frames: int = _PERIOD_FRAMES) -> None:
        if not shutil.which("jackd") or not shutil.which("jack_rec"):
            pytest.skip("needs jackd2")
        self.home = Path(tempfile.mkdtemp(prefix="sg-"))
        self._period_frames = period_frames
        self.environment = os.environ | {
            "HOME": str(self.home),  # no other sound server's settings
            "JACK_DEFAULT_SERVER": self.home.name,
            "JACK_NO_START_SERVER": "1",
            "JACK_NO_AUDIO_RESERVATION": "1",
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        # -S: a period waits for its clients, so that a busy machine makes it late and not torn
        first = ["-R", "-P", "20"] if realtime_allowed() else ["-r"]  # else each busy program makes it late
        command = ["jackd", "-n", self.home.name, *first, "-S", "-t", "5000", "-d", "dummy"]
        command += ["-r", str(RATE_HZ), "-p", str(self._period_frames)]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        waited = subprocess.run(["jack_wait", "-w", "-t", "20"], env=self.environment, capture_output=True, check=False)
        assert waited.returncode == 0, (self.home / "log").read_text()

    def stop(self) -> None:
        """End the server; it may be started again. One that waits for a client that was killed does not hear of it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def record(self, path: Path, seconds: int, *ports: str) -> subprocess.Popen[bytes]:
        """Begin to record ports for so long, those of PortAudio if none are named; its end is the recording's."""
        ports = ports or ("PortAudio:out_0", "PortAudio:out_1")
        command = ["jack_rec", "-f", str(path), "-d", str(seconds), "-b", "32", *ports]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL)

    def ports(self) -> list[str]:
        """Return every port by its full name."""
        return subprocess.run(
            ["jack_lsp"], env=self.environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()


def realtime_allowed() -> bool:
    """Whether programs that this user starts may ask for a core before others have it."""
    return subprocess.run(["chrt", "-f", "20", "true"], capture_output=True, check=False).returncode == 0


def recorded(path: Path) -> np.ndarray:
    """Read a recording, float32 [frames, 2] at RATE_HZ."""
    import soundfile  # not above: the engine's tests run where it is missing

    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate_hz == RATE_HZ
    return samples


@contextmanager
def running_jack(period_frames: int = _PERIOD_FRAMES) -> Iterator[Jack]:
    """Run a server while the block runs."""
    server = Jack(period_frames)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.home)
