"""Recordings: to the sample, never in the way, and whole after SIGKILL, SIGTERM and a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import bridge.audio.recorder as recorder_module
from bridge.audio.recorder import Recorder
from bridge.errors import FileError

from .test_markers import cues

RATE_HZ = 32_000
SUFFIXES = [".flac", ".wav"]
STEP_24 = 2.0**-23

# Records 100 ms blocks of a ramp, 20 times faster than real time, printing how far it is.
WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from bridge.audio.recorder import Recorder
from bridge.cli.terminal import stop_on_signals
recorder = Recorder(Path(sys.argv[1]), 32_000)
at = 0
with stop_on_signals() as stop:
    while not stop:
        block = (np.arange(at, at + 3_200) % 32_000 / 32_000).astype(np.float32)
        recorder.write(np.stack((block, -block)))
        at += 3_200
        print(at, flush=True)
        time.sleep(0.005)
recorder.close()
"""


def music(seconds: float, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (2, round(seconds * RATE_HZ))).astype(np.float32)


def read(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE_HZ
    return samples.T


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_recorded_is_what_was_played(tmp_path: Path, suffix: str) -> None:
    samples = music(2.5)
    recorder = Recorder(tmp_path / f"a{suffix}", RATE_HZ)
    for at in range(0, samples.shape[1], 3_200):
        recorder.write(samples[:, at : at + 3_200])
    recorder.close()
    recorder.close()
    assert (recorder.error, recorder.written_samples, recorder.seconds) == (None, samples.shape[1], 2.5)
    np.testing.assert_allclose(read(recorder.path), samples, atol=STEP_24)
    assert soundfile.info(recorder.path).subtype == "PCM_24"


def writer(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], sign: int, after_seconds: float) -> int:
    """Samples it had written when the signal was sent."""
    assert process.stdout is not None
    written, end = int(process.stdout.readline()), time.monotonic() + after_seconds
    while time.monotonic() < end:
        written = int(process.stdout.readline())
    process.send_signal(sign)
    process.stdout.close()
    process.wait(20)
    return written


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_killed_process_leaves_a_file_that_opens(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    process = writer(path)
    written = ended(process, signal.SIGKILL, 1.5)
    assert process.returncode == -signal.SIGKILL
    samples = read(path)
    wall_seconds_lost = (written - samples.shape[1]) / written * 1.5
    assert 0 <= wall_seconds_lost < 0.75, "the header is a quarter of a second old, on a busy machine more"
    ramp = (np.arange(samples.shape[1]) % RATE_HZ / RATE_HZ).astype(np.float32)
    np.testing.assert_allclose(samples, np.stack((ramp, -ramp)), atol=STEP_24)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sigterm_finishes_the_file_to_the_last_sample(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    process = writer(path)
    written = ended(process, signal.SIGTERM, 0.3)
    assert written <= read(path).shape[1] <= written + 2 * 3_200


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_told_once_and_what_was_written_stays(tmp_path: Path, suffix: str) -> None:
    """RLIMIT_FSIZE stands for the disk: write() fails the same way, with another number."""
    script = (
        "import resource, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from bridge.audio.recorder import Recorder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))\n"
        "recorder = Recorder(Path(sys.argv[1]), 32_000)\n"
        "noise = np.random.default_rng(0).uniform(-1, 1, (2, 3_200)).astype(np.float32)\n"
        "for _ in range(100): recorder.write(noise)\n"
        "recorder.close()\n"
        "print(recorder.error)\n"
    )
    path = tmp_path / f"a{suffix}"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "recording stopped after" in done.stderr
    assert done.stdout.strip() != "None"
    assert 80_000 < read(path).shape[1] <= 110_000


def test_a_slow_disk_never_holds_up_the_stream_and_leaves_times_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "QUEUE_SECONDS", 0.5)
    recorder, open_again = Recorder(tmp_path / "a.wav", RATE_HZ), threading.Event()
    real = recorder._append
    monkeypatch.setattr(recorder, "_append", lambda piece: (open_again.wait(10), real(piece))[1])
    samples = music(2.0)
    start = time.perf_counter()
    for at in range(0, samples.shape[1], 3_200):
        recorder.write(samples[:, at : at + 3_200])
    assert time.perf_counter() - start < 0.1
    open_again.set()
    deadline = time.monotonic() + 5
    while recorder.written_samples < 16_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    recorder.write(samples[:, :3_200])
    recorder.close()
    assert recorder.lost_samples == 1.5 * RATE_HZ
    heard = read(recorder.path)
    np.testing.assert_allclose(heard[:, :16_000], samples[:, :16_000], atol=STEP_24)
    assert not heard[:, 16_000:64_000].any()
    np.testing.assert_allclose(heard[:, 64_000:], samples[:, :3_200], atol=STEP_24)


def test_no_recording_is_written_over(tmp_path: Path) -> None:
    for _ in range(3):
        recorder = Recorder(tmp_path / "gig.flac", RATE_HZ)
        recorder.write(music(0.1))
        recorder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gig-2.flac", "gig-3.flac", "gig.flac"]


def test_where_a_format_ends_another_file_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "_WAV_LIMIT_BYTES", 6 * 10_000)
    told: list[str] = []
    recorder = Recorder(tmp_path / "a.wav", RATE_HZ, report=told.append)
    samples = music(0.6)
    for at, text in ((12_000, "techno"), (0, "piano")):
        recorder.mark(at, text)
    for at in range(0, samples.shape[1], 3_200):
        recorder.write(samples[:, at : at + 3_200])
    recorder.close()
    assert [cues(tmp_path / name) for name in ("a.wav", "a-2.wav")] == [{0: "piano"}, {0: "piano", 2_400: "techno"}]
    parts = [read(tmp_path / name) for name in ("a.wav", "a-2.wav")]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), samples, atol=STEP_24)
    assert len(told) == 1
    assert "a-2.wav" in told[0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.mp3", r"suffix must be \.flac or \.wav"),
        ("nowhere/a.flac", "there is no folder .*; make it first"),
        ("folder.wav", "cannot be written: Is a directory"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(FileError, match=says) as told:
        Recorder(tmp_path / name, RATE_HZ)
    assert "\n" not in str(told.value)
    assert not [thread for thread in threading.enumerate() if thread.name == "streamgen recorder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="no right to write there; choose another folder"):
        Recorder(tmp_path / "a.flac", RATE_HZ)
