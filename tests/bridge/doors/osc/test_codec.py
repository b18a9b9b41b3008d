"""The binary format: python-osc's where it is right, ours where it is not (each case shown), and every refusal."""

from __future__ import annotations

import logging
import math
import random
import struct
import time

import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import BuildError, OscMessageBuilder
from pythonosc.osc_packet import OscPacket

from bridge.doors.osc.codec import IMPULSE, Message, OscError, decode, encode, encode_bundle


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
            rng.choice([rng.randint(-(2**31), 2**31 - 1), rng.randbytes(rng.randint(1, 9)), "ä" * rng.randint(0, 9)])
            for _ in range(rng.randint(0, 6))
        ]
        assert decode(encode("/x", *values)) == [Message("/x", tuple(values))]


def test_floats_are_the_decimals_that_were_meant() -> None:
    assert decode(encode("/x", 0.8, 1 / 3, 16777217.0))[0].arguments == (0.8, float(np.float32(1 / 3)), 16777216.0)


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


def tagged(tag: int, packet: bytes) -> bytes:
    """A bundle of one packet with a raw time tag."""
    return b"#bundle\0" + struct.pack(">Qi", tag, len(packet)) + packet


def test_at_once_is_one_and_zero() -> None:
    assert encode_bundle(None, [encode("/a")])[8:16] == bytes(7) + b"\1"
    for tag in (0, 1):
        assert decode(tagged(tag, b"/abc\0\0\0\0"))[0].at is None


# -- what python-osc gets wrong, and this does not ---------------------------------------------------------------------


def refusal(packet: bytes) -> str:
    with pytest.raises(OscError) as caught:
        decode(packet)
    return caught.value.reason


def test_a_cut_number_is_zero_to_python_osc() -> None:
    cut = b"/a\0\0,f\0\0"
    assert OscMessage(cut).params == [0.0]
    assert refusal(cut) == "malformed"


def test_what_follows_the_last_argument_is_passed_over_by_python_osc() -> None:
    more = b"/a\0\0,i\0\0\0\0\0\x01\0\0\0\x02"
    assert OscMessage(more).params == [1]
    assert refusal(more) == "malformed"


def test_nan_passes_through_python_osc() -> None:
    packet = b"/a\0\0,f\0\0\x7f\xc0\0\0"
    assert math.isnan(OscMessage(packet).params[0])
    assert refusal(packet) == "not_finite"


def test_text_that_is_not_utf_8_is_an_error_of_another_kind_to_python_osc() -> None:
    packet = b"/a\0\0,s\0\0\xe9t\xe9\0"
    with pytest.raises(UnicodeDecodeError):
        OscPacket(packet)
    assert refusal(packet) == "not_utf8"


def test_impulse_char_and_symbol_keep_their_places_where_python_osc_moves_those_behind_them_up(caplog) -> None:
    for tag, data, value in ((b"I", b"", IMPULSE), (b"c", b"\0\0\0a", 97), (b"S", b"sym\0", "sym")):
        packet = b"/a\0\0," + tag + b"iN\0\0\0\0" + data + struct.pack(">i", 5)
        with caplog.at_level(logging.ERROR):
            assert len(OscMessage(packet).params) == 2
        assert decode(packet) == [Message("/a", (value, 5, None))]
        bundle = encode_bundle(None, [encode("/b", 1)]) + struct.pack(">i", len(packet)) + packet
        assert decode(bundle) == [Message("/b", (1,)), Message("/a", (value, 5, None))]
    assert caplog.text == "", "and one datagram is no line in the log"


def test_an_address_may_hold_a_letter_that_is_a_strange_tag_elsewhere() -> None:
    assert decode(b"/IcS\0\0\0\0,Is\0IcS\0") == [Message("/IcS", (IMPULSE, "IcS"))]


def test_python_osc_reads_all_of_many_arguments_slowly_where_ours_refuses_at_once() -> None:
    def packet(count: int) -> bytes:
        return b"/a\0\0" + b"," + b"i" * count + bytes(4 - (count + 1) % 4) + bytes(4 * count)

    def seconds(read, count: int) -> float:
        data, times = packet(count), []
        for _ in range(5):
            began = time.perf_counter()
            with_error = None
            try:
                read(data)
            except OscError as error:
                with_error = error
            times.append(time.perf_counter() - began)
            assert (with_error is not None) == (read is decode)
        return min(times)

    # the square of their number, some 10 ms for what a datagram holds; ours looks at the type tags alone
    assert seconds(OscMessage, 12_000) > 20 * seconds(decode, 12_000)
    assert refusal(packet(33)) == "too_big"
    assert len(decode(packet(32))[0].arguments) == 32


@pytest.mark.parametrize("at", [1.0, 1.7e9, 2_085_978_495.5, 2_085_978_496.5, 2.5e9])
def test_time_tags_go_round_on_7_february_2036_where_python_oscs_fall_back_to_1900(at: float) -> None:
    packet = tagged(round((at + 2_208_988_800) * 2**32) % 2**64, encode("/a"))
    assert decode(packet)[0].at == pytest.approx(at, abs=1e-6)
    then = 2**32 if at > 2_085_978_496 else 0
    assert OscBundle(packet).timestamp == pytest.approx(at - then, abs=1e-6)


def test_python_osc_writes_no_numpy_number_no_lone_surrogate_and_no_float_beyond_32_bits() -> None:
    builder = OscMessageBuilder("/a")
    for value in (np.float32(0.25), np.int64(9)):
        with pytest.raises(ValueError, match="not supported"):
            builder.add_arg(value)  # type: ignore[arg-type]
    for value in ("\ud800", b""):
        builder = OscMessageBuilder("/a")
        builder.add_arg(value)
        with pytest.raises(BuildError):
            builder.build()
    with pytest.raises(OverflowError):
        built("/a", (1e39, "f"))
    assert decode(encode("/a", np.float32(0.25), np.int64(9), "\ud800", 1e39))[0].arguments == (
        0.25, 9, "?", 3.4028234663852886e38,
    )  # fmt: skip


# -- refusals ----------------------------------------------------------------------------------------------------------


REFUSED = {
    "empty": (b"", "malformed"),
    "not a multiple of four": (b"/a\0\0,\0\0", "malformed"),
    "an address without a slash": (b"abc\0,\0\0\0", "malformed"),
    "an address without an end": (b"/abc", "malformed"),
    "an address too long": (encode("/" + "a" * 255), "malformed"),
    "tags without a comma": (b"/a\0\0abc\0", "malformed"),
    "a cut float": (b"/a\0\0,f\0\0", "malformed"),
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
