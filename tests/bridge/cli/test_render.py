"""`streamgen render`: the file it leaves, in values, and what it says."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import streamgen
from bridge.app import App, Running, service_of
from bridge.audio.conversion import to_s16
from bridge.audio.files import in_bits
from bridge.cli.options import first_values, load_model
from bridge.cli.render import OfflineSession
from bridge.doors.native.door import NativeDoor
from bridge.session.rack_keeper import Beginning
from bridge.settings import Settings
from streamgen.errors import PromptError
from streamgen.testing import FakeModel, tiny_checkpoint

from ..conftest import ToyModel, sung
from ..doors.web_session import calling

Run = Callable[..., Any]
FADE_SECONDS = 0.02


def test_the_file_holds_exactly_what_the_stream_made(run: Run, toy_model: ToyModel, tmp_path: Path) -> None:
    answer = run(
        "render", "piano", "--seconds", "1.23", "--out", tmp_path / "a.wav", "--session-rate", 32_000, "--seed", "5"
    )
    assert answer.code == 0
    read, rate_hz = soundfile.read(tmp_path / "a.wav", always_2d=True)
    assert (rate_hz, read.shape) == (32_000, (39_360, 2))
    expected, fade = sung("piano", 39_360, 32_000), round(FADE_SECONDS * 32_000)
    expected[:, :fade] *= np.linspace(0, 1, fade, endpoint=False)
    np.testing.assert_allclose(read.T, expected, atol=2**-22)
    ((_, options),) = toy_model.opened
    assert options["seed"] == 5
    assert toy_model.all_closed


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_files_have_24_bits_as_recordings(run: Run, toy_model: ToyModel, tmp_path: Path, suffix: str) -> None:
    run("render", "a", "--seconds", "0.2", "--out", tmp_path / f"a.{suffix}")
    assert soundfile.info(tmp_path / f"a.{suffix}").subtype == "PCM_24"


def test_the_json_has_every_field_of_the_contract(run: Run, toy_model: ToyModel, tmp_path: Path) -> None:
    fields = run("render", "piano", "--seconds", "2", "--out", tmp_path / "a.wav", "--json").fields
    speed = fields.pop("realtime_factor")
    wall, first = fields.pop("wall_seconds"), fields.pop("first_audio_seconds")
    assert 0 <= first <= wall
    assert speed == pytest.approx(2 / wall, rel=0.2)
    assert fields.pop("seed") == toy_model.opened[0][1]["seed"]
    assert fields == {
        "model": "toy", "precision": "fp32", "device": "cpu", "sample_rate_hz": 48_000, "channels": 2,
        "audio_seconds": 2.0, "windows": 1, "interrupted": False, "out": str(tmp_path / "a.wav"), "heard": "",
    }  # fmt: skip


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000, 96_000])
def test_another_rate_keeps_pitch_and_exact_length(run: Run, toy_model: ToyModel, tmp_path: Path, rate_hz: int) -> None:
    assert run("render", "a", "--seconds", "1.5", "--out", tmp_path / "a.flac", "--sample-rate", rate_hz).code == 0
    read, got_hz = soundfile.read(tmp_path / "a.flac", always_2d=True)
    frames = round(1.5 * rate_hz)
    assert (got_hz, read.shape) == (rate_hz, (frames, 2))
    inner = slice(rate_hz // 20, None)  # to the very end: nothing is cut short by a filter
    np.testing.assert_allclose(read.T[:, inner], sung("a", frames, rate_hz)[:, inner], atol=1e-3)


def test_what_shapes_the_music_is_in_the_file(run: Run, toy_model: ToyModel, tmp_path: Path) -> None:
    """Every option of the table is one of the session's: effects too."""
    quiet, plain = tmp_path / "quiet.wav", tmp_path / "plain.wav"
    assert run("render", "a", "--seconds", "1", "--out", quiet, "--gain-db", "-20", "--tempo", "90").code == 0
    assert run("render", "a, 90 bpm", "--seconds", "1", "--out", plain).code == 0
    one, other = (soundfile.read(path)[0][4_800:] for path in (quiet, plain))
    np.testing.assert_allclose(one, other / 10, atol=1e-6)
    assert run("render", "a", "--seconds", "1", "--out", quiet, "--force", "--mute").code == 0
    assert np.abs(soundfile.read(quiet)[0][4_800:]).max() == 0


def test_a_context_that_windows_have_no_room_for_is_one_line_with_the_limit(
    run: Run, monkeypatch: pytest.MonkeyPatch, toy_model: ToyModel, tmp_path: Path
) -> None:
    monkeypatch.setitem(vars(streamgen), "load_model", lambda *_, **__: FakeModel(max_positions=753))
    answer = run("render", "a", "--seconds", "1", "--context-seconds", "12", "--out", tmp_path / "a.wav")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].endswith("context_seconds is 12.0, must be within 0.02 … 7.52 s")


