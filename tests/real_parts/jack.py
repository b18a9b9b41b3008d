"""A JACK of our own on its dummy driver: periods in real time, no hardware."""

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
    """A running server.

    Attributes:
        environment: of programs that shall play there.
    """

    def __init__(self, home: Path) -> None:
        self.environment = os.environ | {
            "HOME": str(home),  # no other sound server's settings
            "JACK_DEFAULT_SERVER": home.name,
            "JACK_NO_START_SERVER": "1",
            "JACK_NO_AUDIO_RESERVATION": "1",
        }

    def record(self, path: Path, seconds: int, client: str = "PortAudio") -> subprocess.Popen[bytes]:
        """Begin to record what a client plays, for so long; its end is the recording's."""
        ports = [f"{client}:out_{channel}" for channel in (0, 1)]
        command = ["jack_rec", "-f", str(path), "-d", str(seconds), "-b", "32", *ports]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL)


def recorded(path: Path) -> np.ndarray:
    """Read a recording, float32 [frames, 2] at RATE_HZ."""
    import soundfile  # not above: the engine's tests run where it is missing

    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate_hz == RATE_HZ
    return samples


@contextmanager
def running_jack(period_frames: int = _PERIOD_FRAMES) -> Iterator[Jack]:
    """Run a server while the block runs."""
    if not shutil.which("jackd") or not shutil.which("jack_rec"):
        pytest.skip("needs jackd2")
    home = Path(tempfile.mkdtemp(prefix="sg-"))
    server = Jack(home)
    # -S: a period waits for its clients, so that a busy machine makes it late and not torn
    command = ["jackd", "-n", home.name, "-r", "-S", "-t", "5000", "-d", "dummy"]
    command += ["-r", str(RATE_HZ), "-p", str(period_frames)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=server.environment, stdout=log, stderr=log)
    try:
        waited = subprocess.run(
            ["jack_wait", "-w", "-t", "20"], env=server.environment, capture_output=True, check=False
        )
        assert waited.returncode == 0, (home / "log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(home)
