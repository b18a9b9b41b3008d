"""Audio on the wire: the 32-byte header of a frame, and the format that a listener asks for. No I/O.

A frame is a header, little-endian, then interleaved PCM or one Opus packet:

    0        1        2        3        4          8                16               24             28          32
    ├────────┼────────┼────────┼────────┼──────────┼────────────────┼────────────────┼──────────────┼───────────┤
    │version │ codec  │channels│ flags  │ sequence │ sample_position│ server_time_us │sample_rate_hz│frame_count│
    │ u8 = 1 │ u8     │ u8     │ u8     │ u32      │ u64            │ u64            │ u32          │ u32       │

`sample_position` counts at the frame's own `sample_rate_hz`: the listener's, which may be another than the session's
(see requests.py for the samples that JSON counts). Sample p of the session is the listener's sample
p · listener's rate / session's rate, to the nearest one. `server_time_us` is when the first sample is due.

Rules: knows no socket and no session; what is wrong raises WireError with a code, never anything else.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import WireError

__all__ = [
    "CODECS",
    "DISCONTINUITY",
    "FORMAT_FIELDS",
    "HEADER_BYTES",
    "MAX_RATE_HZ",
    "MAX_SAMPLE",
    "MIN_RATE_HZ",
    "PROMPT_CHANGE",
    "AudioFormat",
    "AudioHeader",
    "audio_format",
    "converted",
    "shown",
    "whole",
]

CODECS = {"s16le": 0, "f32le": 1, "opus": 2}
DISCONTINUITY, PROMPT_CHANGE = 1, 2
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 96_000
MIN_CHUNK_MS, MAX_CHUNK_MS = 20, 200
MAX_SAMPLE = 2**62
FORMAT_FIELDS = ("codec", "sample_rate_hz", "chunk_ms", "enabled")

_HEADER = struct.Struct("<BBBBIQQII")
HEADER_BYTES = _HEADER.size


def converted(sample: int, from_hz: int, to_hz: int) -> int:
    """Return the sample of another rate that lies nearest; in whole numbers, so exact at any position."""
    return (2 * sample * to_hz + from_hz) // (2 * from_hz)


@dataclass(frozen=True)
class AudioHeader:
    """What stands before the samples of one binary frame."""

    codec: int
    channels: int
    flags: int
    sequence: int
    sample_position: int
    server_time_us: int
    sample_rate_hz: int
    frame_count: int

    def pack(self) -> bytes:
        """Return the 32 bytes; the sequence wraps at 2**32."""
        first = (1, self.codec, self.channels, self.flags, self.sequence & 0xFFFFFFFF)
        return _HEADER.pack(*first, self.sample_position, self.server_time_us, self.sample_rate_hz, self.frame_count)

    @classmethod
    def unpack(cls, data: bytes) -> AudioHeader:
        """Read a header.

        Raises:
            WireError: too short, another version, an unknown codec, or a rate or a number of channels that cannot be.
        """
        if len(data) < HEADER_BYTES:
            raise WireError("bad_audio", f"an audio frame has {len(data)} bytes, its header alone needs {HEADER_BYTES}")
        version, codec, channels, *rest = _HEADER.unpack_from(data)
        if version != 1 or codec not in CODECS.values() or channels not in (1, 2):
            raise WireError("bad_audio", f"an audio frame of version {version}, codec {codec}, {channels} channels")
        header = cls(codec, channels, *rest)
        if not MIN_RATE_HZ <= header.sample_rate_hz <= MAX_RATE_HZ:
            raise WireError("bad_audio", f"an audio frame of {header.sample_rate_hz} Hz")
        return header


@dataclass(frozen=True)
class AudioFormat:
    """How one listener wants its audio.

    Attributes:
        codec: "s16le", "f32le" or "opus" (packets of 20 ms, whatever `chunk_ms`).
        sample_rate_hz: of the frames it gets.
        chunk_ms: length of a frame, 20 … 200.
        enabled: False for a client that only steers.
    """

    codec: str
    sample_rate_hz: int
    chunk_ms: float = 40.0
    enabled: bool = True


def audio_format(before: AudioFormat, fields: Mapping[str, Any]) -> AudioFormat:
    """Return a format with some fields changed; JSON values, or texts from a URL's query.

    Raises:
        WireError: a field outside its range.
    """
    after = before
    if "codec" in fields:
        after = replace(after, codec=_codec(fields["codec"]))
    if "sample_rate_hz" in fields:
        rate = whole("sample_rate_hz", _from_text(fields["sample_rate_hz"]), MIN_RATE_HZ, MAX_RATE_HZ)
        after = replace(after, sample_rate_hz=rate)
    if "chunk_ms" in fields:
        chunk = whole("chunk_ms", _from_text(fields["chunk_ms"]), MIN_CHUNK_MS, MAX_CHUNK_MS)
        after = replace(after, chunk_ms=chunk)
    if "enabled" in fields:
        after = replace(after, enabled=_switch("enabled", fields["enabled"]))
    return after


def _codec(value: object) -> str:
    if not isinstance(value, str) or value not in CODECS:
        raise WireError("bad_value", f"codec is {str(value)[:40]!a}, must be one of {', '.join(CODECS)}")
    return value


def _switch(name: str, value: object) -> bool:
    value = {"0": False, "1": True, "false": False, "true": True}.get(value, value) if isinstance(value, str) else value
    if not isinstance(value, int) or value not in (0, 1):
        raise WireError("bad_value", f"{name} is {str(value)[:40]!a}, must be true or false")
    return bool(value)


def _from_text(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9 else value


def shown(value: object) -> str:
    """A client's value as an error text quotes it."""
    return "missing" if value is None else ascii(str(value)[:40])


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return a whole number within limits.

    Raises:
        WireError: it is none, or outside.
    """
    fine = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not fine or value != int(value):  # type: ignore[call-overload]
        raise WireError("bad_value", f"{name} is {shown(value)}, must be a whole number within {low} … {high}")
    return int(value)  # type: ignore[call-overload, no-any-return]
