"""Requests in their order: changes that wait become one, and each is still answered for itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.client import connect

from bridge.doors.access import Limits
from bridge.doors.native.broadcast import Broadcast
from bridge.doors.native.requests import MOST_AHEAD_SECONDS, MOST_SCHEDULED, MOST_WAITING, Client, Desk
from bridge.doors.turns import Turns
from bridge.metrics import Metrics
from bridge.session.messages import Command, Set, Transport

from ..web_session import SineSession, calling, serving


class SlowSession(SineSession):
    """An engine that takes its time, and refuses one prompt as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Command] = []
        self.free = asyncio.Event()

    async def do(self, command: Command) -> int:
        self.asked.append(command)
        await self.free.wait()
        return await super().do(command)


class Office:
    """A desk, its session and its answers."""

    def __init__(self) -> None:
        self.session, self.answers, self.reformatted = SlowSession(), [], []
        self.metrics = Metrics()
        client = Client("me", Limits(burst_messages=1_000), self.metrics, asyncio.Semaphore(1), Broadcast(), Turns())
        self.desk = Desk(
            self.session, client, answer=self.answered, room=self.room, reformat=self.reformat, uploaded=lambda: None
        )  # fmt: skip

    async def room(self) -> None:
        pass

    def answered(self, text: str) -> None:
        self.answers.append(json.loads(text))

    def reformat(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.reformatted.append(fields)
        return fields

    async def ask(self, **message: Any) -> None:
        await self.desk.take(json.dumps(message))

    async def done(self) -> None:
        self.session.free.set()
        async with asyncio.timeout(10):
            while len(self.desk):
                await asyncio.sleep(0.001)


def with_office(scene: Callable[[Office], Awaitable[None]]) -> None:
    async def go() -> None:
        office = Office()
        work = asyncio.create_task(office.desk.run())
        await scene(office)
        work.cancel()

    asyncio.run(go())


def sets(office: Office) -> list[dict[str, Any]]:
    return [dict(command.values) for command in office.session.done if isinstance(command, Set)]


def test_a_knob_in_motion_becomes_one_change_and_every_turn_is_answered() -> None:
    async def scene(office: Office) -> None:
        for number in range(30):
            await office.ask(type="set", values={"top_k": number, f"prompt/{1 + number % 8}/weight": 0.5}, id=number)
        await office.done()
        assert [answer["id"] for answer in office.answers] == list(range(30))
        assert {answer["type"] for answer in office.answers} == {"ack"}
        first, rest = sets(office)
        assert first["top_k"] == 0
        assert rest == {"top_k": 29, **{f"prompt/{slot}/weight": 0.5 for slot in range(1, 9)}}
        assert office.metrics.commands["websocket"] == office.metrics.received["websocket"] == 30

    with_office(scene)


def test_whatever_is_in_between_keeps_its_place() -> None:
    async def scene(office: Office) -> None:
        await office.ask(type="transport", action="pause", id="busy")
        await office.ask(type="set", values={"top_k": 1}, id=1)
        await office.ask(type="get", name="top_k", id=2)
        await office.ask(type="set", values={"top_k": 2}, at_sample=9_000, id=3)
        await office.ask(type="set", values={"top_k": 3}, id=4)
        await office.ask(type="nonsense", id=5)
        await office.ask(type="set", values={"top_k": 4}, id=6)
        await office.ask(type="audio", enabled=False, id=7)
        await office.ask(type="set", values={"top_k": 5}, id=8)
        await office.ask(type="set", values={"seed": 5}, id=9)
        await office.done()
        assert [answer["id"] for answer in office.answers] == ["busy", *range(1, 10)]
        assert office.answers[2]["values"] == {"top_k": 1}
        assert office.answers[5]["code"] == "unknown_type"
        assert office.session.done == [
            Transport("pause", "me"), Set({"top_k": 1}, "me"), Set({"top_k": 2}, "me", 9_000), Set({"top_k": 3}, "me"),
            Set({"top_k": 4}, "me"), Set({"top_k": 5, "seed": 5}, "me"),
        ]  # fmt: skip
        assert office.reformatted == [{"enabled": False}]

    with_office(scene)


def test_only_the_wrong_one_of_several_is_refused() -> None:
    async def scene(office: Office) -> None:
        await office.ask(type="transport", action="play", id="busy")
        await office.ask(type="set", values={"top_k": 1}, id=1)
        await office.ask(type="set", values={"prompt/1/text": "refused"}, id=2)
        await office.ask(type="set", values={"top_k": 3}, id=3)
        await office.done()
        assert [(answer["id"], answer["type"]) for answer in office.answers] == [
            ("busy", "ack"), (1, "ack"), (2, "error"), (3, "ack"),
        ]  # fmt: skip
        assert office.answers[2]["code"] == "refused"
        assert "is refused: say something else" in office.answers[2]["message"]
        assert sets(office) == [{"top_k": 1}, {"top_k": 3}]
        assert office.metrics.errors == {"refused": 1}
        assert office.metrics.commands["websocket"] == 3

    with_office(scene)


def test_what_is_too_much_is_refused_at_once_and_the_rest_done() -> None:
    async def scene(office: Office) -> None:
        await office.ask(type="transport", action="pause", id="busy")
        await asyncio.sleep(0)
        for number in range(MOST_WAITING + 40):
            await office.ask(type="get", name="top_k", id=number)
        assert [(answer["id"], answer["code"]) for answer in office.answers] == [
            (number, "busy") for number in range(MOST_WAITING, MOST_WAITING + 40)
        ]
        await office.ask(type="nonsense", id="wrong")
        await office.desk.take(b"unannounced")
        assert [answer["code"] for answer in office.answers[-2:]] == ["unknown_type", "busy"]
        await office.done()
        assert [answer["id"] for answer in office.answers[42:]] == ["busy", *range(MOST_WAITING)]

    with_office(scene)


def test_long_messages_wait_in_smaller_numbers() -> None:
    async def scene(office: Office) -> None:
        await office.ask(type="transport", action="pause", id="busy")
        await asyncio.sleep(0)
        for number in range(40):
            text = {f"prompt/{slot}/text": "x" * 2_000 for slot in range(1, 9)}
            await office.ask(type="set", values=text, id=number)
        assert 20 < len(office.answers) < 30
        await office.done()
        assert len(office.answers) == 41

    with_office(scene)


def test_what_waits_for_its_sample_is_bounded_for_each_client() -> None:
    async def scene(office: Office) -> None:
        office.session.free.set()
        for number in range(MOST_SCHEDULED + 1):
            await office.ask(type="set", values={"top_k": 1}, at_sample=1_000 + number, id=number)
        await office.done()
        assert [answer["type"] for answer in office.answers] == ["ack"] * MOST_SCHEDULED + ["error"]
        assert office.answers[-1]["code"] == "busy"
        office.session.position = 1_050  # half of them have come
        await office.ask(type="set", values={"top_k": 1}, at_sample=2_000, id="room")
        await office.ask(type="set", values={"top_k": 1}, at_sample=1_000, id="past")
        await office.ask(type="set", values={"top_k": 1}, at_sample=32_000 * (MOST_AHEAD_SECONDS + 1), id="far")
        await office.done()
        assert [answer.get("code", "ack") for answer in office.answers[-3:]] == ["ack", "ack", "too_far"]

    with_office(scene)


def test_a_script_that_sends_and_leaves_is_obeyed() -> None:
    async def go() -> None:
        async with serving() as door, connect(door.stream, compression=None) as socket:
            for number in range(20):
                await socket.send(json.dumps({"type": "set", "values": {"top_k": number}}))
            await socket.close()
            async with asyncio.timeout(5):
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
            assert len(door.session.done) < 20, "a hundred alone would take five seconds"

    asyncio.run(go())
