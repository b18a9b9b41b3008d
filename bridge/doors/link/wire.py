r"""Ableton Link on the wire: discovery, measurement and audio. No I/O.

    entry       4-byte key, u32 length, value                     everything is big-endian
    discovery   "_asdp_v\x01"  u8 type  u8 ttl  u16 group  node, 8 bytes   entries
    measurement "_link_v\x01"  u8 type  entries
    audio       "chnnlsv\x01"  u8 type  u8 ttl  u16 group  node, 8 bytes   entries, or a buffer

Beats are counted in millionths, times in microseconds: of a node's own clock ("host"), or of the session's ("ghost").

Rules: what is no message of ours is None, never an exception: anybody may send anything to an open port.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "GROUP", "NODE_BYTES", "PORT", "AudioType", "BufferPart", "Buffer", "Discovery", "Measurement", "Place",
    "PlayState", "Tempo", "audio_channels", "audio_message", "buffer_message", "discovery_message", "entry", "get_i64",
    "get_place", "measurement_message", "read_audio", "read_discovery", "read_measurement", "state_entries",
]  # fmt: skip

GROUP, PORT = "224.76.78.75", 20_808
NODE_BYTES = 8
_DISCOVERY, _MEASUREMENT, _AUDIO = b"_asdp_v\x01", b"_link_v\x01", b"chnnlsv\x01"
_HEAD = struct.Struct(">8sBBH8s")
_MOST_ENTRIES = 64
_MOST_MILLIONTHS = 2**52  # beats or seconds, of a session that plays for a century: sums of some fit eight bytes still
_INT16 = 1

Place = tuple[str, int]
Entries = dict[bytes, bytes]


class Discovery(IntEnum):
    """Kinds of discovery messages."""

    ALIVE = 1
    RESPONSE = 2
    BYEBYE = 3


class Measurement(IntEnum):
    """Kinds of measurement messages."""

    PING = 1
    PONG = 2


class AudioType(IntEnum):
    """Kinds of audio messages."""

    ANNOUNCEMENT = 1
    BYES = 2
    PONG = 3
    REQUEST = 4
    STOP = 5
    BUFFER = 6


@dataclass(frozen=True)
class Tempo:
    """A timeline: which beat it is at a time of the session, and how fast they come.

    Attributes:
        beat_us: microseconds a beat.
        beats: millionths of beats at the origin.
        time_us: of the origin, ghost time.
    """

    beat_us: int
    beats: int
    time_us: int

    @property
    def bpm(self) -> float:
        """Beats a minute."""
        return 60e6 / self.beat_us

    def beats_at(self, ghost_us: float) -> float:
        """Return the beat at a time of the session."""
        return self.beats / 1e6 + (ghost_us - self.time_us) / self.beat_us

    def packed(self) -> bytes:
        """Return it as an entry's value."""
        return struct.pack(">qqq", self.beat_us, self.beats, self.time_us)


@dataclass(frozen=True)
class PlayState:
    """Start and stop of a session; the one told last has the latest time.

    Attributes:
        playing: whether it plays.
        beats: millionths of beats at which it was told.
        time_us: when, ghost time; 0 is never.
    """

    playing: bool = False
    beats: int = 0
    time_us: int = 0

    def packed(self) -> bytes:
        """Return it as an entry's value."""
        return struct.pack(">?qq", self.playing, self.beats, self.time_us)


@dataclass(frozen=True)
class BufferPart:
    """Part of an audio buffer.

    Attributes:
        count: number of the chunk.
        frames: how many.
        beats: millionths of beats at its first frame.
        beat_us: microseconds a beat.
    """

    count: int
    frames: int
    beats: int
    beat_us: int


@dataclass(frozen=True)
class Buffer:
    """Audio on its way.

    Attributes:
        channel, session: ids.
        chunks: which beats it is of.
        rate_hz, channels: of the samples.
        samples: int16, big-endian, interleaved.
    """

    channel: bytes
    session: bytes
    chunks: tuple[BufferPart, ...]
    rate_hz: int
    channels: int
    samples: bytes


# -- entries -----------------------------------------------------------------------------------------------------------


def entry(key: bytes, value: bytes) -> bytes:
    """Return an entry."""
    return key + struct.pack(">I", len(value)) + value


def _entries(data: bytes) -> Entries | None:
    found: Entries = {}
    while data and len(found) < _MOST_ENTRIES:
        if len(data) < 8 or len(data) < 8 + (length := int.from_bytes(data[4:8], "big")):
            return None
        found[data[:4]], data = data[8 : 8 + length], data[8 + length :]
    return found


def get_i64(entries: Entries, key: bytes) -> int | None:
    """Return a time, if there is one."""
    value = entries.get(key, b"")
    number = int.from_bytes(value, "big", signed=True)
    return number if len(value) == 8 and _can_be(number) else None


def _can_be(*millionths: int) -> bool:
    """Tell whether beats and times are such as a session comes to."""
    return all(abs(one) <= _MOST_MILLIONTHS for one in millionths)


def get_place(entries: Entries, key: bytes) -> Place | None:
    """Return an address and a port, if there are."""
    value = entries.get(key, b"")
    return (str(ipaddress.IPv4Address(value[:4])), int.from_bytes(value[4:], "big")) if len(value) == 6 else None


def _place(place: Place) -> bytes:
    return ipaddress.IPv4Address(place[0]).packed + place[1].to_bytes(2, "big")


# -- discovery ---------------------------------------------------------------------------------------------------------


def discovery_message(kind: Discovery, ttl: int, node: bytes, entries: bytes = b"") -> bytes:
    """Return a discovery message; `ttl` in seconds."""
    return _HEAD.pack(_DISCOVERY, kind, ttl, 0, node) + entries


