"""Why a door does not open; whose a path at the HTTP port is, once it is past the checks that all pass."""

from __future__ import annotations

import asyncio
import errno
import re
import socket

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from bridge.doors.door import Routes, Tasks, cannot_listen, host_and_port, send_unless_full
from bridge.errors import UsageError
from bridge.session.commands import Command, Set

from .web_session import SineSession, serving


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EADDRINUSE, "a long story"), "Address already in use; choose another with --osc-port"),
        (OSError(errno.EACCES, "a long story"), "Permission denied; choose another with --osc-port"),
        (OSError(errno.EADDRNOTAVAIL, "a long story"), "Cannot assign requested address; choose another with --host"),
        (socket.gaierror(8, "nobody of that name"), "nobody of that name; choose another with --host"),
    ],
)
def test_a_door_that_does_not_open_says_what_to_choose(error: OSError, why: str) -> None:
    told = cannot_listen("OSC", "here", 80, error, "--osc-port")
    assert str(told) == f"OSC cannot listen at here:80: {why}"


def test_a_place_is_a_host_and_a_port_or_a_host_where_there_is_a_usual_one() -> None:
    assert host_and_port("--osc-target", "[::1]:9000") == ("::1", 9000)
    assert host_and_port("--rtp", "239.1.2.3", 5004) == ("239.1.2.3", 5004)
    assert host_and_port("--rtp", "[fe80::1]", 5004) == ("fe80::1", 5004)
    assert host_and_port("--rtp", "here:6000", 5004) == ("here", 6000)
    assert host_and_port("--rtp", "::1", 5004) == ("::1", 5004)
    assert host_and_port("--rtp", "fe80::1%eth0", 5004) == ("fe80::1%eth0", 5004)
    for usual_port in (None, 5004):
        with pytest.raises(UsageError, match=r"--rtp is '::1:9000', an IPv6 address: put it in brackets"):
            host_and_port("--rtp", "::1:9000", usual_port)
    with pytest.raises(UsageError, match=r"--rtp is 'here:x', must be a host and a port, .* without a port it is 5004"):
        host_and_port("--rtp", "here:x", 5004)


async def greet(socket: ServerConnection, request: Request) -> None:
    await socket.send(request.path)


def test_a_path_that_fits_no_pattern_is_nobodys() -> None:
    routes = Routes(sockets={re.compile(r"/+ws/\w+"): greet})
    assert routes.socket("//ws/x") is greet
    assert routes.socket("/ws/x/y") is None


def test_a_socket_is_handed_over_after_origin_host_and_token() -> None:
    async def go() -> None:
        async with serving(token="secret") as web:
            web.service.routes.sockets[re.compile(r"/+ws/\w+")] = greet
            place = f"ws://127.0.0.1:{web.web.port}//ws/x"
            async with connect(f"{place}?token=secret") as socket:
                assert await socket.recv() == "//ws/x?token=secret"
            async with connect(place) as socket:
                with pytest.raises(ConnectionClosed, match="1008"):
                    await socket.recv()
            assert web.access.clients.total() == 0

    asyncio.run(go())


def test_what_nobody_can_be_told_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        tasks, session = Tasks("knobs"), SineSession()
        await tasks.do(session, Set({"top_k": 5}, "knobs"))
        assert session.values()["top_k"] == 5
        tasks.ask(session, Set({"nothing": 5}, "knobs"))
        await asyncio.gather(*tasks._running)
        await tasks.close()

    asyncio.run(go())
    assert "what knobs asks for could not be done: there is no parameter 'nothing'" in caplog.text


def test_of_too_much_that_is_asked_for_at_once_the_newest_is_done() -> None:
    class Slow(SineSession):
        async def do(self, command: Command) -> int:
            await asyncio.sleep(0.01)
            return await super().do(command)

    async def go() -> None:
        session, tasks = Slow(), Tasks("hands")
        for number in range(5):
            tasks.ask(session, Set({"temperature": number / 10}, "hands"))
        await asyncio.sleep(0.05)
        assert len(session.commands) == 5, "of a few all"
        for number in range(10_000):
            tasks.ask(session, Set({"top_k": number % 2_000}, "hands"))
        assert len(tasks._running) < 50
        await asyncio.sleep(0.1)
        assert session.now["top_k"] == 9_999 % 2_000
        assert len(session.commands) < 60
        await tasks.close()

    asyncio.run(go())


def test_a_network_that_takes_nothing_is_not_waited_for_in_memory() -> None:
    class Full:
        def __init__(self) -> None:
            self.waits, self.sent = 0, list[bytes]()

        def get_write_buffer_size(self) -> int:
            return self.waits

        def sendto(self, data: bytes, _place: object) -> None:
            self.sent.append(data)
            self.waits += len(data)

    transport = Full()
    taken = sum(send_unless_full(transport, bytes(1_000)) for _ in range(10_000))  # type: ignore[arg-type]
    assert taken == len(transport.sent) < 400
