"""The radio door over real sockets: what players ask, and what they get."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

from bridge.doors.access import Limits
from bridge.doors.radio import door as door_module
from bridge.doors.radio import encoders
from bridge.doors.radio.door import RadioDoor
from bridge.doors.radio.encoders import CODECS
from bridge.session.commands import Set

from ..web_session import BLOCK, RATE_HZ, Open, SineSession, SineSessions, serving, sine
from .test_encoders import decoded, is_one_sine
from .test_icy import taken_apart


@asynccontextmanager
async def on_air(seconds: float = 5, **options: object) -> AsyncIterator[tuple[Open, RadioDoor]]:
    async with serving(session=SineSession(), **options) as web:  # type: ignore[arg-type]
        web.service.places.update(web.web.places())
        radio = RadioDoor(web.service)
        await radio.open(SineSessions(web.session))
        web.session.play(round(seconds * RATE_HZ / BLOCK))
        try:
            yield web, radio
        finally:
            await radio.close("the test is over")
            assert web.service.routes.streams == {}


BURST = -1
QUIET_SECONDS = 0.2


async def asked(web: Open, request: str, size: int = 0) -> tuple[str, dict[str, str], bytes]:
    """Send a request's lines; returns first line, headers and body: all of it, so many bytes, or what comes at once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.web.port)
    writer.write(f"{request}\r\nHost: 127.0.0.1:{web.web.port}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if size == BURST:
            body = await until_quiet(reader)
        else:
            body = await (reader.readexactly(size) if size else reader.read())
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    first, *lines = head.strip().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


async def until_quiet(reader: asyncio.StreamReader) -> bytes:
    body = b""
    with suppress(TimeoutError):
        while True:
            body += await asyncio.wait_for(reader.read(65_536), QUIET_SECONDS if body else 5)
    return body


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac", "aac"])
def test_a_player_hears_the_session(suffix: str) -> None:
    async def go() -> None:
        async with on_air() as (web, radio):
            first, headers, body = await asked(web, f"GET /listen.{suffix} HTTP/1.1\r\nRange: bytes=0-", BURST)
            assert (first, headers["Content-Type"]) == ("HTTP/1.1 200 OK", CODECS[suffix].kind)
            assert (headers["Connection"], headers["Accept-Ranges"]) == ("close", "none")
            assert "Content-Length" not in headers
            assert "icy-metaint" not in headers
            heard = decoded(body)
            assert heard.shape[1] > 3.5 * RATE_HZ
            assert is_one_sine(heard[:, RATE_HZ // 10 : -RATE_HZ // 10], RATE_HZ)
            assert radio.stats()["encoders"] <= 1

    asyncio.run(go())


def test_wav_is_the_sessions_to_the_sample() -> None:
    async def go() -> None:
        async with on_air() as (web, _):
            _, _, body = await asked(web, "GET /listen.wav HTTP/1.0", 400_000)
            heard = decoded(body)
            start = web.session.position - 4 * RATE_HZ  # the burst
            assert np.abs(heard - sine(start, start + heard.shape[1])).max() <= 1 / 32_768

    asyncio.run(go())


def test_titles_for_who_asks_for_them() -> None:
    async def go() -> None:
        async with on_air(2) as (web, _):
            await web.session.do(Set({"prompt/1/text": "rain"}, "test"))
            web.session.play(200)
            first, headers, body = await asked(web, "GET /listen.mp3 HTTP/1.0\r\nIcy-MetaData: 1", 90_000)
            assert first == "HTTP/1.0 200 OK"
            assert (headers["icy-metaint"], headers["icy-name"], headers["icy-br"]) == ("16000", "streamgen", "192")
            sound, titles = taken_apart(body)
            assert titles == ["StreamTitle='rain';"]
            assert is_one_sine(decoded(sound)[:, RATE_HZ // 10 : -RATE_HZ // 10], RATE_HZ)

    asyncio.run(go())


def test_thirty_listeners_are_one_encoder_and_all_leave() -> None:
    async def go() -> None:
        async with on_air() as (web, radio):
            streams = [asked(web, "GET /listen.mp3 HTTP/1.1", 20_000) for _ in range(30)]
            bodies = {body for _, _, body in await asyncio.gather(*streams)}
            assert len(bodies) == 1
            pace = asyncio.create_task(web.session.pace())  # who has gone is found out by writing
            async with asyncio.timeout(10):
                while radio.stats() != {"listeners": 0, "encoders": 0, "sources": 0} or web.access.connections.total():
                    await asyncio.sleep(0.02)
            pace.cancel()
            assert web.access.clients.total() == 0

    asyncio.run(go())


def test_head_and_playlists_and_what_is_not_there() -> None:
    async def go() -> None:
        async with on_air(token="s/cret") as (web, radio):
            first, headers, body = await asked(web, "HEAD /listen.ogg?token=s/cret HTTP/1.1")
            assert (first, headers["Content-Type"], body) == ("HTTP/1.1 200 OK", "audio/ogg", b"")
            stream = f"http://127.0.0.1:{web.web.port}/listen.mp3?token=s%2Fcret"
            for suffix, kind in (("m3u", "audio/x-mpegurl"), ("pls", "audio/x-scpls")):
                first, headers, body = await asked(web, f"GET /listen.{suffix}?token=s/cret HTTP/1.1")
                assert headers["Content-Type"].startswith(kind)
                assert stream in body.decode()
                assert int(headers["Content-Length"]) == len(body)
            first, _, body = await asked(web, "GET /listen.xm?token=s/cret HTTP/1.1")
            assert first.startswith("HTTP/1.1 404")
            assert b"/listen.mp3" in body
            assert radio.stats() == {"listeners": 0, "encoders": 0, "sources": 0}

    asyncio.run(go())


def test_strangers_stay_out_and_places_are_counted() -> None:
    async def go() -> None:
        async with on_air(token="secret", limits=Limits(clients=1)) as (web, _):
            for request, status in (
                ("GET /listen.mp3 HTTP/1.1", 401),
                ("GET /listen.m3u HTTP/1.1", 401),
                ("GET /listen.mp3?token=wrong HTTP/1.1", 401),
                ("GET /listen.mp3?token=secret HTTP/1.1\r\nOrigin: https://evil.example", 403),
            ):
                first, _, _ = await asked(web, request)
                assert first.startswith(f"HTTP/1.1 {status} "), request
            web.access.clients["10.0.0.1"] = 1
            first, headers, body = await asked(web, "GET /listen.mp3?token=secret HTTP/1.1")
            assert first.startswith("HTTP/1.1 503")
            assert (headers["Retry-After"], body) == ("10", b"all 1 places are taken; try again in 10 s\n")

    asyncio.run(go())


def test_a_page_that_may_connect_may_play_it() -> None:
    async def go() -> None:
        async with on_air() as (web, _):
            _, headers, _ = await asked(web, "HEAD /listen.mp3 HTTP/1.1\r\nOrigin: http://localhost:3000")
            assert headers["Access-Control-Allow-Origin"] == "http://localhost:3000"

    asyncio.run(go())


def test_without_pyav_the_door_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        async with on_air() as (web, radio):
            assert radio.places() == {"radio": f"http://127.0.0.1:{web.web.port}/listen.mp3"}
            monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda _name: None)
            assert radio.places() == {}
            first, _, body = await asked(web, "GET /listen.mp3 HTTP/1.1")
            assert first.startswith("HTTP/1.1 503")
            assert b"pip install av" in body

    asyncio.run(go())


def test_when_the_service_ends_a_stream_ends() -> None:
    async def go() -> None:
        async with serving() as web:
            radio = RadioDoor(web.service)
            await radio.open(SineSessions(web.session))
            reader, writer = await asyncio.open_connection("127.0.0.1", web.web.port)
            writer.write(b"GET /listen.wav HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            await radio.close("the test is over")
            async with asyncio.timeout(20):
                await reader.read()
            writer.close()

    asyncio.run(go())


def test_a_listener_that_reads_nothing_does_not_keep_the_service_from_ending() -> None:
    async def go() -> float:
        async with serving() as web:
            radio = RadioDoor(web.service)
            await radio.open(SineSessions(web.session))
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                deaf.connect(("127.0.0.1", web.web.port))
                deaf.send(b"GET /listen.wav HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                async with asyncio.timeout(10):
                    while not radio.stats()["listeners"]:
                        await asyncio.sleep(0.01)
                for _ in range(100):
                    web.session.play(10)
                    await asyncio.sleep(0)
                began = asyncio.get_running_loop().time()
                await radio.close("the test is over")
                await web.web.close("the test is over")
                assert radio.stats()["listeners"] == 0
                assert web.access.connections.total() == 0
                return asyncio.get_running_loop().time() - began

    assert asyncio.run(go()) < 5, "a second to read what it was sent; its minute of patience is for the living"


def test_a_fault_of_ours_is_logged_and_ends_one_stream(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        async with on_air() as (web, _):
            monkeypatch.setattr(door_module.Exchange, "write_head", lambda *_: 1 / 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", web.web.port)
            writer.write(b"GET /listen.mp3 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert await reader.read() == b""
            writer.close()
            assert web.metrics.errors["internal"] == 1

    with caplog.at_level(logging.ERROR):
        asyncio.run(go())
    assert "ZeroDivisionError" in caplog.text
