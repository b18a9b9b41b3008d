"""Sound in datagrams: as ReaStream has it, and as RTP with 24 bits (L24), with its SDP for players. Sans-I/O.

ReaStream, little-endian: `MRSR`, i32 size of all, the identifier in 32 bytes padded with zeros, u8 channels, i32 rate,
i16 bytes of sound, then float32, one channel after the other. At most 1,200 bytes of sound.

RTP (RFC 3550, 3190), big-endian: u8 0x80, u8 marker and payload type, u16 number, u32 timestamp in samples, u32 source,
then 24-bit samples, interleaved. The timestamp goes on while nothing is sent, as time does, and the marker says where
sound begins again.
"""

from __future__ import annotations

import secrets
import struct
from typing import Protocol

import numpy as np

from bridge.doors.packetizer import Packet

__all__ = ["REASTREAM_PORT", "RTP_PORT", "Format", "ReaStream", "Rtp", "sdp"]

REASTREAM_PORT, RTP_PORT = 58_710, 5_004
_IDENTIFIER = b"streamgen"
_REASTREAM = struct.Struct("<4si32sBih")
_REASTREAM_FRAMES = 150  # 1,200 bytes of stereo
_RTP = struct.Struct(">BBHII")
_PAYLOAD_TYPE, _MARKER = 97, 0x80
_FULL_SCALE = 1 << 23
_PAUSE_SECONDS = 0.05  # by which a piece must be late for its sender to have paused


class Format(Protocol):
    """Makes packets of pieces.

    Attributes:
        frames: in a piece.
    """

    frames: int

    def packet(self, piece: Packet) -> bytes:
        """Return the next packet; `piece.due` is in seconds."""
        ...


class ReaStream:
    """As Cockos' ReaStream sends.

    Args:
        rate_hz: of the samples.
    """

    def __init__(self, rate_hz: int) -> None:
        self.frames, self._rate_hz = _REASTREAM_FRAMES, rate_hz

    def packet(self, piece: Packet) -> bytes:
        """Return the packet of a piece."""
        sound = np.ascontiguousarray(piece.samples, "<f4").tobytes()
        size = _REASTREAM.size + len(sound)
        return _REASTREAM.pack(b"MRSR", size, _IDENTIFIER, len(piece.samples), self._rate_hz, len(sound)) + sound


class Rtp:
    """One stream of L24 in packets of a millisecond, as AES67 has it.

    Args:
        rate_hz: of the samples.
    """

    def __init__(self, rate_hz: int) -> None:
        self.frames, self.rate_hz = round(rate_hz / 1000), rate_hz
        self._number, self._source = secrets.randbelow(1 << 16), secrets.randbelow(1 << 32)
        self._timestamp = secrets.randbelow(1 << 32)
        self._due: float | None = None  # of the packet that would follow on

    def packet(self, piece: Packet) -> bytes:
        """Return the next packet."""
        pause = 0.0 if self._due is None else piece.due - self._due
        begins = self._due is None or abs(pause) > _PAUSE_SECONDS
        if begins:
            self._timestamp += round(pause * self.rate_hz)
        head = _RTP.pack(
            0x80, _PAYLOAD_TYPE | _MARKER * begins, self._number, self._timestamp % (1 << 32), self._source
        )
        self._number = (self._number + 1) % (1 << 16)
        self._timestamp += piece.samples.shape[1]
        self._due = piece.due + piece.samples.shape[1] / self.rate_hz
        return head + _l24(piece)


def _l24(piece: Packet) -> bytes:
    whole = np.rint(np.nan_to_num(piece.samples) * _FULL_SCALE).clip(-_FULL_SCALE, _FULL_SCALE - 1)
    wide = np.ascontiguousarray(whole.T, ">i4").view(np.uint8)
    return wide.reshape(-1, 4)[:, 1:].tobytes()


def sdp(stream: Rtp, ours: str, target: str, port: int, number: int) -> str:
    """Return what tells a player of a stream (RFC 8866).

    Args:
        stream: which.
        ours: the address that it comes from.
        target: the address that it goes to.
        port: there.
        number: of this description, of the sender's own.
    """
    kind = "IP6" if ":" in target else "IP4"
    hops = "/1" if kind == "IP4" and 224 <= int(target.partition(".")[0]) < 240 else ""
    lines = [
        "v=0",
        f"o=- {number} {number} IN {kind} {ours}",
        "s=streamgen",
        f"c=IN {kind} {target}{hops}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {_PAYLOAD_TYPE}",
        f"a=rtpmap:{_PAYLOAD_TYPE} L24/{stream.rate_hz}/2",
        f"a=ptime:{1000 * stream.frames / stream.rate_hz:.4g}",
        "a=recvonly",
    ]
    return "\r\n".join(lines) + "\r\n"
