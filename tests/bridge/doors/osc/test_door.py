"""The door on real sockets: UDP and TCP on loopback, the habits of controllers, bundles to the sample, floods."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.doors.osc.codec import Message, decode, encode, encode_bundle
from bridge.doors.osc.framing import Deframer, length_prefixed, slip
from bridge.doors.osc.server import OscLimits, OscServer, serve_osc
from bridge.errors import BridgeError
from bridge.session.messages import Goaway, Meter, Set, Stats

from ..mutations import mutated_osc

CODEC_FRAME = 640  # samples


class Udp(asyncio.DatagramProtocol):
    """A client's socket: everything that came, with its time."""

    def __init__(self) -> None:
        self.got: list[tuple[float, Message]] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got += [(time.time(), message) for message in decode(data)]

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])

    def of(self, address: str) -> list[tuple[Any, ...]]:
        return [message.arguments for _, message in self.got if message.address == address]


@dataclass
class Stage:
    """A session, its door, and clients."""

    session: Any
    server: OscServer
    clients: list[Udp] = field(default_factory=list)

    async def client(self) -> Udp:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_datagram_endpoint(Udp, local_addr=("127.0.0.1", 0))
        self.clients.append(client)
        return client

    def send(self, client: Udp, address: str, *arguments: object) -> None:
        self.packet(client, encode(address, *arguments))

    def packet(self, client: Udp, packet: bytes) -> None:
        client.transport.sendto(packet, ("127.0.0.1", self.server.port))


def on_stage(
    sine_session: Callable[..., Any], test: Callable[[Stage], Awaitable[None]], limits: OscLimits | None = None,
    **session: Any,
) -> None:  # fmt: skip
    async def main() -> None:
        playing = sine_session(**session)
        run = asyncio.create_task(playing.run())
        stage = Stage(playing, await serve_osc(playing, "127.0.0.1", 0, limits=limits))
        await asyncio.sleep(0)
        try:
            await test(stage)
        finally:
            await stage.server.close()
            run.cancel()
            for client in stage.clients:
                client.transport.close()
            await asyncio.sleep(0.01)
        assert playing.listeners == []

    asyncio.run(main())


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)


# -- UDP ---------------------------------------------------------------------------------------------------------------


