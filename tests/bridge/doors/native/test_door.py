"""The web door over real sockets on loopback."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from pathlib import Path
from socket import AF_INET

import numpy as np
import pytest
import soundfile
import soxr
from pythonosc.osc_message import OscMessage
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bridge.audio.conversion import to_s16
from bridge.doors.access import Access, Limits
from bridge.doors.door import Service
from bridge.doors.native.door import NativeDoor
from bridge.doors.native.frames import DISCONTINUITY, PROMPT_CHANGE
from bridge.errors import BridgeError
from bridge.metrics import Metrics
from bridge.session.commands import Action, AudioPrompt, Follow, Set, Transport
from bridge.session.events import Gap, Goaway, Meter, PlayerState, TransportCause, Transported
from bridge.session.timeline import Moment
from bridge.settings import Settings

from ..web_session import (
    BLOCK,
    MODEL_RATE_HZ,
    RATE_HZ,
    TABLE,
    Caller,
    SineSession,
    SineSessions,
    calling,
    serving,
    sine,
)


def test_hello_tells_everything_that_can_be_asked() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream, subprotocols=["streamgen.v1"]) as caller:
            hello = caller.hello
            assert caller.socket.subprotocol == "streamgen.v1"
            assert (hello["protocol"], hello["session"], hello["model"]) == ("streamgen.v1", "live", "sine")
            assert hello["audio"]["codec"] == "s16le"
            assert (hello["audio"]["sample_rate_hz"], hello["audio"]["channels"]) == (RATE_HZ, 2)
            assert hello["codecs"][:2] == ["s16le", "f32le"]
            assert [row["name"] for row in hello["parameters"]] == list(TABLE)
            assert (hello["sample_rate_hz"], hello["model_rate_hz"]) == (RATE_HZ, MODEL_RATE_HZ)
            assert hello["state"]["values"]["guidance_scale"] == 3.0
            assert (hello["state"]["playing"], hello["state"]["state"]) == (True, "playing")

    asyncio.run(go())


def test_audio_is_the_sessions_to_the_sample_from_the_burst_on() -> None:
    async def go() -> None:
        async with serving() as door:
            door.session.play(15)  # the ten newest are not yet due: the burst
            async with calling(door.stream) as caller:
                door.session.play(20)
                await caller.hear(30 * BLOCK)
            start = 5 * BLOCK
            heard = caller.pcm()
            np.testing.assert_array_equal(heard, to_s16(sine(start, start + heard.shape[1])))
            position = start
            for number, (header, _) in enumerate(caller.frames):
                assert (header.sequence, header.sample_position, header.flags) == (number, position, 0)
                assert header.server_time_us == position * 1_000_000 // RATE_HZ
                position += header.frame_count

    asyncio.run(go())


def test_f32_is_bit_exact_and_asked_for_in_the_url() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?codec=f32le&chunk_ms=20") as caller:
            door.session.play(5)
            await caller.hear(5 * BLOCK)
            heard = np.frombuffer(b"".join(payload for _, payload in caller.frames), "<f4").reshape(-1, 2).T
            np.testing.assert_array_equal(heard, sine(0, 5 * BLOCK))

    asyncio.run(go())


def test_a_change_of_format_loses_no_sample() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as caller:
            door.session.play(5)  # 2.5 chunks: half a chunk is pending when the format changes
            await caller.hear(4 * BLOCK)
            assert (await caller.ask(type="audio", codec="f32le", chunk_ms=20, id="f"))["audio"]["codec"] == "f32le"
            door.session.play(4)
            await caller.hear(9 * BLOCK)
            position = 0
            for header, payload in caller.frames:
                assert (header.sample_position, header.flags) == (position, 0)
                frames = np.frombuffer(payload, "<i2" if header.codec == 0 else "<f4").reshape(-1, 2).T
                expected = sine(position, position + header.frame_count)
                np.testing.assert_array_equal(frames, to_s16(expected) if header.codec == 0 else expected)
                position += header.frame_count
            assert {header.codec for header, _ in caller.frames} == {0, 1}

    asyncio.run(go())


@pytest.mark.parametrize("rate_hz", [8_000, 32_000, 44_100, 96_000])
def test_another_rate_is_the_whole_resampled_and_its_positions_never_drift(rate_hz: int) -> None:
    async def go() -> None:
        async with serving() as door, calling(f"{door.stream}?codec=f32le&sample_rate_hz={rate_hz}") as caller:
            for _ in range(12):  # a second at once would overflow the queue
                door.session.play(10)
                await caller.ask(type="ping")
            await caller.hear(round(1.9 * rate_hz))
            heard = np.frombuffer(b"".join(payload for _, payload in caller.frames), "<f4").reshape(-1, 2).T
            whole = soxr.resample(sine(0, 120 * BLOCK).T, RATE_HZ, rate_hz, quality="HQ").T
            np.testing.assert_allclose(heard, whole[:, : heard.shape[1]], atol=1e-5)
            positions = [header.sample_position for header, _ in caller.frames]
            assert positions == [sum(h.frame_count for h, _ in caller.frames[:n]) for n in range(len(positions))]
            assert {header.sample_rate_hz for header, _ in caller.frames} == {rate_hz}

    asyncio.run(go())


def test_commands_are_carried_out_answered_and_told_to_all() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as one, calling(door.stream) as two:
            answer = await one.ask(type="set", values={"prompt/1/text": "techno", "top_k": 9.0}, at_sample=64_000, id=7)
            assert answer == {"type": "ack", "id": 7, "applied_at_sample": 64_000, "rate_hz": RATE_HZ}
            told = await two.until("changed")
            assert told["values"] == {"prompt/1/text": "techno", "top_k": 9}
            assert (told["by"], told["applied_at_sample"]) == ("websocket 1", 64_000)
            assert door.session.commands == [
                Set({"prompt/1/text": "techno", "top_k": 9}, "websocket 1", Moment(64_000))
            ]
            assert (await two.ask(type="transport", action="pause"))["type"] == "ack"
            told = await one.until("transport")
            assert (told["action"], told["state"]) == ("pause", "paused")
            assert door.session.commands[1] == Transport(Action.PAUSE, "websocket 2")
            assert (await one.ask(type="get", name="top_k", id="x"))["values"] == {"top_k": 9}
            assert len((await one.ask(type="get"))["values"]) == len(TABLE)
            assert (await one.ask(type="ping", t=1.5))["t"] == 1.5

    asyncio.run(go())


def test_what_is_wrong_is_answered_and_the_connection_stays() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as caller:
            cases = [
                ({"type": "set", "values": {"temperature": 9}, "id": 1}, "bad_value"),
                ({"type": "set", "values": {"nonsense": 9}, "id": 1}, "bad_value"),
                ({"type": "set", "values": {"prompt/1/text": "refused"}, "id": 1}, "refused"),
                ({"type": "set", "values": {"seed": 10**400}, "id": 1}, "bad_value"),
                ({"type": "set", "values": {"prompt/1/text": "\ud800"}, "id": 1}, "bad_value"),
                ({"type": "transport", "action": "explode", "id": 1}, "bad_value"),
                ({"type": "dance", "id": 1}, "unknown_type"),
                ({"type": "audio", "codec": "mp3", "id": 1}, "bad_value"),
                ({"type": "audio", "sample_rate_hz": 7_999, "id": 1}, "bad_value"),
                ({"type": "audio", "chunk_ms": 201, "id": 1}, "bad_value"),
                ({"type": "audio_prompt", "bytes": 2**40, "id": 1}, "bad_value"),
            ]
            for message, code in cases:
                answer = await caller.ask(**message)
                assert (answer["type"], answer["id"], answer["code"]) == ("error", 1, code), message
            for text in ("", "[]", "{", "[" * 60_000, '{"type":"set","values":{"top_k":NaN}}'):
                await caller.socket.send(text)
                assert (await caller.until("error"))["code"] == "bad_json"
            await caller.socket.send(b"\x00\x01")
            assert (await caller.until("error"))["code"] == "unexpected_binary"
            assert (await caller.ask(type="ping"))["type"] == "ack"
            assert door.session.commands == []
            assert door.metrics.errors["bad_json"] == 5

    asyncio.run(go())


def test_events_become_messages_and_meters_stay_in_the_house() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as caller:
            door.session.realtime_factor = float("inf")
            for event in (Meter(-1, -2), Gap(640, 320, "underrun"), door.session.stats()):
                door.session.tell(event)
            gap, stats = [await caller.next() for _ in range(2)]
            assert gap == {"type": "gap", "from_sample": 640, "samples": 320, "reason": "underrun", "rate_hz": RATE_HZ}
            assert isinstance(stats, dict)
            assert (stats["type"], stats["realtime_factor"], stats["window_position"]) == ("stats", None, 700)
            door.session.tell(Transported(TransportCause.AUDIO_PROMPT, PlayerState.PAUSED, "osc", 5))
            told = await caller.next()
            assert isinstance(told, dict)
            assert (told["action"], told["state"]) == ("audio_prompt", "paused"), "nothing plays for that"

    asyncio.run(go())


def test_breaks_and_changes_of_prompt_are_flagged() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?chunk_ms=20") as caller:
            door.session.play(2)
            door.session.play(1, prompt_change=True)
            door.session.position += 10 * BLOCK
            door.session.play(2)
            await caller.hear(5 * BLOCK)
            flags = {header.sample_position // BLOCK: header.flags for header, _ in caller.frames}
            assert flags == {0: 0, 1: 0, 2: PROMPT_CHANGE, 13: DISCONTINUITY, 14: 0}

    asyncio.run(go())


def test_a_client_that_only_steers_gets_no_audio_until_it_asks() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?enabled=0") as caller:
            door.session.play(20)
            await caller.ask(type="ping")
            assert caller.frames == []
            await caller.ask(type="audio", enabled=True)
            door.session.play(2)
            await caller.hear(12 * BLOCK)
            assert caller.frames[0][0].sample_position == 10 * BLOCK  # the burst
            assert len(door.session.listeners) == 1

    asyncio.run(go())


def test_a_pause_gives_out_what_was_pending() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?chunk_ms=200") as caller:
            door.session.play(3)
            await caller.ask(type="transport", action="pause")
            await caller.hear(3 * BLOCK)
            assert [header.frame_count for header, _ in caller.frames] == [3 * BLOCK]

    asyncio.run(go())


def file_bytes(kind: str = "WAV", seconds: float = 1.0, rate_hz: int = 22_050, channels: int = 2) -> bytes:
    out = io.BytesIO()
    samples = np.tile(sine(0, round(seconds * rate_hz), rate_hz)[:1].T, (1, channels))
    soundfile.write(out, samples, rate_hz, format=kind, subtype=None if kind == "OGG" else "PCM_16")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_an_audio_prompt_comes_as_the_bytes_of_a_file(kind: str) -> None:
    async def go() -> None:
        data = file_bytes(kind, seconds=3.0)
        async with serving(Limits(message_bytes=8_192)) as door, calling(door.stream) as caller:
            assert len(data) > 8_192
            await caller.socket.send(json.dumps({"type": "audio_prompt", "bytes": len(data), "id": "p"}))
            await caller.socket.send(data)
            assert (await caller.until("ack"))["ready"] is True
            assert await caller.until("ack") == {"type": "ack", "id": "p", "applied_at_sample": 0, "rate_hz": RATE_HZ}
            prompt = door.session.commands[0]
            assert isinstance(prompt, AudioPrompt)
            assert (prompt.rate_hz, prompt.samples.shape) == (22_050, (2, 66_150))
            np.testing.assert_allclose(prompt.samples[1, 500:-500], sine(0, 66_150, 22_050)[0, 500:-500], atol=0.05)
            assert (await caller.ask(type="audio_prompt", bytes=9, id="q"))["ready"] is True
            await caller.socket.send(b"not audio")
            assert (await caller.until("error"))["code"] == "bad_audio"

    asyncio.run(go())


@pytest.mark.parametrize("kind", ["melody", "style"])
def test_a_melody_or_style_comes_as_the_bytes_of_a_file_and_ends_with_none(kind: str) -> None:
    async def go() -> None:
        data = file_bytes(seconds=3.0)
        async with serving(Limits(message_bytes=8_192)) as door, calling(door.stream) as caller:
            await caller.socket.send(json.dumps({"type": kind, "bytes": len(data), "at_sample": 96_000, "id": "m"}))
            await caller.socket.send(data)
            assert (await caller.until("ack"))["ready"] is True
            assert (await caller.until("ack"))["id"] == "m"
            assert (await caller.ask(type=kind, bytes=0, id="n"))["id"] == "n"
            begins, ends = door.session.commands
            assert isinstance(begins, Follow)
            assert begins.samples is not None
            assert (begins.kind, begins.rate_hz, begins.samples.shape) == (kind, 22_050, (2, 66_150))
            assert begins.at == Moment(sample=96_000)
            assert isinstance(ends, Follow)
            assert (ends.kind, ends.samples, ends.at) == (kind, None, None)
            refused = await caller.ask(type=kind, bytes=2**40, id="o")
            assert refused["code"] == "bad_value"
            assert (await caller.ask(type=kind, bytes=9, id="p"))["ready"] is True
            await caller.socket.send(b"not audio")
            assert f"the {kind} is no WAV" in (await caller.until("error"))["message"]

    asyncio.run(go())


def test_long_messages_that_nobody_announced_end_the_connection() -> None:
    async def go(message: str | bytes | list[bytes]) -> None:
        async with serving(Limits(message_bytes=8_192)) as door, calling(door.stream) as caller:
            await caller.socket.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                await caller.until("never")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
            assert door.metrics.refused["message_bytes"] == 1

    for message in ("x" * 300_000, b"x" * 300_000, [b"x" * 1_000] * 300):
        asyncio.run(go(message))


def test_who_may_not_come_in_is_told_why_and_counted() -> None:
    async def refused(url: str, **options: object) -> tuple[int, str]:
        with pytest.raises(ConnectionClosed) as closed:
            async with connect(url, **options) as socket:  # type: ignore[arg-type]
                await socket.recv()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason

    async def go() -> None:
        async with serving(token="sésame".replace("é", "e"), allowed_origins=("https://stage.example",)) as door:
            good = door.stream + "?token=sesame"
            assert (await refused(door.stream))[0] == 1008
            code, reason = await refused(door.stream + "?token=sesam")
            assert (code, "wrong" in reason) == (1008, True)
            for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"):
                code, reason = await refused(good, origin=origin)
                assert (code, "pages of" in reason) == (1008, True), origin
            for origin in (f"http://127.0.0.1:{door.web.port}", "http://localhost:3000", "https://stage.example"):
                async with calling(good, origin=origin) as caller:
                    assert caller.hello["type"] == "hello"
            async with calling(door.stream, additional_headers={"Authorization": "Bearer sesame"}) as caller:
                assert caller.hello["type"] == "hello"
            assert dict(door.metrics.refused) == {"token": 2, "origin": 4}
            assert (await refused(good + "&session=full"))[0] == 1013
            assert (await refused(good + "&session=../x"))[0] == 1008
            assert (await refused(good + "&codec=mp3"))[0] == 1008

    asyncio.run(go())


def test_places_are_limited_in_all_and_by_address() -> None:
    async def go() -> None:
        async with serving(Limits(clients_per_address=1)) as door, calling(door.stream):
            with pytest.raises(ConnectionClosed) as closed:
                async with connect(door.stream) as socket:
                    await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
            assert door.metrics.refused["clients_per_address"] == 1

        async with serving(Limits(clients_per_address=1)) as door:
            for _ in range(3):  # a place is free again when its client has gone
                async with calling(door.stream):
                    assert door.access.clients.total() == 1
                while door.access.clients.total():
                    await asyncio.sleep(0.001)

    asyncio.run(go())


def test_a_private_session_is_not_the_live_one() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?session=new") as caller:
            assert caller.hello["session"] == "new"
            await caller.ask(type="set", values={"top_k": 1})
            assert door.session.commands == []

    asyncio.run(go())


def test_the_end_says_goodbye() -> None:
    async def go() -> None:
        async with serving() as door:
            callers = [Caller(await connect(door.stream)) for _ in range(3)]
            for caller in callers:
                await caller.until("hello")
            closing = asyncio.create_task(door.web.close("the server is stopping"))
            for caller in callers:
                assert (await caller.until("goaway"))["reason"] == "the server is stopping"
                with pytest.raises(ConnectionClosed) as closed:
                    await caller.next()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1001
            await closing
            assert door.session.listeners == []

    asyncio.run(go())


def test_the_end_does_not_wait_for_who_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its farewell stands behind what it does not read: the service was gone only when it counted as stalled."""
    monkeypatch.setattr("bridge.doors.native.door._CLOSE_SECONDS", 0.2)

    async def go() -> None:
        async with serving(Limits(stall_seconds=600)) as door:
            place = socket.socket()
            place.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            place.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(place, ("127.0.0.1", door.web.port))
            head = f"GET /v1/stream?codec=f32le HTTP/1.1\r\nHost: 127.0.0.1:{door.web.port}\r\nConnection: Upgrade\r\n"
            key = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            await loop.sock_sendall(place, f"{head}{key}\r\n".encode())
            pace = asyncio.create_task(door.session.pace(20))
            async with asyncio.timeout(60):
                while not any(listener._held_since for listener in door.web.listeners):
                    await asyncio.sleep(0.02)
            async with asyncio.timeout(60):  # of 600
                await door.web.close("the server is stopping")
            pace.cancel()
            place.close()
            assert door.session.listeners == []

    asyncio.run(go())


