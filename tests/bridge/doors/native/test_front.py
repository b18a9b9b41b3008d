"""Whose a connection is, by its first bytes, however they come."""

from __future__ import annotations

import asyncio

import pytest
from websockets.http11 import Request

from bridge.doors.access import Limits
from bridge.doors.native import front

from ..web_session import calling, serving


async def echo(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{request.method} {request.path} {request.protocol} {request.headers['X']}".encode())


def test_a_stream_is_its_doors_and_all_else_websockets() -> None:
    async def go() -> None:
        async with serving() as web:
            web.service.routes.streams["/echo."] = echo
            for size in (1, 7, 1_000):  # as slowly as a bad network brings it
                reader, writer = await asyncio.open_connection("127.0.0.1", web.web.port)
                request = b"HEAD /echo.x?y HTTP/1.0\r\nX: 1\r\n\r\n"
                for at in range(0, len(request), size):
                    writer.write(request[at : at + size])
                    await writer.drain()
                    await asyncio.sleep(0)
                assert await reader.read() == b"HEAD /echo.x?y HTTP/1.0 1"
                writer.close()
            assert (await web.http("/echo"))[0] == 404
            assert (await web.http("/echo.x", "POST"))[0] == 405
            assert (await web.http("/healthz"))[0] == 200
            async with calling(web.stream) as caller:
                assert caller.hello["session"] == "live"
            async with asyncio.timeout(20):
                while web.access.connections.total():
                    await asyncio.sleep(0.01)

    asyncio.run(go())


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /echo.x HTTP/3\r\n\r\n",
        b"GET /echo.x HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345",
        b"GET /echo.x HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
    ],
    ids=["version", "body", "endless"],
)
def test_what_is_no_request_is_refused(request_: bytes) -> None:
    async def go() -> None:
        async with serving() as web:
            web.service.routes.streams["/echo."] = echo
            reader, writer = await asyncio.open_connection("127.0.0.1", web.web.port)
            writer.write(request_)
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            writer.close()

    asyncio.run(go())


@pytest.mark.parametrize("path", [b"/echo.x", b"/healthz"])
@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (b"GET %s HTTP/1.1\r\nno colon\r\n\r\n", "invalid HTTP header line: no colon"),
        (b"GET %s HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345", "unsupported request body"),
        (b"GET %s HTTP/1.1\r\nX: \x00\r\n\r\n", "invalid HTTP header value"),
        (b"GET %s\r\n\r\n", "invalid HTTP request line"),
    ],
)
def test_what_cannot_be_read_is_told_why(path: bytes, lines: bytes, why: str) -> None:
    async def go() -> str:
        async with serving() as web:
            web.service.routes.streams["/echo."] = echo
            reader, writer = await asyncio.open_connection("127.0.0.1", web.web.port)
            writer.write(lines % path)
            async with asyncio.timeout(20):
                answer = await reader.read()
            writer.close()
            return answer.decode()

    head, _, body = asyncio.run(go()).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert f"Content-Length: {len(body)}\r\n" in head
    assert body.startswith(f"this is no HTTP request that can be read: {why}")
    assert body.count("\n") == 1


def test_who_has_not_said_what_it_wants_does_not_keep_the_service_from_ending() -> None:
    async def go() -> float:
        loop = asyncio.get_running_loop()
        async with serving() as web:
            streams = [await asyncio.open_connection("127.0.0.1", web.web.port) for _ in range(3)]
            for (_, writer), said in zip(streams, (b"", b"GE", b"GET /metrics HTTP/1.1\r\n"), strict=True):
                writer.write(said)
            await asyncio.sleep(0.05)
            began = loop.time()
            await web.web.close("the test is over")
            for _, writer in streams:
                writer.close()
            return loop.time() - began

    assert asyncio.run(go()) < front.OPEN_SECONDS - 1


def test_who_says_nothing_is_cut_off_and_too_many_are_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "OPEN_SECONDS", 0.1)

    async def go() -> None:
        async with serving(Limits(connections=2)) as web:
            opened = [await asyncio.open_connection("127.0.0.1", web.web.port) for _ in range(3)]
            async with asyncio.timeout(20):
                for reader, _ in opened:
                    with pytest.raises(ConnectionError):
                        raise ConnectionError if await reader.read() == b"" else AssertionError
            assert web.access.connections.total() == 0
            assert web.metrics.refused["connections"] == 1
            for _, writer in opened:
                writer.close()

    asyncio.run(go())
