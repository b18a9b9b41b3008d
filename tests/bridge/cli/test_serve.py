"""The whole service as a user runs it: a process, real sockets, a tiny checkpoint."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import ClientConnection

from bridge.cli import serve
from bridge.cli.serve import _ready, _say_ready, _with_config, add_arguments
from bridge.doors.sound_card.card import OutputDevice
from bridge.doors.sound_card.door import SoundStats
from bridge.errors import UsageError

from ...service.running import Service

HEADER = struct.Struct("<BBBBIQQII")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "take.flac").write_text("the take of yesterday, which must not be written over")
    with Service(tmp_path, "--record", str(tmp_path / "take.flac")) as one:
        yield one


async def listen(client: ClientConnection, seconds: float) -> tuple[int, np.ndarray, list[dict[str, Any]]]:
    """Read so much audio: its first position, int16 [n, 2], and the messages in between."""
    pieces, messages, start, count = [], [], None, 0
    async with asyncio.timeout(20):
        while count < seconds * 32_000:
            message = await client.recv()
            if isinstance(message, str):
                messages.append(json.loads(message))
                continue
            version, codec, channels, _, _, position, _, rate, frames = HEADER.unpack(message[: HEADER.size])
            assert (version, codec, channels, rate) == (1, 0, 2, 32_000)
            start = position if start is None else start
            assert position == start + count, "no sample is missing"
            pieces.append(np.frombuffer(message[HEADER.size :], "<i2").reshape(-1, 2))
            count += frames
    assert start is not None
    return start, np.concatenate(pieces), messages


def test_listeners_hear_what_is_recorded_a_change_reaches_all_and_sigterm_says_goodbye(
    service: Service, tmp_path: Path
) -> None:
    async def scene() -> tuple[int, np.ndarray]:
        async with service.connect() as one, service.connect() as two:
            hellos = [json.loads(await client.recv()) for client in (one, two)]
            assert [hello["type"] for hello in hellos] == ["hello", "hello"]
            assert {row["name"] for row in hellos[0]["parameters"]} >= {"prompt/1/text", "guidance_scale", "gain_db"}
            start, first, _ = await listen(one, 0.5)
            await one.send(json.dumps({"type": "set", "id": 7, "values": {"temperature": 0.5}}))
            (_, more, told), (_, _, others) = await asyncio.gather(listen(one, 1.0), listen(two, 1.5))
            assert [m for m in told if m["type"] == "ack" and m["id"] == 7]
            for messages in (told, others):
                (changed,) = [m for m in messages if m["type"] == "changed"]
                assert changed["values"] == {"temperature": 0.5}
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as osc:
                osc.sendto(
                    b"/streamgen/top_k\0\0\0\0,i\0\0" + struct.pack(">i", 9), ("127.0.0.1", service.ready["osc_port"])
                )
            _, _, told = await listen(one, 0.5)
            assert [m["values"] for m in told if m["type"] == "changed"] == [{"top_k": 9}]
            assert json.loads(service.get("/healthz"))["status"] == "ok"
            counted = service.metrics()
            assert counted['step_seconds{quantile="0.5"}'] > 0
            assert counted["lead_seconds"] > 0
            assert counted['listeners{door="websocket"}'] == 2
            assert counted['commands_total{door="osc"}'] == 1
            assert counted['commands_total{door="websocket"}'] == 1
            assert counted["sessions"] == 1
            assert "sound_playing" not in counted
            assert "<html" in service.get("/")
            service.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):  # it ends when the server has closed
                last = [json.loads(message) async for message in one if isinstance(message, str)]
            assert last[-1]["type"] == "goaway"
            return start, np.concatenate([first, more])

    start, heard = asyncio.run(scene())
    service.process.communicate(timeout=20)
    assert service.process.returncode == 0
    assert service.ready["recording"] == str(tmp_path / "take-2.flac")
    recorded = soundfile.read(service.ready["recording"], dtype="int16", always_2d=True)[0]
    assert np.abs(recorded[start : start + len(heard)].astype(int) - heard).max() <= 1


def test_a_private_session_is_another_music(service: Service) -> None:
    async def scene() -> None:
        async with service.connect() as live, service.connect("?session=new") as own:
            hello = json.loads(await own.recv())
            await live.recv()
            assert hello["session"] != "live"
            (_, a, _), (start, b, _) = await asyncio.gather(listen(live, 0.5), listen(own, 0.5))
            assert np.abs(a[: len(b)].astype(int) - b[: len(a)]).max() > 300
            own.transport.abort()  # as when a phone leaves the room
        async with service.connect(f"?session={hello['session']}") as own:
            again = json.loads(await own.recv())
            assert again["session"] == hello["session"]
            assert start < (await listen(own, 0.2))[0] <= start + len(b) + 32_000, "it goes on where it was"

    asyncio.run(scene())
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "set --token SECRET, or --insecure"),
        (["--config", "/nowhere.toml"], "--config '/nowhere.toml' cannot be read"),
        (["--record", "take.mp3"], "--record: recording 'take.mp3': its suffix must be .flac or .wav"),
        (["--record", "/nowhere/a.wav"], "there is no folder '/nowhere'; make it first"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(options: list[str], words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "bridge.cli.main", "serve", *options], capture_output=True, text=True)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def ready_line(stats: SoundStats | None, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str]:
    device = OutputDevice(3, "Speakers", "ALSA", 2, 48_000, 0.03, True)
    web, osc = SimpleNamespace(url="http://127.0.0.1:8711/"), SimpleNamespace(port=8712)
    sound = None if stats is None else SimpleNamespace(stats=lambda: stats)
    args = parse(*words)
    live = SimpleNamespace(recording=None)
    ready = _ready(web, osc, sound, live, args.token)  # type: ignore[arg-type]
    _say_ready(args, ready, None if stats is None else device)
    return ready, capsys.readouterr().err


PLAYING = SoundStats("ALSA: Speakers", 0.15, 0, 0.0, 0, 0, 0, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("stats", "sound", "said"),
    [
        (PLAYING, "ALSA: Speakers", "sound ALSA: Speakers"),
        (replace(PLAYING, device=""), None, "sound none yet (Speakers does not open; trying on)"),
        (None, None, "sound none\n"),
    ],
)
def test_the_ready_line_tells_whether_sound_plays(
    stats: SoundStats | None, sound: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ready, line = ready_line(stats, capsys)
    assert ready["sound"] == sound
    assert said in line


def test_a_token_of_any_characters_can_be_clicked(capsys: pytest.CaptureFixture[str]) -> None:
    ready, line = ready_line(None, capsys, "--token", "a&b c#")
    assert ready["websocket"] == "ws://127.0.0.1:8711/v1/stream?token=a%26b%20c%23"
    assert "http://127.0.0.1:8711/?token=a%26b%20c%23 " in line


def test_the_latency_is_asked_of_the_sound_card(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        asked: list[float] = []

        class Door:
            def __init__(self, _session: object, _device: object, *, latency_seconds: float) -> None:
                asked.append(latency_seconds)

            async def open(self) -> None:
                asked.append(0)

            async def close(self) -> None:
                asked.append(-1)

        monkeypatch.setattr(serve, "SoundDoor", Door)
        args = parse("--latency", "0.03")
        async with AsyncExitStack() as stack:
            await serve._open_sound(object(), object(), args.latency, stack)  # type: ignore[arg-type]
        assert asked == [0.03, 0, -1]

    asyncio.run(go())
    assert parse().latency == 0.2


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return _with_config(parser.parse_args(list(words)))


def test_a_config_file_fills_in_and_the_command_line_wins(tmp_path: Path) -> None:
    config = tmp_path / "stage.toml"
    config.write_text('port = 9001\ninsecure = true\nallow_origin = ["https://a.example", "https://b.example"]\n')
    args = parse("--config", str(config), "--port", "9002")
    assert (args.port, args.insecure) == (9002, True)
    assert args.allow_origin == ["https://a.example", "https://b.example"]
    config.write_text("volume = 3\n")
    with pytest.raises(UsageError, match="names 'volume', which is no option of serve"):
        parse("--config", str(config))
