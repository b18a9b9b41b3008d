"""The client against the door it is made for, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from bridge.audio.conversion import to_s16
from bridge.doors.native.client import ListenClient, Received, stream_url
from bridge.doors.native.frames import AudioHeader
from bridge.errors import UsageError, WireError
from bridge.session.commands import Set
from bridge.session.events import Gap, Notice

from ..web_session import BLOCK, RATE_HZ, Open, SineSession, serving, sine


@dataclass
class Kept:
    """A sink that keeps everything."""

    parts: list[np.ndarray] = field(default_factory=list)
    rates: set[int] = field(default_factory=set)

    def write(self, samples: np.ndarray, rate_hz: int) -> None:
        self.parts.append(samples)
        self.rates.add(rate_hz)

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate(self.parts, axis=1)


async def hear(door: Open, seconds: float, query: str = "", **wanted: object) -> tuple[ListenClient, Kept]:
    kept, pace = Kept(), asyncio.create_task(door.session.pace(5.0))
    client = ListenClient(door.stream + query, wanted, kept, Received(seconds), False)  # type: ignore[arg-type]
    await asyncio.wait_for(client.listen(), 20)
    pace.cancel()
    return client, kept


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("127.0.0.1:8711", "ws://127.0.0.1:8711/v1/stream?codec=f32le"),
        ("http://h", "ws://h/v1/stream?codec=f32le"),
        ("https://h/?token=a%20b", "wss://h/v1/stream?token=a+b&codec=f32le"),
        ("http://h:1/#token=a%20b", "ws://h:1/v1/stream?token=a+b&codec=f32le"),
        ("ws://[::1]:8711/v1/stream?codec=opus", "ws://[::1]:8711/v1/stream?codec=f32le"),
        ("wss://h/studio/v1/stream", "wss://h/studio/v1/stream?codec=f32le"),
    ],
)
def test_what_people_type_becomes_an_address(typed: str, url: str) -> None:
    assert stream_url(typed, {"codec": "f32le"}) == url


@pytest.mark.parametrize("typed", ["", "ftp://h", "ws://", "h:99999", "h:port", "ws://[::1"])
def test_what_is_no_address_is_said(typed: str) -> None:
    with pytest.raises(UsageError, match=r"must be like ws://127\.0\.0\.1:8711"):
        stream_url(typed, {})


def test_exactly_so_many_seconds_sample_for_sample() -> None:
    async def go() -> None:
        async with serving() as door:
            client, kept = await hear(door, 1.234, "?codec=f32le", **{"prompt/1/text": "techno"})
            assert kept.samples.shape[1] == round(1.234 * RATE_HZ) == client.received.frames
            np.testing.assert_array_equal(kept.samples, sine(0, kept.samples.shape[1]))
            assert (client.received.gaps, client.connections, client.errors, kept.rates) == (0, 1, 0, {RATE_HZ})
            assert door.session.commands == [Set({"prompt/1/text": "techno"}, "websocket 1", None)]
            assert client.first_audio_seconds is not None
            assert client.hello["model"] == "sine"

    asyncio.run(go())


def test_opus_is_heard_too() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")

    async def go() -> None:
        async with serving() as door:
            client, kept = await hear(door, 1.0, "?codec=opus")
            assert (client.received.rate_hz, kept.samples.shape) == (48_000, (2, 48_000))
            expected, inner = sine(0, 48_000, 48_000), slice(4_800, 40_000)
            error = kept.samples[:, 312:][:, inner] - expected[:, inner]
            assert np.sqrt(np.mean(error**2)) < 0.02

    asyncio.run(go())


def test_gaps_are_counted_and_refused_settings_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bridge.client")
    received = Received()
    for position in (0, 4, 8, 100):
        header = AudioHeader(0, 1, 0, 0, position, 0, RATE_HZ, 4)
        mono = to_s16(sine(0, 4)[:1])
        samples = received.take(header.pack() + mono.tobytes())
        np.testing.assert_array_equal(samples, np.repeat(mono / np.float32(32_768), 2, axis=0))
    assert (received.frames, received.gaps, received.gap_frames) == (16, 1, 88)
    with pytest.raises(WireError, match="44100 Hz now"):
        received.take(AudioHeader(0, 1, 0, 0, 0, 0, 44_100, 4).pack() + bytes(8))

    async def go() -> None:
        async with serving() as door:
            client, _ = await hear(door, 2.0, **{"prompt/1/text": "refused"})
            assert client.errors == 1

    asyncio.run(go())
    assert "the server says: prompt/1/text is refused" in caplog.text


def test_what_the_service_tells_people_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "bridge.client")
    monkeypatch.setattr(SineSession, "heard", lambda _self: "house, 125 bpm; left out: fast")

    async def go() -> None:
        async with serving() as door:
            listening = asyncio.create_task(hear(door, 3.0))
            while not door.session.listeners:
                await asyncio.sleep(0.01)
            for topic, text in (("heard", "jazz trio\x1b[2J"), ("unsupported", "it was not made for top_p")):
                for listener in list(door.session.listeners):
                    listener.event(Notice(topic, text, 0))
            await listening

    asyncio.run(go())
    said = [record.getMessage() for record in caplog.records]
    assert "heard: house, 125 bpm; left out: fast" in said
    assert "it was not made for top_p" in said
    assert any(line.startswith("heard: jazz trio") for line in said)
    assert "\x1b" not in caplog.text


def test_a_refusal_ends_it_and_nobody_there_too() -> None:
    async def go() -> None:
        async with serving(token="secret") as door:
            with pytest.raises(WireError, match="the server refuses: a token is needed"):
                await hear(door, 1.0)
            url = door.stream
        with pytest.raises(WireError, match="no streamgen answers at ws://127"):
            await ListenClient(url, {}, Kept(), Received(1.0), False).listen()

    asyncio.run(go())


def test_a_lost_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.doors.native.client._BACK_OFF_SECONDS", (0.05,))

    async def go() -> None:
        async with serving() as door:
            lost = 0

            async def through(socket: ServerConnection) -> None:
                """A proxy whose first connection breaks after the first audio."""
                nonlocal lost
                async with connect(door.stream + "?chunk_ms=20", compression=None) as inner:
                    async for message in inner:
                        await socket.send(message)
                        if isinstance(message, bytes) and not lost:
                            lost += 1
                            socket.transport.abort()
                            return

            async with serve(through, "127.0.0.1", 0, subprotocols=["streamgen.v1"]) as proxy:  # type: ignore[list-item]
                port = proxy.sockets[0].getsockname()[1]
                kept, pace = Kept(), asyncio.create_task(door.session.pace(1.0))
                client = ListenClient(f"ws://127.0.0.1:{port}/v1/stream", {}, kept, Received(0.5), False)
                await asyncio.wait_for(client.listen(), 20)
            pace.cancel()
            assert (client.connections, lost, kept.samples.shape[1]) == (2, 1, RATE_HZ // 2)
            assert client.received.gaps <= 1  # the burst covers a short absence
            assert kept.samples.shape[1] % BLOCK == 0

    asyncio.run(go())


def test_a_private_session_is_asked_for_again_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.doors.native.client._BACK_OFF_SECONDS", (0.05,))
    asked: list[str] = []

    async def break_off(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.append(socket.request.path)
        await socket.send(json.dumps({"type": "hello", "session": "s-1234", "model": "sine"}))
        if len(asked) < 3:
            socket.transport.abort()
            return
        await socket.send(AudioHeader(0, 2, 0, 0, 0, 0, RATE_HZ, BLOCK).pack() + bytes(4 * BLOCK))
        await socket.wait_closed()

    async def go() -> None:
        async with serve(break_off, "127.0.0.1", 0, subprotocols=["streamgen.v1"]) as server:  # type: ignore[list-item]
            url = stream_url(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", {"session": "new", "token": "x y"})
            client = ListenClient(url, {}, Kept(), Received(0.02), False)
            await asyncio.wait_for(client.listen(), 20)
            assert client.connections == 3

    asyncio.run(go())
    assert asked == [f"/v1/stream?session={name}&token=x+y" for name in ("new", "s-1234", "s-1234")]


NO_STREAMGEN = ["hello there", "[1]", '{"type": "hello"', "[" * 20_000, '{"type": "gap", "samples": "many"}']


@pytest.mark.parametrize("text", NO_STREAMGEN)
def test_what_is_no_streamgen_is_one_line(text: str) -> None:
    async def other(socket: ServerConnection) -> None:
        await socket.send(text)
        await socket.wait_closed()

    async def go() -> None:
        async with serve(other, "127.0.0.1", 0, subprotocols=["streamgen.v1"]) as server:  # type: ignore[list-item]
            url = stream_url(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", {})
            with pytest.raises(WireError, match="this is no streamgen: it says"):
                await ListenClient(url, {}, Kept(), Received(1.0), False).listen()

    asyncio.run(go())


def test_an_underrun_is_late_music_not_lost_music(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bridge.client")

    async def go() -> None:
        async with serving() as door:
            kept = Kept()
            client = ListenClient(door.stream, {}, kept, Received(0.2), False)
            listening = asyncio.create_task(client.listen())
            while not client.hello:
                await asyncio.sleep(0.01)
            door.session.play(5)
            door.session.tell(Gap(5 * BLOCK, 24_000, "underrun"))
            door.session.play(5)
            await asyncio.wait_for(listening, 10)
            assert (client.underruns, client.received.gaps) == (1, 0)
            np.testing.assert_array_equal(kept.samples, to_s16(sine(0, 10 * BLOCK)) / np.float32(32_768))

    asyncio.run(go())
    assert "the server was late, the music paused (0.50 s)" in caplog.text


async def told_by(say: Callable[[ServerConnection], Awaitable[None]]) -> tuple[str, list[str]]:
    """Listen to somebody; returns how it ended, and what was said to the person."""
    lines: list[str] = []
    async with serve(say, "127.0.0.1", 0, subprotocols=["streamgen.v1"]) as server:  # type: ignore[list-item]
        url = stream_url(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", {"token": "sesame"})
        with pytest.raises(WireError) as problem:
            await ListenClient(url, {}, Kept(), Received(1.0), False, lines.append).listen()
    return str(problem.value), lines


def test_words_of_a_server_steer_no_terminal_and_forge_no_line() -> None:
    async def say(socket: ServerConnection) -> None:
        words = "\x1b]0;owned\x07\nstreamgen: forged" + "x" * 5_000
        for message in ({"type": "hello", "model": words}, {"type": "error", "message": words}, {"type": "goaway"}):
            await socket.send(json.dumps(message))
        await socket.close(1008, "\x1b[2Jno\nstreamgen: forged")

    end, lines = asyncio.run(told_by(say))
    assert end == "the server refuses: [2Jno streamgen: forged"
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 1_100 for line in lines)


def test_a_server_that_says_nothing_is_told_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.doors.native.client._HELLO_SECONDS", 0.3)

    async def nothing(socket: ServerConnection) -> None:
        await socket.wait_closed()

    end, _ = asyncio.run(told_by(nothing))
    assert "/v1/stream: it says nothing in 0.3 s" in end
    assert "sesame" not in end


def test_samples_that_are_no_numbers_are_refused() -> None:
    received = Received()
    for number in (np.nan, np.inf):
        with pytest.raises(WireError, match="no numbers"):
            received.take(AudioHeader(1, 2, 0, 0, 0, 0, RATE_HZ, 2).pack() + np.full(4, number, "<f4").tobytes())
