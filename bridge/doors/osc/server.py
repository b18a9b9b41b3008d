"""The OSC door's sockets: UDP and TCP on one port.

Rules: thin; what packets mean is osc_door's. TCP clients speak OSC 1.0 (length prefix, as liblo does) or 1.1 (SLIP),
told apart by their first byte. A client that neither sends nor reads costs a bounded buffer, for a bounded time.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bridge.doors.osc.codec import MAX_PACKET_BYTES, OscError
from bridge.doors.osc.door import OscDoor
from bridge.doors.osc.framing import Deframer
from bridge.doors.osc.limits import OscCounters, OscLimits
from bridge.doors.osc.peer import Peer
from bridge.doors.ports import cannot_listen
from bridge.session.interface import Session

__all__ = ["OscCounters", "OscLimits", "OscServer", "serve_osc"]

_READ_BYTES = 1024  # at most 128 messages, 4 ms, before others have their turn
_TURN_SECONDS = 0.004  # of datagrams, likewise
_BYTES_A_UNIT = 1024  # of work: 1 MB a second from one host
_LONGEST_PAUSE_SECONDS = 5.0
_RECEIVE_BYTES = 1 << 20
_TCP_SEND_BYTES = 1 << 17
_PORT_TRIES = 8


async def serve_osc(
    session: Session, host: str, port: int, *, limits: OscLimits | None = None, token: str | None = None
) -> OscServer:
    """Open the door.

    Args:
        session: what clients steer and hear.
        host: address to listen at.
        port: of UDP and TCP both; 0 takes a free one.
        limits: what clients may take.
        token: what other hosts must show with /streamgen/token s; this machine's own need none.

    Raises:
        BridgeError: the port is taken or the address is not this machine's.
    """
    server = OscServer(session, limits or OscLimits(), token)
    try:
        await server.open(host, port)
    except OSError as error:
        await server.close()
        raise cannot_listen("OSC", host, port, error, "--osc-port") from error
    return server


@dataclass(eq=False)
class _Connection:
    """A TCP client.

    Attributes:
        heard: when its last packet came, loop seconds.
        packets: how many came.
        waiting, waiting_bytes: framed packets to be written at the loop's next turn.
    """

    writer: asyncio.StreamWriter
    deframer: Deframer
    heard: float
    packets: int = 0
    waiting: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0

    def flush(self) -> None:
        """Write what waits."""
        if not self.writer.transport.is_closing():
            self.writer.write(b"".join(self.waiting))
        self.waiting.clear()
        self.waiting_bytes = 0


class OscServer:
    """The open door; made by `serve_osc`.

    Attributes:
        port: of UDP and TCP.
        counters: for /metrics.
    """

    port: int

    def __init__(self, session: Session, limits: OscLimits, token: str | None) -> None:
        self._limits = limits
        self._udp: socket.socket | None = None
        self._tcp: asyncio.Server | None = None
        self._loop = asyncio.get_running_loop()
        self._connections: dict[_Connection, asyncio.Task[Any]] = {}
        self._turn = asyncio.Lock()  # one TCP client a turn of the loop
        self._closing = False
        self._door = OscDoor(session, limits, token, self._send_udp)
        self.counters: OscCounters = self._door.counters

    @property
    def subscribers(self) -> int:
        """How many are told what happens."""
        return len(self._door.subscriptions)

    @property
    def audio_subscribers(self) -> int:
        """How many are sent audio packets."""
        return len(self._door.subscriptions.audio)

    @property
    def connections(self) -> int:
        """How many TCP clients there are."""
        return len(self._connections)

    async def open(self, host: str, port: int) -> None:
        """Listen; raises OSError."""
        for tries_left in reversed(range(_PORT_TRIES if port == 0 else 1)):
            self._udp = await self._bound(host, port)
            self.port = int(self._udp.getsockname()[1])
            try:
                self._tcp = await asyncio.start_server(self._connected, host, self.port, limit=_READ_BYTES)
            except OSError:  # a free UDP port may be taken in TCP
                self._udp.close()
                if not tries_left:
                    raise
            else:
                self._loop.add_reader(self._udp, self._receive_udp, self._udp)
                return

    async def _bound(self, host: str, port: int) -> socket.socket:
        """Return a datagram socket at an address."""
        places = await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = places[0]
        bound = socket.socket(family, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        with suppress(OSError):  # a burst finds room; the system's own size will do too
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        return bound

    async def close(self) -> None:
        """Close every socket and leave the session."""
        self._closing = True
        await self._door.close()
        if self._udp is not None and self._udp.fileno() >= 0:
            self._loop.remove_reader(self._udp)
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close at the loop's next turn

    # -- UDP ----------------------------------------------------------------------------------------------------------

    def _receive_udp(self, udp: socket.socket) -> None:
        """Take what came: asyncio's own transport takes one datagram a turn, and a busy loop has 20 turns a second."""
        until = time.monotonic() + _TURN_SECONDS
        with suppress(BlockingIOError):  # no more
            while True:
                try:
                    data, address = udp.recvfrom(MAX_PACKET_BYTES)
                except ConnectionError:  # the receiver of something that was sent is gone
                    self.counters.dropped["unreachable"] += 1
                    continue
                self._door.packet(self._door.udp_peer(address), data)
                if time.monotonic() > until:
                    return

    def _send_udp(self, packet: bytes, address: tuple[str, int]) -> bool:
        if self._udp is None or self._udp.fileno() < 0:
            return False
        try:
            self._udp.sendto(packet, address)
        except OSError:  # its buffer is full, or there is no way to the address
            return False
        return True

    # -- TCP ----------------------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._limits.connections and not self._make_room():
            self.counters.refused["capacity"] += 1
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(writer, Deframer(), self._loop.time())
        self._connections[connection] = task
        with suppress(OSError):  # else the system keeps megabytes for a client that does not read
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _TCP_SEND_BYTES)
        address = writer.get_extra_info("peername")
        peer = self._door.meet(connection, address, lambda packet: self._send_tcp(connection, packet), connected=True)
        try:
            await self._serve(reader, connection, peer)
        except asyncio.CancelledError:  # by close(): Python 3.11's streams would log it as a failure
            if not self._closing:
                raise
        finally:
            del self._connections[connection]
            self._door.leave(peer)
            connection.flush()  # why it is closed, for one
            writer.close()

    def _make_room(self) -> bool:
        """Close the connection silent for longest, if that is long."""
        oldest = min(self._connections, key=lambda connection: connection.heard)
        if self._loop.time() - oldest.heard < self._limits.silence_seconds:
            return False
        self.counters.dropped["silent"] += 1
        oldest.writer.transport.abort()
        return True

    async def _serve(self, reader: asyncio.StreamReader, connection: _Connection, peer: Peer) -> None:
        try:
            while data := await self._read(reader, connection):
                await self._take(connection, peer, data)
        except OscError as error:
            self._door.admission.refuse(peer, error)
        except TimeoutError:
            self.counters.dropped["silent"] += 1
        except OSError:  # reset, unreachable, no route: it is gone
            self.counters.dropped["reset"] += 1

    async def _read(self, reader: asyncio.StreamReader, connection: _Connection) -> bytes:
        """Read some; a client that has begun a packet, or never sent one, has only so long."""
        patient = connection.packets and not connection.deframer.within_packet
        async with asyncio.timeout_at(None if patient else connection.heard + self._limits.silence_seconds):
            return await reader.read(_READ_BYTES)

    async def _take(self, connection: _Connection, peer: Peer, data: bytes) -> None:
        if peer.worker is not None and 4 * len(peer.wishes) > self._limits.pending:
            await asyncio.wait({peer.worker})  # a connection waits where a datagram would be lost
        async with self._turn:
            pause = self._feed(connection, peer, data)
            await asyncio.sleep(0)  # read() does not yield while it has bytes
        await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))

    def _feed(self, connection: _Connection, peer: Peer, data: bytes) -> float:
        """Take what came; returns for how many seconds to read no more."""
        if not connection.deframer.within_packet:
            connection.heard = self._loop.time()
        pause = self._door.admission.charge(peer, len(data) / _BYTES_A_UNIT)  # marks without packets cost time too
        for packet in connection.deframer.feed(data):
            connection.packets += 1
            connection.heard = self._loop.time()
            pause = max(pause, self._door.packet(peer, packet))
        return pause

    def _send_tcp(self, connection: _Connection, packet: bytes) -> bool:
        transport = connection.writer.transport
        if transport.is_closing():
            return False
        if transport.get_write_buffer_size() + connection.waiting_bytes > self._limits.unsent_bytes:
            self.counters.dropped["slow_client"] += 1
            transport.abort()
            return False
        if not connection.waiting:
            self._loop.call_soon(connection.flush)  # a dump is one write and not a hundred
        framed = connection.deframer.frame(packet)
        connection.waiting.append(framed)
        connection.waiting_bytes += len(framed)
        return True
