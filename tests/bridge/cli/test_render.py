"""`streamgen render`: the file it leaves, in values, and what it says."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import streamgen
from streamgen.testing import FakeModel

Run = Callable[..., Any]


def sine(frames: int, rate_hz: int, level: float = 0.5) -> np.ndarray:
    time = np.arange(frames) / rate_hz
    return level * np.sin(2 * np.pi * np.array([[440.0], [660.0]]) * time)


def test_the_file_holds_exactly_what_the_stream_made(run: Run, sine_model: Any, tmp_path: Path) -> None:
    answer = run("render", "piano", "--seconds", "1.23", "--out", tmp_path / "a.wav", "--json", "--seed", "5")
    assert answer.code == 0
    read, rate_hz = soundfile.read(tmp_path / "a.wav", always_2d=True)
    assert (rate_hz, read.shape) == (32_000, (39_360, 2))
    np.testing.assert_allclose(read.T, sine(39_360, 32_000), atol=1 / 32_000)
    assert sine_model.streams[0].options == {"prompt": "piano", "seed": 5}
    assert sine_model.streams[0].closed


def test_the_json_has_every_field_of_the_contract(run: Run, sine_model: Any, tmp_path: Path) -> None:
    fields = run("render", "piano", "--seconds", "2", "--out", tmp_path / "a.wav", "--json").fields
    speed = fields.pop("realtime_factor")
    wall, first = fields.pop("wall_seconds"), fields.pop("first_audio_seconds")
    assert 0 <= first <= wall
    assert speed == pytest.approx(2 / wall, rel=0.2)
    assert fields.pop("seed") == sine_model.streams[0].options["seed"]
    assert fields == {
        "model": "sine", "precision": "fp32", "device": "cpu", "sample_rate_hz": 32_000, "channels": 2,
        "audio_seconds": 2.0, "windows": 1, "interrupted": False, "out": str(tmp_path / "a.wav"),
    }  # fmt: skip


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_another_rate_keeps_pitch_and_exact_length(run: Run, sine_model: Any, tmp_path: Path, rate_hz: int) -> None:
    assert run("render", "a", "--seconds", "1.5", "--out", tmp_path / "a.flac", "--sample-rate", rate_hz).code == 0
    read, got_hz = soundfile.read(tmp_path / "a.flac", always_2d=True)
    frames = round(1.5 * rate_hz)
    assert (got_hz, read.shape) == (rate_hz, (frames, 2))
    inner = slice(rate_hz // 20, -rate_hz // 20)
    np.testing.assert_allclose(read.T[:, inner], sine(frames, rate_hz)[:, inner], atol=2e-3)


def test_a_context_that_windows_have_no_room_for_is_one_line_with_the_limit(
    run: Run, monkeypatch: pytest.MonkeyPatch, sine_model: Any, tmp_path: Path
) -> None:
    monkeypatch.setitem(vars(streamgen), "load_model", lambda *_, **__: FakeModel(max_positions=753))
    answer = run("render", "a", "--seconds", "1", "--context-seconds", "12", "--out", tmp_path / "a.wav")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].endswith("context_seconds is 12, must be at most 7.52 s: this checkpoint's "
                                                "windows have 753 positions")  # fmt: skip


def test_people_are_told_where_and_how_fast(run: Run, sine_model: Any, tmp_path: Path) -> None:
    answer = run("render", "a", "--seconds", "1", "--out", tmp_path / "a.ogg")
    assert answer.out == ""
    assert answer.err.splitlines()[0] == "loading pocket …"
    assert answer.err.splitlines()[-1].startswith(f"{tmp_path / 'a.ogg'}: 1 s in ")
    seed = sine_model.streams[0].options["seed"]
    assert answer.err.rstrip().endswith(f"× real time, seed {seed}"), "so that a good take can be had again"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_whole_file_of_what_was_made(run: Run, sine_model: Any, tmp_path: Path, number: int) -> None:
    def interrupt(stream: Any) -> None:
        if stream.position == 16_000:
            os.kill(os.getpid(), number)

    sine_model.before_chunk = interrupt
    answer = run("render", "a", "--seconds", "60", "--out", tmp_path / "a.wav", "--json")
    assert answer.code == 1
    assert f"interrupted: {tmp_path / 'a.wav'} holds the first 0.6 s of 60 s" in answer.err
    assert (answer.fields["interrupted"], answer.fields["audio_seconds"]) == (True, 0.6)
    read, _ = soundfile.read(tmp_path / "a.wav", always_2d=True)
    np.testing.assert_allclose(read.T, sine(19_200, 32_000), atol=1 / 32_000)
    assert sine_model.streams[0].closed


def test_interrupted_while_resampling_nothing_held_back_is_lost(run: Run, sine_model: Any, tmp_path: Path) -> None:
    sine_model.before_chunk = lambda stream: os.kill(os.getpid(), signal.SIGINT) if stream.position == 9_600 else None
    run("render", "a", "--seconds", "60", "--out", tmp_path / "a.wav", "--sample-rate", "48000")
    assert abs(soundfile.info(tmp_path / "a.wav").frames - 0.4 * 48_000) <= 1


def test_what_would_overwrite_its_own_prompt_is_refused(run: Run, sine_model: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 1)), 32_000)
    answer = run("render", "a", "--out", tmp_path / "a.wav", "--audio-prompt", tmp_path / "a.wav")
    assert answer.code == 2
    assert "--out and --audio-prompt are both" in answer.error_line
    assert soundfile.info(tmp_path / "a.wav").frames == 100


def test_an_error_of_the_engine_leaves_no_file(run: Run, sine_model: Any, tmp_path: Path) -> None:
    from streamgen.errors import PromptError

    def refuse(_stream: Any) -> None:
        raise PromptError("no such melody")

    sine_model.before_chunk = refuse
    assert run("render", "a", "--out", tmp_path / "a.wav").code == 2
    assert not (tmp_path / "a.wav").exists()
