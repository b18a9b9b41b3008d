"""Where one OSC packet ends and the next begins on a TCP connection. Sans-I/O.

Rules: knows two framings and tells them apart by the first byte; holds at most one packet; each byte is looked at once.

    OSC 1.0   size (int32, big-endian), packet …            liblo: its first byte is 0 for every packet under 16 MiB
    OSC 1.1   C0 packet C0 …, C0 = DB DC, DB = DB DD inside (SLIP, RFC 1055)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from bridge.doors.osc.codec import MAX_PACKET_BYTES, OscError

__all__ = ["Deframer", "length_prefixed", "slip"]

_END, _ESCAPE = b"\xc0", b"\xdb"


def length_prefixed(packet: bytes) -> bytes:
    """Frame a packet the OSC 1.0 way."""
    return struct.pack(">i", len(packet)) + packet


def slip(packet: bytes) -> bytes:
    """Frame a packet the OSC 1.1 way, with an end mark on both sides."""
    return _END + packet.replace(_ESCAPE, b"\xdb\xdd").replace(_END, b"\xdb\xdc") + _END


class Deframer:
    """Takes bytes as they come, gives packets.

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
            self.frame = slip if data.startswith(_END) else length_prefixed
        self._buffer += data
        return self._slip() if self.frame is slip else self._length_prefixed()

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
        while (end := self._buffer.find(_END, self._searched)) >= 0:
            packet = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if packet:  # two marks in a row are usual
                yield _unescaped(packet)
        self._searched = len(self._buffer)
        if self._searched > 2 * MAX_PACKET_BYTES:  # escaped bytes count twice
            raise OscError(f"a packet has more than {MAX_PACKET_BYTES:,} bytes", "framing")


def _unescaped(packet: bytes) -> bytes:
    if packet.count(_ESCAPE) != packet.count(b"\xdb\xdc") + packet.count(b"\xdb\xdd"):
        raise OscError("byte DB is followed by neither DC nor DD", "framing")
    return packet.replace(b"\xdb\xdc", _END).replace(b"\xdb\xdd", _ESCAPE)  # in this order: DB DD DC is DB, DC
