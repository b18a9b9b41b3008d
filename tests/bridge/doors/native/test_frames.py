"""The header and the format, byte for byte."""

from __future__ import annotations

import struct

import pytest

from bridge.doors.native.frames import HEADER_BYTES, MAX_SAMPLE, AudioFormat, AudioHeader, audio_format, converted
from bridge.errors import WireError

PLAIN = AudioFormat("s16le", 32_000)


def test_the_header_has_the_bytes_of_the_contract() -> None:
    packed = AudioHeader(2, 1, 3, 2**32 + 5, 10**12, 10**15, 48_000, 960).pack()
    assert HEADER_BYTES == len(packed) == 32
    assert packed == struct.pack("<BBBBIQQII", 1, 2, 1, 3, 5, 10**12, 10**15, 48_000, 960)
    assert AudioHeader.unpack(packed + b"more") == AudioHeader(2, 1, 3, 5, 10**12, 10**15, 48_000, 960)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01" * 31,
        struct.pack("<BBBBIQQII", 2, 0, 2, 0, 0, 0, 0, 48_000, 1),
        struct.pack("<BBBBIQQII", 1, 3, 2, 0, 0, 0, 0, 48_000, 1),
        struct.pack("<BBBBIQQII", 1, 0, 3, 0, 0, 0, 0, 48_000, 1),
        struct.pack("<BBBBIQQII", 1, 0, 2, 0, 0, 0, 0, 7_999, 1),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="an audio frame"):
        AudioHeader.unpack(data)


def test_a_format_changes_where_it_is_told_to() -> None:
    assert audio_format(PLAIN, {}) == PLAIN
    all_of_it = {"codec": "f32le", "sample_rate_hz": 96_000, "chunk_ms": 200, "enabled": False}
    assert audio_format(PLAIN, all_of_it) == AudioFormat("f32le", 96_000, 200, False)
    as_text = {"codec": "f32le", "sample_rate_hz": "96000", "chunk_ms": "200", "enabled": "false"}
    assert audio_format(PLAIN, as_text) == AudioFormat("f32le", 96_000, 200, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"codec": "mp3"}, {"codec": None}, {"sample_rate_hz": 96_001}, {"sample_rate_hz": 44_100.5},
        {"sample_rate_hz": "4e4"}, {"sample_rate_hz": True}, {"chunk_ms": 19}, {"chunk_ms": "²²"}, {"enabled": "maybe"},
        {"enabled": None}, {"enabled": 2}, {"sample_rate_hz": float("nan")}, {"chunk_ms": [20]},
    ],
)  # fmt: skip
def test_a_format_outside_the_contract_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(WireError):
        audio_format(PLAIN, fields)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 32_000, 44_100, 96_000, 192_000])
def test_a_sample_of_another_rate_is_the_nearest_at_any_position(rate_hz: int) -> None:
    for sample in (0, 1, 2, 3, 441, 44_099, 10**9 + 7, MAX_SAMPLE):
        there = converted(sample, rate_hz, 48_000)
        assert isinstance(there, int)
        assert abs(2 * (there * rate_hz - sample * 48_000)) <= rate_hz, "half a sample at most, in whole numbers"
    whole = 7 * rate_hz * 10**9  # a whole number of seconds is exact, after centuries too
    assert converted(whole, rate_hz, 48_000) == 7 * 48_000 * 10**9
    assert converted(converted(441, 44_100, 48_000), 48_000, 44_100) == 441
