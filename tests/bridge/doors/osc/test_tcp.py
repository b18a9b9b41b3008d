"""Packets on a TCP stream, cut anywhere; against python-osc's SLIP."""

from __future__ import annotations

import random

import pytest
from pythonosc import slip as theirs

from bridge.doors.osc.codec import OscError, encode
from bridge.doors.osc.framing import Deframer, length_prefixed, slip

PACKETS = [encode("/a", 1), encode("/b", b"\xc0\xdb\xdc\xdb\xdd\xdc\xdd" * 5), encode("/c", "x" * 300), encode("/d")]


@pytest.mark.parametrize("frame", [length_prefixed, slip])
@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64, 10_000])
def test_packets_come_out_whole_however_they_are_cut(frame, cut: int) -> None:
    data = b"".join(map(frame, PACKETS))
    deframer = Deframer()
    out = [packet for at in range(0, len(data), cut) for packet in deframer.feed(data[at : at + cut])]
    assert out == PACKETS
    assert deframer.frame is frame
    assert not deframer.within_packet


def test_slip_is_python_oscs() -> None:
    for packet in PACKETS:
        assert slip(packet) == theirs.encode(packet)
    assert list(Deframer().feed(theirs.encode(PACKETS[1]))) == [PACKETS[1]]


def test_answers_before_the_first_byte_are_osc_1_0() -> None:
    assert Deframer().frame is length_prefixed


@pytest.mark.parametrize("data", [b"\0\1\0\1", b"\xff\xff\xff\xff", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_size_that_cannot_be_ends_the_stream(data: bytes) -> None:
    with pytest.raises(OscError, match="bytes, the limit is") as caught:
        list(Deframer().feed(data))
    assert caught.value.reason == "framing"


def test_a_broken_escape_ends_the_stream() -> None:
    with pytest.raises(OscError, match="DB"):
        list(Deframer().feed(b"\xc0/a\xdb\x01\xc0"))


def test_a_packet_without_end_is_given_up() -> None:
    deframer = Deframer()
    list(deframer.feed(b"\xc0" + b"x" * 2 * 65_536))
    with pytest.raises(OscError, match="more than"):
        list(deframer.feed(b"x"))


def test_each_byte_is_looked_at_once() -> None:
    """130 kB in single bytes: 0.1 s where looking again each time would take minutes."""
    deframer, rng = Deframer(), random.Random(3)
    list(deframer.feed(b"\xc0"))
    body = bytes(rng.choice(b"abc") for _ in range(60_000))
    for byte in body:
        list(deframer.feed(bytes([byte])))
    assert list(deframer.feed(b"\xc0")) == [body]