def test_a_change_is_made_and_echoed_under_its_address_and_a_query_answered(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/tempo", 120)
        await until(lambda: client.of("/streamgen/tempo"))
        stage.send(client, "/streamgen/guidance_scale")
        await until(lambda: client.of("/streamgen/guidance_scale"))
        assert client.of("/streamgen/tempo") == [(120.0,)]
        assert client.of("/streamgen/guidance_scale") == [(3.0,)]
        assert stage.session.commands == [Set({"tempo": 120.0}, f"osc 127.0.0.1:{client.port}")]

    on_stage(sine_session, test)


def test_no_echo_without_a_change(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        for _ in range(5):
            stage.send(client, "/streamgen/guidance_scale", 3.0)
        stage.send(client, "/streamgen/ping")
        await until(lambda: client.of("/streamgen/ping"))
        assert [message.address for _, message in client.got] == ["/streamgen/ping"]
        assert stage.session.commands == []

    on_stage(sine_session, test)


def test_faders_and_buttons_of_touchosc_and_reaper(sine_session) -> None:
    """0 … 1 floats are echoed where they came in; a button sends 1 and, on release, 0."""

    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/guidance_scale/norm", 0.5)
        stage.send(client, "/streamgen/pause", 1.0)
        stage.send(client, "/streamgen/pause", 0.0)
        await until(lambda: client.of("/streamgen/play"))
        stage.send(client, "/streamgen/play", 1.0)
        stage.send(client, "/streamgen/play", 0.0)
        await until(lambda: len(client.of("/streamgen/play")) == 2)
        await asyncio.sleep(0.05)
        assert client.of("/streamgen/guidance_scale/norm") == [(0.5,)]
        assert client.of("/streamgen/guidance_scale") == []
        assert client.of("/streamgen/play") == [(0,), (1,)]
        assert stage.session.values()["guidance_scale"] == 10.0
        assert [getattr(command, "action", "set") for command in stage.session.commands] == ["set", "pause", "play"]

    on_stage(sine_session, test)


def test_subscribers_hear_every_change_whoever_made_it(sine_session) -> None:
    async def test(stage: Stage) -> None:
        screen, fader = await stage.client(), await stage.client()
        stage.send(screen, "/streamgen/subscribe", screen.port)
        await until(lambda: screen.of("/streamgen/play"))  # the last of what is shown at first
        screen.got.clear()
        stage.send(fader, "/streamgen/prompt", "techno")
        await until(lambda: screen.of("/streamgen/prompt") and screen.of("/streamgen/prompt/1/text"))
        await stage.session.do(Set({"temperature": 0.5}, "page"))
        await until(lambda: screen.of("/streamgen/temperature/norm") and fader.of("/streamgen/prompt"))
        assert screen.of("/streamgen/prompt/1/text") == screen.of("/streamgen/prompt") == [("techno",)]
        assert screen.of("/streamgen/temperature/norm") == [(pytest.approx(0.1),)]
        assert fader.of("/streamgen/prompt") == [("techno",)]
        assert fader.of("/streamgen/temperature") == []
        screen.got.clear()
        stage.send(screen, "/streamgen/unsubscribe", screen.port)
        await until(lambda: stage.server.subscribers == 0)
        stage.send(fader, "/streamgen/tempo", 5)
        await until(lambda: fader.of("/streamgen/tempo"))
        assert screen.of("/streamgen/tempo") == []

    on_stage(sine_session, test)


def test_a_fader_in_motion_is_echoed_thirty_times_a_second_and_ends_where_it_stopped(sine_session) -> None:
    async def test(stage: Stage) -> None:
        fader, screen = await stage.client(), await stage.client()
        stage.send(screen, "/streamgen/subscribe")
        await until(lambda: screen.of("/streamgen/subscribed"))
        screen.got.clear()
        for step in range(1, 201):
            stage.send(fader, "/streamgen/width", step / 200)
            await asyncio.sleep(0.005)
        await until(lambda: fader.of("/streamgen/width")[-1:] == [(1.0,)])
        await until(lambda: screen.of("/streamgen/width")[-1:] == [(1.0,)])
        for client in (fader, screen):
            times = [at for at, message in client.got if message.address == "/streamgen/width"]
            assert 10 < len(times) <= 31 * (times[-1] - times[0]) + 2

    on_stage(sine_session, test)


def test_meters_heartbeat_statistics_and_goodbye(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client, slow = await stage.client(), await stage.client()
        stage.send(client, "/streamgen/subscribe", client.port)
        stage.send(slow, "/streamgen/subscribe", slow.port, 500)
        await asyncio.sleep(2.2)
        stage.session.tell(stage.session.stats())
        stage.session.tell(Meter(-1.0, -1.0))
        stage.session.tell(Goaway("the end"))
        await until(lambda: client.of("/streamgen/goaway"))
        assert 36 <= len(client.of("/streamgen/meter")) <= 46
        assert 3 <= len(slow.of("/streamgen/meter")) <= 6
        assert client.of("/streamgen/meter")[20] == (pytest.approx(-6.02, abs=0.1),) * 2
        assert 2 <= len(client.of("/streamgen/heartbeat")) <= 4
        assert client.of("/streamgen/stats/realtime_factor") == [(2.5,)]
        assert client.of("/streamgen/stats/underruns") == [(3,)]
        assert isinstance(stage.session.stats(), Stats)

    on_stage(sine_session, test)


def test_whoever_closes_says_goodbye_once(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
        writer.write(slip(encode("/streamgen/subscribe")))
        stage.send(client, "/streamgen/subscribe")
        await until(lambda: stage.server.subscribers == 2)
        await stage.server.close()
        await until(lambda: client.of("/streamgen/goaway"))
        last = await asyncio.wait_for(reader.read(), 3)
        assert last.count(b"/streamgen/goaway") == 1
        assert client.of("/streamgen/goaway") == [("the server ends",)]
        writer.close()

    on_stage(sine_session, test)


def test_errors_are_told_where_they_were_made(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/temperature", 9.0)
        stage.send(client, "/streamgen/temprature", 1.0)
        stage.packet(client, b"/streamgen/tempo\0\0\0\0,f\0\0")
        stage.packet(client, b"garbage!")
        await until(lambda: len(client.of("/streamgen/error")) == 4)
        assert [address for address, _ in client.of("/streamgen/error")] == [
            "/streamgen/temperature", "/streamgen/temprature", "/streamgen/tempo", "",
        ]  # fmt: skip
        assert client.of("/streamgen/error")[0][1] == "temperature is 9.0, must be within 0 … 5"
        assert stage.session.commands == []
        assert stage.server.counters.refused == {"value": 1, "unknown_address": 1, "malformed": 2}

    on_stage(sine_session, test)


def test_audio_packets_come_in_order_and_in_time(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/audio/subscribe", client.port)
        await asyncio.sleep(1.0)
        packets = client.of("/streamgen/audio")
        sequences = [sequence for _, sequence, _, _ in packets]
        assert sequences == list(range(sequences[0], sequences[0] + len(packets)))
        assert len(packets) > 80
        left = struct.unpack_from("<h", packets[10][3], 4 * 7)[0] / 32_767
        assert left == pytest.approx(0.5 * math.sin(2 * math.pi * 440 * (320 * sequences[10] + 7) / 32_000), abs=1e-3)
        stage.send(client, "/streamgen/audio/unsubscribe", client.port)
        await until(lambda: stage.server.audio_subscribers == 0)

    on_stage(sine_session, test)


def test_a_loop_with_much_else_to_do_takes_many_datagrams_a_turn(sine_session) -> None:
    async def test(stage: Stage) -> None:
        turns = 0

        async def work() -> None:
            nonlocal turns
            while True:
                turns += 1
                time.sleep(0.01)
                await asyncio.sleep(0)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", stage.server.port))
            client.setblocking(False)
            working = asyncio.create_task(work())
            for number in range(200):
                client.send(encode("/streamgen/ping", number))
            await until(lambda: stage.server.counters.sent == 200, 20)
            assert turns < 60
            working.cancel()
            pongs = [decode(client.recv(100))[0].arguments[0] for _ in range(200)]
            assert pongs == list(range(200))

    on_stage(sine_session, test)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_bundle_two_seconds_ahead_lands_at_its_sample_and_delays_nothing(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        await asyncio.sleep(0.3)
        at = time.time() + 2
        inner = [encode("/streamgen/tempo", 140.0), encode("/streamgen/prompt", "techno"), encode("/streamgen/ping")]
        stage.packet(client, encode_bundle(at, inner))
        began, waits = time.time(), []
        while time.time() < at - 0.1:
            client.got.clear()
            asked = time.perf_counter()
            stage.send(client, "/streamgen/version")
            await until(lambda: client.of("/streamgen/version"))
            waits.append(time.perf_counter() - asked)
            await asyncio.sleep(0.02)
        await until(lambda: client.of("/streamgen/ping"))
        came = next(when for when, message in client.got if message.address == "/streamgen/ping")
        ((sample, values),) = stage.session.sets
        assert abs(sample - stage.session.sample_at(at)) <= 2  # a codec frame is 640
        assert (values["tempo"], values["prompt/1/text"], values["prompt/2/weight"]) == (140.0, "techno", 0.0)
        assert 0 <= came - at < 0.05
        assert sorted(waits)[len(waits) // 2] < 0.02
        assert time.time() - began < 2.5

    on_stage(sine_session, test)


def test_many_bundles_each_land_at_their_own_sample(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        await asyncio.sleep(0.3)
        times = [time.time() + 1 + 0.01 * number for number in range(100)]
        for number in random.Random(5).sample(range(100), 100):
            stage.packet(client, encode_bundle(times[number], [encode("/streamgen/seed", number)]))
        await until(lambda: len(stage.session.sets) == 100)
        for sample, values in stage.session.sets:
            assert abs(sample - stage.session.sample_at(times[values["seed"]])) <= 2

    on_stage(sine_session, test)


def test_while_nothing_plays_a_bundle_waits_for_its_time(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/pause")
        await until(lambda: not stage.session.playing())
        stage.packet(client, encode_bundle(time.time() + 0.3, [encode("/streamgen/tempo", 99.0)]))
        await asyncio.sleep(0.2)
        assert stage.session.sets == []
        await until(lambda: stage.session.sets)

    on_stage(sine_session, test)


# -- TCP ---------------------------------------------------------------------------------------------------------------


async def received(reader: asyncio.StreamReader, deframer: Deframer) -> list[Message]:
    data = await asyncio.wait_for(reader.read(65_536), 3)
    return [message for packet in deframer.feed(data) for message in decode(packet)]


@pytest.mark.parametrize("frame", [length_prefixed, slip])
def test_tcp_in_either_framing_answers_in_the_same(sine_session, frame) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
        for byte in frame(encode("/streamgen/tempo", 111.0)):
            writer.write(bytes([byte]))
            await writer.drain()
        deframer = Deframer()
        assert [(m.address, m.arguments) for m in await received(reader, deframer)] == [("/streamgen/tempo", (111.0,))]
        assert deframer.frame is frame
        writer.write(frame(encode("/streamgen/subscribe")))
        await until(lambda: stage.server.subscribers == 1)
        writer.close()
        await until(lambda: stage.server.subscribers == stage.server.connections == 0)

    on_stage(sine_session, test)


def test_a_tcp_client_may_subscribe_a_udp_port_and_leave(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        _, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
        writer.write(length_prefixed(encode("/streamgen/subscribe", client.port)))
        await until(lambda: client.of("/streamgen/tempo"))
        writer.close()
        await until(lambda: stage.server.connections == 0)
        assert stage.server.subscribers == 1

    on_stage(sine_session, test)


def test_fast_tcp_clients_are_slowed_and_lose_nothing(sine_session) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
        began = time.monotonic()
        writer.write(b"".join(length_prefixed(encode("/streamgen/ping", number)) for number in range(300)))
        deframer, got = Deframer(), []
        while len(got) < 300:
            got += [message.arguments[0] for message in await received(reader, deframer)]
        assert got == list(range(300))
        assert time.monotonic() - began > 0.4
        writer.close()

        assert stage.server.counters.dropped["busy"] == 0

    on_stage(sine_session, test, OscLimits(messages_per_second=200, burst=100, pending=64))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\xc0/a\xdb\x01\xc0", b"\x7f\xff\xff\xff"])
def test_a_broken_stream_is_told_and_closed(sine_session, data: bytes) -> None:
    async def test(stage: Stage) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
        writer.write(data)
        assert b"/streamgen/error" in await asyncio.wait_for(reader.read(), 3)
        assert stage.server.counters.refused["framing"] == 1
        writer.close()

    on_stage(sine_session, test)


def test_silent_and_creeping_clients_are_closed(sine_session) -> None:
    async def test(stage: Stage) -> None:
        silent, creeping, good = [await asyncio.open_connection("127.0.0.1", stage.server.port) for _ in range(3)]
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
        assert stage.server.counters.dropped["silent"] == 2
        for _, writer in (silent, creeping, good):
            writer.close()

    on_stage(sine_session, test, OscLimits(silence_seconds=0.4))


def test_a_deaf_client_is_closed_before_it_costs_much(sine_session) -> None:
    async def test(stage: Stage) -> None:
        loop, counters = asyncio.get_running_loop(), stage.server.counters
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await loop.sock_connect(deaf, ("127.0.0.1", stage.server.port))
            for _ in range(300):
                if counters.dropped["slow_client"]:
                    break
                await loop.sock_sendall(deaf, length_prefixed(encode("/streamgen/refresh")))
                await asyncio.sleep(0.02)
            assert counters.dropped["slow_client"] >= 1
            await until(lambda: stage.server.connections == 0)

    limits = OscLimits(unsent_bytes=20_000, messages_per_second=1e6, burst=1e6)
    on_stage(sine_session, test, limits)


def test_when_all_connections_are_taken_the_longest_silent_one_makes_room(sine_session) -> None:
    async def test(stage: Stage) -> None:
        held = [await asyncio.open_connection("127.0.0.1", stage.server.port) for _ in range(3)]
        for _, writer in held:
            writer.write(length_prefixed(encode("/streamgen/ping")))
        refused = await asyncio.open_connection("127.0.0.1", stage.server.port)
        assert await asyncio.wait_for(refused[0].read(), 1) == b""
        await asyncio.sleep(0.4)
        late = await asyncio.open_connection("127.0.0.1", stage.server.port)
        late[1].write(length_prefixed(encode("/streamgen/ping")))
        assert await asyncio.wait_for(late[0].read(100), 1)
        assert stage.server.counters.refused["capacity"] == 1
        for _, writer in (*held, refused, late):
            writer.close()

    on_stage(sine_session, test, OscLimits(connections=3, silence_seconds=0.3))


# -- the whole door ----------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_line(sine_session) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            session = sine_session()
            with pytest.raises(
                BridgeError, match=f"OSC cannot listen at 127.0.0.1:{port}: Address already in use; .*--osc-port"
            ):
                await serve_osc(session, "127.0.0.1", port)
            assert session.listeners == []

    asyncio.run(main())


def test_ipv6_speaks_too(sine_session) -> None:
    async def main() -> None:
        session = sine_session()
        server = await serve_osc(session, "::1", 0)
        loop = asyncio.get_running_loop()
        _, client = await loop.create_datagram_endpoint(Udp, local_addr=("::1", 0))
        client.transport.sendto(encode("/streamgen/tempo", 77.0), ("::1", server.port))
        client.transport.sendto(encode("/streamgen/subscribe", client.port), ("::1", server.port))
        await until(lambda: client.of("/streamgen/heartbeat"))
        assert (77.0,) in client.of("/streamgen/tempo")
        client.transport.close()
        await server.close()

    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    asyncio.run(main())


@dataclass
class Hold:
    """How long the loop was held between two turns of a 2 ms timer: computing (thread's own time) and in all.

    Other programs on the machine lengthen the second, and nothing but the loop's own callbacks the first.
    """

    computing: float = 0.0
    in_all: float = 0.0

    async def measure(self) -> None:
        while True:
            before, began = time.thread_time(), time.monotonic()
            await asyncio.sleep(0.002)
            self.computing = max(self.computing, time.thread_time() - before)
            self.in_all = max(self.in_all, time.monotonic() - began)

    def check(self) -> None:
        assert self.computing < 0.05, f"the loop was held {1000 * self.computing:.0f} ms"
        assert self.in_all < 0.5, f"the loop was away for {1000 * self.in_all:.0f} ms"


@pytest.mark.usefixtures("no_old_garbage")
@pytest.mark.parametrize("count", [3_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutated_datagrams_raise_nothing_and_never_hold_the_loop(sine_session, count: int) -> None:
    """Through a real socket, as fast as they are taken."""

    async def test(stage: Stage) -> None:
        rng, escaped, hold = random.Random(6), [], Hold()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        measuring = asyncio.create_task(hold.measure())
        client = await stage.client()
        counters = stage.server.counters
        for number in range(count):
            stage.packet(client, mutated_osc(rng))
            if number % 20 == 0:
                await until(lambda number=number: counters.packets > number - 200)
        await until(lambda: counters.packets >= count - 5)
        await asyncio.sleep(0.2)
        measuring.cancel()
        assert escaped == []
        refused = sum(number for reason, number in counters.refused.items() if reason != "capacity")
        assert refused > 0.2 * count
        assert counters.messages + refused > 0.6 * count
        assert counters.errors > 10
        assert client.of("/streamgen/error")
        hold.check()
        client.got.clear()
        stage.send(client, "/streamgen/version")
        await until(lambda: client.of("/streamgen/version"))

    # the rate limit would keep most of them from being looked at
    on_stage(sine_session, test, OscLimits(messages_per_second=1e6, burst=1e6, total_messages_per_second=1e6))


@pytest.mark.usefixtures("no_old_garbage")
def test_a_flood_leaves_the_loop_to_others(sine_session) -> None:
    """20,000 datagrams, dear ones among them: most are dropped, and the loop keeps its pace."""

    async def test(stage: Stage) -> None:
        hold = Hold()
        measuring = asyncio.create_task(hold.measure())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            flood.connect(("127.0.0.1", stage.server.port))
            packets = [encode("/streamgen/tempo", number % 300) for number in range(50)]
            packets += [encode("/streamgen/*"), encode("/streamgen/refresh"), b"x" * 64]
            for burst in range(400):
                for number in range(50):
                    flood.send(packets[(burst + number) % len(packets)])
                await asyncio.sleep(0.001)
            client = await stage.client()
            await asyncio.sleep(1.2)
            stage.send(client, "/streamgen/version")
            await until(lambda: client.of("/streamgen/version"))
        measuring.cancel()
        assert stage.server.counters.dropped["rate"] > 1_000
        hold.check()

    on_stage(sine_session, test)


@pytest.mark.usefixtures("no_old_garbage")
@pytest.mark.parametrize(
    "data",
    [
        length_prefixed(encode("/streamgen/ping")) * 200,
        length_prefixed(encode("/streamgen/refresh")) * 50,
        b"\xc0" + b"\xdb\xdd" * 30_000 + b"\xc0",
        b"\xc0" * 60_000,
    ],
    ids=["pings", "refreshes", "escapes", "marks"],
)
def test_connections_that_send_without_end_and_read_nothing_leave_the_loop_to_others(sine_session, data: bytes) -> None:
    async def test(stage: Stage) -> None:
        hold, loop = Hold(), asyncio.get_running_loop()
        sockets = [socket.create_connection(("127.0.0.1", stage.server.port)) for _ in range(32)]
        await until(lambda: stage.server.connections == 32)
        measuring = asyncio.create_task(hold.measure())
        end = loop.time() + 1
        while loop.time() < end:
            for one in sockets:
                one.setblocking(False)
                with suppress(OSError):
                    one.send(data[:16_384])
                await asyncio.sleep(0.001)
        client = await stage.client()
        stage.send(client, "/streamgen/nothing")
        await until(lambda: client.of("/streamgen/error") or stage.server.counters.dropped["rate"])
        measuring.cancel()
        hold.check()
        for one in sockets:
            one.close()

    on_stage(sine_session, test)
