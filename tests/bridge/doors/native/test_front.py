"""Whose a connection is, by its first bytes, however they come."""

from __future__ import annotations

import asyncio
import errno
import gc
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

from bridge.doors.access import Access, Limits
from bridge.doors.door import Routes, Tasks
from bridge.doors.limits import ACCEPTS_A_TURN, Turns
from bridge.doors.native import front
from bridge.doors.native.guard import GuardedConnection, Places
from bridge.metrics import Metrics

from ..mutations import mutated_http
from ..web_session import Open, calling, serving

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Transport(asyncio.Transport):
    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 5_000)})
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


@asynccontextmanager
async def opened(web: Open, *said: bytes) -> AsyncIterator[list[Pair]]:
    pairs = []
    try:
        for words in said:
            pairs.append(await asyncio.open_connection("127.0.0.1", web.web.port))
            pairs[-1][1].write(words)
        yield pairs
    finally:
        for _, writer in pairs:
            writer.transport.abort()


async def cut_off(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            assert await reader.read() == b""


async def nobody_left(web: Open) -> None:
    async with asyncio.timeout(20):
        while web.access.connections.total():
            await asyncio.sleep(0.01)


async def echo(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{request.method} {request.path} {request.protocol} {request.headers.get('X')}".encode())


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
            await nobody_left(web)

    asyncio.run(go())


@pytest.mark.parametrize("path", [b"/echo.x", b"/healthz"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"GET %s HTTP/3\r\n\r\n", 400),
        (b"GET %s HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345", 400),
        (b"GET %s HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, 431),
        (b"GET %s HTTP/1.1\r\n" + (b"X: " + b"y" * 1_000 + b"\r\n") * 100, 400),
        (b"GET %s" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET %s HTTP/1.1\r\nX: y\r\n", 400),
    ],
    ids=["version", "body", "endless", "long", "target", "cut"],
)
def test_what_is_no_request_is_refused(path: bytes, lines: bytes, status: int) -> None:
    async def go() -> None:
        async with serving() as web:
            web.service.routes.streams["/echo."] = echo
            reader, writer = await asyncio.open_connection("127.0.0.1", web.web.port)
            writer.write(lines % path)
            writer.write_eof()
            async with asyncio.timeout(20):
                assert (await reader.readline()).startswith(b"HTTP/1.1 %d" % status)
            writer.transport.abort()
            await nobody_left(web)

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


def test_who_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "OPEN_SECONDS", 0.1)

    async def go() -> None:
        async with serving() as web, opened(web, b"", b"GET /healthz HT") as pairs:
            for reader, _ in pairs:
                await cut_off(reader)
            await nobody_left(web)

    asyncio.run(go())


def test_where_there_is_no_room_who_has_asked_for_least_gives_way() -> None:
    """Of six places, the newest connections of a crowd of 300 have some; whoever asks for anything gets it."""

    async def go() -> None:
        async with serving(Limits(connections=6)) as web, calling(web.stream) as listening:
            async with opened(web, b"GET /healthz HTTP/1.1\r\n") as ((slow, slowly),):
                while not list(web.web._entrance.begun):
                    await asyncio.sleep(0.001)
                async with opened(web, *[b""] * 300) as crowd:
                    await cut_off(crowd[0][0])
                    assert (await web.http("/healthz"))[0] == 200
                    async with calling(web.stream) as caller:
                        assert caller.hello["session"] == "live"
                    slowly.write(b"\r\n")
                    assert (await slow.readline()).startswith(b"HTTP/1.1 200")
                    assert web.access.connections.total() <= 6
                    assert web.metrics.refused["silent"] > 290
                    assert not web.metrics.refused["connections"]
                await listening.ask(type="ping", id=1, t=1)
            del listening
        await nobody_left(web)

    asyncio.run(go())


def test_who_is_somebodys_is_not_made_to_give_way() -> None:
    async def go() -> None:
        async with serving(Limits(connections=1)) as web, calling(web.stream) as caller:
            async with opened(web, b"") as ((reader, _),):
                await cut_off(reader)
            assert web.metrics.refused["connections"] == 1
            await caller.ask(type="ping", id=1, t=1)

    asyncio.run(go())


def test_a_crowd_of_one_address_makes_room_for_itself() -> None:
    """Only its own limit is exceeded, or it has most of all: it is not others who go."""

    def front_of(address: str, entrance: front.Entrance) -> front.Front:
        made = front.Front(ServerProtocol(), lambda: pytest.fail("nobody asked"), entrance)
        transport = Transport(address)
        made.connection_made(transport)
        return made

    async def go() -> None:
        access = Access(limits=Limits(connections=4, connections_per_address=3))
        entrance = front.Entrance(Places(access, Metrics()), Routes(), Tasks("stream"), Turns(), None)
        honest = front_of("10.0.0.1", entrance)
        crowd = [front_of("10.0.0.2", entrance) for _ in range(3)]
        newest = [front_of("10.0.0.2", entrance), front_of("10.0.0.3", entrance)]
        assert [one._transport.aborted for one in (honest, *crowd, *newest)] == [  # type: ignore[attr-defined]
            False,
            True,
            True,
            False,
            False,
            False,
        ]
        assert dict(access.connections) == {"10.0.0.1": 1, "10.0.0.2": 2, "10.0.0.3": 1}
        entrance.close()
        assert access.connections.total() == 0

    asyncio.run(go())


def test_what_costs_much_is_made_when_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[GuardedConnection] = []
    init = GuardedConnection.__init__

    def noted(self: GuardedConnection, *args: Any, **options: Any) -> None:
        made.append(self)
        init(self, *args, **options)

    monkeypatch.setattr(GuardedConnection, "__init__", noted)

    async def go() -> None:
        async with serving() as web, opened(web, b"", b"GET /healthz HTTP/1.1\r\nX: y\r\n", b"nonsense\r\n"):
            while web.access.connections.total() < 3:
                await asyncio.sleep(0.001)
            assert not made
            assert (await web.http("/healthz"))[0] == 200
            assert len(made) == 1

    asyncio.run(go())


def test_a_crowd_is_taken_in_a_few_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    came = front.Front.connection_made

    def noted(self: front.Front, transport: asyncio.BaseTransport) -> None:
        if not turns or turns[-1] == 0:
            asyncio.get_running_loop().call_soon(turns.append, 0)
        turns.append(turns.pop() + 1 if turns else 1)
        came(self, transport)

    monkeypatch.setattr(front.Front, "connection_made", noted)

    async def go() -> None:
        async with serving() as web:
            places = [socket.socket() for _ in range(60)]
            for place in places:  # all wait before the loop looks
                place.setblocking(False)
                with suppress(BlockingIOError):
                    place.connect(("127.0.0.1", web.web.port))
            while web.access.connections.total() < len(places):
                await asyncio.sleep(0)
            for place in places:
                place.close()

    asyncio.run(go())
    assert sum(turns) == 60
    assert max(turns) <= ACCEPTS_A_TURN


def sent(port: int, data: bytes, *, read: bool) -> bytes:
    """Send it from a thread and a plain socket, which leave nothing behind; returns what came back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as place, suppress(ConnectionError):
        place.sendall(data)
        try:
            place.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the service has reset it already
                raise
        return b"".join(iter(lambda: place.recv(65_536), b"")) if read else b""
    return b""


@pytest.mark.parametrize(
    ("said", "read"),
    [(b"", False), (b"GET /hea", True), (b"nonsense\r\n", True), (b"GET /healthz HTTP/1.1\r\n\r\n", True)],
)
def test_connections_leave_nothing_behind_that_python_must_look_for(said: bytes, read: bool) -> None:
    """Looking for rings of thousands held the event loop for 60 ms; asyncio's transport is one of seven objects."""
    count = 20

    async def go() -> int:
        async with serving() as web:
            await asyncio.to_thread(sent, web.web.port, said, read=read)
            await nobody_left(web)
            gc.collect()
            gc.disable()
            try:
                for _ in range(count):
                    await asyncio.to_thread(sent, web.web.port, said, read=read)
                await nobody_left(web)
                await asyncio.sleep(0.01)  # what their tasks held goes
                return gc.collect()
            finally:
                gc.enable()

    assert asyncio.run(go()) < 12 * count


def test_mutated_requests_are_answered_or_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    draw = random.Random(3)

    async def go() -> Counter[bytes]:
        answers: Counter[bytes] = Counter()
        async with serving() as web:
            web.service.routes.streams["/listen."] = echo
            for _ in range(300):
                answer = await asyncio.to_thread(sent, web.web.port, mutated_http(draw), read=True)
                answers[answer[9:12] if answer.startswith(b"HTTP/") else answer[:3]] += 1
            await nobody_left(web)
        return answers

    answers = asyncio.run(go())
    assert not [record for record in caplog.records if record.name == "asyncio"]
    assert {b"200", b"400", b"405", b"431"} <= set(answers)