def test_a_session_that_ends_closes_its_listeners() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as caller:
            door.session.tell(Goaway("nobody listened"))
            assert (await caller.until("goaway"))["reason"] == "nobody listened"
            with pytest.raises(ConnectionClosed) as closed:
                await caller.next()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001

    asyncio.run(go())


def test_a_fault_of_ours_is_logged_counted_and_ends_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as one, calling(door.stream) as other:
            door.session.do = None  # type: ignore[method-assign, assignment]
            await one.socket.send('{"type":"transport","action":"play"}')
            with pytest.raises(ConnectionClosed) as closed:
                await one.until("never")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1011
            assert (await other.ask(type="ping"))["type"] == "ack"
            assert door.metrics.errors["internal"] == 1

    asyncio.run(go())
    assert "the connection of 127.0.0.1 failed" in caplog.text


def test_oscquery_listens() -> None:
    async def go() -> None:
        async with serving() as door, connect(f"ws://127.0.0.1:{door.web.port}/") as socket:
            await socket.send("nonsense")
            await socket.send(json.dumps({"COMMAND": "LISTEN", "DATA": "/streamgen/temperature"}))
            while not door.metrics.commands["oscquery"]:
                await asyncio.sleep(0.001)
            await door.session.do(Set({"temperature": 1.25, "top_k": 3}, "osc"))
            packet = await asyncio.wait_for(socket.recv(), 5)
            assert isinstance(packet, bytes)
            message = OscMessage(packet)
            assert (message.address, message.params) == ("/streamgen/temperature", [1.25])

    asyncio.run(go())


