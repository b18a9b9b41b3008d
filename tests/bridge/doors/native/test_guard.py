"""What a peer may send before its message is whole."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from bridge.doors.access import Limits
from bridge.doors.native import door as native_door
from bridge.doors.native import guard
from bridge.session.commands import Set

from ..web_session import BLOCK, Caller, Open, calling, serving

SMALL = Limits(message_bytes=8_192)


async def closed(caller: Caller) -> int:
    with pytest.raises(ConnectionClosed) as end:
        await caller.until("never")
    assert end.value.rcvd is not None
    return end.value.rcvd.code


async def announce(caller: Caller, count: int) -> None:
    await caller.socket.send(json.dumps({"type": "audio_prompt", "bytes": count}))
    await caller.until("ack")


def test_one_upload_at_a_time() -> None:
    async def go() -> None:
        async with serving(SMALL) as door, calling(door.stream) as caller:
            await announce(caller, 100_000)
            await caller.socket.send(b"x" * 100_000)
            assert (await caller.until("error"))["code"] == "bad_audio"
            await caller.socket.send(b"x" * 100_000)  # its announcement is used up
            assert await closed(caller) == 1009

    asyncio.run(go())


@pytest.mark.parametrize("form", ["one frame", "fragments", "escaped"])
def test_an_announcement_is_one_in_whatever_form_it_comes(form: str) -> None:
    """RFC 6455 lets anyone on the way split a message; JSON lets a writer escape any character."""
    note = json.dumps({"type": "audio_prompt", "bytes": 100_000})
    forms = {
        "one frame": note,
        "fragments": [note[:14], note[14:20], note[20:]],
        "escaped": note.replace("_", "\\u005f"),
    }

    async def go() -> None:
        async with serving(SMALL) as door, calling(door.stream) as caller:
            await caller.socket.send(forms[form])
            await caller.until("ack")
            await caller.socket.send(b"x" * 100_000)
            assert (await caller.until("error"))["code"] == "bad_audio"

    asyncio.run(go())


def test_few_uploads_in_the_whole_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_UPLOADS", 1)

    async def go() -> None:
        async with serving(SMALL) as door, calling(door.stream) as one, calling(door.stream) as two:
            await announce(one, 300_000)
            await announce(two, 300_000)

            async def slowly() -> object:
                for _ in range(200):
                    yield b"x" * 1_500
                    await asyncio.sleep(0.005)

            sending = asyncio.create_task(one.socket.send(slowly()))  # type: ignore[arg-type]
            await asyncio.sleep(0.3)
            await two.socket.send(b"x" * 300_000)
            assert await closed(two) == 1009
            await sending
            assert (await one.until("error"))["code"] == "bad_audio"  # whole, but no audio
            assert door.metrics.refused["message_bytes"] == 1

    asyncio.run(go())


def test_connections_are_limited_and_free_again() -> None:
    async def connections(door: Open, count: int) -> int:
        streams = [await asyncio.open_connection("127.0.0.1", door.web.port) for _ in range(count)]
        await asyncio.sleep(0.1)
        alive = sum(not reader.at_eof() for reader, _ in streams)
        for _, writer in streams:
            writer.close()
        await asyncio.sleep(0.1)
        return alive

    async def go() -> None:
        async with serving(Limits(connections=5)) as door:
            assert [await connections(door, 8), await connections(door, 5)] == [5, 5]
            assert door.metrics.refused["silent"] == 3
            assert door.access.connections.total() == 0
        async with serving(Limits(connections_per_address=2)) as door:
            assert await connections(door, 3) == 2

    asyncio.run(go())


async def pings(caller: Caller) -> None:
    for _ in range(5_000):
        await caller.socket.ping()
        await asyncio.sleep(0)


def test_a_flood_of_pings_is_cut_off_and_a_few_are_answered() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as caller:
            pong = await caller.socket.ping()
            await asyncio.wait_for(pong, 5)
            with pytest.raises(ConnectionClosed):
                await pings(caller)
            assert door.metrics.refused["control_rate"] == 1

    asyncio.run(go())


def test_who_is_closed_while_it_talks_is_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_door, "_CLOSE_SECONDS", 60.0)  # who is read no more would stay for so long

    async def go() -> None:
        async with serving() as door:
            released = asyncio.Event()

            async def turn_away(socket: ServerConnection, _request: Request) -> None:
                await released.wait()
                await socket.close(1013, "no room")

            door.service.routes.sockets[re.compile("/full")] = turn_away
            async with connect(door.stream.replace("/v1/stream", "/full"), compression=None) as socket:
                for number in range(200):  # more than the queue holds
                    await socket.send(str(number))
                await asyncio.sleep(0.05)
                released.set()
                await asyncio.wait_for(socket.wait_closed(), 20)
                assert socket.close_code == 1013
            async with asyncio.timeout(20):
                while door.access.connections.total():
                    await asyncio.sleep(0.01)

    asyncio.run(go())


def test_what_waits_goes_out_in_one_write_and_in_order() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?chunk_ms=20") as caller:
            (listener,) = door.web.listeners
            write, written = listener._socket.transport.write, []
            listener._socket.transport.write = lambda data: (written.append(len(data)), write(data))
            for number in range(10):
                await door.session.do(Set({"top_k": number}, "test"))
            door.session.play(2)
            await caller.hear(2 * BLOCK)
            assert [told["values"]["top_k"] for told in caller.told if told["type"] == "changed"] == list(range(10))
            assert len(written) == 2  # ten messages and a block; a block
            assert [header.sample_position for header, _ in caller.frames] == [0, BLOCK]

    asyncio.run(go())
