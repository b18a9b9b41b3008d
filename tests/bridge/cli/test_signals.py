"""Ctrl-C and SIGTERM sent to a real `streamgen render` in a process of its own, on a real (tiny) checkpoint."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamgen.testing import tiny_checkpoint

pytestmark = pytest.mark.slow  # the same in one process, on a model that sings: test_render.py


def command(out: Path, seconds: int) -> list[str]:
    model = str(tiny_checkpoint("stereo"))
    words = ["render", "piano", "--model", model, "--seconds", str(seconds), "--out", str(out)]
    return [sys.executable, "-m", "bridge.cli.main", *words, "--seed", "1", "--precision", "fp32", "--json"]


@pytest.mark.parametrize(("number", "suffix"), [(signal.SIGTERM, "flac"), (signal.SIGINT, "ogg")])
def test_a_signal_leaves_a_playable_file_and_says_how_much(tmp_path: Path, number: int, suffix: str) -> None:
    out = tmp_path / f"a.{suffix}"
    process = subprocess.Popen(command(out, 3_600), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_audio(out)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    fields = json.loads(stdout)
    assert fields["interrupted"] is True
    assert f"interrupted: {out} holds the first {fields['audio_seconds']:.1f} s of 3600 s" in stderr
    assert "Traceback" not in stderr
    samples, rate_hz = soundfile.read(out, always_2d=True)
    assert (rate_hz, samples.shape[1]) == (48_000, 2)
    assert len(samples) == round(fields["audio_seconds"] * 48_000) > 0
    assert np.isfinite(samples).all()
    assert samples.std() > 1e-3


def _wait_for_audio(out: Path) -> None:
    for _ in range(1_200):
        if out.exists() and out.stat().st_size > 20_000:
            return
        time.sleep(0.05)
    pytest.fail("no audio after a minute")


def test_what_was_made_is_the_beginning_of_the_whole(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path / "part.wav", 3_600), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for_audio(tmp_path / "part.wav")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    part, _ = soundfile.read(tmp_path / "part.wav", dtype="int32")
    count = min(len(part) - 1_800, 48_000)  # a fade of 20 ms ends it, and the filter looks 12 ms ahead
    subprocess.run(command(tmp_path / "whole.wav", 1), capture_output=True, check=True)
    whole, _ = soundfile.read(tmp_path / "whole.wav", dtype="int32")
    step = 2**8  # of 24 bits; a sum of floats may be split among threads in another way
    assert np.abs(part[:count].astype(np.int64) - whole[:count]).max() <= step
