"""A WebSocket at another door's path is that door's, once it is past the checks that all pass."""

from __future__ import annotations

import asyncio
import re

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from bridge.doors.routes import Routes

from .web_session import serving


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
