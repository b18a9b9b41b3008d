"""One client against a session that plays a sine: commands in, sound out, by Google's words."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from bridge.audio.conversion import to_s16
from bridge.doors.lyria import connection
from bridge.doors.lyria.door import LyriaDoor
from bridge.session.commands import Action, EditRack

from ..web_session import RATE_HZ, Open, SineSession, serving, sine

CHUNK_SECONDS = 0.1  # in these tests: a client waits less
PATH = "//ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateMusic"


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CHUNK_SECONDS", CHUNK_SECONDS)


@dataclass
class OwnSessions:
    """`door.Sessions`: one that a test knows, for whoever asks for a new one."""

    live: SineSession
    own: SineSession

    async def get(self, name: str) -> SineSession:
        assert name == "new"
        return self.own


@dataclass
class Client:
    socket: ClientConnection

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def next(self) -> dict[str, Any]:
        return dict(json.loads(await asyncio.wait_for(self.socket.recv(), 10)))

    async def chunk(self) -> tuple[np.ndarray, dict[str, Any]]:
        told = await self.next()
        (chunk,) = told["serverContent"]["audioChunks"]
        return np.frombuffer(base64.b64decode(chunk["data"]), "<i2").reshape(-1, 2).T, told


@asynccontextmanager
async def performing(rate_hz: int = RATE_HZ) -> AsyncIterator[tuple[Open, SineSession, Client]]:
    async with serving() as web:
        own = SineSession("s-1", rate_hz=rate_hz)
        door = LyriaDoor(web.service)
        await door.open(OwnSessions(web.session, own))  # type: ignore[arg-type]
        playing = asyncio.create_task(own.run())
        async with connect(f"ws://127.0.0.1:{web.web.port}{PATH}?key=any") as socket:
            client = Client(socket)
            await client.say(setup={"model": "models/lyria-realtime-exp"})
            assert await client.next() == {"setupComplete": {}}
            yield web, own, client
        async with asyncio.timeout(20):
            while own.listeners or own.player_state.plays:
                await asyncio.sleep(0.01)
        playing.cancel()
        await door.close("the test is over")


def test_it_plays_from_play_on_to_the_sample_and_rests_when_its_client_has_gone() -> None:
    async def go() -> None:
        async with performing() as (_, own, client):
            await client.say(clientContent={"weightedPrompts": [{"text": "rain", "weight": 1}]})
            await client.say(musicGenerationConfig={"bpm": 94})
            await asyncio.sleep(0.1)
            assert not own.player_state.plays
            start = own.position
            await client.say(playbackControl="PLAY")
            heard, told = await client.chunk()
            more, _ = await client.chunk()
            assert heard.shape == (2, CHUNK_SECONDS * RATE_HZ)
            samples = np.concatenate((heard, more), axis=1)
            np.testing.assert_array_equal(samples, to_s16(sine(start, start + samples.shape[1])))
            (chunk,) = told["serverContent"]["audioChunks"]
            assert chunk["mimeType"] == "audio/l16;rate=48000;channels=2"
            assert chunk["sourceMetadata"]["clientContent"]["weightedPrompts"] == [{"text": "rain", "weight": 1.0}]
            assert (own.now["prompt/1/text"], own.now["tempo"]) == ("rain", 94.0)

    asyncio.run(go())


def test_pause_sends_the_rest_stop_and_reset_do_as_they_say_and_tempo_waits_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = 4_373  # samples: blocks of 960 leave a rest wherever it pauses
    monkeypatch.setattr(connection, "CHUNK_SECONDS", whole / RATE_HZ)

    async def go() -> None:
        async with performing() as (_, own, client):
            await client.say(playbackControl="PLAY")
            await client.chunk()
            await client.say(musicGenerationConfig={"bpm": 125})
            await client.say(playbackControl="PAUSE")
            chunks = [await client.chunk()]
            while chunks[-1][0].shape[1] == whole:
                chunks.append(await client.chunk())
            assert any("bpm: after RESET_CONTEXT" in told.get("warning", "") for _, told in chunks)
            assert own.now["tempo"] == 0
            await client.say(playbackControl="RESET_CONTEXT")
            await client.say(playbackControl="STOP")
            await client.say(playbackControl="PLAY")
            await client.chunk()
            assert own.now["tempo"] == 125
            did = [action for _, action in own.acts]
            assert did == [Action.PAUSE, Action.PLAY, Action.PAUSE, Action.RESET, Action.STOP, Action.PLAY]

    asyncio.run(go())


def test_the_equalizer_comes_when_it_is_asked_for_and_once() -> None:
    async def go() -> None:
        async with performing() as (_, own, client):
            await client.say(musicGenerationConfig={"temperature": 1})
            await client.say(musicGenerationConfig={"muteBass": True})
            await client.say(musicGenerationConfig={"brightness": 0.75})
            await client.say(playbackControl="PLAY")
            await client.chunk()
            assert [edit.effect for edit in own.commands if isinstance(edit, EditRack)] == ["equalizer"]
            assert (own.now["plugin/1/low_db"], own.now["plugin/1/high_db"]) == (0.0, 6.0)

    asyncio.run(go())


def test_another_rate_is_made_48_khz() -> None:
    async def go() -> None:
        async with performing(32_000) as (_, _own, client):
            await client.say(playbackControl="PLAY")
            heard = np.concatenate([(await client.chunk())[0] for _ in range(2)], axis=1) / 32_768
            at = np.arange(heard.shape[1]) / RATE_HZ
            turned = heard[0] * np.exp(-2j * np.pi * 440 * at)
            assert abs(turned[4_800:].mean()) > 0.24

    asyncio.run(go())


def test_what_the_session_refuses_is_a_warning_and_what_is_no_message_ends_it() -> None:
    async def go() -> None:
        async with performing() as (web, _, client):
            await client.say(clientContent={"weightedPrompts": [{"text": "refused", "weight": 1}]})
            await client.say(playbackControl="PLAY")
            _, told = await client.chunk()
            assert "prompt/1/text is refused" in told["warning"]
            await client.socket.send("nonsense")
            await client.socket.wait_closed()
            assert (client.socket.close_code, client.socket.close_reason) == (1007, "this is not JSON")
            assert web.metrics.errors["bad_json"] == 1

    asyncio.run(go())


@pytest.mark.slow
def test_it_is_never_more_than_two_seconds_ahead() -> None:
    async def go() -> None:
        async with performing() as (_, own, client):
            await client.say(playbackControl="PLAY")
            heard = 0
            for _ in range(10):
                heard += (await client.chunk())[0].shape[1]
                assert heard - own.timeline.due() < 2 * RATE_HZ

    asyncio.run(go())
