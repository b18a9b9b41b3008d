"""The door without sockets: hosts that are not this one, tokens, what may be answered to whom, order, bounds, time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.audio.faults import SlotFault
from bridge.doors.access import Access
from bridge.doors.osc.admission import OscCounters, OscLimits
from bridge.doors.osc.codec import Message, decode, encode, encode_bundle
from bridge.doors.osc.handler import RequestHandler
from bridge.session.commands import Action, KeepTake, RecallPreset, Set, Transport
from streamgen.errors import ConfigError

HERE, THERE, OTHER = ("127.0.0.1", 5000), ("10.0.0.9", 5000), ("10.0.0.8", 5000)


@dataclass
class Room:
    """A handler, its session, and what it sent."""

    handler: RequestHandler
    session: Any
    sent: list[tuple[tuple[str, int], bytes]] = field(default_factory=list)

    def send(self, *arguments: object, source: tuple[str, int] = HERE) -> None:
        address = str(arguments[0])
        self.packet(encode(address, *arguments[1:]), source)

    def packet(self, packet: bytes, source: tuple[str, int] = HERE) -> None:
        self.handler.packet(self.handler.udp_client(source), packet)

    def got(self, target: tuple[str, int] = HERE) -> list[Message]:
        """What a target was sent since it was last asked."""
        mine = [packet for address, packet in self.sent if address == target]
        self.sent = [one for one in self.sent if one[0] != target]
        return [message for packet in mine for message in decode(packet)]

    def values(self) -> list[dict[str, Any]]:
        return [dict(command.values) for command in self.session.commands if isinstance(command, Set)]


def in_room(
    sine_session: Callable[..., Any], test: Callable[[Room], Awaitable[None]], limits: OscLimits | None = None,
    token: str = "", **session: Any,
) -> None:  # fmt: skip
    async def main() -> None:
        playing = sine_session(**session)
        room: Room
        sent: list[tuple[tuple[str, int], bytes]] = []
        handler = RequestHandler(
            playing,
            Access(token=token),
            limits or OscLimits(),
            OscCounters(),
            lambda packet, address: room.sent.append((address, packet)) or True,
        )
        room = Room(handler, playing, sent)
        run = asyncio.create_task(playing.run())
        await test(room)
        await handler.close("the test is over")
        assert playing.listeners == []
        run.cancel()

    asyncio.run(main())


def errors(messages: list[Message]) -> list[str]:
    return [str(message.arguments[1]) for message in messages if message.address == "/streamgen/error"]


def test_a_stranger_gets_three_bytes_for_one_until_it_subscribes(sine_session) -> None:
    async def test(room: Room) -> None:
        for _ in range(20):
            room.send("/streamgen/refresh", source=THERE)
        room.send("/streamgen/nothing", source=THERE)
        await asyncio.sleep(0.3)
        received = sum(len(packet) for address, packet in room.sent if address == THERE)
        asked = 20 * len(encode("/streamgen/refresh")) + len(encode("/streamgen/nothing"))
        assert 0 < received <= 3 * asked
        assert room.handler.counters.dropped["unentitled"] > 500
        room.sent.clear()
        room.send("/streamgen/subscribe", source=THERE)
        await asyncio.sleep(0.1)
        addresses = {message.address for message in room.got(THERE)}
        assert {"/streamgen/subscribed", "/streamgen/tempo", "/streamgen/prompt", "/streamgen/playing"} <= addresses

    in_room(sine_session, test)


def test_a_stranger_is_sent_audio_only_over_tcp_or_with_the_token(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/audio/subscribe", 9000, source=THERE)
        await asyncio.sleep(0.1)
        assert "show the token" in errors(room.got(THERE))[0]
        over_tcp = room.handler.clients.meet("tcp", THERE, lambda packet: True, connected=True)
        room.handler.packet(over_tcp, encode("/streamgen/audio/subscribe", 9000))
        await asyncio.sleep(0.3)
        assert {message.address for message in room.got((THERE[0], 9000))} == {"/streamgen/audio"}

    in_room(sine_session, test)


def test_other_hosts_show_the_token_first(sine_session) -> None:
    async def test(room: Room) -> None:
        for source in (HERE, THERE):
            room.send("/streamgen/tempo", 120.0, source=source)
        room.send("/streamgen/tempo", source=THERE)
        room.send("/streamgen/token", "guess", source=THERE)
        await asyncio.sleep(0.1)
        assert room.values() == [{"tempo": 120.0}]
        assert all("token" in text for text in errors(room.got(THERE)))
        assert room.handler.counters.refused["token"] == 3
        room.send("/streamgen/token", "secret", source=THERE)
        await asyncio.sleep(0.05)
        room.send("/streamgen/tempo", 90.0, source=(THERE[0], 6000))  # the host, not the socket
        room.send("/streamgen/tempo", 60.0, source=OTHER)
        await asyncio.sleep(0.1)
        assert room.values() == [{"tempo": 120.0}, {"tempo": 90.0}]

    in_room(sine_session, test, token="secret")


def test_changes_become_one_while_the_session_is_busy_and_stay_in_order(sine_session) -> None:
    async def test(room: Room) -> None:
        for number in range(100):
            room.send("/streamgen/tempo", float(number + 1))
            room.send("/streamgen/top_k", number)
        room.send("/streamgen/tempo")
        room.send("/streamgen/pause")
        room.send("/streamgen/tempo", 7.0)
        await asyncio.sleep(0.7)
        kinds = [type(command) for command in room.session.commands]
        assert kinds[-2:] == [Transport, Set]
        assert len(kinds) <= 4
        assert room.session.values()["top_k"] == 99
        (answer,) = [message for message in room.got() if message.address == "/streamgen/tempo"][:1]
        assert answer.arguments == (100.0,)
        assert room.session.values()["tempo"] == 7.0

    in_room(sine_session, test, work_seconds=0.1)


def test_one_slow_client_delays_no_other(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/tempo", 99.0)
        room.send("/streamgen/ping", source=("127.0.0.1", 5001))
        await asyncio.sleep(0.02)
        assert [message.address for message in room.got(("127.0.0.1", 5001))] == ["/streamgen/ping"]

    in_room(sine_session, test, work_seconds=0.3)


def test_what_waits_for_the_session_is_bounded(sine_session) -> None:
    async def test(room: Room) -> None:
        for number in range(200):
            room.send("/streamgen/reset")
            room.send("/streamgen/tempo", float(number))
        assert len(room.handler.udp_client(HERE).waiting) == 64
        assert room.handler.counters.dropped["busy"] > 100
        await asyncio.sleep(0.05)
        assert "wait, the limit" in errors(room.got())[0]

    in_room(sine_session, test, OscLimits(pending=64), work_seconds=1.0)


def test_datagrams_over_the_rate_are_dropped_and_the_host_is_told(sine_session) -> None:
    async def test(room: Room) -> None:
        for _ in range(500):
            room.send("/streamgen/ping", source=THERE)
        room.send("/streamgen/ping", source=OTHER)
        await asyncio.sleep(0.3)
        assert room.handler.counters.dropped["rate"] >= 370
        assert len(errors(room.got(THERE))) <= 30
        assert room.got(OTHER)

    in_room(sine_session, test, OscLimits(messages_per_second=50, burst=100, pending=200))


def test_empty_bundles_and_long_ones_cost_what_they_take(sine_session) -> None:
    async def test(room: Room) -> None:
        for _ in range(150):
            room.packet(encode_bundle(None, []), THERE)
        assert room.handler.counters.dropped["rate"] == 50
        long = encode("/streamgen/negative_prompt", "x" * 60_000)
        for _ in range(3):
            room.packet(long, OTHER)
        assert room.handler.counters.dropped["rate"] == 52, "59 units of 100 each"

    in_room(sine_session, test, OscLimits(messages_per_second=0.01, burst=100))


def test_dear_packets_are_refused_whole(sine_session) -> None:
    async def test(room: Room) -> None:
        room.packet(encode_bundle(None, [encode("/streamgen/*")] * 17))
        room.packet(encode_bundle(None, [encode("/streamgen/refresh")] * 5))
        await asyncio.sleep(0.05)
        assert all("units of work" in text for text in errors(room.got()))
        assert room.handler.counters.refused["too_big"] == 2

    in_room(sine_session, test)


def test_what_is_far_ahead_or_too_much_is_refused_and_what_is_past_is_done_now(sine_session) -> None:
    async def test(room: Room) -> None:
        room.packet(encode_bundle(time.time() + 11, [encode("/streamgen/tempo", 50.0)]))
        room.packet(encode_bundle(time.time() - 100, [encode("/streamgen/tempo", 60.0)]))
        await asyncio.sleep(0.05)
        (refused,) = [message for message in room.got() if message.address == "/streamgen/error"]
        assert refused.arguments[0] == "/streamgen/tempo"
        assert "ahead, the limit is 10 s" in str(refused.arguments[1])
        assert room.values() == [{"tempo": 60.0}]
        for _ in range(5):
            room.packet(encode_bundle(time.time() + 5, [encode("/streamgen/play")]))
        assert room.handler.counters.refused == {"too_far": 1, "busy": 1}
        assert room.handler.counters.late == 1

    in_room(sine_session, test, OscLimits(scheduled=4))


def test_one_hosts_bundles_leave_room_for_another_and_make_room_when_their_time_has_come(sine_session) -> None:
    async def test(room: Room) -> None:
        for source in (HERE, THERE, OTHER):
            for _ in range(3):
                room.packet(encode_bundle(time.time() + 0.3, [encode("/streamgen/reset")]), source)
        assert room.handler.counters.refused == {"busy": 1 + 1 + 2}, "two of each host, five of all"
        await asyncio.sleep(0.4)
        room.packet(encode_bundle(time.time() + 0.3, [encode("/streamgen/reset")]), OTHER)
        assert room.handler.counters.refused == {"busy": 4}
        assert room.handler.counters.scheduled == 6

    in_room(sine_session, test, OscLimits(scheduled=2, total_scheduled=5))


def test_queries_in_a_bundle_are_answered_at_once_and_wait_for_nothing(sine_session) -> None:
    async def test(room: Room) -> None:
        inner = [encode("/streamgen/tempo"), encode("/streamgen/tempo", 90.0), encode("/streamgen/subscribe", 9000)]
        room.packet(encode_bundle(time.time() + 3, inner))
        room.packet(encode_bundle(time.time() + 300, [encode("/streamgen/ping", 3)]))
        await asyncio.sleep(0.05)
        answers = room.got()
        assert [one.arguments for one in answers if one.address == "/streamgen/pong"] == [(3,)]
        tempos = [one.arguments for one in answers if one.address == "/streamgen/tempo"]
        assert tempos == [(0.0,), (90.0,)], "the answer, and the echo of what is scheduled"
        assert len(room.handler.feedback) == 1
        assert room.handler.counters.scheduled == 1
        assert room.handler.counters.refused == {}

    in_room(sine_session, test)


def test_what_the_session_refuses_of_a_bundle_is_told_under_its_address_and_the_rest_is_done(sine_session) -> None:
    async def test(room: Room) -> None:
        do, failures = room.session.do, [ConfigError("this engine says no")]

        async def fail(command: Any) -> int:
            if isinstance(command, Transport) and failures:
                raise failures.pop()
            return await do(command)

        room.session.do = fail
        inner = [encode("/streamgen/stop"), encode("/streamgen/tempo", 50.0)]
        room.packet(encode_bundle(time.time() + 0.2, inner))
        await asyncio.sleep(0.4)
        (refused,) = [message for message in room.got() if message.address == "/streamgen/error"]
        assert refused.arguments == ("/streamgen/stop", "this engine says no")
        assert room.session.values()["tempo"] == 50.0

    in_room(sine_session, test)


def test_play_while_it_plays_asks_nothing_of_the_session(sine_session) -> None:
    async def test(room: Room) -> None:
        for word in ("play", "pause", "pause", "stop", "play"):
            room.send(f"/streamgen/{word}")
        await asyncio.sleep(0.05)
        assert [command.action for command in room.session.commands] == [Action.PAUSE, Action.STOP, Action.PLAY]

    in_room(sine_session, test)


def test_play_takes_back_a_pause_that_waits_for_its_bar(sine_session) -> None:
    """Until the session tells that it halts, it is not known to play on."""

    async def test(room: Room) -> None:
        tell, held = room.session.do, list[Transport]()

        async def do(command: Any) -> int:
            if isinstance(command, Transport):
                held.append(command)
                return 0
            return int(await tell(command))

        room.session.do = do
        for word in ("pause", "pause", "play", "play", "stop", "pause", "play"):
            room.send(f"/streamgen/{word}")
        await asyncio.sleep(0.05)
        assert [command.action for command in held] == [Action.PAUSE, Action.PLAY, Action.STOP, Action.PLAY]
        room.send("/streamgen/pause")
        await asyncio.sleep(0.05)
        await tell(Transport(Action.PAUSE, "page"))
        await tell(Transport(Action.PLAY, "page"))
        room.send("/streamgen/pause")
        await asyncio.sleep(0.05)
        assert [command.action for command in held][4:] == [Action.PAUSE, Action.PAUSE], (
            "it plays again: the page said so"
        )

    in_room(sine_session, test)


OPENED = [("stop", 1.0), ("pause", 0.0), ("play", 0.0)]
BEGINS = [("stop", 0.0), ("play", 1.0)]
HOLDS = [("stop", 1.0), ("pause", 1.0), ("play", 0.0)]
GOES_ON = [("stop", 0.0), ("pause", 0.0), ("play", 1.0)]
STOPS = [("stop", 1.0), ("play", 0.0)]


@pytest.mark.parametrize("apart", [False, True])
def test_the_music_does_what_a_daw_s_transport_does_however_its_lights_come(sine_session, apart: bool) -> None:
    """As REAPER tells them: all when it opens, then those that change, in one packet or several."""
    scenes: list[tuple[list[tuple[str, float]], list[str]]] = [
        (OPENED, []),
        (BEGINS, []),  # it plays already
        (HOLDS, ["pause"]),
        (GOES_ON, ["play"]),
        (STOPS, ["stop"]),
        (BEGINS, ["play"]),
        (HOLDS, ["pause"]),
        ([("pause", 0.0)], ["stop"]),
        ([("pause", 1.0)], []),
        ([("stop", 0.0), ("play", 1.0), ("pause", 0.0)], ["play"]),
        ([("pause", 1.0)], ["pause"]),  # where play stays on beside it
        ([("pause", 0.0)], ["play"]),
        ([("play", 0.0), ("stop", 1.0)], ["stop"]),
    ]

    async def test(room: Room) -> None:
        done = room.session.commands
        for number, (lights, wanted) in enumerate(scenes):
            done.clear()
            packets = [encode(f"/streamgen/transport/{word}", value) for word, value in lights]
            for packet in packets if apart else [encode_bundle(None, packets)]:
                room.packet(packet)
            room.send("/streamgen/tempo", 60.0 + number)  # what a client says is done in its order
            async with asyncio.timeout(10):
                while not room.values():
                    await asyncio.sleep(0.01)
            assert [command.action for command in done if isinstance(command, Transport)] == wanted, (number, lights)

    in_room(sine_session, test)


def test_each_program_has_lights_of_its_own_and_no_light_is_neither(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/transport/stop", 0.0)
        room.send("/streamgen/transport/play", 1.0, source=("127.0.0.1", 6000))
        room.send("/streamgen/transport/play", 0.5)
        await asyncio.sleep(0.05)
        assert room.session.commands == []
        assert errors(room.got()) == ["transport/play is 0.5, must be 0 (released, off) or 1 (up to 127)"]

    in_room(sine_session, test)


def test_a_parameter_that_has_gone_is_neither_echoed_nor_answered(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/subscribe")
        await asyncio.sleep(0.05)
        room.got()
        room.send("/streamgen/tempo", 90.0)
        room.send("/streamgen/seed", 8)
        room.send("/streamgen/tempo")
        rest = {name: spec for name, spec in room.session.table.items() if name != "tempo"}
        room.handler.namespace.rebuild(rest)
        await asyncio.sleep(0.1)
        told = {message.address for message in room.got()}
        assert "/streamgen/seed" in told
        assert told.isdisjoint({"/streamgen/tempo", "/streamgen/tempo/norm"})
        room.send("/streamgen/tempo", 80.0)
        await asyncio.sleep(0.05)
        assert "there is no address" in errors(room.got())[0]

    in_room(sine_session, test)


def test_clients_are_forgotten_in_turn_but_connections_stay(sine_session) -> None:
    async def test(room: Room) -> None:
        tcp = room.handler.clients.meet("tcp", HERE, lambda packet: True, connected=True)
        for port in range(1, 1000):
            room.send("/streamgen/ping", source=("127.0.0.1", port))
        assert len(list(room.handler.clients)) == 256
        assert tcp in room.handler.clients

    in_room(sine_session, test)


def test_whatever_the_session_does_the_door_lives_and_tells(sine_session, caplog) -> None:
    async def test(room: Room) -> None:
        failures = [ConfigError("tempo is 1, and this engine says no"), RuntimeError("broken")]

        async def fail(_command: object) -> int:
            raise failures.pop(0)

        room.session.do = fail
        for value in (1.0, 2.0):
            room.send("/streamgen/tempo", value)
            await asyncio.sleep(0.05)
        assert errors(room.got()) == [
            "tempo is 1, and this engine says no",
            "the server failed at this; its log says why",
        ]
        assert "broken" in caplog.text

    in_room(sine_session, test)


def test_a_refusal_is_told_at_the_port_that_its_sender_listens_at_too(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/subscribe", 9000)
        await asyncio.sleep(0.05)
        room.send("/streamgen/tempo", "quick")
        room.send("/streamgen/tempo", "quicker", source=("127.0.0.1", 6000))
        await asyncio.sleep(0.05)
        (told,) = errors(room.got(("127.0.0.1", 9000)))
        assert errors(room.got()) == [told]
        assert told.startswith("tempo is 'quick', must be a number")
        assert len(errors(room.got(("127.0.0.1", 6000)))) == 1

    in_room(sine_session, test)


def test_subscribers_end_when_nothing_is_heard_and_are_told(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/subscribe", 9000)
        room.send("/streamgen/audio/subscribe", 9001)
        for _ in range(10):
            await asyncio.sleep(0.1)
            room.send("/streamgen/ping")
        assert len(room.handler.feedback) == len(room.handler.feedback.sender) == 1
        async with asyncio.timeout(20):
            while len(room.handler.feedback) or len(room.handler.feedback.sender):
                await asyncio.sleep(0.05)
        assert room.got(("127.0.0.1", 9000))[-1].address == "/streamgen/unsubscribed"

    in_room(sine_session, test, OscLimits(subscription_seconds=0.8))


def test_a_servers_own_words_keep_no_subscription_alive(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/subscribe")
        for _ in range(5):
            await asyncio.sleep(0.1)
            room.send("/streamgen/heartbeat", 1)
        assert len(room.handler.feedback) == 0

    in_room(sine_session, test, OscLimits(subscription_seconds=0.25))


def test_subscribers_are_capped_and_renewing_is_not_another(sine_session) -> None:
    async def test(room: Room) -> None:
        for port in (1, 2, 1, 3):
            room.send("/streamgen/subscribe", port)
        await asyncio.sleep(0.05)
        assert len(room.handler.feedback) == 2
        assert "2 subscribers listen" in errors(room.got())[0]
        room.send("/streamgen/unsubscribe", 1)
        room.send("/streamgen/subscribe", 3)
        await asyncio.sleep(0.05)
        assert len(room.handler.feedback) == 2

    in_room(sine_session, test, OscLimits(subscribers=2))


def test_two_servers_do_not_talk_to_each_other_for_ever(sine_session) -> None:
    """Everything a door sends is handed back to it as if the other were another server."""

    async def test(room: Room) -> None:
        room.send("/streamgen/subscribe")
        room.send("/streamgen/refresh")
        room.send("/streamgen/ping")
        room.send("/streamgen/version")
        room.send("/streamgen/nothing")
        room.send("/streamgen/tempo", 88.0)
        rounds = []
        for _ in range(6):
            await asyncio.sleep(0.1)
            back, room.sent[:] = [packet for _, packet in room.sent], []
            rounds.append([decode(packet)[0].address for packet in back])
            for packet in back:
                room.packet(packet)
        assert set(rounds[-1]) <= {"/streamgen/meter", "/streamgen/bands", "/streamgen/heartbeat"}

    in_room(sine_session, test)


def test_the_rack_is_edited_and_its_addresses_follow(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/plugin/1/wet", 0.5)
        await asyncio.sleep(0.05)
        assert "there is no address" in errors(room.got())[0]
        room.send("/streamgen/subscribe")
        room.send("/streamgen/rack/add", "reverb")
        await asyncio.sleep(0.2)
        told = {message.address: message.arguments for message in room.got()}
        assert told["/streamgen/rack"] == (1, 1, "reverb")
        assert told["/streamgen/plugin/1/wet"] == (0.25,)
        assert "/streamgen/plugin/1/wet/norm" in told
        room.send("/streamgen/plugin/1/wet", 0.5, 2.0)
        await asyncio.sleep(0.1)
        assert room.session.commands[-1] == Set({"plugin/1/wet": 0.5}, "osc 127.0.0.1:5000", glide_seconds=2.0)
        room.send("/streamgen/rack/add", "/usr/lib/vst3/ZamVerb.vst3")
        room.send("/streamgen/rack/remove", 1)
        await asyncio.sleep(0.2)
        messages = room.got()
        assert "there is no effect" in errors(messages)[0]
        assert {m.address: m.arguments for m in messages}["/streamgen/rack"] == (0,)
        assert room.handler.feedback.read("/streamgen/plugin/1/wet") is None

    in_room(sine_session, test)


def test_who_only_asks_is_told_of_its_own_edit_and_what_there_is(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/rack/effects")
        room.send("/streamgen/presets")
        room.send("/streamgen/rack/add", "tilt")
        room.send("/streamgen/preset/save", "a set")
        await asyncio.sleep(0.2)
        told = {message.address: message.arguments for message in room.got()}
        effects = room.session.effects()
        assert told["/streamgen/rack/effects"] == (len(effects), *effects)
        assert told["/streamgen/rack"] == (1, 1, "tilt")
        assert told["/streamgen/presets"] == (1, "a set")
        room.send("/streamgen/preset/recall", "a set", 8.0)
        await asyncio.sleep(0.05)
        assert room.session.commands[-1] == RecallPreset("a set", "osc 127.0.0.1:5000", 8.0)
        room.send("/streamgen/keep", 12.0)
        await asyncio.sleep(0.05)
        assert room.session.commands[-1] == KeepTake("osc 127.0.0.1:5000", 12.0)

    in_room(sine_session, test)


def test_a_fault_in_the_rack_is_told_to_subscribers(sine_session) -> None:
    async def test(room: Room) -> None:
        room.send("/streamgen/subscribe")
        await asyncio.sleep(0.1)
        room.got()
        room.session.tell(SlotFault(2, "ill", "it ended by signal 11", 1, False))
        (fault,) = [message for message in room.got() if message.address == "/streamgen/rack/fault"]
        assert fault.arguments == (2, "ill", "it ended by signal 11", 1, 0)

    in_room(sine_session, test)


def test_an_edit_in_a_bundle_for_later_is_refused_and_a_knob_is_scheduled(sine_session) -> None:
    async def test(room: Room) -> None:
        at = time.time() + 0.5
        room.packet(encode_bundle(at, [encode("/streamgen/rack/add", "tilt"), encode("/streamgen/gain_db", -6.0, 1.0)]))
        await asyncio.sleep(0.1)
        assert errors(room.got()) == ["this is done at once: send it in no bundle for later"]
        (change,) = room.session.commands
        assert (change.values, change.glide_seconds) == ({"gain_db": -6.0}, 1.0)
        assert abs(change.at.unix_seconds - at) < 1e-6  # a timetag's resolution

    in_room(sine_session, test)
