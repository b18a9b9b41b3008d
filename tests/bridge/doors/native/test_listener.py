"""One listener under load and attack: a stalled one, fifty, mutated messages, floods, bytes that are no frames."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridge.audio.conversion import to_s16
from bridge.doors.access import Limits
from bridge.doors.native.frames import DISCONTINUITY, HEADER_BYTES, AudioHeader

from ..mutations import mutated_web
from ..web_session import BLOCK, RATE_HZ, Open, calling, serving, sine


@asynccontextmanager
async def pacing(door: Open, factor: float = 1.0) -> AsyncIterator[None]:
    task = asyncio.create_task(door.session.pace(factor))
    try:
        yield
    finally:
        task.cancel()


class Reader:
    """Reads as fast as it can, and checks every sample against the sine."""

    def __init__(self) -> None:
        self.position = -1
        self.samples = self.breaks = self.wrong = 0
        self.told: list[dict[str, object]] = []

    def take(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.told.append(json.loads(message))
            return
        header = AudioHeader.unpack(message)
        self.breaks += self.position >= 0 and header.sample_position != self.position
        self.position = header.sample_position + header.frame_count
        self.samples += header.frame_count
        heard = np.frombuffer(message, "<i2", offset=HEADER_BYTES).reshape(-1, 2).T
        self.wrong += not np.array_equal(heard, to_s16(sine(header.sample_position, self.position)))

    async def listen(self, ws: ClientConnection) -> None:
        async for message in ws:
            self.take(message)

    def gaps(self) -> list[dict[str, object]]:
        return [message for message in self.told if message["type"] == "gap"]


async def lag(seconds: float) -> list[float]:
    """Processor time this loop spent, server and clients, each time before others had their turn; in seconds.

    Nothing here waits but in the loop, so that is how long it was blocked; wall time would count other processes too.
    """
    late, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.thread_time()
        await asyncio.sleep(0)
        late.append(time.thread_time() - began)
        await asyncio.sleep(0.001)
    return late


@pytest.mark.slow
@pytest.mark.parametrize("deaf", ["its system", "its program"])
def test_a_listener_that_stops_reading_costs_a_second_and_a_half_and_the_others_nothing(deaf: str) -> None:
    async def go() -> None:
        factor = 10.0  # three seconds of this test are thirty of music
        async with serving() as door, pacing(door, factor):
            good, bad = [await connect(door.stream, compression=None) for _ in range(2)]
            async with good, bad:
                reader, slow = Reader(), Reader()
                listening = asyncio.create_task(reader.listen(good))
                while slow.samples < 4_800:
                    slow.take(await bad.recv())
                stalled_at = slow.position
                if deaf == "its system":
                    bad.transport.pause_reading()
                await asyncio.sleep(3.0)
                if deaf == "its system":
                    bad.transport.resume_reading()
                now, caught_up = door.session.position, time.monotonic() + 10
                while slow.position < now and time.monotonic() < caught_up:
                    slow.take(await bad.recv())
                (gap,) = slow.gaps()
                assert slow.breaks == 1
                assert gap["reason"] == "slow_client"
                assert now - stalled_at > 25 * RATE_HZ
                lost = int(str(gap["samples"]))
                kept_seconds = (now - stalled_at - lost) / RATE_HZ
                print(f"kept {kept_seconds:.2f} s, lost {lost / RATE_HZ:.1f} s")
                assert kept_seconds <= 1.5 + 0.25  # what was made while this test woke up
                assert door.metrics.dropped_samples["websocket"] == lost
                listening.cancel()
                assert (reader.breaks, reader.wrong, reader.gaps()) == (0, 0, [])
                assert slow.wrong == 0

    asyncio.run(go())


def test_who_never_reads_again_is_closed_with_4008() -> None:
    async def go() -> None:
        async with serving(Limits(stall_seconds=0.5)) as door, pacing(door, 20.0):
            async with connect(door.stream, compression=None, close_timeout=0.1) as bad:
                bad.transport.pause_reading()
                while not door.metrics.refused["stalled"]:
                    await asyncio.sleep(0.02)
                bad.transport.resume_reading()
                with pytest.raises(ConnectionClosed) as closed:
                    await Reader().listen(bad)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4008
            while door.session.listeners:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(go(), 20))


@asynccontextmanager
async def slow_link(door: Open, seconds: float) -> AsyncIterator[str]:
    """A way to the door on which what a client sends, its pongs too, takes so long; yields its address."""
    loop, writers = asyncio.get_running_loop(), []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        while data := await reader.read(65_536):
            loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", door.web.port)
        writers.extend((writer, back))
        with suppress(ConnectionError):
            await asyncio.gather(carry(reader, back, seconds), carry(there, writer, 0.0))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"
        for writer in writers:
            writer.close()


@pytest.mark.slow
def test_a_client_that_asks_much_over_a_slow_link_goes_on_hearing() -> None:
    """Its pongs lie behind its requests: who stopped reading those would never send it another sample."""

    async def go() -> None:
        async with serving() as door, pacing(door), slow_link(door, 0.6) as url:
            async with connect(url, compression=None) as socket:
                reader = Reader()
                listening = asyncio.create_task(reader.listen(socket))
                for number in range(300):
                    await socket.send(json.dumps({"type": "get", "id": number}))
                    await asyncio.sleep(0.005)
                async with asyncio.timeout(20):
                    while sum(message["type"] == "ack" for message in reader.told) < 300:
                        await asyncio.sleep(0.01)
                    end = reader.samples + 2 * RATE_HZ
                    while reader.samples < end:
                        await asyncio.sleep(0.01)
                listening.cancel()
            assert (reader.breaks, reader.wrong, reader.gaps()) == (0, 0, [])
            assert door.metrics.refused["stalled"] == 0

    asyncio.run(go())


@pytest.mark.slow
def test_fifty_listeners_hear_every_sample() -> None:
    async def go() -> None:
        async with serving() as door, pacing(door):
            readers = [Reader() for _ in range(50)]
            sockets = [await connect(door.stream, compression=None) for _ in readers]
            tasks = [asyncio.create_task(reader.listen(ws)) for reader, ws in zip(readers, sockets, strict=True)]
            began = time.process_time()
            await asyncio.sleep(5.0)
            cost = (time.process_time() - began) / 5.0 / 50
            print(f"{1000 * cost:.2f} ms of processor a second for a listener, its client included")
            for task in tasks:
                task.cancel()
            for reader in readers:
                assert (reader.breaks, reader.wrong, reader.gaps()) == (0, 0, [])
                assert reader.samples > 4.5 * RATE_HZ
            for ws in sockets:
                await ws.close()

    asyncio.run(go())


@pytest.mark.usefixtures("no_old_garbage")
@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutated_messages_crash_nothing_and_hold_nobody_up(count: int) -> None:
    async def go() -> None:
        limits = Limits(messages_per_second=1e9, burst_messages=10**9)
        async with serving(limits) as door, pacing(door):
            clients = 4
            work = [asyncio.create_task(torment(door, count // clients, seed)) for seed in range(clients)]
            late: list[float] = []
            while not all(task.done() for task in work):
                late += await lag(0.2)
            answered = sum(door.metrics.errors.values()) + door.metrics.commands["websocket"]
            for task in work:
                task.result()
            print(f"{answered} answered, lag p99 {1000 * np.quantile(late, 0.99):.1f} max {1000 * max(late):.1f} ms")
            assert answered >= count
            assert max(late) < 0.05
            async with calling(door.stream) as other:
                assert (await other.ask(type="ping", t="alive"))["t"] == "alive"

    asyncio.run(go())


async def torment(door: Open, count: int, seed: int) -> None:
    draw = random.Random(seed)
    async with connect(door.stream, compression=None, max_size=None) as ws:

        async def read() -> None:
            async for message in ws:
                if isinstance(message, str) and '"the end"' in message:
                    return

        reading = asyncio.create_task(read())
        for _ in range(count):
            await ws.send(mutated_web(draw))
            await asyncio.sleep(0)
        await ws.send(json.dumps({"type": "ping", "t": "the end"}))
        await asyncio.wait_for(reading, 60)


def test_more_messages_than_allowed_are_refused_and_the_rest_done() -> None:
    async def go() -> None:
        limits = Limits(messages_per_second=10, burst_messages=20)
        async with serving(limits) as door, calling(door.stream) as caller:
            for number in range(60):
                await caller.socket.send(json.dumps({"type": "ping", "id": number}))
            answers = [await caller.answer() for _ in range(60)]
            assert [answer["id"] for answer in answers] == list(range(60))
            refused = [answer for answer in answers if answer["type"] == "error"]
            assert {answer["code"] for answer in refused} == {"too_fast"}
            assert 35 <= len(refused) <= 40
            assert door.metrics.refused["message_rate"] == len(refused)

    asyncio.run(go())


def raw_client(door: Open) -> socket.socket:
    """A WebSocket by hand, for what no library would send."""
    raw = socket.create_connection(("127.0.0.1", door.web.port))
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    place = f"Host: 127.0.0.1:{door.web.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    raw.sendall(f"GET /v1/stream HTTP/1.1\r\n{place}{key}\r\n".encode())
    raw.setblocking(False)
    return raw


EMPTY = b"\x80\0\0\0\0"


FRAMES = [
    b"\x89\xfd" + b"\0" * 129,
    *(pytest.param(bytes([one]) + EMPTY, marks=pytest.mark.slow) for one in (0x81, 0x89, 1)),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_flood_of_tiny_frames_holds_nobody_up(frame: bytes) -> None:
    async def go() -> None:
        async with serving() as door, pacing(door):
            reader = Reader()
            async with connect(door.stream, compression=None) as ws:
                listening = asyncio.create_task(reader.listen(ws))
                raw = raw_client(door)
                await asyncio.sleep(0.2)
                loop, flood = asyncio.get_running_loop(), frame * (2**18 // len(frame))

                async def pour() -> None:
                    try:
                        for _ in range(20):
                            await loop.sock_sendall(raw, flood)
                    except ConnectionError:
                        return

                pouring = asyncio.create_task(pour())
                late = await lag(1.5)
                print(f"lag p99 {1000 * np.quantile(late, 0.99):.1f} max {1000 * max(late):.1f} ms")
                pouring.cancel()
                raw.close()
                listening.cancel()
                assert max(late) < 0.05
                assert (reader.breaks, reader.gaps()) == (0, [])

    asyncio.run(go())


def test_bytes_that_are_no_frames_end_their_connection_only() -> None:
    async def go() -> None:
        draw = random.Random(1)
        async with serving() as door, pacing(door), calling(door.stream) as other:
            loop = asyncio.get_running_loop()
            for _ in range(150):
                raw = raw_client(door)
                await asyncio.sleep(0.002)
                try:
                    await loop.sock_sendall(raw, draw.randbytes(draw.choice([1, 2, 10, 200, 5_000])))
                except ConnectionError:
                    assert door.metrics.errors["internal"] == 0
                if draw.random() < 0.5:
                    with suppress(OSError):  # reset already
                        raw.shutdown(socket.SHUT_WR)
                raw.close()
            for _ in range(500):
                if door.access.connections.total() == 1:
                    break
                await asyncio.sleep(0.01)
            assert door.access.connections.total() == 1
            assert door.access.clients == {"127.0.0.1": 1}
            assert len(door.session.listeners) == 1
            assert door.metrics.errors["internal"] == 0
            assert (await other.ask(type="ping"))["type"] == "ack"

    asyncio.run(go())


def test_audio_that_comes_late_and_in_one_go_is_nobodys_gap() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as caller:
            for _ in range(3):  # as after a second in which the event loop had no turn
                door.session.play(48)
                await caller.hear(door.session.position - 1_920)
            assert [message["type"] for message in caller.told] == ["hello"]
            heard = caller.pcm()
            np.testing.assert_array_equal(heard, to_s16(sine(0, heard.shape[1])))

    asyncio.run(go())


async def left(door: Open) -> None:
    while door.session.listeners:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 96_000])
def test_a_change_of_rate_goes_on_where_the_old_one_ended_while_others_hear_on(rate_hz: int) -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream + "?codec=f32le") as caller, calling(door.stream) as other:
            door.session.play(15)
            await caller.hear(12 * BLOCK)
            await caller.ask(type="audio", sample_rate_hz=rate_hz)
            before = len(caller.frames)
            for _ in range(6):
                door.session.play(10)
                await other.hear(door.session.position - 2 * BLOCK)
            await caller.ask(type="ping")
            old, new = caller.frames[:before], caller.frames[before:]
            end = old[-1][0].sample_position + old[-1][0].frame_count
            while new[0][0].sample_rate_hz == RATE_HZ:  # what was pending
                end = new[0][0].sample_position + new[0][0].frame_count
                new = new[1:]
            assert {header.sample_rate_hz for header, _ in new} == {rate_hz}
            assert abs(new[0][0].sample_position * RATE_HZ / rate_hz - end) <= 2
            assert [header.flags for header, _ in new] == [0] * len(new)
            positions = [header.sample_position for header, _ in new]
            assert positions == [positions[0] + sum(h.frame_count for h, _ in new[:n]) for n in range(len(new))]
            heard = np.frombuffer(b"".join(payload for _, payload in new), "<f4").reshape(-1, 2).T
            inner = slice(rate_hz // 20, -rate_hz // 20)
            expected = sine(positions[0], positions[0] + heard.shape[1], rate_hz)
            np.testing.assert_allclose(heard[:, inner], expected[:, inner], atol=0.05)
            np.testing.assert_array_equal(other.pcm(), to_s16(sine(0, other.pcm().shape[1])))

    asyncio.run(go())


def test_who_wants_sound_again_begins_with_what_is_due_and_the_session_knows_who_wants_any() -> None:
    async def go() -> None:
        async with serving() as door, calling(door.stream) as caller:
            door.session.play(20)
            await caller.hear(18 * BLOCK)
            (listener,) = door.session.listeners
            await caller.ask(type="audio", enabled=False)
            assert listener.wants_audio is False
            frames = len(caller.frames)
            door.session.play(50)
            await caller.ask(type="audio", enabled=True)
            assert listener.wants_audio is True
            door.session.play(2)
            await caller.hear(28 * BLOCK)
            header = caller.frames[frames][0]
            assert (header.sample_position, header.flags) == (60 * BLOCK, DISCONTINUITY), "the burst, and a break"
            assert door.session.listeners == [listener]

    asyncio.run(go())


def test_a_long_pause_is_no_stall() -> None:
    async def go() -> None:
        async with serving(Limits(stall_seconds=0.3)) as door, calling(door.stream) as caller:
            door.session.play(40)
            await caller.hear(38 * BLOCK)
            await asyncio.sleep(0.8)
            assert (await caller.ask(type="ping"))["type"] == "ack"
            door.session.play(2)
            await caller.hear(40 * BLOCK)
            assert door.metrics.refused["stalled"] == 0

    asyncio.run(go())


def test_fifty_are_written_to_in_one_turn_and_no_task_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.doors.limits.TURN_SECONDS", 60.0)  # a busy machine spends 5 ms on a few of them

    async def go() -> None:
        async with serving() as door:
            sockets = [await connect(door.stream, compression=None) for _ in range(50)]
            while len(door.session.listeners) < 50:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            door.session.play(2)
            queued = sum(len(listener._outbox) for listener in door.web.listeners)
            waiting = sum(listener._ready.is_set() for listener in door.web.listeners)
            assert (queued, waiting) == (0, 0)
            for socket_ in sockets:
                await socket_.close()
            await left(door)

    asyncio.run(go())


def test_a_fault_in_one_listeners_audio_ends_its_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, samples: object) -> bytes:
        raise RuntimeError("the codec is broken")

    monkeypatch.setattr("bridge.doors.native.codecs._F32.encode", broken)

    async def go() -> None:
        async with serving() as door, calling(door.stream + "?codec=f32le") as one, calling(door.stream) as other:
            door.session.play(4)
            await other.hear(4 * BLOCK)
            with pytest.raises(ConnectionClosed) as closed:
                await one.until("never")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1011
            assert door.metrics.errors["internal"] == 1
            door.session.play(2)
            await other.hear(6 * BLOCK)

    asyncio.run(go())
