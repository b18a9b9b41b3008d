"""Bytes ↔ OSC messages and bundles, strictly. Sans-I/O.

Rules: owns the binary format and nothing of its meaning; every refusal is an OscError with a line for the sender and a
word for the counters; no input raises anything else. A packet is taken whole or not at all.

Why not python-osc's parser (1.10.2): it takes a cut message for zeros, drops unknown tags so that arguments shift, lets
NaN through and raises UnicodeDecodeError. The tests compare with it wherever the two must agree.
Source: Open Sound Control 1.0, https://opensoundcontrol.stanford.edu/spec-1_0.html, and the tags of 1.1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from bridge.errors import BridgeError

__all__ = ["IMPULSE", "MAX_PACKET_BYTES", "Argument", "Message", "OscError", "decode", "encode", "encode_bundle", "ntp"]

MAX_PACKET_BYTES = 65_536
_MAX_ADDRESS = 255
_MAX_MESSAGES = 256  # 8 ms of work; what a controller sends at once is under 40
_MAX_DEPTH = 4
_FLOAT_MAX = 3.4028234663852886e38
_UNIX_EPOCH = 2_208_988_800  # seconds from 1900 to 1970


class OscError(BridgeError):
    """A packet, message or wish that is refused.

    Attributes:
        reason: one word for the counters.
        address: what the message was addressed to, "" if that could not be read.
    """

    def __init__(self, text: str, reason: str = "malformed", address: str = "") -> None:
        super().__init__(text)
        self.reason = reason
        self.address = address


class _Impulse:
    """What tag I stands for: a button was hit."""

    def __repr__(self) -> str:
        return "impulse"


IMPULSE = _Impulse()
Argument = int | float | str | bytes | bool | None | _Impulse


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        address: or pattern of addresses.
        arguments: int, float (finite), str, bytes; bool for T and F, None for N, IMPULSE for I.
        at: time at which it shall act, Unix seconds; None = at once.
    """

    address: str
    arguments: tuple[Argument, ...] = ()
    at: float | None = None


def decode(packet: bytes) -> list[Message]:
    """Read a packet: one message, or a bundle's in order.

    Raises:
        OscError: anything that OSC 1.0 does not allow, NaN and infinities, or too much of something.
    """
    messages: list[Message] = []
    _element(packet, None, 0, messages)
    return messages


def encode(address: str, *arguments: object) -> bytes:
    """Write a message with the tags i, f, s and b only, which every client knows.

    Args:
        address: as it is.
        arguments: numbers (numpy's too; bool is an i, an int beyond 32 bits and a float beyond f's range the nearest
            there is, NaN is 0), texts (up to their first NUL) and bytes.
    """
    parts = [_argument(value) for value in arguments]
    tags = "," + "".join(tag for tag, _ in parts)
    return b"".join([_padded(address.encode()), _padded(tags.encode()), *(data for _, data in parts)])


def encode_bundle(at: float | None, packets: Sequence[bytes]) -> bytes:
    """Write a bundle that shall act at a time (Unix seconds, None = at once)."""
    sized = (struct.pack(">i", len(packet)) + packet for packet in packets)
    return b"#bundle\0" + struct.pack(">Q", ntp(at)) + b"".join(sized)


def ntp(at: float | None) -> int:
    """Return a time tag: 32.32 bits of seconds since 1900; 1 = at once."""
    return 1 if at is None else round((at + _UNIX_EPOCH) * 2**32) % 2**64


def _unix(tag: int) -> float | None:
    seconds = tag / 2**32
    if tag <= 1:
        return None
    # From 2036 on the tag's seconds begin anew: what would lie before 1968 lies after 2036.
    return seconds - _UNIX_EPOCH + (2**32 if seconds < 2**31 else 0)


# -- reading -----------------------------------------------------------------------------------------------------------


def _element(packet: bytes, at: float | None, depth: int, out: list[Message]) -> None:
    if not packet or len(packet) % 4:
        raise OscError(f"a packet has {len(packet)} bytes, must be a multiple of 4 and not 0")
    if packet.startswith(b"#bundle\0"):
        _bundle(packet, depth, out)
        return
    if len(out) >= _MAX_MESSAGES:
        raise OscError(f"a bundle has more than {_MAX_MESSAGES} messages: send several", "too_big")
    out.append(_message(packet, at))


