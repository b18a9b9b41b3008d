"""`streamgen play` through a real sound server: PulseAudio's null sink, recorded by parec, compared with `render`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from streamgen.testing import tiny_checkpoint

from ...real_parts.comparison import found, snrs_db
from ...real_parts.pulseaudio import RATE_HZ, PulseAudio, recorded

pytestmark = pytest.mark.device

SECONDS, TAKES = 6, 4
FADED_SECONDS = 0.1  # at both ends


def streamgen(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False)


def test_the_sound_card_hears_what_render_writes_without_a_gap(pulseaudio: PulseAudio, tmp_path: Path) -> None:
    music = ["piano", "--model", str(tiny_checkpoint("stereo")), "--seed", "3", "--precision", "fp32"]
    out = ["--out", str(tmp_path / "a.wav"), "--sample-rate", str(RATE_HZ)]
    rendered = streamgen("render", *music, "--seconds", str(SECONDS), *out)
    assert rendered.returncode == 0, rendered.stderr
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    faults: list[str] = []
    for take in range(TAKES):  # a machine that others keep busy may be late by more than anybody holds ready
        heard, fields = _play_and_record(music, tmp_path / f"{take}.raw", pulseaudio)
        assert fields["audio_seconds"] == SECONDS
        assert fields["sample_rate_hz"] == RATE_HZ, "the comparison below needs no second resampling"
        told = {name: fields[name] for name in ("gaps", "late_callbacks", "gap_seconds") if fields[name]}
        faults.append(str(told) if told else _difference(heard, expected))
        if not faults[-1]:
            return
    pytest.fail(f"not one whole take of {TAKES}: {'; '.join(faults)}")


def _play_and_record(music: list[str], file: Path, server: PulseAudio) -> tuple[np.ndarray, dict[str, Any]]:
    with server.recording(file):
        words = ["play", *music, "--seconds", str(SECONDS), "--json", "--latency", "0.3"]  # for a machine that is busy
        played = streamgen(*words, env=server.environment)
        time.sleep(0.5)  # what the sink holds
    assert played.returncode == 0, played.stderr
    return recorded(file), json.loads(played.stdout)


def _difference(heard: np.ndarray, expected: np.ndarray) -> str:
    """Where a recording is anything but silence, the whole piece with its fades, and silence; "" for nowhere."""
    fade = round(FADED_SECONDS * RATE_HZ)
    offset = found(expected, heard)
    before, behind = heard[: max(0, offset - fade)], heard[offset + len(expected) + fade :]
    if np.abs(before).max(initial=0.0) > 0 or not len(behind) or np.abs(behind).max() > 0:
        return "there is more than the piece, or less"
    each = snrs_db(heard[offset + fade : offset + len(expected) - fade], expected[fade:-fade], RATE_HZ // 10)
    assert len(each) == round((SECONDS - 2 * FADED_SECONDS) * 10)
    return "" if min(each) > 60 else f"another sound within {[round(one) for one in each]} dB"


def test_devices_lists_the_servers_sink_as_the_default(pulseaudio: PulseAudio) -> None:
    answer = streamgen("devices", "--json", env=pulseaudio.environment)
    assert answer.returncode == 0, answer.stderr
    assert [row["host_api"] for row in json.loads(answer.stdout)["devices"] if row["default"]] == ["ALSA"]
    assert "ALSA lib" not in answer.stderr
