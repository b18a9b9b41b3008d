"""Packets on a TCP stream, cut anywhere, in both framings; connections that are slow, silent, deaf or too fast."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from contextlib import suppress

import pytest
from pythonosc import slip

from bridge.doors.osc.admission import OscLimits
from bridge.doors.osc.codec import Message, OscError, decode, encode
from bridge.doors.osc.tcp import Deframer, length_prefixed

from .stage import Stage, on_stage, until

PACKETS = [encode("/a", 1), encode("/b", b"\xc0\xdb\xdc\xdb\xdd\xdc\xdd" * 5), encode("/c", "x" * 300), encode("/d")]


@pytest.mark.parametrize("frame", [length_prefixed, slip.encode])
@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64, 10_000])
def test_packets_come_out_whole_however_they_are_cut(frame, cut: int) -> None:
    data = b"".join(map(frame, PACKETS))
    deframer = Deframer()
    out = [packet for at in range(0, len(data), cut) for packet in deframer.feed(data[at : at + cut])]
    assert out == PACKETS
    assert deframer.frame is frame
    assert not deframer.within_packet


def test_marks_in_a_row_are_no_packets() -> None:
    data = b"\xc0\xc0" + slip.encode(PACKETS[1]) + slip.encode(PACKETS[0]) + b"\xc0"
    assert list(Deframer().feed(data)) == [PACKETS[1], PACKETS[0]]


def test_answers_before_the_first_byte_are_osc_1_0() -> None:
    assert Deframer().frame is length_prefixed


@pytest.mark.parametrize("data", [b"\0\1\0\1", b"\xff\xff\xff\xff", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_size_that_cannot_be_ends_the_stream(data: bytes) -> None:
    with pytest.raises(OscError, match="bytes, the limit is") as caught:
        list(Deframer().feed(data))
    assert caught.value.reason == "framing"


@pytest.mark.parametrize("data", [b"\xc0/a\xdb\x01\xc0", b"\xc0/abc\xdb\xc0", b"\xc0\xdb\xdb\xdd\xc0"])
def test_a_broken_escape_ends_the_stream(data: bytes) -> None:
    with pytest.raises(OscError, match="DB") as caught:
        list(Deframer().feed(data))
    assert caught.value.reason == "framing"


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


# -- TCP ---------------------------------------------------------------------------------------------------------------


async def received(reader: asyncio.StreamReader, deframer: Deframer) -> list[Message]:
    data = await asyncio.wait_for(reader.read(65_536), 3)
    return [message for packet in deframer.feed(data) for message in decode(packet)]


@pytest.mark.parametrize("frame", [length_prefixed, slip.encode])
def test_tcp_in_either_framing_answers_in_the_same(sine_session, frame) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.door.port)
        for byte in frame(encode("/streamgen/tempo", 111.0)):
            writer.write(bytes([byte]))
            await writer.drain()
        deframer = Deframer()
        assert [(m.address, m.arguments) for m in await received(reader, deframer)] == [("/streamgen/tempo", (111.0,))]
        assert deframer.frame is frame
        writer.write(frame(encode("/streamgen/subscribe")))
        await until(lambda: stage.door.stats()["listeners"] == 1)
        writer.close()
        await until(lambda: stage.door.stats()["listeners"] == stage.door.stats()["connections"] == 0)

    on_stage(sine_session, test)


def test_a_tcp_client_may_subscribe_a_udp_port_and_leave(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        _, writer = await asyncio.open_connection("127.0.0.1", stage.door.port)
        writer.write(length_prefixed(encode("/streamgen/subscribe", client.port)))
        await until(lambda: client.of("/streamgen/tempo"))
        writer.close()
        await until(lambda: stage.door.stats()["connections"] == 0)
        assert stage.door.stats()["listeners"] == 1

    on_stage(sine_session, test)


def test_fast_tcp_clients_are_slowed_and_lose_nothing(sine_session) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.door.port)
        began = time.monotonic()
        writer.write(b"".join(length_prefixed(encode("/streamgen/ping", number)) for number in range(300)))
        deframer, got = Deframer(), []
        while len(got) < 300:
            got += [message.arguments[0] for message in await received(reader, deframer)]
        assert got == list(range(300))
        assert time.monotonic() - began > 0.4
        writer.close()

        assert stage.door.counters.dropped["busy"] == 0

    on_stage(sine_session, test, OscLimits(messages_per_second=200, burst=100, pending=64))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\xc0/a\xdb\x01\xc0", b"\x7f\xff\xff\xff"])
def test_a_broken_stream_is_told_and_closed(sine_session, data: bytes) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.door.port)
        writer.write(data)
        assert b"/streamgen/error" in await asyncio.wait_for(reader.read(), 3)
        assert stage.door.counters.refused["framing"] == 1
        writer.close()

    on_stage(sine_session, test)


def test_silent_and_creeping_clients_are_closed(sine_session) -> None:
    async def test(stage: Stage) -> None:
        silent, creeping, good = [await asyncio.open_connection("127.0.0.1", stage.door.port) for _ in range(3)]
        good[1].write(length_prefixed(encode("/streamgen/ping")))
        await asyncio.wait_for(good[0].read(100), 1)
        for byte in length_prefixed(encode("/streamgen/negative_prompt", "x" * 100))[:20]:
            creeping[1].write(bytes([byte]))
            await asyncio.sleep(0.03)
        assert await asyncio.wait_for(silent[0].read(), 1) == b""
        with suppress(ConnectionError):  # it went on writing
            assert await asyncio.wait_for(creeping[0].read(), 1) == b""
        good[1].write(length_prefixed(encode("/streamgen/ping")))
        assert await asyncio.wait_for(good[0].read(100), 1)
        assert stage.door.counters.dropped["silent"] == 2
        for _, writer in (silent, creeping, good):
            writer.close()

    on_stage(sine_session, test, OscLimits(silence_seconds=0.4))


@pytest.mark.slow
def test_a_deaf_client_is_closed_before_it_costs_much(sine_session) -> None:
    async def test(stage: Stage) -> None:
        loop, counters = asyncio.get_running_loop(), stage.door.counters
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await loop.sock_connect(deaf, ("127.0.0.1", stage.door.port))
            for _ in range(300):
                if counters.dropped["slow_client"]:
                    break
                await loop.sock_sendall(deaf, length_prefixed(encode("/streamgen/refresh")))
                await asyncio.sleep(0.02)
            assert counters.dropped["slow_client"] >= 1
            await until(lambda: stage.door.stats()["connections"] == 0)

    limits = OscLimits(unsent_bytes=20_000, messages_per_second=1e6, burst=1e6)
    on_stage(sine_session, test, limits)


def test_when_all_connections_are_taken_the_longest_silent_one_makes_room(sine_session) -> None:
    async def test(stage: Stage) -> None:
        held = [await asyncio.open_connection("127.0.0.1", stage.door.port) for _ in range(3)]
        for _, writer in held:
            writer.write(length_prefixed(encode("/streamgen/ping")))
        await until(lambda: stage.door.counters.packets == 3)
        refused = await asyncio.open_connection("127.0.0.1", stage.door.port)
        assert await asyncio.wait_for(refused[0].read(), 1) == b""
        await asyncio.sleep(0.4)
        late = await asyncio.open_connection("127.0.0.1", stage.door.port)
        late[1].write(length_prefixed(encode("/streamgen/ping")))
        assert await asyncio.wait_for(late[0].read(100), 1)
        assert stage.door.counters.refused["capacity"] == 1
        for _, writer in (*held, refused, late):
            writer.close()

    on_stage(sine_session, test, OscLimits(connections=3, silence_seconds=0.3))


def test_a_crowd_that_sends_nothing_makes_room_for_who_does(sine_session) -> None:
    async def test(stage: Stage) -> None:
        spoke = await asyncio.open_connection("127.0.0.1", stage.door.port)
        spoke[1].write(length_prefixed(encode("/streamgen/ping")))
        assert await asyncio.wait_for(spoke[0].read(100), 20)
        crowd = [await asyncio.open_connection("127.0.0.1", stage.door.port) for _ in range(50)]
        late = await asyncio.open_connection("127.0.0.1", stage.door.port)
        for reader, writer in (late, spoke):
            writer.write(length_prefixed(encode("/streamgen/ping")))
            assert await asyncio.wait_for(reader.read(100), 20)
        assert stage.door.stats()["connections"] <= 3
        assert not stage.door.counters.refused["capacity"]
        for _, writer in (*crowd, late, spoke):
            writer.transport.abort()

    on_stage(sine_session, test, OscLimits(connections=3, silence_seconds=60))
