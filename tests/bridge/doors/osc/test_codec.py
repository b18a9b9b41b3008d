"""The binary format: against python-osc where both must agree, and every refusal."""

from __future__ import annotations

import random
import struct
import time

import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from bridge.doors.osc.codec import IMPULSE, Message, OscError, decode, encode, encode_bundle, ntp


def built(address: str, *arguments: tuple[object, str]) -> bytes:
    builder = OscMessageBuilder(address)
    for value, tag in arguments:
        builder.add_arg(value, tag)
    return builder.build().dgram


def test_every_type_that_python_osc_builds_is_read_with_its_value() -> None:
    packet = built(
        "/a/b", (7, "i"), (0.8, "f"), ("čaj", "s"), (b"xyz", "b"), (True, "T"), (False, "F"), (0.1, "d"), (2**40, "h")
    )
    assert decode(packet) == [Message("/a/b", (7, 0.8, "čaj", b"xyz", True, False, 0.1, 2**40))]


def test_what_is_written_python_osc_reads() -> None:
    packet = encode("/a", 3, 0.5, "čaj", b"xyz", True, np.float32(0.25), np.int64(9), 2**40, float("inf"), float("nan"))
    message = OscMessage(packet)
    assert message.address == "/a"
    assert message.params == [3, 0.5, "čaj", b"xyz", 1, 0.25, 9, 2**31 - 1, pytest.approx(3.4028235e38), 0.0]
    assert packet[4:20] == b",ifsbifiiff".ljust(12, b"\0") + struct.pack(">i", 3)


def test_written_and_read_again_is_the_same() -> None:
    rng = random.Random(1)
    for _ in range(500):
        values = [
            rng.choice([rng.randint(-(2**31), 2**31 - 1), rng.randbytes(rng.randint(0, 9)), "ä" * rng.randint(0, 9)])
            for _ in range(rng.randint(0, 6))
        ]
        assert decode(encode("/x", *values)) == [Message("/x", tuple(values))]


def test_floats_are_the_decimals_that_were_meant() -> None:
    assert decode(encode("/x", 0.8, 1 / 3, 16777217.0))[0].arguments == (0.8, float(np.float32(1 / 3)), 16777216.0)


def test_impulse_and_nil_keep_their_places() -> None:
    assert decode(b"/a\0\0,IiN\0\0\0\0" + struct.pack(">i", 5)) == [Message("/a", (IMPULSE, 5, None))]


def test_no_type_tags_mean_no_arguments() -> None:
    assert decode(b"/abc\0\0\0\0") == [Message("/abc")]


def test_a_text_ends_at_its_first_nul() -> None:
    assert decode(encode("/x", "ab\0cd"))[0].arguments == ("ab",)


def test_bundles_carry_their_time_to_each_message() -> None:
    at = time.time() + 2
    packet = encode_bundle(at, [encode("/a", 1), encode_bundle(None, [encode("/b")]), encode("/c")])
    first, inner, last = decode(packet)
    assert first.at == pytest.approx(at, abs=1e-6)
    assert (inner.address, inner.at) == ("/b", None)
    assert last.at == first.at
    theirs = OscBundle(packet)
    assert theirs.timestamp == pytest.approx(at, abs=1e-3)


def test_a_bundle_of_python_osc_is_read() -> None:
    at = time.time() + 1
    builder = OscBundleBuilder(at)
    message = OscMessageBuilder("/a")
    message.add_arg(4)
    builder.add_content(message.build())
    (read,) = decode(builder.build().dgram)
    assert (read.address, read.arguments) == ("/a", (4,))
    assert read.at == pytest.approx(at, abs=1e-3)


@pytest.mark.parametrize("at", [0.0, 1.7e9, 2_085_978_496.5, 2.5e9])  # 7 Feb 2036, 06:28:16: the seconds begin anew
def test_time_tags_go_round_in_2036(at: float) -> None:
    (message,) = decode(encode_bundle(at, [encode("/a")]))
    assert message.at == pytest.approx(at, abs=1e-6)


def test_at_once_is_one_and_zero() -> None:
    assert ntp(None) == 1
    for tag in (0, 1):
        assert decode(b"#bundle\0" + struct.pack(">Qi", tag, 8) + b"/abc\0\0\0\0")[0].at is None


REFUSED = {
    "empty": (b"", "malformed"),
    "not a multiple of four": (b"/a\0\0,\0\0", "malformed"),
    "an address without a slash": (b"abc\0,\0\0\0", "malformed"),
    "an address without an end": (b"/abc", "malformed"),
    "an address too long": (encode("/" + "a" * 255), "malformed"),
    "tags without a comma": (b"/a\0\0abc\0", "malformed"),
    "python-osc's zero: a cut float": (b"/a\0\0,f\0\0", "malformed"),
    "a cut double": (b"/a\0\0,d\0\0\0\0\0\0", "malformed"),
    "a cut text": (b"/a\0\0,s\0\0abcd", "malformed"),
    "a blob longer than the packet": (b"/a\0\0,b\0\0\0\0\0\x08abcd", "malformed"),
    "a blob of less than nothing": (b"/a\0\0,b\0\0\xff\xff\xff\xff", "malformed"),
    "bytes after the last argument": (b"/a\0\0,i\0\0\0\0\0\x01\0\0\0\x02", "malformed"),
    "not UTF-8": (b"/a\0\0,s\0\0\xe9t\xe9\0", "not_utf8"),
    "an unknown tag": (b"/a\0\0,q\0\0\0\0\0\x01", "unknown_tag"),
    "an array": (b"/a\0\0,[i]\0\0\0\0\0\0\0\x01", "unknown_tag"),
    "NaN": (b"/a\0\0,f\0\0\x7f\xc0\0\0", "not_finite"),
    "infinity": (b"/a\0\0,d\0\0" + struct.pack(">d", float("inf")), "not_finite"),
    "a bundle without its time": (b"#bundle\0\0\0\0\0", "malformed"),
    "an element longer than the bundle": (b"#bundle\0\0\0\0\0\0\0\0\1\0\0\0\x0c/abc\0\0\0\0", "malformed"),
    "an element of no length": (b"#bundle\0\0\0\0\0\0\0\0\1\0\0\0\0", "malformed"),
    "too many messages": (encode_bundle(None, [encode("/a")] * 257), "too_big"),
    "bundles too deep": (
        encode_bundle(
            None,
            [encode_bundle(None, [encode_bundle(None, [encode_bundle(None, [encode_bundle(None, [encode("/a")])])])])],
        ),
        "too_big",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason_and_one_line(name: str) -> None:
    packet, reason = REFUSED[name]
    with pytest.raises(OscError) as caught:
        decode(packet)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_a_refusal_names_the_address_where_it_could_be_read() -> None:
    with pytest.raises(OscError) as caught:
        decode(b"/a\0\0,f\0\0")
    assert caught.value.address == "/a"


def test_nothing_else_is_raised_by_random_and_mutated_packets() -> None:
    rng = random.Random(2)
    seeds = [packet for packet, _ in REFUSED.values() if packet] + [encode("/streamgen/tempo", 1.0, "ab", b"cde")]
    taken = 0
    for _ in range(20_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            taken += len(decode(bytes(data)))
        except OscError:
            continue
    assert taken > 100