def state_entries(session: bytes, tempo: Tempo, play: PlayState, place: Place, audio: Place | None) -> bytes:
    """Return what a node tells of itself: where it measures, and where it takes audio messages, if it does."""
    told = entry(b"tmln", tempo.packed()) + entry(b"sess", session) + entry(b"stst", play.packed())
    told += entry(b"mep4", _place(place))
    return told if audio is None else told + entry(b"aep4", _place(audio))


@dataclass(frozen=True)
class NodeState:
    """What a node tells of itself; of a farewell only the node.

    Attributes:
        kind: of the message.
        node, session: ids.
        ttl: seconds for which it counts.
        tempo, play: of its session, as it knows them.
        place: where it answers measurements.
        audio: where it takes audio messages; None if it does not.
    """

    kind: Discovery
    node: bytes
    ttl: int = 0
    session: bytes = b""
    tempo: Tempo = Tempo(500_000, 0, 0)
    play: PlayState = PlayState()
    place: Place = ("", 0)
    audio: Place | None = None


def read_discovery(data: bytes) -> NodeState | None:
    """Read a discovery message; None if it is none."""
    head = _head(data, _DISCOVERY)
    if head is None or head[0] not in [*Discovery]:
        return None
    kind, ttl, node = Discovery(head[0]), head[1], head[2]
    if kind is Discovery.BYEBYE:
        return NodeState(kind, node)
    entries = _entries(data[_HEAD.size :]) or {}
    place, tempo, session = get_place(entries, b"mep4"), entries.get(b"tmln", b""), entries.get(b"sess", b"")
    if place is None or len(tempo) != 24 or len(session) != NODE_BYTES:
        return None
    timeline = Tempo(*struct.unpack(">qqq", tempo))
    if not 60_000 <= timeline.beat_us <= 3_000_000 or not _can_be(timeline.beats, timeline.time_us):  # 20 … 1,000 bpm
        return None
    play = entries.get(b"stst", b"")
    state = PlayState(*struct.unpack(">?qq", play)) if len(play) == 17 else PlayState()
    state = state if _can_be(state.beats, state.time_us) else PlayState()
    return NodeState(kind, node, ttl, session, timeline, state, place, get_place(entries, b"aep4"))


def _head(data: bytes, magic: bytes) -> tuple[int, int, bytes] | None:
    if len(data) < _HEAD.size or data[:8] != magic:
        return None
    _, kind, ttl, group, node = _HEAD.unpack_from(data)
    return None if group else (kind, ttl, node)


# -- measurement -------------------------------------------------------------------------------------------------------


def measurement_message(kind: Measurement, entries: bytes) -> bytes:
    """Return a measurement message."""
    return _MEASUREMENT + bytes([kind]) + entries


def read_measurement(data: bytes) -> tuple[Measurement, Entries, bytes] | None:
    """Return a measurement message's kind, its entries and their bytes; None if it is none."""
    if data[:8] != _MEASUREMENT or len(data) < 9 or data[8] not in [*Measurement]:
        return None
    entries = _entries(data[9:])
    return None if entries is None else (Measurement(data[8]), entries, data[9:])


# -- audio -------------------------------------------------------------------------------------------------------------


def audio_message(kind: AudioType, ttl: int, node: bytes, entries: bytes = b"") -> bytes:
    """Return an audio message that is no buffer; `ttl` in seconds."""
    return _HEAD.pack(_AUDIO, kind, ttl, 0, node) + entries


def audio_channels(peer: str, channels: dict[bytes, str]) -> bytes:
    """Return the entries of an announcement: a peer's name, and its channels' names by id."""
    listed = b"".join(_text(name) + channel for channel, name in channels.items())
    counted = struct.pack(">I", len(channels)) + listed
    return entry(b"__pi", _text(peer)) + entry(b"auca", counted)


def _text(words: str) -> bytes:
    data = words.encode()
    return struct.pack(">I", len(data)) + data


def buffer_message(node: bytes, buffer: Buffer) -> bytes:
    """Return a message of audio."""
    chunks = b"".join(struct.pack(">QHqq", one.count, one.frames, one.beats, one.beat_us) for one in buffer.chunks)
    told = buffer.channel + buffer.session + struct.pack(">I", len(buffer.chunks)) + chunks
    told += struct.pack(">BIBH", _INT16, buffer.rate_hz, buffer.channels, len(buffer.samples))
    return _HEAD.pack(_AUDIO, AudioType.BUFFER, 0, 0, node) + told + buffer.samples


def read_audio(data: bytes) -> tuple[AudioType, int, bytes, Entries | Buffer] | None:
    """Return an audio message's kind, ttl, node, and its entries or its buffer; None if it is none."""
    head = _head(data, _AUDIO)
    if head is None or head[0] not in [*AudioType]:
        return None
    kind, rest = AudioType(head[0]), data[_HEAD.size :]
    found = _buffer(rest) if kind is AudioType.BUFFER else _entries(rest)
    return None if found is None else (kind, head[1], head[2], found)


def _buffer(data: bytes) -> Buffer | None:
    at, size = 20, struct.calcsize(">QHqq")
    count = int.from_bytes(data[16:20], "big")
    if count > _MOST_ENTRIES or len(data) < at + count * size + 8:
        return None
    chunks = tuple(BufferPart(*struct.unpack_from(">QHqq", data, at + number * size)) for number in range(count))
    codec, rate_hz, channels, length = struct.unpack_from(">BIBH", data, at + count * size)
    samples = data[at + count * size + 8 :]
    if codec != _INT16 or len(samples) != length:
        return None
    return Buffer(data[:8], data[8:16], chunks, rate_hz, channels, samples)
