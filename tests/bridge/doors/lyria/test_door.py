"""The Lyria door: whose path it is, the key as token, and no room."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bridge.doors.lyria.door import PATH, LyriaDoor
from streamgen.errors import CapacityError

from ..web_session import Open, SineSession, SineSessions, serving

SETUP = json.dumps({"setup": {"model": "models/lyria-realtime-exp"}})


def path(version: str = "v1alpha", slashes: str = "/") -> str:
    return f"{slashes}ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateMusic"


class Full(SineSessions):
    async def get(self, name: str) -> SineSession:
        raise CapacityError("2 sessions play, this machine keeps up with 2; try again in 5 s")


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha", "v2"])
@pytest.mark.parametrize("slashes", ["/", "//"])
def test_any_version_with_one_slash_or_two(version: str, slashes: str) -> None:
    assert PATH.fullmatch(path(version, slashes))
    assert not PATH.fullmatch(path(version, slashes) + "x")


async def answer(web: Open, query: str = "", **headers: str) -> str:
    async with connect(f"ws://127.0.0.1:{web.web.port}{path()}{query}", additional_headers=headers) as socket:
        await socket.send(SETUP)
        return str(await socket.recv())


def test_the_key_is_the_token_in_header_or_query() -> None:
    async def go() -> None:
        async with serving(token="secret") as web:
            door = LyriaDoor(web.service)
            await door.open(SineSessions(web.session))
            assert await answer(web, "?key=secret") == '{"setupComplete": {}}'
            assert await answer(web, **{"x-goog-api-key": "secret"}) == '{"setupComplete": {}}'
            with pytest.raises(ConnectionClosed, match=r"1008.*wrong"):
                await answer(web, "?key=no")
            assert door.stats() == {"listeners": 0}

    asyncio.run(go())


def test_where_there_is_no_room_it_is_told_behind_the_setup() -> None:
    async def go() -> None:
        async with serving() as web:
            await LyriaDoor(web.service).open(Full(web.session))
            async with connect(f"ws://127.0.0.1:{web.web.port}{path()}") as socket:
                await socket.send(SETUP)
                assert json.loads(await socket.recv()) == {"setupComplete": {}}
                with pytest.raises(ConnectionClosed, match=r"1013.*RESOURCE_EXHAUSTED.*try again in 5 s"):
                    await socket.recv()
            assert web.metrics.refused["capacity"] == 1

    asyncio.run(go())
