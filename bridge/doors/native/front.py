"""The first bytes of a connection at the HTTP port: whose is it?

    TCP ─► Front: TLS, a request's head ─┬─ GET /listen…, as the routes say ─► a door that streams as long as it likes
             │                           └─ all else ─► GuardedConnection, made now: WebSockets, answers of one piece
             └─ where there is no room, who has asked for nothing yet gives way to a newcomer

websockets answers HTTP in one piece and no other way, so what streams must leave before it answers. And what it makes
for a connection costs too much for thousands who never ask for anything: what reads the head is all that they get.

Rules: event loop; decides by the request, and counts the connection until somebody is through with it. Who asks for
nothing is cut off.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from websockets.exceptions import InvalidMessage
from websockets.http11 import Request
from websockets.server import ServerProtocol

from bridge.doors.answers import speaks_tls, unreadable
from bridge.doors.door import Routes, StreamHandler, Tasks
from bridge.doors.limits import Turns, plain_address
from bridge.doors.native.guard import GuardedConnection, Places, take_apart
from bridge.doors.native.secure import Slices, begins_tls, is_whole, secured

__all__ = ["OPEN_SECONDS", "Entrance", "Front"]

OPEN_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_READ_BYTES, _HEAD_BYTES = 4_096, 32_768
_UNREAD_BYTES = 4_096  # of what a listener says, which nobody reads
_METHODS = ("GET", "HEAD")

_log = logging.getLogger("bridge.doors")


@dataclass
class Entrance:
    """What all new connections of one service share.

    Attributes:
        places: of the service.
        routes: what streams.
        streams: what other doors stream, each until it ends.
        turns: of the event loop, for what costs much.
        tls: our certificate; None for plain http.
        silent, begun, secured: connections that are nobody's yet: without a byte, amid their first words, with a reply
            to their TLS hello. They give way in this order; whose hello waits for its reply does not.
    """

    places: Places
    routes: Routes
    streams: Tasks
    turns: Turns
    tls: ssl.SSLContext | None
    silent: Crowd = field(default_factory=lambda: Crowd())
    begun: Crowd = field(default_factory=lambda: Crowd())
    secured: Crowd = field(default_factory=lambda: Crowd())

    def let_in(self, address: str) -> bool:
        """Count a connection in. False if that is one too many, and nobody is here who has not asked for anything."""
        exceeded = self.places.access.connect(address)
        if exceeded:
            whose = address if exceeded == "connections_per_address" else None
            oldest = self.silent.oldest(whose) or self.begun.oldest(whose) or self.secured.oldest(whose)
            self.places.metrics.refused["connections" if oldest is None else "silent"] += 1
            if oldest is None:
                return False
            oldest.leave()
        return True

    def close(self) -> None:
        """Cut off all who are nobody's yet."""
        for front in [*self.silent, *self.begun, *self.secured]:
            front.leave()


class Crowd:
    """Connections that are nobody's yet, by address, the oldest first."""

    def __init__(self) -> None:
        self._of: dict[str, dict[Front, None]] = {}

    def __iter__(self) -> Iterator[Front]:
        return (front for fronts in self._of.values() for front in fronts)

    def add(self, front: Front, address: str) -> None:
        """Take one in."""
        self._of.setdefault(address, {})[front] = None

    def discard(self, front: Front, address: str) -> None:
        """Let one go, if it is here."""
        fronts = self._of.get(address, {})
        fronts.pop(front, None)
        if not fronts:
            self._of.pop(address, None)

    def oldest(self, address: str | None) -> Front | None:
        """Return the oldest of an address; None: of that which has most, so that a crowd makes room for itself."""
        fronts = max(self._of.values(), key=len, default={}) if address is None else self._of.get(address, {})
        return next(iter(fronts), None)


