"""Sessions on a real engine: many who ask at once, clients that come back, places that are given up."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import streamgen
from bridge.session import registry
from bridge.session.capacity import FixedCapacity
from bridge.session.commands import Action, Set, Transport
from bridge.session.engine_thread import EngineThread
from bridge.session.events import Block, Event, Goaway
from bridge.session.live_session import LiveSession
from bridge.session.registry import SessionRegistry
from streamgen.errors import CapacityError
from streamgen.testing import tiny_checkpoint


class Listening:
    """A listener that knows where it is."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.end = 0
        self.events: list[Event] = []

    def audio(self, block: Block) -> None:
        self.first = block.start_sample if self.first is None else self.first
        self.end = block.end_sample

    def event(self, event: Event) -> None:
        self.events.append(event)


class Steering(Listening):
    """One that only steers."""

    wants_audio = False


@pytest.fixture(scope="module")
def model() -> streamgen.Model:
    return streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")


def with_sessions(model: streamgen.Model, capacity: int, scene: Callable[[SessionRegistry], Awaitable[None]]) -> None:
    async def run() -> None:
        engine = EngineThread(model, asyncio.get_running_loop(), FixedCapacity(capacity))
        try:
            sessions = SessionRegistry(engine, await LiveSession.open("live", engine, 48_000))
            await scene(sessions)
            await sessions.close("the test is over")
            assert len(sessions) == 0
        finally:
            await engine.close()

    asyncio.run(run())


async def heard(session: LiveSession, listener: Listening, seconds: float) -> None:
    for block in session.add(listener):
        listener.audio(block)
    async with asyncio.timeout(20):
        while listener.first is None or listener.end < listener.first + seconds * session.rate_hz:
            await asyncio.sleep(0.01)


def test_two_who_ask_for_a_name_at_once_share_it_and_new_is_nobody_elses(model: streamgen.Model) -> None:
    async def scene(sessions: SessionRegistry) -> None:
        same = await asyncio.gather(*(sessions.get("band") for _ in range(5)))
        assert len({id(session) for session in same}) == 1
        own = await asyncio.gather(sessions.get("new"), sessions.get("new"))
        assert own[0].name != own[1].name
        assert all(len(session.name) > 16 for session in own), "cannot be guessed"
        assert len(sessions) == 4

    with_sessions(model, 4, scene)


def test_many_at_once_get_no_more_places_than_there_are(model: streamgen.Model) -> None:
    async def scene(sessions: SessionRegistry) -> None:
        got = await asyncio.gather(*(sessions.get("new") for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(session, LiveSession) for session in got) == 2
        assert sum(isinstance(refusal, CapacityError) for refusal in got) == 18
        assert len(sessions) == 3

    with_sessions(model, 3, scene)


def test_who_comes_back_goes_on_where_the_music_was(model: streamgen.Model) -> None:
    async def scene(sessions: SessionRegistry) -> None:
        session, listener = await sessions.get("new"), Listening()
        await heard(session, listener, 0.4)
        await session.do(Set({"top_k": 7}, "test"))
        session.remove(listener)  # the connection was lost
        await asyncio.sleep(0.5)
        again, listener = await sessions.get(session.name), Listening()
        assert again is session
        position = again.position_samples()
        await heard(again, listener, 0.2)
        assert again.values()["top_k"] == 7
        assert listener.first is not None
        assert position - 0.6 * again.rate_hz < listener.first <= position, "its clock stood still meanwhile"

    with_sessions(model, 2, scene)


def test_a_place_is_given_up_when_it_was_left_and_another_needs_it(
    model: streamgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(sessions: SessionRegistry) -> None:
        first = await sessions.get("first")
        steering = Steering()
        first.add(steering)
        with pytest.raises(CapacityError):
            await sessions.get("second")  # somebody is there, though without wanting audio
        first.remove(steering)
        with pytest.raises(CapacityError, match=r"keeps up with 2; try again in [1-5] s"):
            await sessions.get("second")  # it may be back in a moment
        monkeypatch.setattr(registry, "GRACE_SECONDS", 0.0)
        second = await sessions.get("second")
        assert second.name == "second"
        assert await sessions.get("live")
        assert len(sessions) == 2

    with_sessions(model, 2, scene)


def test_what_was_left_for_long_is_closed_and_who_only_steers_keeps_it(
    model: streamgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(sessions: SessionRegistry) -> None:
        kept, steering = await sessions.get("kept"), Steering()
        kept.add(steering)
        await sessions.get("left")
        reaping = asyncio.create_task(sessions.reap(0.02))
        async with asyncio.timeout(10):
            while len(sessions) > 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert await sessions.get("kept") is kept
        reaping.cancel()
        await sessions.close("the end")
        assert [event for event in steering.events if isinstance(event, Goaway)] == [Goaway("the end")]

    monkeypatch.setattr(registry, "KEPT_SECONDS", 0.1)
    with_sessions(model, 3, scene)


def test_a_left_session_that_does_not_play_gives_its_place_up_at_once(model: streamgen.Model) -> None:
    async def scene(sessions: SessionRegistry) -> None:
        first = await sessions.get("first")
        await first.do(Transport(Action.PAUSE, "me"))
        assert (await sessions.get("second")).name == "second"
        assert len(sessions) == 2

    with_sessions(model, 2, scene)


def test_a_private_session_has_the_effects_and_presets_of_the_shared_one(
    model: streamgen.Model, tmp_path: Path
) -> None:
    async def scene(sessions: SessionRegistry) -> None:
        sessions.live.preset_folder.path = tmp_path
        own = await sessions.get("new")
        assert own.catalogue is sessions.live.catalogue
        assert own.preset_folder.path == tmp_path
        assert own.slots() == []

    with_sessions(model, 2, scene)


def test_sessions_that_have_ended_leave_nothing_for_pythons_collector(model: streamgen.Model) -> None:
    """It finds hundreds of them at a time, and holds the event loop meanwhile."""

    async def scene(sessions: SessionRegistry) -> None:
        session, listener = await sessions.get("new"), Listening()
        await heard(session, listener, 0.2)
        session.remove(listener)
        gone = weakref.ref(session.player)
        await sessions._close(session.name, "it is over")
        del session
        async with asyncio.timeout(20):  # what the engine told last is still on its way
            while gone() is not None:
                await asyncio.sleep(0.01)

    gc.disable()
    try:
        with_sessions(model, 5, scene)
    finally:
        gc.enable()