def test_the_page_comes_from_a_fixed_table(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<h1>page</h1>")
    (tmp_path / "secret.txt").write_text("secret")

    async def go() -> None:
        async with serving(page=tmp_path) as door:
            status, headers, body = await door.http("/", Accept="text/html")
            assert (status, headers["Content-Type"], body) == (200, "text/html; charset=utf-8", b"<h1>page</h1>")
            for target in ("/secret.txt", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/[", "*"):
                assert (await door.http(target))[0] == 404, target

    asyncio.run(go())


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", "Address already in use; choose another with --port"),
        ("192.0.2.1", "Cannot assign requested address; choose another with --host"),  # kept for documentation
    ],
)
def test_where_the_door_cannot_open_one_line_says_what_to_choose(host: str, why: str) -> None:
    async def go() -> None:
        async with serving() as door:
            port = door.web.port
            other = NativeDoor(Service(Settings(host=host, port=port), Access(host, token="secret"), Metrics()))
            with pytest.raises(BridgeError, match=f"the page cannot listen at {host}:{port}: {why}"):
                await other.open(SineSessions(SineSession()))
            await other.close("it never opened")

    asyncio.run(go())


def test_it_tells_where_it_is_and_who_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        async with serving(token="a b") as door, calling(door.stream + "?token=a%20b"):
            address = f"127.0.0.1:{door.web.port}"
            assert dict(door.web.places()) == {
                "page": f"http://{address}/", "websocket": f"ws://{address}/v1/stream"
            }  # fmt: skip
            assert dict(door.web.stats()) == {"listeners": 1, "connections": 1}
            async with calling(str(door.web.places()["websocket"]) + "?token=a+b") as caller:
                assert caller.hello["session"] == "live"
        async with serving(host="0.0.0.0", token="secret") as door:
            places = door.web.places()
            assert places["page"] == f"http://127.0.0.1:{door.web.port}/", "which a browser can reach"
            assert places["page_for_others"] == f"http://192.168.1.20:{door.web.port}/", "which a phone can"

    monkeypatch.setattr("bridge.doors.native.door.own_address", {AF_INET: "192.168.1.20"}.__getitem__)
    asyncio.run(go())
