"""Bytes ↔ OSC messages and bundles: python-osc reads and writes them, behind checks of what it gets wrong. Sans-I/O.

    packet ─► outline checked ─► python-osc reads ─► values checked ─► Message …
    values ─► made plain ─► python-osc writes ─► packet

python-osc (1.10.2) reads and writes. Before it and after it stands what it gets wrong, each with a test of its name:
a cut number is 0 to it and not refused; NaN passes; text that is not UTF-8 raises UnicodeDecodeError; of the tags I, c
and S it drops the argument, so that those behind it move up; its time for a message grows with the square of the number
of arguments; time tags from 2036 on lie in 1900. It does not write numpy's numbers, lone surrogates or empty blobs.

Rules: owns the binary format and nothing of its meaning; every refusal is an OscError with a line for the sender and a
word for the counters; no input raises anything else. A packet is taken whole or not at all.
Source: Open Sound Control 1.0, https://opensoundcontrol.stanford.edu/spec-1_0.html, and the tags of 1.1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from bridge.errors import BridgeError

__all__ = ["IMPULSE", "MAX_PACKET_BYTES", "Argument", "Message", "OscError", "decode", "encode", "encode_bundle"]

MAX_PACKET_BYTES = 65_536
_MAX_ADDRESS = 255
_MAX_MESSAGES = 256  # what a controller sends at once is under 40
_MAX_ARGUMENTS = 32
_MAX_DEPTH = 4
_FLOAT_MAX = 3.4028234663852886e38
_UNIX_EPOCH = 2_208_988_800  # seconds from 1900 to 1970

_SIZES = {"i": 4, "f": 4, "c": 4, "r": 4, "m": 4, "d": 8, "h": 8, "t": 8, "T": 0, "F": 0, "N": 0, "I": 0}
_STRANGE = frozenset("IcS")
_LOOKS_LIKE = str.maketrans("IcS", "Tis")  # tags that python-osc does not know → those of the same bytes


class OscError(BridgeError):
    """A packet, message or request that is refused.

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
Argument = int | float | str | bytes | bool | None | _Impulse | tuple[Any, ...]


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        address: or pattern of addresses.
        arguments: int, float (finite), str, bytes; bool for T and F, None for N, IMPULSE for I; tuples for times and
            MIDI, as python-osc reads them.
        at: time at which it acts, Unix seconds; None = at once.
    """

    address: str
    arguments: tuple[Argument, ...] = ()
    at: float | None = None


# -- reading -----------------------------------------------------------------------------------------------------------


def decode(packet: bytes) -> list[Message]:
    """Read a packet: one message, or a bundle's in order.

    Raises:
        OscError: anything that OSC 1.0 does not allow, NaN and infinities, or too much of something.
    """
    outlines: list[_Outline] = []
    _check_element(packet, 0, len(packet), 0, outlines)
    if any(not _STRANGE.isdisjoint(outline.tags) for outline in outlines):
        packet = _in_known_tags(packet, outlines)
    whole = OscBundle(packet) if OscBundle.dgram_is_bundle(packet) else OscMessage(packet)
    read = zip(outlines, _flat(whole, None), strict=True)
    return [Message(outline.address, _values(outline, message), at) for outline, (at, message) in read]


def _flat(part: OscMessage | OscBundle, at: float | None) -> Iterator[tuple[float | None, OscMessage]]:
    """Give a bundle's messages in order, each with its time."""
    if isinstance(part, OscMessage):
        yield at, part
        return
    at = _unix_seconds(int.from_bytes(part.dgram[8:16], "big"))
    for content in part:
        yield from _flat(content, at)


def _unix_seconds(tag: int) -> float | None:
    seconds = tag / 2**32
    if tag <= 1:
        return None
    # From 2036 on the tag's seconds begin anew: what would lie before 1968 lies after 2036.
    return seconds - _UNIX_EPOCH + (2**32 if seconds < 2**31 else 0)


def _values(outline: _Outline, message: OscMessage) -> tuple[Argument, ...]:
    """Return a message's arguments, one for each tag."""
    values: list[Argument] = []
    for tag, value in zip(outline.tags, message, strict=True):
        if tag in "fd" and not math.isfinite(value):
            raise OscError(f"an argument is {value}, must be finite", "not_finite", outline.address)
        values.append(_shortest(value) if tag == "f" else IMPULSE if tag == "I" else value)
    return tuple(values)


def _shortest(number: float) -> float:
    """Return the decimal that people meant by a 32-bit float: 0.8, not 0.800000011920929."""
    short = float(f"{number:.7g}")
    exact = abs(short) <= _FLOAT_MAX and struct.pack(">f", short) == struct.pack(">f", number)
    return short if exact else number


# -- what python-osc would misread -------------------------------------------------------------------------------------


class _Outline(NamedTuple):
    """A message whose parts lie where they must.

    Attributes:
        address: its address.
        tags: of its arguments, without the comma.
        tags_at: where in the packet the first one stands.
    """

    address: str
    tags: str
    tags_at: int


def _check_element(packet: bytes, start: int, end: int, depth: int, out: list[_Outline]) -> None:
    if end == start or (end - start) % 4:
        raise OscError(f"a packet has {end - start} bytes, must be a multiple of 4 and not 0")
    if packet.startswith(b"#bundle\0", start, end):
        _check_bundle(packet, start, end, depth, out)
        return
    if len(out) >= _MAX_MESSAGES:
        raise OscError(f"a bundle has more than {_MAX_MESSAGES} messages: send several", "too_big")
    out.append(_outlined(packet, start, end))


