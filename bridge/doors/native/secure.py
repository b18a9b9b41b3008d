"""TLS at the HTTP port: hands are shaken where connections are counted, and what comes is read in small pieces.

    TCP ─► Front: a whole hello ─► start_tls ─► SSLProtocol ─► Slices ─► Front, then whoever takes the connection over

asyncio's own servers shake hands before anybody may look: thousands who never begin would hold a quarter of a megabyte
each. And they hand on in one piece all that came, as much again: frames of no bytes, parsed in one go, would hold the
event loop. So would a crowd that shakes hands in one turn: each hand costs about a millisecond.

Rules: event loop; knows bytes, not what they say.
"""

from __future__ import annotations

import asyncio
import ssl

__all__ = ["Slices", "begins_tls", "is_whole", "secured"]

_SHUTDOWN_SECONDS = 2.0
_HANDSHAKE, _RECORD_HEADER_BYTES = 22, 5  # RFC 8446, 5.1: kind, version (2 bytes), length (2 bytes)


def begins_tls(came: bytes) -> bool:
    """Tell whether a connection's first bytes are TLS's, if there are any."""
    return not came or came[0] == _HANDSHAKE


def is_whole(came: bytes) -> bool:
    """Tell whether the first record has come in full: who only begins one costs no more than its bytes."""
    length = int.from_bytes(came[_RECORD_HEADER_BYTES - 2 : _RECORD_HEADER_BYTES])
    return len(came) >= _RECORD_HEADER_BYTES + length


class Slices(asyncio.BufferedProtocol):
    """What stands between TLS and a protocol for as long as the connection lasts.

    Args:
        protocol: whose it is first.
        max_size: bytes that it gets at once.

    Attributes:
        protocol: whose it is now.
        max_size: as above; from the next piece on.
    """

    def __init__(self, protocol: asyncio.Protocol, max_size: int) -> None:
        self.protocol, self.max_size = protocol, max_size
        self._buffer = memoryview(bytearray(max_size))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where the next piece goes; asyncio hands on what is left in its next turn."""
        if len(self._buffer) != self.max_size:
            self._buffer = memoryview(bytearray(self.max_size))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand a piece on."""
        self.protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        """Hand on that no more comes."""
        return self.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that it is over."""
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on that enough is unsent."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that there is room again."""
        self.protocol.resume_writing()


async def secured(
    transport: asyncio.Transport,
    hello: bytes,
    slices: Slices,
    context: ssl.SSLContext,
    seconds: float,
) -> asyncio.Transport | None:
    """Shake hands; returns the transport from then on, None where the peer did not.

    Args:
        transport: plain, and read by nobody.
        hello: what came by it.
        slices: gets what comes, perhaps before this returns.
        context: with our certificate.
        seconds: that the peer has for it.
    """
    loop = asyncio.get_running_loop()
    feeding = loop.create_task(_feed(transport, hello))
    try:  # of a connection that ended meanwhile asyncio returns None
        return await loop.start_tls(
            transport,
            slices,
            context,
            server_side=True,
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )
    except OSError:  # so are ssl's own, and time that ran out
        return None
    finally:
        feeding.cancel()


async def _feed(transport: asyncio.Transport, data: bytes) -> None:
    """Hand on what was read before, as soon as TLS has been made and knows its transport: in the turn that follows."""
    await asyncio.sleep(0)
    protocol = transport.get_protocol()
    while data and isinstance(protocol, asyncio.BufferedProtocol) and not transport.is_closing():
        space = memoryview(protocol.get_buffer(len(data)))
        count = min(len(space), len(data))
        space[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]