class Front(asyncio.Protocol):
    """One new connection.

    Args:
        protocol: reads what it asks for.
        serve: makes what serves it, if it is nobody's stream.
        entrance: by which it comes.
    """

    def __init__(self, protocol: ServerProtocol, serve: Callable[[], GuardedConnection], entrance: Entrance) -> None:
        self.protocol = protocol  # websockets asks for it, taking this for the connection
        self._serve, self._entrance = serve, entrance
        self._slices: Slices | None = None
        self._came, self._read_bytes = b"", 0
        self._counted, self._shaking_hands, self._ending = True, False, False
        self._crowd: Crowd | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it; too many are cut off at once."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(OPEN_SECONDS, self.leave)
        self._address = plain_address(str((transport.get_extra_info("peername") or ("?",))[0]))
        if hasattr(transport, "max_size"):  # of asyncio's own transports; uvloop has none
            transport.max_size = _READ_BYTES
        if self._entrance.let_in(self._address):
            self._join(self._entrance.silent)
        else:
            self.leave()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Count it out: it was nobody's yet."""
        self._count_out()

    def leave(self) -> None:
        """Cut it off."""
        self._count_out()
        self._transport.abort()

    def _count_out(self) -> None:
        self._settle()
        if self._counted:
            self._counted = False
            self._entrance.places.access.disconnect(self._address)
            take_apart(self.protocol)

    def _settle(self) -> None:
        """Be somebody's, who is to count it out."""
        self._timer.cancel()
        self._join(None)

    def _join(self, crowd: Crowd | None) -> None:
        """Be of those who give way before, or after others; None: do not."""
        if self._crowd is not None:
            self._crowd.discard(self, self._address)
        self._crowd = crowd
        if crowd is not None:
            crowd.add(self, self._address)

    # -- what it says -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Look whose it is, as soon as that can be told."""
        if self._ending or self._transport.is_closing():
            return
        if self._crowd is self._entrance.silent:
            self._join(self._entrance.begun)
        self._came += data
        if self._shaking_hands:
            return
        if self._entrance.tls is not None and self._slices is None and begins_tls(self._came):
            if is_whole(self._came):
                self._shaking_hands = True
                self._join(None)
                self._transport.pause_reading()
                self._entrance.streams.spawn(self._secure(self._entrance.tls))
            return
        came, self._came = self._came, b""
        self._read_bytes += len(came)
        self.protocol.receive_data(came)
        self._look()

    def eof_received(self) -> None:
        """What has not come by now never will."""
        if self._read_bytes and not self._ending:
            self.protocol.receive_eof()
            self._look()

    async def _secure(self, tls: ssl.SSLContext) -> None:
        """Go on over TLS, or count it out."""
        hello, self._came = self._came, b""
        slices, transport = Slices(self, _READ_BYTES), None
        try:
            await self._entrance.turns.take()
            if not self._transport.is_closing():
                self._join(self._entrance.secured)
                transport = await secured(self._transport, hello, slices, tls, OPEN_SECONDS)
        finally:
            if transport is None:
                self._count_out()
        if transport is not None:
            self._transport, self._slices, self._shaking_hands = transport, slices, False
            self.data_received(b"")  # what came with the last of the handshake

    def _look(self) -> None:
        request = next((event for event in self.protocol.events if isinstance(event, Request)), None)
        problem = self.protocol.handshake_exc
        if request is None and problem is None and self._read_bytes <= _HEAD_BYTES:
            return
        if self._entrance.tls is not None and self._slices is None:
            self._end(speaks_tls(request.headers.get("Host") if request else None))
        elif isinstance(problem, InvalidMessage):
            self._end(unreadable(problem.__cause__))
        elif problem is not None:
            self._end(b"".join(self.protocol.data_to_send()))
        elif request is None:
            self._end(unreadable(ValueError(f"its head is over {_HEAD_BYTES} bytes")))
        elif (handler := self._streams(request)) is not None:
            self._stream(handler, request)
        else:
            self._hand_over()

    def _end(self, answer: bytes) -> None:
        """Answer; the rest of what it says is read and forgotten, for who writes sees no answer amid a reset."""
        self._ending = True
        self._transport.write(answer)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    # -- whose it is --------------------------------------------------------------------------------------------------

    def _streams(self, request: Request) -> StreamHandler | None:
        if request.method not in _METHODS:
            return None
        starts = self._entrance.routes.streams.items()
        return next((handler for start, handler in starts if request.path.startswith(start)), None)

    def _hand_over(self) -> None:
        """Let websockets have it, which finds the request where it was read."""
        self._settle()
        connection = self._serve()
        self._become(connection)
        connection.connection_made(self._transport)
        connection.data_received(b"")

    def _become(self, protocol: asyncio.Protocol) -> None:
        """Let another have what comes from now on, and count the connection out."""
        if self._slices is not None:
            self._slices.protocol = protocol
        else:
            self._transport.set_protocol(protocol)

    def _stream(self, handler: StreamHandler, request: Request) -> None:
        self._settle()
        take_apart(self.protocol)
        reader, streams = asyncio.StreamReader(_UNREAD_BYTES), self._entrance.streams
        run = functools.partial(_run, handler, request, self._entrance.places, self._address)
        protocol = asyncio.StreamReaderProtocol(reader, lambda *ends: streams.spawn(run(*ends)))
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
