"""The door on real sockets: UDP and TCP on loopback, the habits of controllers, bundles to the sample, floods."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pytest
from pythonosc import slip
from pythonosc.dispatcher import Dispatcher

from bridge.doors.door import Door
from bridge.doors.osc.admission import OscLimits
from bridge.doors.osc.codec import decode, encode, encode_bundle
from bridge.doors.osc.door import OscDoor
from bridge.doors.osc.tcp import length_prefixed
from bridge.errors import BridgeError
from bridge.session.capacity import FixedCapacity
from bridge.session.commands import Action, Set, Transport
from bridge.session.engine_thread import EngineThread
from bridge.session.events import Beat, Block, Changed, Event, Goaway, Meter, PlayerState, Stats
from bridge.session.live_session import LiveSession
from bridge.session.parameters import session_table
from bridge.session.timeline import Moment
from streamgen import config, load_model
from streamgen.testing import tiny_checkpoint

from ..mutations import mutated_osc
from .stage import OneSession, Stage, Udp, made, on_stage, opened, until

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
        assert client.of("/streamgen/state") == [("paused",), ("playing",)]
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
        await until(lambda: stage.door.stats()["listeners"] == 0)
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


@pytest.mark.slow
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


def test_bands_and_onsets_come_to_subscribers_when_they_sound(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/ping")
        await until(lambda: client.of("/streamgen/ping"))
        assert not stage.door.handler.feedback._visuals._bands, "nothing is computed for nobody"
        stage.send(client, "/streamgen/subscribe")
        await until(lambda: len(client.of("/streamgen/bands")) > 5)
        bands = client.of("/streamgen/bands")[-1]
        assert (len(bands), max(bands)) == (8, bands[3])
        stage.session.position += 48_000  # what does not follow on is struck anew
        before = len(client.of("/streamgen/onset"))
        await until(lambda: len(client.of("/streamgen/onset")) > before)
        assert 0 < client.of("/streamgen/onset")[-1][0] <= 1

    on_stage(sine_session, test)


def test_each_beat_is_told_when_it_comes(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/subscribe")
        await until(lambda: client.of("/streamgen/subscribed"))
        comes = time.time() + 0.25
        for phase in (None, -0.5):
            stage.session.tell(Beat(9, 2, 117.5, phase, "link", 4_800, round(comes * 1e6)))
        await until(lambda: len(client.of("/streamgen/beat")) == 2)
        assert sorted(client.of("/streamgen/beat")) == [(9, 2, 117.5, -0.5), (9, 2, 117.5, 0.0)]
        times = [at for at, message in client.got if message.address == "/streamgen/beat"]
        assert -0.002 <= min(times) - comes <= 0.1

    on_stage(sine_session, test)


def test_a_state_that_nobody_told_is_told_with_the_statistics(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/subscribe")
        await until(lambda: client.of("/streamgen/state"))
        stage.session.player_state = PlayerState.LATE
        stage.session.tell(stage.session.stats())
        stage.session.tell(stage.session.stats())
        await until(lambda: len(client.of("/streamgen/state")) == 2)
        stage.send(client, "/streamgen/playing")
        await until(lambda: client.of("/streamgen/playing")[-1:] == [(1,)])
        await asyncio.sleep(0.05)
        assert client.of("/streamgen/state") == [("playing",), ("late",)]
        assert client.of("/streamgen/stats/state") == [("late",)] * 2

    on_stage(sine_session, test)


def test_whoever_closes_says_goodbye_once(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.door.port)
        writer.write(slip.encode(encode("/streamgen/subscribe")))
        stage.send(client, "/streamgen/subscribe")
        await until(lambda: stage.door.stats()["listeners"] == 2)
        await stage.door.close("the server ends")
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
        assert stage.door.counters.refused == {"value": 1, "unknown_address": 1, "malformed": 2}

    on_stage(sine_session, test)


def test_audio_packets_come_in_order_and_in_time(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/audio/subscribe", client.port)
        await asyncio.sleep(1.0)
        packets = client.of("/streamgen/audio")
        sequences = [sequence for _, sequence, _, _ in packets]
        assert sequences == list(range(sequences[0], sequences[0] + len(packets)))
        assert len(packets) > 130
        assert {rate for _, _, rate, _ in packets} == {48_000}
        left = struct.unpack_from("<h", packets[10][3], 4 * 7)[0] / 32_767
        assert left == pytest.approx(0.5 * math.sin(2 * math.pi * 440 * (288 * sequences[10] + 7) / 48_000), abs=1e-3)
        stage.send(client, "/streamgen/audio/unsubscribe", client.port)
        await until(lambda: stage.door.stats()["audio_listeners"] == 0)

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
            client.connect(("127.0.0.1", stage.door.port))
            client.setblocking(False)
            working = asyncio.create_task(work())
            for number in range(200):
                client.send(encode("/streamgen/ping", number))
            await until(lambda: stage.door.counters.sent == 200, 20)
            assert turns < 60
            working.cancel()
            pongs = [decode(client.recv(100))[0].arguments[0] for _ in range(200)]
            assert pongs == list(range(200))

    on_stage(sine_session, test)


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bundle_two_seconds_ahead_lands_at_its_sample_and_delays_nothing(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        await asyncio.sleep(0.3)
        at = time.time() + 2
        inner = [encode("/streamgen/tempo", 140.0), encode("/streamgen/prompt", "techno"), encode("/streamgen/ping")]
        stage.packet(client, encode_bundle(at, inner))
        await until(lambda: client.of("/streamgen/ping"))
        assert time.time() < at - 1.5, "what is asked is answered at once"
        began, waits = time.time(), []
        while time.time() < at - 0.1:
            client.got.clear()
            asked = time.perf_counter()
            stage.send(client, "/streamgen/version")
            await until(lambda: client.of("/streamgen/version"))
            waits.append(time.perf_counter() - asked)
            await asyncio.sleep(0.02)
        ((sample, values),) = stage.session.sets
        assert abs(sample - stage.session.sample_at(at)) <= 3  # a codec frame is 960
        assert (values["tempo"], values["prompt/1/text"], values["prompt/2/weight"]) == (140.0, "techno", 0.0)
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
            assert abs(sample - stage.session.sample_at(times[values["seed"]])) <= 3

    on_stage(sine_session, test)


def test_python_oscs_own_dispatcher_would_hold_the_loop_until_then() -> None:
    began = time.monotonic()
    packet = encode_bundle(time.time() + 0.3, [encode("/streamgen/tempo", 90.0)])
    Dispatcher().call_handlers_for_packet(packet, ("127.0.0.1", 1))
    assert time.monotonic() - began > 0.25


def test_the_session_is_handed_the_time_itself_for_changes_and_transport_alike(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        at = time.time() + 0.5
        inner = [encode("/streamgen/tempo", 90.0), encode("/streamgen/seed", 4), encode("/streamgen/pause")]
        stage.packet(client, encode_bundle(at, [*inner, encode("/streamgen/tempo", 91.0)]))
        await until(lambda: len(stage.session.commands) == 3)
        assert time.time() < at - 0.2
        by = f"osc 127.0.0.1:{client.port}"
        kinds = [Set({"tempo": 90.0, "seed": 4}, by), Transport(Action.PAUSE, by), Set({"tempo": 91.0}, by)]
        for command, kind in zip(stage.session.commands, kinds, strict=True):
            assert type(command)(*list(vars(command).values())[:2]) == kind
            assert command.at.sample is None
            assert command.at.unix_seconds == pytest.approx(at, abs=1e-6)
        due = stage.session.sample_at(at)
        await until(lambda: stage.session.acts)
        ((sample, action),) = stage.session.acts
        assert action is Action.PAUSE
        assert due <= sample <= due + 12_000  # a block of this session is 4,800
        assert stage.door.counters.scheduled == 4

    on_stage(sine_session, test)


def test_while_nothing_plays_a_bundle_waits_for_its_time(sine_session) -> None:
    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/pause")
        await until(lambda: not stage.session.state().plays)
        at = time.time() + 0.3
        stage.packet(client, encode_bundle(at, [encode("/streamgen/tempo", 99.0), encode("/streamgen/play")]))
        await asyncio.sleep(0.2)
        assert stage.session.sets == []
        await until(lambda: stage.session.sets)
        await until(lambda: stage.session.state().plays)
        assert 0 <= time.time() - at < 0.5

    on_stage(sine_session, test)


@pytest.mark.slow
def test_a_bundle_lands_at_its_sample_of_a_real_session_running_or_not() -> None:
    class Told:
        wants_audio = True

        def __init__(self) -> None:
            self.events: list[Event] = []
            self.blocks: list[Block] = []

        def audio(self, block: Block) -> None:
            self.blocks.append(block)

        def event(self, event: Event) -> None:
            self.events.append(event)

        def changed(self, name: str) -> list[Changed]:
            return [event for event in self.events if isinstance(event, Changed) and name in event.values]

    async def main() -> None:
        model = load_model(str(tiny_checkpoint("causal")), device="cpu", precision="fp32")
        engine = EngineThread(model, asyncio.get_running_loop(), FixedCapacity(4))
        session = await LiveSession.open("live", engine, 48_000, {"prompt/1/text": "piano", "lead_seconds": 0.6})
        told, door = Told(), await opened(session)
        session.add(told)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", door.port))
            await until(lambda: session.timeline.running and session.position_samples() > 24_000, 20)
            at = time.time() + 1.5
            client.send(encode_bundle(at, [encode("/streamgen/gain_db", -60.0)]))
            await until(lambda: told.changed("gain_db"))
            wanted = session.timeline.sample_at(Moment(unix_seconds=at))
            assert wanted is not None
            assert abs(told.changed("gain_db")[0].applied_at_sample - wanted) <= 4
            await until(lambda: told.blocks[-1].end_sample > wanted + 9_600, 10)
            start = told.blocks[0].start_sample
            heard = np.abs(np.concatenate([block.samples for block in told.blocks], axis=1))[:, wanted - start :]
            before = np.abs(np.concatenate([block.samples for block in told.blocks], axis=1))[:, : wanted - start]
            assert heard[:, 4_800:9_600].max() < 0.01 * before[:, -9_600:].max()
            client.send(encode("/streamgen/pause"))
            await until(lambda: not session.state().plays)
            at = time.time() + 0.5
            client.send(encode_bundle(at, [encode("/streamgen/seed", 5), encode("/streamgen/play")]))
            await asyncio.sleep(0.3)
            assert not told.changed("seed")
            await until(lambda: told.changed("seed") and session.state().plays)
            assert 0 <= time.time() - at < 1.0
            assert door.counters.refused == {}
        await door.close("the test is over")
        await session.close("the test is over")
        await engine.close()

    asyncio.run(main())


# -- the whole door ----------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_line(sine_session) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            session, door = sine_session(), made(port=port)
            with pytest.raises(
                BridgeError, match=f"OSC cannot listen at 127.0.0.1:{port}: Address already in use; .*--osc-port"
            ):
                await door.open(OneSession(session))
            assert session.listeners == []
            await door.close("nothing was open")

    asyncio.run(main())


def test_it_is_a_door(sine_session) -> None:
    async def main() -> None:
        door: Door = made()
        assert (door.name, door.places()) == ("osc", {"osc_port": None})
        assert door.stats()["messages_total"] == 0
        await door.close("it never opened")
        session = sine_session()
        await door.open(OneSession(session))
        port = door.places()["osc_port"]
        assert isinstance(port, int)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port))
            for packet in (
                encode("/streamgen/tempo", 90.0),
                encode("/streamgen/tempo", -1.0),
                encode("/streamgen/subscribe"),
            ):
                client.send(packet)
            await until(lambda: door.stats()["listeners"] == 1)
        assert isinstance(door, OscDoor)
        text = door._service.metrics.text()
        assert 'streamgen_received_total{door="osc"} 3' in text
        assert 'streamgen_refused_total{reason="osc_value"} 1' in text
        assert 'streamgen_commands_total{door="osc"} 1' in text
        await door.close("the test is over")
        assert session.listeners == []

    asyncio.run(main())


def test_a_parameter_of_the_sessions_own_table_has_its_addresses(sine_session) -> None:
    """Nothing about it is said in this door."""
    shimmer = replace(config.number(0, 4, 1, "", "a control added in a test"), name="shimmer")

    async def test(stage: Stage) -> None:
        client = await stage.client()
        stage.send(client, "/streamgen/shimmer/norm", 0.5)
        stage.send(client, "/streamgen/shimmer")
        await until(lambda: client.of("/streamgen/shimmer"))
        assert client.of("/streamgen/shimmer") == [(2.0,)]
        stage.send(client, "/streamgen/subscribe")
        await until(lambda: client.of("/streamgen/state"))
        assert (2.0,) in client.of("/streamgen/shimmer")

    on_stage(sine_session, test, table={**session_table(), "shimmer": shimmer})


def test_ipv6_speaks_too(sine_session) -> None:
    async def main() -> None:
        session = sine_session()
        door = await opened(session, host="::1")
        loop = asyncio.get_running_loop()
        _, client = await loop.create_datagram_endpoint(Udp, local_addr=("::1", 0))
        client.transport.sendto(encode("/streamgen/tempo", 77.0), ("::1", door.port))
        client.transport.sendto(encode("/streamgen/subscribe", client.port), ("::1", door.port))
        await until(lambda: client.of("/streamgen/heartbeat"))
        assert (77.0,) in client.of("/streamgen/tempo")
        client.transport.close()
        await door.close("the test is over")

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
        counters = stage.door.counters
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


@pytest.mark.slow
@pytest.mark.usefixtures("no_old_garbage")
def test_a_flood_leaves_the_loop_to_others(sine_session) -> None:
    """20,000 datagrams, dear ones among them: most are dropped, and the loop keeps its pace."""

    async def test(stage: Stage) -> None:
        hold = Hold()
        measuring = asyncio.create_task(hold.measure())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            flood.connect(("127.0.0.1", stage.door.port))
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
        assert stage.door.counters.dropped["rate"] > 1_000
        hold.check()

    on_stage(sine_session, test)


@pytest.mark.slow
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
        sockets = [socket.create_connection(("127.0.0.1", stage.door.port)) for _ in range(32)]
        await until(lambda: stage.door.stats()["connections"] == 32)
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
        await until(lambda: client.of("/streamgen/error") or stage.door.counters.dropped["rate"])
        measuring.cancel()
        hold.check()
        for one in sockets:
            one.close()

    on_stage(sine_session, test)
