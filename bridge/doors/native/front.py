"""The first bytes of a connection at the HTTP port: whose is it?

    TCP ─► Front, and TLS ─┬─ GET /listen…, as the routes say ─► head read ─► a door that streams as long as it likes
                           └─ all else                        ─► GuardedConnection: WebSockets, answers of one piece

websockets answers HTTP in one piece and no other way, so what streams must leave before it looks.

Rules: event loop; decides by the request's first line, and counts the connection until it is somebody's. Who says
nothing is cut off.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from contextlib import suppress
from typing import cast

from websockets.http11 import Request
from websockets.server import ServerProtocol

from bridge.doors.answers import unreadable
from bridge.doors.door import Routes, StreamHandler, Tasks
from bridge.doors.native.guard import GuardedConnection, Places
from bridge.doors.native.secure import Slices, secured

__all__ = ["OPEN_SECONDS", "Front"]

OPEN_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_READ_BYTES, _HEAD_BYTES = 4_096, 16_384
_UNREAD_BYTES = 4_096  # of what a listener says, which nobody reads
_METHODS = ("GET", "HEAD")

_log = logging.getLogger("bridge.doors")
_quiet = logging.getLogger("bridge.doors.websockets")


class Front(asyncio.Protocol):
    """One new connection.

    Args:
        connection: what takes it over as a WebSocket.
        routes: what streams.
        places: of the service.
        fresh: this one is in it for as long as it is nobody's.
        streams: what other doors stream, each until it ends.
        tls: our certificate; None for plain http.
    """

    def __init__(
        self,
        connection: GuardedConnection,
        routes: Routes,
        places: Places,
        fresh: set[Front],
        streams: Tasks,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._connection, self._routes, self._places, self._fresh = connection, routes, places, fresh
        self._streams, self._tls = streams, tls
        self._slices: Slices | None = None
        self.protocol = connection.protocol  # websockets asks for it, taking this for the connection
        self._came, self._counted, self._shaking_hands = b"", True, False
        self._head: ServerProtocol | None = None
        self._handler: StreamHandler | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it; too many are cut off at once."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(OPEN_SECONDS, self.abort)
        self._address = str((transport.get_extra_info("peername") or ("?",))[0])
        if hasattr(transport, "max_size"):  # of asyncio's own transports; uvloop has none
            transport.max_size = _READ_BYTES
        self._fresh.add(self)
        if not self._places.access.connect(self._address):
            self._places.metrics.refused["connections"] += 1
            self.abort()
        elif self._tls is not None:
            self._shaking_hands = True
            self._transport.pause_reading()  # what comes first is TLS's
            self._streams.spawn(self._secure(self._tls))

    async def _secure(self, tls: ssl.SSLContext) -> None:
        """Go on over TLS, or count it out."""
        self._slices, transport = Slices(self, _READ_BYTES), None
        try:
            transport = await secured(self._transport, self._slices, tls, OPEN_SECONDS)
        finally:
            if transport is None:
                self._leave()
        if transport is not None:
            self._transport, self._shaking_hands = transport, False
            self.data_received(b"")  # what came with the last of the handshake

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Count it out: it was nobody's yet."""
        self._leave()

    def abort(self) -> None:
        """Cut it off."""
        self._transport.abort()

    def _leave(self) -> None:
        if not self._counted:
            return
        self._counted = False
        self._timer.cancel()
        self._fresh.discard(self)
        self._places.access.disconnect(self._address)

    def data_received(self, data: bytes) -> None:
        """Look whose it is, as soon as that can be told."""
        if self._shaking_hands:
            self._came += data
            return
        if self._transport.is_closing():
            return
        if self._head is not None:
            self._read_head(data)
            return
        self._came += data
        self._handler, undecided = self._wanted()
        if self._handler is not None:
            self._head, came = ServerProtocol(logger=_quiet), self._came
            self._came = b""
            self._read_head(came)
        elif not undecided:
            self._hand_over()

    def _wanted(self) -> tuple[StreamHandler | None, bool]:
        """Return the door that streams what the first line asks for, and whether too little of it has come to tell."""
        undecided = False
        for start, handler in self._routes.streams.items():
            for method in _METHODS:
                line = f"{method} {start}".encode()
                if self._came.startswith(line):
                    return handler, False
                undecided = undecided or line.startswith(self._came)
        return None, undecided

    def _hand_over(self) -> None:
        """Let websockets have it, which counts it by itself."""
        self._leave()
        self._become(self._connection)
        self._connection.connection_made(self._transport)
        self._connection.data_received(self._came)

    def _become(self, protocol: asyncio.Protocol) -> None:
        """Let another have what comes from now on."""
        if self._slices is not None:
            self._slices.protocol = protocol
        else:
            self._transport.set_protocol(protocol)

    def _read_head(self, data: bytes) -> None:
        assert self._head is not None, data
        self._head.receive_data(data)
        self._came += data
        for event in self._head.events_received():
            if isinstance(event, Request):
                self._stream(event)
                return
        problem = self._head.handshake_exc
        if problem is not None or len(self._came) > _HEAD_BYTES:
            self._transport.write(unreadable(problem and problem.__cause__))
            self._transport.close()

    def _stream(self, request: Request) -> None:
        assert self._handler is not None, request.path
        reader = asyncio.StreamReader(_UNREAD_BYTES)
        run = functools.partial(_run, self._handler, request, self._places, self._address)
        protocol = asyncio.StreamReaderProtocol(reader, lambda *ends: self._streams.spawn(run(*ends)))
        self._timer.cancel()
        self._fresh.discard(self)  # but it stays counted, until the door is through with it
        self._become(protocol)
        protocol.connection_made(self._transport)


async def _run(
    handler: StreamHandler,
    request: Request,
    places: Places,
    address: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Let a door stream, then close the connection, which a listener that reads nothing does not delay for long."""
    try:
        await handler(request, reader, writer)
    except asyncio.CancelledError:  # the service ends, and this listener has not read the end of its stream
        writer.transport.abort()
        raise
    except ConnectionError:
        _log.debug("%s left while it listened", address)
    except Exception:  # noqa: BLE001 - a fault of ours must be seen, and must not end the service
        _log.exception("the stream to %s failed", address)
        places.metrics.errors["internal"] += 1
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await writer.wait_closed()
        writer.transport.abort()
        places.access.disconnect(address)