def test_people_are_told_where_and_how_fast(run: Run, toy_model: ToyModel, tmp_path: Path) -> None:
    answer = run("render", "a", "--seconds", "1", "--out", tmp_path / "a.ogg")
    assert answer.out == ""
    assert answer.err.splitlines()[0] == "loading pocket …"
    assert answer.err.splitlines()[-1].startswith(f"{tmp_path / 'a.ogg'}: 1 s in ")
    seed = toy_model.opened[0][1]["seed"]
    assert answer.err.rstrip().endswith(f"× real time, seed {seed}"), "so that a good take can be had again"


def interrupt_at(model: ToyModel, step: int, number: int = signal.SIGINT) -> None:
    model.before_step = lambda steps: os.kill(os.getpid(), number) if steps == step else None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("rate_hz", [32_000, 48_000])
def test_a_signal_leaves_a_whole_file_of_what_was_made(
    run: Run, toy_model: ToyModel, tmp_path: Path, number: int, rate_hz: int
) -> None:
    interrupt_at(toy_model, 100, number)
    answer = run("render", "a", "--seconds", "60", "--out", tmp_path / "a.wav", "--sample-rate", rate_hz, "--json")
    assert answer.code == 1
    seconds = answer.fields["audio_seconds"]
    assert 1.7 < seconds < 2.1, "two seconds were made, some of it ahead of what is final"
    assert f"interrupted: {tmp_path / 'a.wav'} holds the first {seconds:.1f} s of 60 s" in answer.err
    assert answer.fields["interrupted"] is True
    read, _ = soundfile.read(tmp_path / "a.wav", always_2d=True)
    assert len(read) == pytest.approx(seconds * rate_hz, abs=1)
    inner = slice(rate_hz // 20, len(read) - rate_hz // 20)
    np.testing.assert_allclose(read.T[:, inner], sung("a", len(read), rate_hz)[:, inner], atol=1e-3)
    assert np.abs(read[-rate_hz // 1_000 :]).max() < 0.03, "it ends with a fade, not a click"
    assert toy_model.all_closed


def test_interrupted_before_any_audio_there_is_no_file(run: Run, toy_model: ToyModel, tmp_path: Path) -> None:
    interrupt_at(toy_model, 0)
    answer = run("render", "a", "--seconds", "60", "--out", tmp_path / "a.wav", "--json")
    assert (answer.code, answer.fields["out"], answer.fields["first_audio_seconds"]) == (1, None, None)
    assert answer.err.splitlines()[-1] == "interrupted before any audio was made; no file was written"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["audio-prompt", "melody", "style"])
def test_what_would_overwrite_its_own_prompt_is_refused(
    run: Run, toy_model: ToyModel, tmp_path: Path, option: str
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 1)), 32_000)
    answer = run("render", "a", "--out", tmp_path / "a.wav", "--force", f"--{option}", tmp_path / "a.wav")
    assert answer.code == 2
    assert f"--out and --{option} are both" in answer.error_line
    assert soundfile.info(tmp_path / "a.wav").frames == 100