def _bundle(packet: bytes, depth: int, out: list[Message]) -> None:
    if depth >= _MAX_DEPTH:
        raise OscError(f"bundles lie {depth + 1} deep in each other, the limit is {_MAX_DEPTH}", "too_big")
    if len(packet) < 16:
        raise OscError("a bundle ends before its time tag")
    at = _unix(struct.unpack_from(">Q", packet, 8)[0])
    position = 16
    while position < len(packet):
        (size,) = struct.unpack_from(">i", packet, position)  # whole, since lengths are multiples of 4
        position += 4
        if not 0 < size <= len(packet) - position:
            raise OscError(f"a bundle's element says {size} bytes, {len(packet) - position} are left")
        _element(packet[position : position + size], at, depth + 1, out)
        position += size


def _message(packet: bytes, at: float | None) -> Message:
    address, position = _text(packet, 0, "its address")
    if not address.startswith("/") or len(address) > _MAX_ADDRESS:
        raise OscError(f"an address is {address[:40]!r}, must begin with / and have at most {_MAX_ADDRESS} characters")
    try:
        return Message(address, _arguments(packet, position), at)
    except OscError as error:
        raise OscError(f"{error}", error.reason, address) from None


def _arguments(packet: bytes, position: int) -> tuple[Argument, ...]:
    if position == len(packet):  # old senders leave out the tags where there is no argument
        return ()
    tags, position = _text(packet, position, "its type tags")
    if not tags.startswith(","):
        raise OscError(f"type tags are {tags[:20]!r}, must begin with a comma")
    values: list[Argument] = []
    for tag in tags[1:]:
        value, position = _value(packet, position, tag)
        values.append(value)
    if position != len(packet):
        raise OscError(f"{len(packet) - position} bytes follow the last argument")
    return tuple(values)


_PLAIN: dict[str, Argument] = {"T": True, "F": False, "N": None, "I": IMPULSE}
_PACKED = {"i": ">i", "f": ">f", "d": ">d", "h": ">q", "t": ">Q", "c": ">i", "r": ">I", "m": ">I"}


def _value(packet: bytes, position: int, tag: str) -> tuple[Argument, int]:
    if tag in _PLAIN:
        return _PLAIN[tag], position
    if tag in "sS":
        return _text(packet, position, "a text")
    if tag == "b":
        return _blob(packet, position)
    if tag not in _PACKED:
        raise OscError(f"type tag {tag!r} is not known; i f s b T F N I d h t c r m S are", "unknown_tag")
    return _number(packet, position, tag)


def _number(packet: bytes, position: int, tag: str) -> tuple[Argument, int]:
    form = _PACKED[tag]
    end = position + struct.calcsize(form)
    if end > len(packet):
        raise OscError(f"the message ends within an argument of type {tag}")
    (number,) = struct.unpack_from(form, packet, position)
    if tag in "fd" and not math.isfinite(number):
        raise OscError(f"an argument is {number}, must be finite", "not_finite")
    return _shortest(number) if tag == "f" else number, end


def _shortest(number: float) -> float:
    """Return the decimal that people meant by a 32-bit float: 0.8, not 0.800000011920929."""
    short = float(f"{number:.7g}")
    exact = abs(short) <= _FLOAT_MAX and struct.pack(">f", short) == struct.pack(">f", number)
    return short if exact else number


def _text(packet: bytes, position: int, what: str) -> tuple[str, int]:
    end = packet.find(b"\0", position)
    if end < 0:
        raise OscError(f"the message ends within {what}")
    try:
        return packet[position:end].decode(), end // 4 * 4 + 4
    except UnicodeDecodeError as error:
        raise OscError(f"{what} is not UTF-8 at byte {error.start}: send UTF-8", "not_utf8") from None


def _blob(packet: bytes, position: int) -> tuple[bytes, int]:
    size, start = _number(packet, position, "i")
    assert isinstance(size, int), size
    end = start + (size + 3) // 4 * 4
    if size < 0 or end > len(packet):
        raise OscError(f"a blob says {size} bytes, {len(packet) - start} are left")
    return packet[start : start + size], end


# -- writing -----------------------------------------------------------------------------------------------------------


def _argument(value: object) -> tuple[str, bytes]:
    if isinstance(value, Integral):  # bool too
        return "i", struct.pack(">i", max(-(2**31), min(2**31 - 1, int(value))))
    if isinstance(value, Real):
        return "f", struct.pack(">f", _single(float(value)))
    if isinstance(value, str):
        return "s", _padded(value.partition("\0")[0].encode(errors="replace"))
    assert isinstance(value, bytes | bytearray | memoryview), value
    return "b", struct.pack(">i", len(value)) + bytes(value) + bytes(-len(value) % 4)


def _single(number: float) -> float:
    return 0.0 if math.isnan(number) else max(-_FLOAT_MAX, min(_FLOAT_MAX, number))


def _padded(text: bytes) -> bytes:
    return text + bytes(4 - len(text) % 4)
