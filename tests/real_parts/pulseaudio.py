"""A PulseAudio of our own, whose sinks play to nobody in real time: no hardware, no glitch, and it can be recorded.

ALSA's own `null` and `file` plugins would not do: they take audio at hundreds of times real time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

RATE_HZ = 44_100  # what PortAudio takes for the default device's own through ALSA
SOUND_CARD, BROWSER = "sg", "page"  # the sinks: PortAudio takes the first, PULSE_SINK in the environment another
ASOUNDRC = "pcm.!default { type pulse }\nctl.!default { type pulse }\npcm.pulse { type pulse }\n"
_SINK = "load-module module-null-sink sink_name={} rate={} channels=2 format=float32le"
_START_SECONDS = 20


class PulseAudio:
    """A sound server in a home of its own.

    Attributes:
        environment: of programs that shall play there.
    """

    def __init__(self) -> None:
        if not shutil.which("pulseaudio") or not shutil.which("parec"):
            pytest.skip("needs pulseaudio, pulseaudio-utils and libasound2-plugins")
        self.home = Path(tempfile.mkdtemp(prefix="sg-"))  # pytest's own folders are too long for a socket's path
        self.environment = os.environ | {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home / "run")}
        (self.home / "run").mkdir(mode=0o700)
        (self.home / ".asoundrc").write_text(ASOUNDRC)
        sinks = [_SINK.format(name, RATE_HZ) for name in (SOUND_CARD, BROWSER)]
        modules = ["load-module module-native-protocol-unix", *sinks, f"set-default-sink {SOUND_CARD}"]
        (self.home / "pa.pa").write_text("\n".join(modules) + "\n")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = ["pulseaudio", "-n", "-F", "pa.pa", "--daemonize=no", "--exit-idle-time=-1"]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.home, env=self.environment, stdout=log, stderr=log)
        end = time.monotonic() + _START_SECONDS
        while subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < end, (self.home / "log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """Take it away in an instant; it may be started again."""
        self._process.kill()
        self._process.wait(10)
        for left in (self.home / "run").rglob("pid"):
            left.unlink()

    @contextmanager
    def recording(self, path: Path, sink: str = SOUND_CARD) -> Iterator[None]:
        """Record what a sink plays; `recorded` reads it.

        Meanwhile the sink takes sound every few milliseconds, like a sound card. One that nobody asks for that sleeps
        for up to two seconds, also while somebody begins to play.
        """
        with path.open("wb") as file:
            recorder = subprocess.Popen(self._parec(sink, 25), stdout=file, env=self.environment)
        time.sleep(0.5)
        try:
            yield
        finally:
            recorder.terminate()
            recorder.wait(10)

    def _parec(self, sink: str, milliseconds: int) -> list[str]:
        sound = ["--format=float32le", f"--rate={RATE_HZ}", "--channels=2", "--raw"]
        times = [f"--latency-msec={milliseconds}", f"--process-time-msec={milliseconds}"]
        return ["parec", "-d", f"{sink}.monitor", *sound, *times]

    @contextmanager
    def overhearing(self, sink: str = SOUND_CARD) -> Iterator[Overheard]:
        """Hear what a sink plays, and when it plays it."""
        heard = Overheard()
        with subprocess.Popen(self._parec(sink, 5), stdout=subprocess.PIPE, env=self.environment) as process:
            assert process.stdout is not None
            reader = threading.Thread(target=heard.read, args=(process.stdout.fileno(),), daemon=True)
            reader.start()
            try:
                yield heard
            finally:
                process.terminate()
                reader.join(5)


class Overheard:
    """What a sink played.

    Attributes:
        began: when the first sample was played, Unix seconds: as late as the piece that came soonest allows.
    """

    def __init__(self) -> None:
        self.began = np.inf
        self._data = bytearray()

    def read(self, pipe: int) -> None:
        """Take what comes, to the end."""
        while data := os.read(pipe, 65_536):
            self._data += data
            self.began = min(self.began, time.time() - len(self._data) / 8 / RATE_HZ)

    def samples(self) -> np.ndarray:
        """Return the left channel, float32 [frames] at RATE_HZ."""
        return np.frombuffer(bytes(self._data[: len(self._data) // 8 * 8]), "<f4")[::2]


def recorded(path: Path) -> np.ndarray:
    """Read a recording, float32 [frames, 2] at RATE_HZ."""
    samples = np.fromfile(path, "<f4")
    return samples[: len(samples) // 2 * 2].reshape(-1, 2)  # a recording that goes on may end within a frame


@contextmanager
def running_pulseaudio() -> Iterator[PulseAudio]:
    """Run a server while the block runs."""
    server = PulseAudio()
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.home)
