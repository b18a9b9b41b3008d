"""Little lies below a door, unsent, whatever the system would take in."""

from __future__ import annotations

import asyncio
import socket

import pytest

from bridge.doors.buffers import bound_buffers


def test_what_nobody_reads_waits_here_and_not_in_the_system() -> None:
    if not hasattr(socket, "TCP_NOTSENT_LOWAT"):
        pytest.skip("this system has no TCP_NOTSENT_LOWAT")

    async def go() -> None:
        done = asyncio.Event()

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            bound_buffers(writer.transport, 4_096)
            assert writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 4_096
            assert writer.transport.get_write_buffer_limits()[1] == 4_096
            done.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.wait_for(done.wait(), 5)
        writer.close()
        server.close()

    asyncio.run(go())
