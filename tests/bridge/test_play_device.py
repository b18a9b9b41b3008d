"""`streamgen play` through a real sound server: PulseAudio's null sink, recorded by parec, compared with `render`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from streamgen.testing import tiny_checkpoint

pytestmark = pytest.mark.device

RATE_HZ = 44_100  # what PortAudio takes for the default device's own through ALSA
SECONDS = 6
ASOUNDRC = "pcm.!default { type pulse }\nctl.!default { type pulse }\npcm.pulse { type pulse }\n"
MODULES = (
    "load-module module-native-protocol-unix\n"
    f"load-module module-null-sink sink_name=sg rate={RATE_HZ} channels=2 format=float32le\n"
)


@pytest.fixture
def sound_server() -> Iterator[dict[str, str]]:
    """The environment of a PulseAudio of our own."""
    if not shutil.which("pulseaudio") or not shutil.which("parec"):
        pytest.skip("needs pulseaudio, pulseaudio-utils and libasound2-plugins")
    home = Path(tempfile.mkdtemp(prefix="sg-"))  # pytest's own folders are too long for a socket's path
    (home / "run").mkdir(mode=0o700)
    (home / ".asoundrc").write_text(ASOUNDRC)
    (home / "pa.pa").write_text(MODULES)
    environment = os.environ | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
    command = ["pulseaudio", "-n", "-F", "pa.pa", "--daemonize=no", "--exit-idle-time=-1"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(environment)
        yield environment
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(home)


def _wait_for(environment: dict[str, str]) -> None:
    for _ in range(100):
        if subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    pytest.fail("PulseAudio did not start")


def streamgen(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False)


def test_the_sound_card_hears_what_render_writes_without_a_gap(sound_server: dict[str, str], tmp_path: Path) -> None:
    music = ["piano", "--model", str(tiny_checkpoint("stereo")), "--seed", "3", "--precision", "fp32"]
    for _attempt in range(3):  # on a crowded machine the sound system itself may come too late, and says so
        heard, fields = _play_and_record(music, tmp_path / "heard.raw", sound_server)
        if not fields["late_callbacks"]:
            break
    assert (fields["gaps"], fields["late_callbacks"], fields["audio_seconds"]) == (0, 0, SECONDS)
    assert fields["sample_rate_hz"] == RATE_HZ, "the comparison below needs no second resampling"
    out = ["--out", str(tmp_path / "a.wav"), "--sample-rate", str(RATE_HZ)]
    rendered = streamgen("render", *music, "--seconds", str(SECONDS), *out)
    assert rendered.returncode == 0, rendered.stderr
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    _assert_contains(heard, expected)


def _play_and_record(music: list[str], recording: Path, server: dict[str, str]) -> tuple[np.ndarray, dict[str, Any]]:
    parec = ["parec", "-d", "sg.monitor", "--format=float32le", f"--rate={RATE_HZ}", "--channels=2", "--raw"]
    with recording.open("wb") as file:
        recorder = subprocess.Popen(parec, stdout=file, env=server)
    played = streamgen("play", *music, "--seconds", str(SECONDS), "--json", env=server)
    time.sleep(1)
    recorder.terminate()
    recorder.wait(10)
    assert played.returncode == 0, played.stderr
    return np.fromfile(recording, "<f4").reshape(-1, 2), json.loads(played.stdout)


def _assert_contains(heard: np.ndarray, expected: np.ndarray) -> None:
    """Find the piece in the recording by its middle second; compare all but the first, which opening may lose."""
    middle = slice(3 * RATE_HZ, 4 * RATE_HZ)
    size = len(heard) + RATE_HZ
    spectrum = np.fft.rfft(heard[:, 0], size) * np.conj(np.fft.rfft(expected[middle, 0], size))
    offset = int(np.argmax(np.fft.irfft(spectrum, size))) - middle.start
    stop = min(len(expected), len(heard) - offset)
    assert stop == len(expected), f"{(len(expected) - stop) / RATE_HZ:.2f} s are missing at the end"
    same = np.clip(heard[offset + RATE_HZ : offset + stop], -1, 1)  # the file is clipped, the server is not
    np.testing.assert_allclose(same, expected[RATE_HZ:stop], atol=1e-4)


def test_devices_lists_the_servers_sink_as_the_default(sound_server: dict[str, str]) -> None:
    answer = streamgen("devices", "--json", env=sound_server)
    assert answer.returncode == 0, answer.stderr
    assert [row["host_api"] for row in json.loads(answer.stdout)["devices"] if row["default"]] == ["ALSA"]
    assert "ALSA lib" not in answer.stderr
