"""The stage: a real `streamgen serve` with the shipped checkpoint, PulseAudio's null sink as its sound card."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RATE_HZ = 44_100  # what PortAudio takes for the default device's own through ALSA
ASOUNDRC = "pcm.!default { type pulse }\nctl.!default { type pulse }\npcm.pulse { type pulse }\n"
MODULES = (
    "load-module module-native-protocol-unix\n"
    f"load-module module-null-sink sink_name=sg rate={RATE_HZ} channels=2 format=float32le\n"
)


class Stage:
    """A running service, its sound server and its recording."""

    def __init__(self, home: Path) -> None:
        self.home, self.recording = home, home / "take.flac"
        self.environment = os.environ | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
        (home / "run").mkdir(mode=0o700)
        (home / ".asoundrc").write_text(ASOUNDRC)
        (home / "pa.pa").write_text(MODULES)
        command = ["pulseaudio", "-n", "-F", "pa.pa", "--daemonize=no", "--exit-idle-time=-1"]
        with (home / "log").open("wb") as log:
            self.sound = subprocess.Popen(command, cwd=home, env=self.environment, stdout=log, stderr=log)
        self._wait_for_sound()
        prompt = "house, drums and synth bass, 125 bpm"
        words = [
            "serve",
            "--prompt",
            prompt,
            "--port",
            "0",
            "--osc-port",
            "0",
            "--json",
            "--record",
            str(self.recording),
        ]
        with (home / "serve.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge.cli", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()  # left open, it would fail a later test by a ResourceWarning
            pytest.fail(self.log())
        self.ready: dict[str, Any] = json.loads(line)

    def _wait_for_sound(self) -> None:
        for _ in range(100):
            if (
                subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False).returncode
                == 0
            ):
                return
            time.sleep(0.1)
        pytest.fail("PulseAudio did not start")

    def log(self) -> str:
        """What the service said."""
        return (self.home / "serve.log").read_text()

    def metrics(self) -> dict[str, float]:
        """The numbers of /metrics."""
        with urllib.request.urlopen(self.ready["page"].rstrip("/") + "/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    def capture(self, path: Path) -> subprocess.Popen[bytes]:
        """Record what the sound card plays, float32 stereo at RATE_HZ."""
        parec = ["parec", "-d", "sg.monitor", "--format=float32le", f"--rate={RATE_HZ}", "--channels=2", "--raw"]
        with path.open("wb") as file:
            return subprocess.Popen(parec, stdout=file, env=self.environment)

    def stop(self) -> int:
        """End the service as a user would; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)
        return self.process.returncode

    def close(self) -> None:
        """End everything."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.sound.terminate()
        self.sound.wait(10)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage of our own."""
    if not shutil.which("pulseaudio") or not shutil.which("parec"):
        pytest.skip("needs pulseaudio, pulseaudio-utils and libasound2-plugins")
    home = Path(tempfile.mkdtemp(prefix="sg-"))  # pytest's own folders are too long for a socket's path
    running = Stage(home)
    yield running
    running.close()
    shutil.rmtree(home)