def test_an_error_of_the_engine_leaves_no_file(run: Run, toy_model: ToyModel, tmp_path: Path) -> None:
    def refuse(_steps: int) -> None:
        raise PromptError("no such melody")

    toy_model.before_step = refuse
    assert run("render", "a", "--out", tmp_path / "a.wav").code == 2
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize(("kind", "option"), [("melody", "melody"), ("style", "style"), ("mono", "audio-prompt")])
def test_prompts_from_files_reach_the_stream(run: Run, tmp_path: Path, kind: str, option: str) -> None:
    time = np.arange(3 * 32_000) / 32_000
    soundfile.write(tmp_path / "tune.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 32_000)
    words = ("render", "a", "--model", tiny_checkpoint(kind), "--precision", "fp32", "--seconds", "0.5", "--seed", "1")
    assert run(*words, "--out", tmp_path / "without.wav").code == 0
    answer = run(*words, "--out", tmp_path / "with.wav", f"--{option}", tmp_path / "tune.wav")
    assert answer.code == 0, answer.err
    plain, guided = (soundfile.read(tmp_path / name)[0] for name in ("without.wav", "with.wav"))
    assert plain.shape == guided.shape == (24_000, 2)
    assert np.abs(plain - guided).max() > 1e-3


async def heard(url: str, frames: int) -> tuple[int, bytes]:
    """Listen at a WebSocket for so long; returns the label of the first frame, and the payload."""
    async with calling(url) as caller:
        await caller.hear(frames)
    starts = [header.sample_position for header, _ in caller.frames]
    assert np.diff(starts).tolist() == [header.frame_count for header, _ in caller.frames[:-1]]
    return starts[0], b"".join(payload for _, payload in caller.frames)


async def listened(address: str, file: Path, seconds: float) -> None:
    words = ("listen", address, "--codec", "f32le", "--seconds", str(seconds), "--out", str(file))
    command = await asyncio.create_subprocess_exec(sys.executable, "-m", "bridge.cli.main", *words)
    assert await command.wait() == 0


@pytest.mark.parametrize(
    ("name", "rate_hz", "seconds"),
    [
        ("tiny", 48_000, 1),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("tiny", 44_100, 10), ("pocket", 48_000, 4))),
    ],
)
def test_one_prompt_and_seed_are_the_same_bits_in_a_file_a_recording_and_at_whoever_listens(
    run: Run, tmp_path: Path, name: str, rate_hz: int, seconds: int
) -> None:
    """The service plays by the clock, in a thread, ahead of time; the file is made in one go."""
    music = {"seed": 7, "temperature": 0.9, "width": 0.5, "gain_db": 6.0, "lead_seconds": 0.7}
    model = {"model": str(tiny_checkpoint("mono")) if name == "tiny" else name, "precision": "fp32"}
    settings = Settings.of({"record": tmp_path / "a.flac", "session_rate": rate_hz, "port": 0, **music, **model})
    service, shares = service_of(settings), list[tuple[int, bytes]]()
    door = NativeDoor(service)

    async def scene(running: Running) -> None:
        address = f"ws://127.0.0.1:{door.port}"
        hearing = [heard(f"{address}/v1/stream?codec={codec}", seconds * rate_hz) for codec in ("f32le", "s16le")]
        async with asyncio.timeout(120):
            first, second, _ = await asyncio.gather(*hearing, listened(address, tmp_path / "listen.wav", seconds / 2))
        shares.extend((first, second))

    App(service, [door], first_values(settings, "house, drums", {})).run(load_model(settings), 5.0, scene)
    recorded = soundfile.read(tmp_path / "a.flac", dtype="int32")[0]
    options = {**music, **model, "session_rate": rate_hz, "seconds": -(-len(recorded) // rate_hz), "bits": 32}
    words = [w for key, value in options.items() if key != "lead_seconds" for w in (_flag(key), value)]
    assert run("render", "house, drums", "--out", tmp_path / "a.wav", *words).code == 0
    rendered = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    assert rendered.std() > 0
    np.testing.assert_array_equal(in_bits(rendered[: len(recorded)]), recorded)
    (at, floats), (also_at, whole) = shares
    expected = rendered[at:].astype("<f4").tobytes(), to_s16(rendered[also_at:]).astype("<i2").tobytes()
    assert floats == expected[0][: len(floats)]
    assert whole == expected[1][: len(whole)]
    saved = soundfile.read(tmp_path / "listen.wav", dtype="int32")[0]
    assert len(saved) == seconds * rate_hz // 2
    places = np.flatnonzero((recorded == saved[0]).all(axis=1))
    assert any(np.array_equal(recorded[place : place + len(saved)], saved) for place in places)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_memory_stays_flat(toy_model: ToyModel) -> None:
    session = OfflineSession(toy_model, Settings(), {"prompt/1/text": "a"}, {}, Beginning())
    for _ in range(2_000):
        assert sum(piece.shape[1] for piece in session.step()) <= 0.3 * 48_000
        assert session._player.generator.ahead_seconds <= 0.4
    session.close()


def test_a_rack_is_in_the_file_and_what_it_holds_back_is_made_up_for(
    run: Run, toy_model: ToyModel, tmp_path: Path
) -> None:
    rack = tmp_path / "rack.toml"
    rack.write_text('version = 1\n[parameters]\n[[slots]]\neffect = "equalizer"\n[slots.parameters]\ngain_db = -12.0\n')
    words = ("render", "piano", "--seconds", "1", "--seed", "5", "--out")
    assert run(*words, tmp_path / "dry.wav").code == 0
    answer = run(*words, tmp_path / "wet.wav", "--rack", rack)
    assert answer.code == 0, answer.err
    dry, wet = (soundfile.read(tmp_path / name)[0] for name in ("dry.wav", "wet.wav"))
    assert dry.shape == wet.shape
    assert np.abs(wet[12_000:] - 10 ** (-12 / 20) * dry[12_000:]).max() < 1e-3 * np.abs(dry).max()
    rack.write_text("version = 1\n")
    assert "--rack" in run(*words, tmp_path / "no.wav", "--rack", rack).error_line
    assert not (tmp_path / "no.wav").exists()


def test_what_is_there_is_written_over_when_told_to(
    run: Run, toy_model: ToyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.wav"
    out.write_bytes(b"kept")
    words = ("render", "a", "--seconds", "0.2", "--out", out)
    answer = run(*words)
    assert (answer.code, out.read_bytes()) == (2, b"kept")
    assert answer.error_line.endswith("a.wav' is there already: choose another --out, or --force to write over it")
    monkeypatch.setattr("bridge.cli.terminal.on_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert run(*words).error_line.endswith("a.wav' stays as it is")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert run(*words).code == 0
    assert run(*words, "--force").code == 0
    assert soundfile.info(out).frames == 9_600


def test_a_wav_into_standard_output_is_the_file(
    toy_model: ToyModel, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--out is '-'" in run("render", "a", "--out", "-", "--json").error_line
    words = ("render", "piano", "--seconds", "0.3", "--seed", "4", "--bits", 16, "--out")
    assert run(*words, tmp_path / "a.wav").code == 0
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=pipe, isatty=lambda: False))
    assert run(*words, "-").code == 0
    heard, _ = soundfile.read(io.BytesIO(pipe.getvalue()), dtype="int16")
    written, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert len(written) == 14_400
    assert np.array_equal(heard, written)
