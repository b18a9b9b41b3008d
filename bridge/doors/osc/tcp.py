"""OSC over TCP: where one packet ends and the next begins, and the connections.

    OSC 1.0   size (int32, big-endian), packet …      liblo: its first byte is 0 for every packet under 16 MiB
    OSC 1.1   C0 packet C0 …                          SLIP, RFC 1055, by python-osc

Rules: thin; what packets mean is the handler's. A client that neither sends nor reads costs a bounded buffer, for a
bounded time; one that sends without end waits, and others have their turn.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pythonosc import slip

from bridge.doors.osc.admission import OscLimits
from bridge.doors.osc.clients import Client
from bridge.doors.osc.codec import MAX_PACKET_BYTES, OscError
from bridge.doors.osc.handler import RequestHandler

__all__ = ["READ_BYTES", "Connections", "Deframer", "length_prefixed"]

READ_BYTES = 1024  # little, so that others have their turn soon
_LONGEST_PAUSE_SECONDS = 5.0
_SEND_BYTES = 1 << 17


def length_prefixed(packet: bytes) -> bytes:
    """Frame a packet the OSC 1.0 way."""
    return struct.pack(">i", len(packet)) + packet


class Deframer:
    """Takes bytes as they come, gives packets; tells the framings apart by the first byte. Sans-I/O.

    It holds at most one packet; each byte is looked at once.

    Attributes:
        frame: how to frame answers: as the client frames; OSC 1.0 before its first byte.
    """

    frame: Callable[[bytes], bytes]

    def __init__(self) -> None:
        self.frame = length_prefixed
        self._buffer = bytearray()
        self._searched = 0
        self._sniffed = False

    @property
    def within_packet(self) -> bool:
        """Whether a packet has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the packets that these bytes complete, as they came.

        Raises:
            OscError: the framing is broken or a packet is too big; the connection cannot go on.
        """
        if not self._sniffed and data:
            self._sniffed = True
            self.frame = slip.encode if data.startswith(slip.END) else length_prefixed
        self._buffer += data
        return self._slip() if self.frame is slip.encode else self._length_prefixed()

    def _length_prefixed(self) -> Iterator[bytes]:
        while len(self._buffer) >= 4:
            (size,) = struct.unpack_from(">i", self._buffer)
            if not 0 < size <= MAX_PACKET_BYTES:
                raise OscError(f"a packet says {size} bytes, the limit is {MAX_PACKET_BYTES:,}", "framing")
            if len(self._buffer) < 4 + size:
                return
            packet = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            yield packet

    def _slip(self) -> Iterator[bytes]:
        while (end := self._buffer.find(slip.END, self._searched)) >= 0:
            packet = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if packet:  # two marks in a row are usual
                yield _unescaped(packet)
        self._searched = len(self._buffer)
        if self._searched > 2 * MAX_PACKET_BYTES:  # escaped bytes count twice
            raise OscError(f"a packet has more than {MAX_PACKET_BYTES:,} bytes", "framing")


def _unescaped(packet: bytes) -> bytes:
    try:
        return slip.decode(packet)
    except slip.ProtocolError:
        raise OscError("byte DB is followed by neither DC nor DD", "framing") from None


@dataclass(eq=False)
class _Connection:
    """A TCP client.

    Attributes:
        last_packet: when it ended, loop seconds.
        packets: how many came.
        unsent, unsent_bytes: framed packets to be written at the loop's next turn.
    """

    writer: asyncio.StreamWriter
    last_packet: float
    deframer: Deframer = field(default_factory=Deframer)
    packets: int = 0
    unsent: list[bytes] = field(default_factory=list)
    unsent_bytes: int = 0

    def flush(self) -> None:
        """Write what is unsent."""
        if not self.writer.transport.is_closing():
            self.writer.write(b"".join(self.unsent))
        self.unsent.clear()
        self.unsent_bytes = 0


class Connections:
    """All TCP clients; `serve` is what `asyncio.start_server` calls.

    Args:
        handler: takes their packets.
        limits: what they may take.
    """

    def __init__(self, handler: RequestHandler, limits: OscLimits) -> None:
        self._handler, self._limits, self._counters = handler, limits, handler.counters
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[_Connection, asyncio.Task[Any]] = {}
        self._turn = asyncio.Lock()  # one client a turn of the loop
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Send what is unsent and close all."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client for as long as it is there."""
        here = [connection for connection in self._tasks if not connection.writer.transport.is_closing()]
        if len(here) >= self._limits.connections and not self._make_room(here):
            self._counters.refused["capacity"] += 1
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(writer, self._loop.time())
        self._tasks[connection] = task
        with suppress(OSError):  # else the system keeps megabytes for a client that does not read
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        address = writer.get_extra_info("peername")
        client = self._handler.clients.meet(
            connection, address, lambda packet: self._send(connection, packet), connected=True
        )
        try:
            await self._converse(reader, connection, client)
        except asyncio.CancelledError:  # by close(): Python 3.11's streams would log it as a failure
            if not self._closing:
                raise
        finally:
            del self._tasks[connection]
            self._handler.leave(client)
            connection.flush()  # why it is closed, for one
            writer.close()

    def _make_room(self, here: list[_Connection]) -> bool:
        """Close the oldest that never sent a packet, else the one silent for longest, if that is long."""
        oldest = min(here, key=lambda connection: (connection.packets > 0, connection.last_packet))
        if oldest.packets and self._loop.time() - oldest.last_packet < self._limits.silence_seconds:
            return False
        self._counters.dropped["silent"] += 1
        oldest.writer.transport.abort()
        return True

    async def _converse(self, reader: asyncio.StreamReader, connection: _Connection, client: Client) -> None:
        try:
            while data := await self._read(reader, connection):
                await self._take(connection, client, data)
        except OscError as error:
            self._handler.admission.refuse(client, error)
        except TimeoutError:
            self._counters.dropped["silent"] += 1
        except OSError:  # reset, unreachable, no route: it is gone
            self._counters.dropped["reset"] += 1

    async def _read(self, reader: asyncio.StreamReader, connection: _Connection) -> bytes:
        """Read some; a client that has begun a packet, or never sent one, has only so long."""
        patient = connection.packets and not connection.deframer.within_packet
        async with asyncio.timeout_at(None if patient else connection.last_packet + self._limits.silence_seconds):
            return await reader.read(READ_BYTES)

    async def _take(self, connection: _Connection, client: Client, data: bytes) -> None:
        if client.worker is not None and 4 * len(client.waiting) > self._limits.pending:
            await asyncio.wait({client.worker})  # a connection waits where a datagram would be lost
        async with self._turn:
            pause = self._feed(connection, client, data)
            await asyncio.sleep(0)  # read() does not yield while it has bytes
        await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))

    def _feed(self, connection: _Connection, client: Client, data: bytes) -> float:
        """Take what came; returns for how many seconds to read no more."""
        if not connection.deframer.within_packet:
            connection.last_packet = self._loop.time()
        pause = self._handler.admission.charge_bytes(client, len(data))  # marks without packets cost time too
        for packet in connection.deframer.feed(data):
            connection.packets += 1
            connection.last_packet = self._loop.time()
            pause = max(pause, self._handler.packet(client, packet))
        return pause

    def _send(self, connection: _Connection, packet: bytes) -> bool:
        transport = connection.writer.transport
        if transport.is_closing():
            return False
        if transport.get_write_buffer_size() + connection.unsent_bytes > self._limits.unsent_bytes:
            self._counters.dropped["slow_client"] += 1
            transport.abort()
            return False
        if not connection.unsent:
            self._loop.call_soon(connection.flush)  # a dump is one write and not a hundred
        framed = connection.deframer.frame(packet)
        connection.unsent.append(framed)
        connection.unsent_bytes += len(framed)
        return True
