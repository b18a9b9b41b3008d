"""The source against a server that speaks as Icecast does, and against Icecast itself."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bridge.doors.access import Limits
from bridge.doors.radio import icecast
from bridge.doors.radio.icecast import IcecastSource, Mount, mount_of
from bridge.doors.radio.station import Station
from bridge.errors import UsageError
from bridge.metrics import Metrics
from bridge.session.commands import Set

from ....real_parts.icecast import running_icecast
from ..web_session import RATE_HZ, SineSession
from .test_encoders import decoded, is_one_sine


@dataclass
class Server:
    """Takes one stream after another; keeps what came."""

    status: str = "100 Continue"
    heads: list[str] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {'200 OK' if self.heads[-1].startswith('GET') else self.status}\r\n\r\n".encode())
        while self.status.startswith("100") and (data := await reader.read(65_536)):
            self.body += data
        writer.close()


@asynccontextmanager
async def on_air(server: Server, suffix: str) -> AsyncIterator[tuple[SineSession, IcecastSource]]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    session = SineSession()
    station = Station(session, Metrics())
    mount = mount_of(f"http://source:p%40ss@127.0.0.1:{server.port}/live.{suffix}")
    source = IcecastSource(mount, station, RATE_HZ, Limits(), Metrics())
    running = asyncio.create_task(source.run())
    try:
        yield session, source
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await station.close()
        listening.close()
        await asyncio.sleep(0.05)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_it_is_a_source_as_icecast_wants_one_and_tells_titles() -> None:
    async def go() -> None:
        server = Server()
        async with on_air(server, "mp3") as (session, source):
            await until(lambda: source.connected)
            session.play(50)
            await session.do(Set({"prompt/1/text": "rain & sun"}, "test"))
            session.play(50)
            await until(lambda: len(server.body) > 72_000 and len(server.heads) > 2)
            head = server.heads[0]
            assert head.startswith("PUT /live.mp3 HTTP/1.1\r\n")
            for line in ("Content-Type: audio/mpeg", "Expect: 100-continue", "Ice-Name: streamgen"):
                assert f"\r\n{line}\r\n" in head
            assert base64.b64encode(b"source:p@ss").decode() in head
            assert any("song=rain+%26+sun" in head and "mount=%2Flive.mp3" in head for head in server.heads[1:])
            heard = decoded(bytes(server.body))
            loud = np.abs(heard[0]) > 0.01  # silence before: nothing had been heard
            music = heard[:, np.flatnonzero(loud)[0] + RATE_HZ // 10 :]
            assert is_one_sine(music[:, : RATE_HZ + RATE_HZ // 2], RATE_HZ)

    asyncio.run(go())


def test_it_comes_back_after_a_refusal(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(icecast, "_FIRST_WAIT_SECONDS", 0.05)

    async def go() -> None:
        server = Server(status="401 Authentication Required")
        async with on_air(server, "ogg") as (_, source):
            await until(lambda: len(server.heads) > 2)
            assert not source.connected
            server.status = "100 Continue"
            await until(lambda: source.connected and server.body.startswith(b"OggS"))

    asyncio.run(go())
    assert caplog.text.count("it refuses: 401 Authentication Required; trying again, at least every 30 s") == 1
    assert "p@ss" not in caplog.text


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 " + b"A" * 200_000, b"HTTP/1.1 403 \x1b[2J" + b"A" * 999 + b"\r\n"])
def test_a_hostile_server_is_one_short_line_and_tried_again(
    answer: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(icecast, "_FIRST_WAIT_SECONDS", 0.05)

    @dataclass
    class Hostile(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self.heads) > 1:
                await super().serve(reader, writer)
                return
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(answer)
            try:
                await asyncio.sleep(0.2)
            finally:
                writer.close()

    async def go() -> None:
        server = Hostile()
        async with on_air(server, "mp3") as (_, source):
            await until(lambda: source.connected)

    asyncio.run(go())
    lines = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert len(lines[0]) < 350


@pytest.mark.parametrize(
    "url", ["host:8000/x.ogg", "http://h/x.flac", "http://h", "http://:8000/x.mp3", "http://h:x/a.mp3"]
)
def test_what_is_no_mount_is_told_without_its_password(url: str) -> None:
    with pytest.raises(UsageError, match="must be like") as problem:
        mount_of(url.replace("//h", "//source:secret@h"))
    assert "secret" not in str(problem.value)


def test_a_mount_is_read_in_full() -> None:
    mount = mount_of("https://me:a%20b@radio.example/x/live.ogg")
    assert mount == Mount("radio.example", 443, True, "me", "a b", "/x/live.ogg", mount.codec)
    assert mount_of("http://h/a.mp3").port == 8000


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_icecast_relays_it(suffix: str, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs Debian's ffmpeg")
    seconds = float(os.environ.get("STREAMGEN_RADIO_SECONDS", "5"))

    async def go(home: Path, port: int) -> None:
        session = SineSession()
        station = Station(session, Metrics())
        source = IcecastSource(
            mount_of(f"http://source:secret@127.0.0.1:{port}/live.{suffix}"), station, RATE_HZ, Limits(), Metrics()
        )
        tasks = [asyncio.create_task(source.run()), asyncio.create_task(session.pace())]
        await until(lambda: source.connected)
        await session.do(Set({"prompt/1/text": "rain"}, "test"))
        await asyncio.sleep(3)
        words = ["-v", "error", "-t", str(seconds), "-i", f"http://127.0.0.1:{port}/live.{suffix}", str(home / "x.wav")]
        player = await asyncio.create_subprocess_exec("ffmpeg", *words, stderr=asyncio.subprocess.PIPE)
        _, said = await asyncio.wait_for(player.communicate(), seconds + 30)
        assert (player.returncode, said) == (0, b"")
        heard = decoded((home / "x.wav").read_bytes())
        assert is_one_sine(heard[:, RATE_HZ // 2 :], RATE_HZ)
        if suffix == "mp3":
            _, status = await asyncio.to_thread(told, f"http://127.0.0.1:{port}/status-json.xsl")
            assert '"title":"rain"' in status
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await station.close()

    with running_icecast() as port:
        asyncio.run(go(tmp_path, port))


def told(url: str) -> tuple[int, str]:
    import urllib.request

    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.read().decode()