def _check_bundle(packet: bytes, start: int, end: int, depth: int, out: list[_Outline]) -> None:
    if depth >= _MAX_DEPTH:
        raise OscError(f"bundles lie {depth + 1} deep in each other, the limit is {_MAX_DEPTH}", "too_big")
    if end - start < 16:
        raise OscError("a bundle ends before its time tag")
    position = start + 16
    while position < end:
        (size,) = struct.unpack_from(">i", packet, position)  # whole, since lengths are multiples of 4
        position += 4
        if not 0 < size <= end - position:
            raise OscError(f"a bundle's element says {size} bytes, {end - position} are left")
        _check_element(packet, position, position + size, depth + 1, out)
        position += size


def _outlined(packet: bytes, start: int, end: int) -> _Outline:
    address, position = _text(packet, start, end, "its address")
    if not address.startswith("/") or len(address) > _MAX_ADDRESS:
        raise OscError(f"an address is {address[:40]!r}, must begin with / and have at most {_MAX_ADDRESS} characters")
    if position == end:  # old senders leave out the tags where there is no argument
        return _Outline(address, "", position)
    try:
        tags, values_at = _text(packet, position, end, "its type tags")
        _check_values(packet, values_at, end, tags)
    except OscError as error:
        raise OscError(f"{error}", error.reason, address) from None
    return _Outline(address, tags[1:], position + 1)


def _check_values(packet: bytes, position: int, end: int, tags: str) -> None:
    if not tags.startswith(","):
        raise OscError(f"type tags are {tags[:20]!r}, must begin with a comma")
    if len(tags) > _MAX_ARGUMENTS + 1:
        raise OscError(f"a message has {len(tags) - 1} arguments, the limit is {_MAX_ARGUMENTS}", "too_big")
    for tag in tags[1:]:
        position = _behind(packet, position, end, tag)
    if position != end:
        raise OscError(f"{end - position} bytes follow the last argument")


def _behind(packet: bytes, position: int, end: int, tag: str) -> int:
    """Return where the argument that begins at a position ends."""
    if tag in "sS":
        return _text(packet, position, end, "a text")[1]
    size = 4 if tag == "b" else _SIZES.get(tag)
    if size is None:
        raise OscError(f"type tag {tag!r} is not known; i f s b T F N I d h t c r m S are", "unknown_tag")
    if position + size > end:
        raise OscError(f"the message ends within an argument of type {tag}")
    return position + size if tag != "b" else _behind_blob(packet, position, end)


def _behind_blob(packet: bytes, position: int, end: int) -> int:
    (size,) = struct.unpack_from(">i", packet, position)
    behind = position + 4 + (size + 3) // 4 * 4
    if size < 0 or behind > end:
        raise OscError(f"a blob says {size} bytes, {end - position - 4} are left")
    return int(behind)


def _text(packet: bytes, position: int, end: int, what: str) -> tuple[str, int]:
    """Return the text at a position, and where it ends with its padding."""
    nul = packet.find(b"\0", position, end)
    if nul < 0:
        raise OscError(f"the message ends within {what}")
    try:
        return packet[position:nul].decode(), nul // 4 * 4 + 4
    except UnicodeDecodeError as error:
        raise OscError(f"{what} is not UTF-8 at byte {error.start}: send UTF-8", "not_utf8") from None


def _in_known_tags(packet: bytes, outlines: Sequence[_Outline]) -> bytes:
    """Return the packet with those tags only that python-osc knows."""
    known = bytearray(packet)
    for outline in outlines:
        known[outline.tags_at : outline.tags_at + len(outline.tags)] = outline.tags.translate(_LOOKS_LIKE).encode()
    return bytes(known)


# -- writing -----------------------------------------------------------------------------------------------------------


def encode(address: str, *arguments: object) -> bytes:
    """Write a message with the tags i, f, s and b only, which every client knows.

    Args:
        address: as it is.
        arguments: numbers (numpy's too; bool is an i, an int beyond 32 bits and a float beyond f's range the nearest
            there is, NaN is 0), texts (up to their first NUL) and bytes, one at least.
    """
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(*_plain(argument))
    return builder.build().dgram


def encode_bundle(at: float | None, packets: Sequence[bytes]) -> bytes:
    """Write a bundle that acts at a time (Unix seconds, None = at once)."""
    builder = OscBundleBuilder(IMMEDIATELY if at is None else at)  # type: ignore[arg-type] # fractions are meant
    for packet in packets:
        builder.add_content(OscBundle(packet) if OscBundle.dgram_is_bundle(packet) else OscMessage(packet))
    return builder.build().dgram


def _plain(value: object) -> tuple[int | float | str | bytes, str]:
    """Return what python-osc writes, and its tag."""
    if isinstance(value, Integral):  # bool too
        return max(-(2**31), min(2**31 - 1, int(value))), "i"
    if isinstance(value, Real):
        number = float(value)
        return 0.0 if math.isnan(number) else max(-_FLOAT_MAX, min(_FLOAT_MAX, number)), "f"
    if isinstance(value, str):
        return value.partition("\0")[0].encode(errors="replace").decode(), "s"
    assert isinstance(value, bytes | bytearray | memoryview), value
    return bytes(value), "b"
