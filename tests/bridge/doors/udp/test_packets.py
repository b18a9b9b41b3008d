"""Packets against readers of this test's own, written from the formats."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from bridge.doors.packetizer import Packet
from bridge.doors.udp.packets import ReaStream, Rtp, sdp

RATE_HZ = 48_000


def pieces(frames: int, count: int, start: int = 0, due: float = 5.0) -> list[Packet]:
    made = np.random.default_rng(3).uniform(-1, 1, (2, frames * count)).astype(np.float32)
    return [
        Packet(made[:, n * frames : (n + 1) * frames], start + n * frames, due + n * frames / RATE_HZ)
        for n in range(count)
    ]


def read_reastream(data: bytes) -> np.ndarray:
    """As its description has it; float32 [channels, n]."""
    assert data[:4] == b"MRSR"
    assert struct.unpack_from("<i", data, 4)[0] == len(data)
    assert data[8:40] == b"streamgen".ljust(32, b"\0")
    channels, rate_hz, size = struct.unpack_from("<BiH", data, 40)
    assert (channels, rate_hz) == (2, RATE_HZ)
    assert size <= 1_200
    assert len(data) == 47 + size
    return np.frombuffer(data[47:], "<f4").reshape(channels, -1)


def read_rtp(data: bytes) -> tuple[bool, int, int, int, np.ndarray]:
    """Marker, number, timestamp, source, float64 [2, n]."""
    flags, kind, number, timestamp, source = struct.unpack(">BBHII", data[:12])
    assert (flags, kind & 0x7F) == (0x80, 97)
    triples = np.frombuffer(data[12:], np.uint8).reshape(-1, 2, 3).astype(int)
    values = triples[..., 0] << 16 | triples[..., 1] << 8 | triples[..., 2]
    return bool(kind & 0x80), number, timestamp, source, (values - (values >> 23 << 24)).T / 2**23


def test_reastream_is_the_samples_themselves() -> None:
    form = ReaStream(RATE_HZ)
    assert form.frames * 2 * 4 == 1_200
    for piece in pieces(form.frames, 3):
        np.testing.assert_array_equal(read_reastream(form.packet(piece)), piece.samples)


def test_rtp_counts_and_carries_24_bits() -> None:
    form, first = Rtp(RATE_HZ), None
    for n, piece in enumerate(pieces(form.frames, 5)):
        marker, number, timestamp, source, sound = read_rtp(form.packet(piece))
        first = first or (number, timestamp, source)
        assert marker is (n == 0)
        assert ((number - first[0]) % 2**16, (timestamp - first[1]) % 2**32, source) == (n, 48 * n, first[2])
        assert np.abs(sound - piece.samples).max() <= 0.5 / 2**23


def test_beyond_full_scale_is_clipped_and_nan_is_silence() -> None:
    form = Rtp(RATE_HZ)
    sound = read_rtp(form.packet(Packet(np.array([[2.0, -2.0], [np.nan, 1.0]], np.float32), 0, 0.0)))[4]
    assert sound.tolist() == [[1 - 2**-23, -1], [0, 1 - 2**-23]]


def test_over_a_pause_the_timestamp_goes_on_as_time_does_and_the_marker_says_so() -> None:
    form = Rtp(RATE_HZ)
    before = [read_rtp(form.packet(piece)) for piece in pieces(48, 10)][-1]
    after = read_rtp(form.packet(pieces(48, 1, start=480, due=5.0 + 480 / RATE_HZ + 2.5)[0]))
    assert after[0]
    assert (after[1] - before[1]) % 2**16 == 1
    assert (after[2] - before[2]) % 2**32 == 48 + 2.5 * RATE_HZ


def test_numbers_wrap() -> None:
    form = Rtp(RATE_HZ)
    form._number, form._timestamp = 2**16 - 1, 2**32 - 48
    assert [read_rtp(form.packet(piece))[1:3] for piece in pieces(48, 2)] == [(2**16 - 1, 2**32 - 48), (0, 0)]


@pytest.mark.parametrize(
    ("target", "line"),
    [("127.0.0.1", "IN IP4 127.0.0.1"), ("239.1.2.3", "IN IP4 239.1.2.3/1"), ("::1", "IN IP6 ::1")],
)
def test_a_description_says_where_and_what(target: str, line: str) -> None:
    lines = sdp(Rtp(RATE_HZ), "10.0.0.1", target, 5004, 7).split("\r\n")
    assert lines[-1] == ""
    assert f"c={line}" in lines
    for told in ("m=audio 5004 RTP/AVP 97", "a=rtpmap:97 L24/48000/2", "a=ptime:1"):
        assert told in lines
    assert "a=ptime:0.9977" in sdp(Rtp(44_100), "10.0.0.1", target, 5004, 7)
