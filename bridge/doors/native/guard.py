"""A WebSocket connection that keeps its peer within bounds before any message is whole.

What websockets leaves to its user, each found by attacking this door:

- a message is limited to its size only: with room for a 32 MiB audio prompt, every client could park 32 MiB × the
  queue. Here a long message must have been announced, one at a time, a few in the whole service. What announces it is
  a whole message, in as many frames as anyone on the way made of it.
- a read full of empty frames is parsed in one go, and holds the event loop meanwhile. Reads are 4 KiB until a long
  message is due.
- a ping is answered at once, whether or not the peer reads: floods of pings, and pongs that pile up, are cut off.
- who is closed while it talks keeps its place until the time is out: what fills the queue, which nobody reads any more,
  keeps its own close from being read. Here that is read and forgotten.

Rules: event loop; knows frames, not their meaning (but for the word that announces an upload).
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from bridge.doors.access import Access
from bridge.doors.http.site import plain_headers, wants_websocket
from bridge.doors.limits import Bucket, bound_buffers
from bridge.doors.native.requests import FOLLOWED
from bridge.doors.native.secure import Slices
from bridge.metrics import Metrics

__all__ = ["GuardedConnection", "Places", "bound_kernel_buffer", "take_apart"]

_READ_BYTES, _LONG_READ_BYTES = 4_096, 65_536
_CONTROLS_A_SECOND, _CONTROLS_AT_ONCE = 50.0, 400  # an honest peer sends a dozen pongs a second
_UNREAD_ANSWER_BYTES = 262_144
_UPLOADS = 8
_ANNOUNCED = ("audio_prompt", *FOLLOWED)
_KERNEL_SECONDS = 0.1  # of audio left unsent in the system's buffer; TCP_NOTSENT_LOWAT counts from there
_MARK = struct.Struct("!4sQ")  # what our pings say: which mark in the audio it is (see outbox.FlowControl)


@dataclass
class Places:
    """What all connections of one service share.

    Attributes:
        uploading: connections that are sending an audio prompt now.
        connections: all of them.
    """

    access: Access
    metrics: Metrics
    uploading: set[int] = field(default_factory=set)
    connections: set[GuardedConnection] = field(default_factory=set)

    def abort_unopened(self) -> None:
        """Cut off those that are no WebSockets: some never read the answer that they asked for."""
        for connection in list(self.connections):
            if connection.protocol.state is State.CONNECTING:
                connection.transport.abort()


class GuardedConnection(ServerConnection):
    """One connection.

    Attributes:
        announced: a message naming an audio prompt has come, and its bytes may follow.
        passed: called with the number of a mark that the peer has read past.
    """

    def __init__(self, protocol: ServerProtocol, server: Server, *, places: Places, **options: Any) -> None:
        super().__init__(protocol, server, **options)
        self.announced = False
        self.passed: Callable[[int], None] = lambda _mark: None
        self._places = places
        self._message_bytes = self._unparsed_bytes = 0
        self._text, self._ending, self._closing = True, False, False
        self._words: list[bytes] = []  # of a text message that is not whole yet
        self._controls = Bucket(_CONTROLS_A_SECOND, _CONTROLS_AT_ONCE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a connection that is counted."""
        super().connection_made(transport)
        self._places.connections.add(self)
        self._read_at_most(_READ_BYTES)
        self._address = str((transport.get_extra_info("peername") or ("?",))[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._places.connections.discard(self)
        self._places.access.disconnect(self._address)
        self.upload_finished()
        super().connection_lost(exc)
        if self.response is not None:  # else it is about to be made
            take_apart(self.protocol)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Let who has said all, and no more than a request, read the answer; over TLS asyncio cannot."""
        request = self.request
        answers = request is not None and self.response is None and self.transport.can_write_eof()
        if request is not None and answers and not wants_websocket(plain_headers(request.headers)):
            return True
        return super().eof_received()

    def _read_at_most(self, count: int) -> None:
        protocol = self.transport.get_protocol()
        reads = protocol if isinstance(protocol, Slices) else self.transport
        if hasattr(reads, "max_size"):  # of asyncio's own transports; uvloop has none
            reads.max_size = count

    def upload_finished(self) -> None:
        """Allow the next announcement."""
        self.announced = False
        self._read_at_most(_READ_BYTES)
        self._places.uploading.discard(id(self))

    @property
    def writable(self) -> bool:
        """Whether something may be written now: the connection is open, and the system took all that was written."""
        return self.protocol.state is State.OPEN and not self.paused and not self.transport.is_closing()

    def write(self, messages: Sequence[str | bytes], mark: int | None = None) -> None:
        """Write messages, and behind them a mark, while `writable`: at once and in one piece.

        A system call for each costs more than all else that is done for a listener, and so does a task that is woken.
        """
        for message in messages:
            if isinstance(message, str):
                self.protocol.send_text(message.encode())
            else:
                self.protocol.send_binary(message)
        if mark is not None:
            self.protocol.send_ping(_MARK.pack(b"mark", mark))
        self.send_data()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; of what the peer still says nothing but its own close is heard."""
        self._closing = True
        self.transport.resume_reading()
        await super().close(code, reason)

    async def send_together(self, messages: Sequence[str | bytes], mark: int | None = None) -> None:
        """Write as `write` does, then wait until the system has taken it.

        Raises:
            ConnectionClosed: there is no connection any more.
        """
        async with self.send_context():
            self.write(messages, mark)

    def send_data(self) -> None:
        """Write what the protocol has to send, in one piece; an empty piece is the end of the connection."""
        writes = self.protocol.writes
        if len(writes) > 1:
            self.protocol.writes = [b"".join(writes), *(piece for piece in writes if not piece)]
        super().send_data()

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless too many lie unparsed or unread."""
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._ending or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() > _UNREAD_ANSWER_BYTES:
            self._cut_off("unread", "answers are not read")
        elif self._unparsed_bytes > self._places.access.limits.message_bytes + _READ_BYTES and not self._may_be_long():
            self._cut_off("message_bytes", self._too_big())

    def process_event(self, event: Event) -> None:
        """Pass a frame on, unless its message is too big for what was announced."""
        self._unparsed_bytes = 0
        if self._ending:
            return
        if isinstance(event, Frame) and event.opcode in (Opcode.PING, Opcode.PONG):
            if not self._controls.take(1, time.monotonic()):
                self._cut_off("control_rate", "too many pings")
                return
            if event.opcode is Opcode.PONG and len(event.data) == _MARK.size:
                word, mark = _MARK.unpack(event.data)
                if word == b"mark":
                    self.passed(mark)
                    return
        elif isinstance(event, Frame):
            self._count(event)
            long = self._message_bytes > self._places.access.limits.message_bytes
            if long and (self._text or not self._may_be_long()):
                self._cut_off("message_bytes", self._too_big())
                return
            if self._closing:
                return
        super().process_event(event)

    def _count(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._text, self._message_bytes = frame.opcode is Opcode.TEXT, 0
            self._words = []
        self._message_bytes += len(frame.data)
        if self._text and self._message_bytes <= self._places.access.limits.message_bytes:
            self._words.append(bytes(frame.data))
            if frame.fin:
                self.announced = self.announced or _announces(b"".join(self._words))
                self._words = []

    def _may_be_long(self) -> bool:
        """Tell whether an upload was announced and there is a place for it, and take the place."""
        uploading = self._places.uploading
        if not self.announced or (len(uploading) >= _UPLOADS and id(self) not in uploading):
            return False
        uploading.add(id(self))
        self._read_at_most(_LONG_READ_BYTES)
        return True

    def _too_big(self) -> str:
        limit = self._places.access.limits.message_bytes
        return f"over {limit} bytes: announce an audio_prompt, melody or style, and wait for the ack of the one before"

    def _cut_off(self, reason: str, text: str) -> None:
        self._ending = True
        self._places.metrics.refused[reason] += 1
        self.protocol.fail(1009 if reason == "message_bytes" else 1008, text)
        self.send_data()
        self.loop.call_later(1.0, self.transport.abort)  # time for the close frame to be read


def take_apart(protocol: ServerProtocol) -> None:
    """Let a protocol that nobody uses any more go at once.

    It refers to itself, and would stay until Python looks for such rings: thousands of them hold the event loop for
    longer than anything that was done for their connections.
    """
    protocol.parser.close()
    protocol.handshake_exc = protocol.parser_exc = None
    vars(protocol).pop("select_subprotocol", None)  # a closure of websockets' own


def _announces(text: bytes) -> bool:
    """Tell whether a message announces an upload; its characters may be written as JSON's escapes."""
    if b"\\" not in text:
        return any(f'"{kind}"'.encode() in text for kind in _ANNOUNCED)
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):  # the connection says so
        return False
    return isinstance(message, dict) and message.get("type") in _ANNOUNCED


def bound_kernel_buffer(connection: ServerConnection, bytes_per_second: float) -> None:
    """Let little audio wait below us: see `bound_buffers`.

    Args:
        connection: an open one.
        bytes_per_second: of its audio.
    """
    bound_buffers(connection.transport, int(min(16_384, max(2_048, bytes_per_second * _KERNEL_SECONDS))))
