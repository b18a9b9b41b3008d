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

from bridge.doors.door import Routes, Tasks, cannot_listen, host_and_port
from bridge.errors import UsageError
from bridge.session.commands import Set

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
        task = tasks.ask(session, Set({"nothing": 5}, "knobs"))
        await task
        await tasks.close()

    asyncio.run(go())
    assert "what knobs asks for could not be done: there is no parameter 'nothing'" in caplog.text
