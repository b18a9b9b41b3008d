"""How much lies below a door, unsent: what is dropped, and how late a listener hears, is decided by it, not the system.

Rules: knows a socket's options and nothing else.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

__all__ = ["bound_buffers"]


def bound_buffers(transport: asyncio.WriteTransport, unsent_bytes: int) -> None:
    """Let little wait below us: the system otherwise takes in half a minute of audio before a write blocks.

    Args:
        transport: of an open connection.
        unsent_bytes: what may wait.
    """
    transport.set_write_buffer_limits(high=unsent_bytes)
    raw = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS
    if raw is not None and option is not None:
        with suppress(OSError):  # the peer may have gone this moment
            raw.setsockopt(socket.IPPROTO_TCP, option, unsent_bytes)
