"""Requests in their order: changes that wait become one, and each is still answered for itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from websockets.asyncio.client import connect

from bridge.doors.access import Limits
from bridge.doors.native.connection import MOST_AHEAD_SECONDS, MOST_SCHEDULED, MOST_WAITING, ClientContext, Connection
from bridge.doors.native.guard import GuardedConnection
from bridge.doors.native.listener import WebListener
from bridge.metrics import Metrics
from bridge.session.commands import (
    Action,
    Command,
    EditRack,
    KeepTake,
    RackAction,
    RecallPreset,
    SavePreset,
    Set,
    Transport,
)
from bridge.session.events import Beat, Meter
from bridge.session.timeline import Moment

from ..web_session import BLOCK, RATE_HZ, SineSession, calling, serving


class SlowSession(SineSession):
    """An engine that takes its time, and refuses one prompt as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()

    async def do(self, command: Command) -> int:
        await self.free.wait()
        return await super().do(command)


class Answers:
    """The listener's place: keeps what it is to send."""

    def __init__(self) -> None:
        self.texts: list[dict[str, Any]] = []
        self.formats: list[dict[str, Any]] = []

    def answer(self, text: str) -> None:
        self.texts.append(json.loads(text))

    async def room(self) -> None:
        pass

    def change_format(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.formats.append(fields)
        return fields


class Asked:
    """A connection without a socket, its session and its answers."""

    def __init__(self) -> None:
        self.session, self.listener, self.metrics = SlowSession(), Answers(), Metrics()
        client = ClientContext("me", Limits(burst_messages=1_000), self.metrics, asyncio.Semaphore(1))
        socket = cast(GuardedConnection, None)  # only uploads ask anything of it
        self.connection = Connection(socket, self.session, client, cast(WebListener, self.listener))

    @property
    def answers(self) -> list[dict[str, Any]]:
        return self.listener.texts

    async def ask(self, **message: Any) -> None:
        await self.connection.take(json.dumps(message))

    async def done(self) -> None:
        self.session.free.set()
        async with asyncio.timeout(10):
            while self.connection._unanswered:
                await asyncio.sleep(0.001)


def with_asked(scene: Callable[[Asked], Awaitable[None]]) -> None:
    async def go() -> None:
        asked = Asked()
        work = asyncio.create_task(asked.connection.carry_out())
        await scene(asked)
        work.cancel()

    asyncio.run(go())


def sets(asked: Asked) -> list[dict[str, Any]]:
    return [dict(command.values) for command in asked.session.commands if isinstance(command, Set)]


def test_a_knob_in_motion_becomes_one_change_and_every_turn_is_answered() -> None:
    async def scene(asked: Asked) -> None:
        for number in range(30):
            await asked.ask(type="set", values={"top_k": number, f"prompt/{1 + number % 8}/weight": 0.5}, id=number)
        await asked.done()
        assert [answer["id"] for answer in asked.answers] == list(range(30))
        assert {answer["type"] for answer in asked.answers} == {"ack"}
        first, rest = sets(asked)
        assert first["top_k"] == 0
        assert rest == {"top_k": 29, **{f"prompt/{slot}/weight": 0.5 for slot in range(1, 9)}}
        assert asked.metrics.commands["websocket"] == asked.metrics.received["websocket"] == 30

    with_asked(scene)


def test_whatever_is_in_between_keeps_its_place() -> None:
    async def scene(asked: Asked) -> None:
        await asked.ask(type="transport", action="pause", id="busy")
        await asked.ask(type="set", values={"top_k": 1}, id=1)
        await asked.ask(type="get", name="top_k", id=2)
        await asked.ask(type="set", values={"top_k": 2}, at_sample=9_000, id=3)
        await asked.ask(type="set", values={"top_k": 3}, id=4)
        await asked.ask(type="nonsense", id=5)
        await asked.ask(type="set", values={"top_k": 4}, id=6)
        await asked.ask(type="audio", enabled=False, id=7)
        await asked.ask(type="set", values={"top_k": 5}, id=8)
        await asked.ask(type="set", values={"seed": 5}, id=9)
        await asked.done()
        assert [answer["id"] for answer in asked.answers] == ["busy", *range(1, 10)]
        assert asked.answers[2]["values"] == {"top_k": 1}
        assert asked.answers[5]["code"] == "unknown_type"
        assert asked.session.commands == [
            Transport(Action.PAUSE, "me"), Set({"top_k": 1}, "me"), Set({"top_k": 2}, "me", Moment(9_000)),
            Set({"top_k": 3}, "me"), Set({"top_k": 4}, "me"), Set({"top_k": 5, "seed": 5}, "me"),
        ]  # fmt: skip
        assert asked.listener.formats == [{"enabled": False}]

    with_asked(scene)


def test_only_the_wrong_one_of_several_is_refused() -> None:
    async def scene(asked: Asked) -> None:
        await asked.ask(type="transport", action="play", id="busy")
        await asked.ask(type="set", values={"top_k": 1}, id=1)
        await asked.ask(type="set", values={"prompt/1/text": "refused"}, id=2)
        await asked.ask(type="set", values={"top_k": 3}, id=3)
        await asked.done()
        assert [(answer["id"], answer["type"]) for answer in asked.answers] == [
            ("busy", "ack"), (1, "ack"), (2, "error"), (3, "ack"),
        ]  # fmt: skip
        assert asked.answers[2]["code"] == "refused"
        assert "is refused: say something else" in asked.answers[2]["message"]
        assert sets(asked) == [{"top_k": 1}, {"top_k": 3}]
        assert asked.metrics.errors == {"refused": 1}
        assert asked.metrics.commands["websocket"] == 3

    with_asked(scene)


def test_what_is_too_much_is_refused_at_once_and_the_rest_done() -> None:
    async def scene(asked: Asked) -> None:
        await asked.ask(type="transport", action="pause", id="busy")
        await asyncio.sleep(0)
        for number in range(MOST_WAITING + 40):
            await asked.ask(type="get", name="top_k", id=number)
        assert [(answer["id"], answer["code"]) for answer in asked.answers] == [
            (number, "busy") for number in range(MOST_WAITING, MOST_WAITING + 40)
        ]
        await asked.ask(type="nonsense", id="wrong")
        await asked.connection.take(b"unannounced")
        assert [answer["code"] for answer in asked.answers[-2:]] == ["unknown_type", "busy"]
        await asked.done()
        assert [answer["id"] for answer in asked.answers[42:]] == ["busy", *range(MOST_WAITING)]

    with_asked(scene)


def test_long_messages_wait_in_smaller_numbers() -> None:
    async def scene(asked: Asked) -> None:
        await asked.ask(type="transport", action="pause", id="busy")
        await asyncio.sleep(0)
        for number in range(40):
            text = {f"prompt/{slot}/text": "x" * 2_000 for slot in range(1, 9)}
            await asked.ask(type="set", values=text, id=number)
        assert 20 < len(asked.answers) < 30
        await asked.done()
        assert len(asked.answers) == 41

    with_asked(scene)


def test_what_waits_for_its_sample_is_bounded_for_each_client() -> None:
    async def scene(asked: Asked) -> None:
        asked.session.free.set()
        for number in range(MOST_SCHEDULED + 1):
            await asked.ask(type="set", values={"top_k": 1}, at_sample=1_000 + number, id=number)
        await asked.done()
        assert [answer["type"] for answer in asked.answers] == ["ack"] * MOST_SCHEDULED + ["error"]
        assert asked.answers[-1]["code"] == "busy"
        asked.session.position = 1_050  # half of them have come
        await asked.ask(type="set", values={"top_k": 1}, at_sample=2_000, id="room")
        await asked.ask(type="set", values={"top_k": 1}, at_sample=1_000, id="past")
        await asked.ask(type="set", values={"top_k": 1}, at_sample=RATE_HZ * (MOST_AHEAD_SECONDS + 1), id="far")
        await asked.done()
        assert [answer.get("code", "ack") for answer in asked.answers[-3:]] == ["ack", "ack", "too_far"]

    with_asked(scene)


def test_a_script_that_sends_and_leaves_is_obeyed() -> None:
    async def go() -> None:
        async with serving() as door, connect(door.stream, compression=None) as socket:
            for number in range(20):
                await socket.send(json.dumps({"type": "set", "values": {"top_k": number}}))
            await socket.close()
            async with asyncio.timeout(20):
                while door.access.clients.total():
                    await asyncio.sleep(0.01)
            assert door.session.now["top_k"] == 19
            assert door.session.listeners == []

    asyncio.run(go())


def test_a_slow_engine_answers_the_newest_turn_soon() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as caller:
            do = door.session.do

            async def slowly(command: Command) -> int:
                await asyncio.sleep(0.05)
                return await do(command)

            door.session.do = slowly  # type: ignore[method-assign]
            for number in range(100):
                await caller.socket.send(json.dumps({"type": "set", "values": {"top_k": number}, "id": number}))
            answers = [await caller.answer() for _ in range(100)]
            assert [answer["id"] for answer in answers] == list(range(100))
            assert door.session.now["top_k"] == 99
            assert len(door.session.commands) < 20, "a hundred alone would take five seconds"

    asyncio.run(go())


def test_a_client_that_counts_at_its_own_rate_lands_on_the_frame_it_meant() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?sample_rate_hz=44100&codec=f32le") as caller:
            door.session.play(100)
            await caller.hear(44_100)
            header, _ = caller.frames[-1]
            mine = header.sample_position + 44_100  # a second behind this frame's first sample
            answer = await caller.ask(type="set", values={"mute": True}, at_sample=mine, rate_hz=44_100, id=1)
            at = answer["applied_at_sample"]
            assert answer["rate_hz"] == RATE_HZ
            assert abs(at - mine * RATE_HZ / 44_100) <= 0.5, "within half a sample of the session"
            assert door.session.commands == [Set({"mute": True}, "websocket 1", Moment(at))]
            assert (await caller.ask(type="set", values={"mute": True}, at_sample=at))["applied_at_sample"] == at

    asyncio.run(go())


def test_the_transport_waits_for_its_sample_too() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?enabled=0") as caller:
            at = 10 * BLOCK
            ask = {"type": "transport", "action": "pause", "at_sample": at * 2, "rate_hz": 2 * RATE_HZ}
            assert (await caller.ask(**ask))["applied_at_sample"] == at
            assert door.session.commands == [Transport(Action.PAUSE, "websocket 1", Moment(at))]
            door.session.play(10)
            assert (await caller.ask(type="get"))["state"] == "playing"
            door.session.play(1)
            told = await caller.until("transport")
            assert (told["action"], told["state"], told["applied_at_sample"]) == ("pause", "paused", at)
            assert (await caller.ask(type="transport", action="play", at_sample=RATE_HZ * 10_000))["code"] == "too_far"

    asyncio.run(go())


def test_each_beat_is_told_to_who_asks_for_it_and_messages_may_wait_for_one() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?enabled=0") as caller:
            beat = Beat(8, 2, 117.5, None, "internal", 24_000, 7_000_000)
            door.session.tell(beat)
            assert (await caller.ask(type="beats", enabled=True))["enabled"] is True
            assert [message for message in caller.told if message["type"] == "beat"] == []
            door.session.tell(beat)
            assert await caller.until("beat") == {"type": "beat", "rate_hz": RATE_HZ, **vars(beat)}
            answer = await caller.ask(type="set", values={"top_k": 3}, at_beat=64)
            assert answer["applied_at_sample"] == 32 * RATE_HZ, "120 a minute"
            assert (await caller.ask(type="set", values={"top_k": 3}, at_beat=1e6))["code"] == "too_far"
            await caller.ask(type="rack", action="add", effect="tilt", quantize="bar")
            assert door.session.commands[-1].at == Moment(every=4)

    asyncio.run(go())


def test_the_level_is_told_to_who_asks_for_it() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?enabled=0") as caller:
            door.session.tell(Meter(-3.0, -120.0))
            assert (await caller.ask(type="meters", enabled=True))["enabled"] is True
            assert [message for message in caller.told if message["type"] == "meter"] == []
            door.session.tell(Meter(-6.0, -9.5))
            assert await caller.until("meter") == {"type": "meter", "left_db": -6.0, "right_db": -9.5}
            await caller.ask(type="meters", enabled=False)
            door.session.tell(Meter(-1.0, -1.0))
            await caller.ask(type="ping")
            assert [told for told in caller.told if told["type"] == "meter"] == [
                {"type": "meter", "left_db": -6.0, "right_db": -9.5}
            ]

    asyncio.run(go())


def test_the_rack_is_edited_and_presets_are_used_by_name() -> None:
    async def scene(asked: Asked) -> None:
        await asked.ask(type="rack", action="add", effect="reverb", id=1)
        await asked.ask(type="rack", action="add", effect="tilt", index=0, id=2)
        await asked.ask(type="rack", action="move", slot=2, index=1, id=3)
        await asked.ask(type="rack", action="replace", slot=1, effect="equalizer", id=4)
        await asked.ask(type="rack", action="remove", slot=2, id=5)
        await asked.ask(type="preset", action="save", name="a set", id=6)
        await asked.ask(type="preset", action="recall", name="a set", seconds=8, id=7)
        await asked.ask(type="preset", action="save", name="hall", slot=1, id=8)
        await asked.ask(type="set", values={"gain_db": -6}, glide_seconds=2.5, id=9)
        await asked.ask(type="set", values={"mute": True}, id=10)
        await asked.ask(type="keep", seconds=12, id=11)
        await asked.ask(type="keep", seconds=31, id=12)
        await asked.done()
        assert [answer["type"] for answer in asked.answers] == ["ack"] * 11 + ["error"]
        assert [slot["name"] for slot in asked.answers[1]["slots"]] == ["tilt", "reverb"]
        assert [(slot["slot"], slot["name"]) for slot in asked.answers[4]["slots"]] == [(1, "equalizer")]
        assert asked.session.commands == [
            EditRack(RackAction.ADD, "me", effect="reverb"), EditRack(RackAction.ADD, "me", effect="tilt", index=0),
            EditRack(RackAction.MOVE, "me", 2, index=1), EditRack(RackAction.REPLACE, "me", 1, "equalizer"),
            EditRack(RackAction.REMOVE, "me", 2), SavePreset("a set", "me"), RecallPreset("a set", "me", 8.0),
            SavePreset("hall", "me", 1), Set({"gain_db": -6.0}, "me", glide_seconds=2.5), Set({"mute": True}, "me"),
            KeepTake("me", 12.0),
        ]  # fmt: skip

    with_asked(scene)


def test_a_new_effects_parameters_are_the_tables_from_its_answer_on() -> None:
    async def scene(asked: Asked) -> None:
        asked.session.free.set()
        await asked.ask(type="set", values={"plugin/1/wet": 0.5}, id=1)
        await asked.ask(type="rack", action="add", effect="reverb", id=2)
        await asked.done()
        await asked.ask(type="set", values={"plugin/1/wet": 0.5}, id=3)
        await asked.ask(type="rack", action="add", effect="/usr/lib/vst3/ZamVerb.vst3", id=4)
        await asked.done()
        answers = {answer["id"]: answer for answer in asked.answers}
        assert [answers[number]["type"] for number in (1, 2, 3, 4)] == ["error", "ack", "ack", "error"]
        assert answers[4]["code"] == "refused"
        assert "there is no effect" in answers[4]["message"]

    with_asked(scene)
