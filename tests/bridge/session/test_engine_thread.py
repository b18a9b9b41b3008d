"""The real thread, a tiny real model, a real event loop: what listeners get is one unbroken, equal stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import streamgen
from bridge.session.capacity import FixedCapacity
from bridge.session.commands import Action, AudioPrompt, Set, Transport
from bridge.session.engine_thread import EngineThread, driest_of
from bridge.session.events import Changed, Gap, Goaway, PlayerState, Stats, Transported
from bridge.session.live_session import LiveSession
from bridge.session.player import Player
from bridge.session.session import Session
from streamgen.errors import CapacityError, ConfigError, PromptError, SessionClosed
from streamgen.testing import FakeModel, tiny_checkpoint

from .live import RATE_HZ
from .live import Listening as KeepingAll


class Listening(KeepingAll):
    """A listener that keeps everything, and waits for more."""

    async def until(self, seconds: float, limit: float = 20.0) -> np.ndarray:
        """Wait for so much audio; returns it."""
        async with asyncio.timeout(limit):
            while sum(block.samples.shape[1] for block in self.blocks) < seconds * RATE_HZ:
                await asyncio.sleep(0.01)
        return self.audio_so_far


@pytest.fixture(scope="module")
def model() -> streamgen.Model:
    return streamgen.load_model(str(tiny_checkpoint("mono")), device="cpu", precision="fp32")


def play(
    model: streamgen.Model, scene: Callable[[EngineThread, LiveSession], Awaitable[None]], capacity: int = 4
) -> None:
    async def run() -> None:
        engine = EngineThread(model, asyncio.get_running_loop(), FixedCapacity(capacity))
        try:
            values = {"prompt/1/text": "piano", "seed": 1, "lead_seconds": 0.5}
            session = await LiveSession.open("live", engine, RATE_HZ, values)
            await scene(engine, session)
        finally:
            await engine.close()

    asyncio.run(run())


def test_listeners_get_the_same_unbroken_audio_and_the_recording_holds_it(
    model: streamgen.Model, tmp_path: Path
) -> None:
    async def scene(engine: EngineThread, session: LiveSession) -> None:
        first, second = Listening(), Listening()
        await session.record(tmp_path / "take.flac")
        first.blocks.extend(session.add(first))
        await first.until(0.5)
        second.blocks.extend(session.add(second))
        a, b = await first.until(1.5), await second.until(0.8)
        await session.record(None)
        offset = second.blocks[0].start_sample
        length = min(a.shape[1] - offset, b.shape[1])
        assert np.array_equal(a[:, offset : offset + length], b[:, :length])
        recorded = soundfile.read(tmp_path / "take.flac", always_2d=True)[0].T
        assert np.abs(recorded[:, : a.shape[1]] - a[:, : recorded.shape[1]]).max() < 1e-6
        assert session.position_samples() == first.blocks[-1].end_sample

    play(model, scene)


def test_a_change_is_told_to_all_with_its_sample(model: streamgen.Model) -> None:
    async def scene(engine: EngineThread, session: LiveSession) -> None:
        listeners = [Listening(), Listening()]
        for listener in listeners:
            session.add(listener)
        await listeners[0].until(0.3)
        applied = await session.do(Set({"temperature": 0.5}, "test"))
        await asyncio.sleep(0.05)
        for listener in listeners:
            (changed,) = listener.told(Changed)
            assert isinstance(changed, Changed)
            assert (changed.applied_at_sample, changed.by) == (applied, "test")
        assert session.values()["temperature"] == 0.5
        with pytest.raises(ConfigError, match="temperature is 50"):
            await session.do(Set({"temperature": 50.0}, "test"))
        await session.do(Transport(Action.PAUSE, "test"))
        await asyncio.sleep(0.05)
        assert session.state() is PlayerState.PAUSED
        assert listeners[0].told(Transported)

    play(model, scene)


def test_the_driest_are_served_together_and_with_them_live_and_who_is_late() -> None:
    def player(lead_seconds: float, state: PlayerState = PlayerState.PLAYING, lacks: float = 1.0) -> Any:
        playback = SimpleNamespace(
            lead_seconds=lead_seconds, state=state, needs_audio=lacks > 0, goes_along=lacks > -0.1
        )
        return SimpleNamespace(playback=playback)

    live, dry, near, far = player(1.5), player(0.3), player(0.7), player(1.2)
    late, soon, full = player(1.2, PlayerState.LATE), player(0.5, lacks=-0.05), player(0.1, lacks=-0.2)
    assert driest_of([live, far, dry, near, late, soon, full]) == [live, dry, near, late, soon]
    assert driest_of([soon, full]) == [], "nobody lacks any yet"
    assert driest_of([]) == []


def test_where_many_play_a_whole_block_is_committed_at_once() -> None:
    async def scene() -> None:
        engine = EngineThread(FakeModel(), asyncio.get_running_loop(), FixedCapacity(6))
        try:
            opened = [await LiveSession.open("live", engine, RATE_HZ, {}) for _ in range(4)]
            assert {one.player.playback.commit_frames for one in opened} == {2}
            fifth = await LiveSession.open("fifth", engine, RATE_HZ, {})
            assert {one.player.playback.commit_frames for one in [*opened, fifth]} == {5}
            await fifth.close("left")
            assert {one.player.playback.commit_frames for one in opened} == {2}
        finally:
            await engine.close()

    asyncio.run(scene())


@pytest.mark.slow
def test_a_flood_of_commands_leaves_the_music_its_time(model: streamgen.Model) -> None:
    async def scene(engine: EngineThread, session: LiveSession) -> None:
        listener, done = Listening(), 0

        def slow() -> None:
            nonlocal done
            time.sleep(0.01)
            done += 1

        listener.blocks.extend(session.add(listener))
        await listener.until(0.3)
        flood = [asyncio.create_task(engine.call(slow)) for _ in range(100)]
        await listener.until(listener.blocks[-1].end_sample / RATE_HZ + 0.3)
        assert done < 100, "music comes between commands, not after them"
        await asyncio.gather(*flood)
        assert done == 100, "and every command is done"

    play(model, scene)


@pytest.mark.slow
def test_the_music_goes_on_while_an_audio_prompt_is_read(
    model: streamgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = model.prompt_codes
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(32_000) / 32_000, dtype=np.float32)[None]

    def slowly(samples: np.ndarray, rate_hz: int) -> object:
        time.sleep(1.0)
        return real(samples, rate_hz)

    async def scene(engine: EngineThread, session: LiveSession) -> None:
        listener = Listening()
        listener.blocks.extend(session.add(listener))
        await listener.until(0.3)
        before = session.position_samples()
        applied = await session.do(AudioPrompt(tone, 32_000, "test"))
        assert applied > before + 0.5 * RATE_HZ
        await listener.until((applied - listener.blocks[0].start_sample) / RATE_HZ + 0.3)
        assert [block.start_sample for block in listener.blocks if block.discontinuity] == [applied]
        assert not listener.told(Gap)
        with pytest.raises(PromptError):
            await session.do(AudioPrompt(np.zeros((1, 0), np.float32), 32_000, "test"))
        assert [event.action for event in listener.told(Transported)] == ["audio_prompt"]  # type: ignore[attr-defined]

    monkeypatch.setattr(model, "prompt_codes", slowly)
    play(model, scene)


@pytest.mark.slow
def test_the_music_of_all_goes_on_while_openings_are_tried_though_little_lies_ahead(
    model: streamgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(_runtime: object, _controls: object, count: int, between_steps: Callable[[], None]) -> int:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            time.sleep(0.005)
            between_steps()
        return count

    async def scene(engine: EngineThread, session: LiveSession) -> None:
        values = {"prompt/1/text": "rock", "seed": 2, "lead_seconds": 0.5}
        other = await LiveSession.open("mine", engine, RATE_HZ, values)
        first, second = Listening(), Listening()
        session.add(first)
        other.add(second)
        await first.until(0.5)
        before = session.position_samples()
        changed = {"prompt/1/text": "techno", "audition": 2, "change_context_seconds": 0.0}
        applied = await session.do(Set(changed, "test"))
        assert applied > before + RATE_HZ, "it is heard after they were tried, and what was there plays until then"
        await first.until((applied - first.blocks[0].start_sample) / RATE_HZ + 0.3)
        begun = await session.do(Transport(Action.RESET, "test"))
        await LiveSession.open("third", engine, RATE_HZ, {**values, "audition": 2})
        await first.until((begun - first.blocks[0].start_sample) / RATE_HZ + 0.3)
        assert not first.told(Gap)
        assert not second.told(Gap)

    monkeypatch.setattr("bridge.session.lookahead.Pace.quick", True)
    monkeypatch.setattr("streamgen.stream.stream.best_candidate", slowly)
    monkeypatch.setattr("streamgen.model.best_candidate", slowly)
    play(model, scene)


def test_of_a_storm_of_prompts_only_the_first_is_tried(model: streamgen.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    async def scene(engine: EngineThread, session: LiveSession) -> None:
        listener = Listening()
        session.add(listener)
        await listener.until(0.3)
        await session.do(Set({"audition": 2, "change_context_seconds": 0.0}, "test"))
        for number in range(5):
            await session.do(Set({"prompt/1/text": f"techno {number}"}, "test"))
        assert tried == [2]

    def counted(_runtime: object, _controls: object, count: int, _between_steps: object) -> int:
        tried.append(count)
        return 1

    monkeypatch.setattr("streamgen.stream.stream.best_candidate", counted)
    monkeypatch.setattr("bridge.session.lookahead.Pace.quick", True)
    monkeypatch.setattr("bridge.session.generator._TRY_AGAIN_SECONDS", 60.0)  # whatever else this machine does
    play(model, scene)


def test_what_prompts_took_is_given_back_some_seconds_after_they_came(
    model: streamgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(model, "forget_unused", lambda: calls.append(1), raising=False)
    monkeypatch.setattr("bridge.session.engine_thread._TIDY_SECONDS", 0.0)

    async def scene(engine: EngineThread, live: LiveSession) -> None:
        await engine.tidy()
        assert calls == [], "nothing came"
        await live.do(Set({"prompt/1/text": "piano"}, "test"))
        for _ in range(4):
            await engine.tidy()
            await asyncio.sleep(0.01)
        assert len(calls) == 2, "once to see what is asked for, once to forget the rest"

    play(model, scene)


@pytest.mark.slow
def test_nobody_listening_makes_nothing_and_a_listener_is_served_at_once(model: streamgen.Model) -> None:
    async def scene(engine: EngineThread, session: LiveSession) -> None:
        await asyncio.sleep(1.0)
        assert session.position_samples() == 0
        listener = Listening()
        session.add(listener)
        await listener.until(0.1, limit=0.5)
        session.remove(listener)
        await asyncio.sleep(0.3)
        count = len(listener.blocks)
        position = session.position_samples()
        await asyncio.sleep(0.5)
        assert (len(listener.blocks), session.position_samples()) == (count, position)

    play(model, scene)


def test_sessions_are_their_own_and_admitted_by_measured_speed(model: streamgen.Model) -> None:
    async def scene(engine: EngineThread, session: LiveSession) -> None:
        other = await LiveSession.open(
            "mine", engine, RATE_HZ, {"prompt/1/text": "rock", "seed": 2, "lead_seconds": 0.5}
        )
        listeners = Listening(), Listening()
        session.add(listeners[0])
        other.add(listeners[1])
        a, b = await listeners[0].until(0.5), await listeners[1].until(0.5)
        length = min(a.shape[1], b.shape[1])
        assert not np.allclose(a[:, :length], b[:, :length], atol=1e-2)
        with pytest.raises(CapacityError, match="2 sessions play, this machine keeps up with 2"):
            await LiveSession.open("third", engine, RATE_HZ)
        await other.close("bye")
        assert listeners[1].told(Goaway) == [Goaway("bye")]
        with pytest.raises(SessionClosed):
            await other.do(Set({"seed": 1}, "test"))
        await (await LiveSession.open("third", engine, RATE_HZ)).close("bye")

    play(model, scene, capacity=2)


@pytest.mark.slow
def test_stats_count_the_listeners(model: streamgen.Model) -> None:
    async def scene(engine: EngineThread, session: LiveSession) -> None:
        listener = Listening()
        session.add(listener)
        await listener.until(2.5)  # told once a second
        stats = listener.told(Stats)
        assert stats
        assert isinstance(stats[-1], Stats)
        assert stats[-1].listeners == 1
        checked: Session = session  # LiveSession is what doors are written against
        assert checked.stats().playing

    play(model, scene)


def test_a_session_that_fails_is_paused_and_told_and_the_others_play_on(
    model: streamgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(engine: EngineThread, session: LiveSession) -> None:
        other = await LiveSession.open("other", engine, RATE_HZ, {"prompt/1/text": "rock", "lead_seconds": 0.5})
        listeners = Listening(), Listening()
        session.add(listeners[0])
        other.add(listeners[1])
        await listeners[1].until(0.3)

        make = Player.make_together

        def full(players: list[Player], *rest: Any, **options: Any) -> None:
            if session.player in players:
                raise CapacityError("no rows are left; close a stream")
            make(players, *rest, **options)

        monkeypatch.setattr(Player, "make_together", full)
        async with asyncio.timeout(10):
            while not listeners[0].told(Transported):
                await asyncio.sleep(0.01)
        (paused,) = listeners[0].told(Transported)
        assert isinstance(paused, Transported)
        assert (paused.state, paused.by) == (PlayerState.FAILED, "engine: no rows are left; close a stream")
        await listeners[1].until(1.0)

    play(model, scene)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_answers_at_once_and_can_be_closed(
    model: streamgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(engine: EngineThread, session: LiveSession) -> None:
        def broken() -> float:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(session.player, "tick", broken)
        engine.wake()
        async with asyncio.timeout(5):
            while engine.alive:
                await asyncio.sleep(0.01)
            with pytest.raises(SessionClosed, match="the engine is stopping"):
                await session.do(Set({"temperature": 0.5}, "test"))

    play(model, scene)


def test_an_engine_that_is_late_again_and_again_is_a_line_in_ten_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(_engine: EngineThread, session: LiveSession) -> None:
        now = time.time()
        for seconds, late in ((0, 0.5), (1, 0.25), (9, 1.0), (10, 0.25), (30, 2.0)):
            monkeypatch.setattr(session.timeline, "wall", lambda at=now + seconds: at)
            session.deliver(Gap(0, round(late * RATE_HZ), "underrun"))
        monkeypatch.undo()

    play(FakeModel(), scene)
    assert [record.message for record in caplog.records if "late" in record.message] == [
        "the engine was 0.50 s late: the music paused",
        "the engine was late 3 times, 1.50 s in all: the music paused",
        "the engine was 2.00 s late: the music paused",
    ]
