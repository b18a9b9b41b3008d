"""TLS: counted before hands are shaken, whoever the connection is for, and in pieces that hold nobody up."""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from bridge.cli.certificate import certified
from bridge.doors.access import Limits
from bridge.doors.native import front
from bridge.doors.native.guard import GuardedConnection

from ..web_session import Open, serving

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("tls")
    paths = home / "cert.pem", home / "key.pem"
    for path, data in zip(paths, certified(["127.0.0.1"]), strict=True):
        path.write_bytes(data)
    return paths


@pytest.fixture
def trusting(files: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files[0]))


@asynccontextmanager
async def opened(web: Open, tls: ssl.SSLContext | None) -> AsyncIterator[Pair]:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.web.port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def echo(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{request.method} {request.path} {bool(writer.get_extra_info('ssl_object'))}".encode())


def test_pages_streams_and_websockets_are_served_however_their_bytes_come(
    files: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    async def go() -> None:
        async with serving(tls=files) as web:
            web.service.routes.streams["/echo."] = echo
            answers = {b"HEAD /echo.x HTTP/1.0": b"HEAD /echo.x True", b"GET /healthz HTTP/1.1": b"HTTP/1.1 200"}
            for size in (1, 7, 1_000):
                for line, answer in answers.items():
                    request = line + b"\r\n\r\n"
                    async with opened(web, trusting) as (reader, writer):
                        for at in range(0, len(request), size):
                            writer.write(request[at : at + size])
                            await writer.drain()
                        assert (await reader.read()).startswith(answer)
            url = f"wss://127.0.0.1:{web.web.port}/v1/stream"
            async with connect(url, ssl=trusting, subprotocols=["streamgen.v1"]) as client:  # type: ignore[list-item]
                assert '"hello"' in str(await client.recv())
            await nobody_left(web)

    asyncio.run(go())


async def nobody_left(web: Open) -> None:
    async with asyncio.timeout(20):
        while web.access.connections.total():
            await asyncio.sleep(0.01)


HALF_A_HELLO = bytes.fromhex("16030100c8010000c40303")


def test_who_does_not_shake_hands_costs_nothing_and_is_cut_off_like_all_who_say_nothing(
    files: tuple[Path, Path], trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    init = SSLProtocol.__init__

    def noted(self: SSLProtocol, *args: Any, **options: Any) -> None:
        made.append(self)
        init(self, *args, **options)

    async def go() -> None:
        async with serving(Limits(connections=2), tls=files) as web:
            monkeypatch.setattr(front, "OPEN_SECONDS", 0.2)
            monkeypatch.setattr(SSLProtocol, "__init__", noted)
            async with opened(web, None) as one, opened(web, None) as two, opened(web, None) as three:
                two[1].write(HALF_A_HELLO)
                async with asyncio.timeout(20):
                    reading = (reader.read() for reader, _ in (one, two, three))
                    ends = await asyncio.gather(*reading, return_exceptions=True)
            assert all(end == b"" or isinstance(end, ConnectionError) for end in ends)
            assert web.metrics.refused["silent"] == 1
            assert not made
            await nobody_left(web)
            monkeypatch.undo()
            async with opened(web, trusting) as (reader, writer):
                writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200")

    asyncio.run(go())


def test_a_crowd_of_half_hellos_gives_way_to_who_shakes_hands(
    files: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    async def go() -> None:
        async with AsyncExitStack() as crowd, serving(Limits(connections=4), tls=files) as web:
            for _ in range(30):
                (await crowd.enter_async_context(opened(web, None)))[1].write(HALF_A_HELLO)
            async with opened(web, trusting) as (reader, writer):
                for _ in range(30):
                    (await crowd.enter_async_context(opened(web, None)))[1].write(HALF_A_HELLO)
                writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200")

    asyncio.run(go())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"GET /x HTTP/1.1\r\nHost: stage.example:8711\r\n\r\n", "https://stage.example:8711\n"),
        (b"GET /listen.mp3 HTTP/1.0\r\n\r\n", "https://\n"),
        (b"nonsense\r\n", "https://\n"),
    ],
)
def test_who_speaks_plain_http_is_told_in_one_line(files: tuple[Path, Path], said: bytes, told: str) -> None:
    async def go() -> str:
        async with serving(tls=files) as web:
            web.service.routes.streams["/listen."] = echo
            async with opened(web, None) as (reader, writer):
                writer.write(said)
                async with asyncio.timeout(20):
                    return (await reader.read()).decode()

    head, _, body = asyncio.run(go()).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert body == f"this port speaks TLS: use {told}"


def test_hands_half_shaken_do_not_keep_the_service_from_ending(files: tuple[Path, Path]) -> None:
    async def go() -> float:
        loop = asyncio.get_running_loop()
        async with serving(tls=files) as web, opened(web, None) as (_, writer):
            writer.write(HALF_A_HELLO)
            while not web.access.connections.total():
                await asyncio.sleep(0.01)
            began = loop.time()
            await web.web.close("the test is over")
            assert web.access.connections.total() == 0
            return loop.time() - began

    assert asyncio.run(go()) < front.OPEN_SECONDS - 1


def test_what_comes_at_once_is_parsed_in_pieces(
    files: tuple[Path, Path], trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    take = GuardedConnection.data_received

    def noted(self: GuardedConnection, data: bytes) -> None:
        sizes.append(len(data))
        take(self, data)

    monkeypatch.setattr(GuardedConnection, "data_received", noted)
    begun = Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True)
    empty = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)

    async def go() -> None:
        async with serving(tls=files) as web:
            url = f"wss://127.0.0.1:{web.web.port}/v1/stream?enabled=0"
            async with connect(url, ssl=trusting) as client:
                client.transport.write(begun + empty * 20_000)
                await asyncio.wait_for(client.wait_closed(), 30)
                assert client.close_reason == "too many fragments"

    asyncio.run(go())
    assert sum(sizes) > 4 * 4_096
    assert max(sizes) <= 4_096
