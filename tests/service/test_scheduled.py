"""Changes at a time, through the real doors into the real engine: what is told is what is heard, to the sample."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

import streamgen
from bridge.audio.output import Output
from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.native.door import NativeDoor
from bridge.doors.native.frames import HEADER_BYTES, AudioHeader
from bridge.doors.osc.codec import decode, encode, encode_bundle
from bridge.doors.osc.door import OscDoor
from bridge.metrics import Metrics
from bridge.session.engine_thread import EngineThread
from bridge.session.live_session import LiveSession
from bridge.session.parameters import Parameters, session_table, stream_controls
from bridge.settings import Settings
from streamgen.config import Value
from streamgen.testing import tiny_checkpoint

RATE_HZ = 48_000
FIRST: dict[str, Value] = {"prompt/1/text": "piano", "seed": 4, "lead_seconds": 0.6}


class Musician:
    """A WebSocket listener that keeps what it hears and is told, and an OSC socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.start: int | None = None
        self.pieces: list[np.ndarray] = []
        self.told: list[dict[str, Any]] = []
        self.newest: AudioHeader | None = None
        self.osc: asyncio.DatagramTransport | None = None
        self.pongs = asyncio.Event()

    async def listen(self) -> None:
        async for message in self.socket:
            if isinstance(message, str):
                self.told.append(json.loads(message))
                continue
            self.newest = AudioHeader.unpack(message)
            self.start = self.newest.sample_position if self.start is None else self.start
            assert self.newest.sample_position == self.end
            self.pieces.append(np.frombuffer(message, "<f4", offset=HEADER_BYTES).reshape(-1, 2).T)

    @property
    def end(self) -> int:
        return (self.start or 0) + sum(piece.shape[1] for piece in self.pieces)

    def sample_at(self, when: float) -> float:
        """The sample due at a time, Unix seconds, by the header of the newest frame."""
        assert self.newest is not None
        return self.newest.sample_position + (when - self.newest.server_time_us / 1e6) * RATE_HZ

    async def set(self, at_sample: int | None = None, **values: Value) -> int:
        """Set over the WebSocket; returns where it was told to apply."""
        number = len(self.told)
        message = {"type": "set", "id": number, "values": values}
        await self.socket.send(json.dumps(message if at_sample is None else message | {"at_sample": at_sample}))
        async with asyncio.timeout(20):
            while True:
                for told in self.told:
                    if told.get("id") == number:
                        return int(told["applied_at_sample"])
                await asyncio.sleep(0.005)

    async def ping(self) -> float:
        """Ask over OSC; returns after how many seconds the answer came."""
        assert self.osc is not None
        self.pongs.clear()
        began = time.monotonic()
        self.osc.sendto(encode("/streamgen/ping"))
        await asyncio.wait_for(self.pongs.wait(), 20)
        return time.monotonic() - began

    def changed(self, name: str) -> list[tuple[int, Any]]:
        return [(m["applied_at_sample"], m["values"][name]) for m in self.told if name in m.get("values", ())]


class Udp(asyncio.DatagramProtocol):
    def __init__(self, musician: Musician) -> None:
        self.musician = musician

    def datagram_received(self, data: bytes, _address: object) -> None:
        if decode(data)[0].address == "/streamgen/ping":
            self.musician.pongs.set()


@pytest.fixture(scope="module")
def model() -> streamgen.Model:
    return streamgen.load_model(str(tiny_checkpoint("causal")), device="cpu", precision="fp32")


@asynccontextmanager
async def on_stage(model: streamgen.Model) -> AsyncIterator[Musician]:
    loop = asyncio.get_running_loop()
    engine = EngineThread(model, loop, 4)
    live = await LiveSession.open("live", engine, RATE_HZ, FIRST)
    service = Service(Settings(port=0, osc_port=0), Access(), Metrics())
    osc, web = OscDoor(service), NativeDoor(service)
    for door in (osc, web):
        await door.open(Only(live))
    url = f"ws://127.0.0.1:{web.port}/v1/stream?codec=f32le&chunk_ms=20"
    async with connect(url, compression=None, max_size=None) as socket:
        musician = Musician(socket)
        listening = asyncio.create_task(musician.listen())
        musician.osc, _ = await loop.create_datagram_endpoint(
            lambda: Udp(musician), remote_addr=("127.0.0.1", osc.places()["osc_port"])
        )
        try:
            yield musician
        finally:
            listening.cancel()
            musician.osc.close()
    for door in (osc, web):
        await door.close("the test is over")
    await live.close("the test is over")
    await engine.close()


@dataclass
class Only:
    """Sessions of which there is one."""

    live: LiveSession

    async def get(self, _name: str) -> LiveSession:
        return self.live


def rendered(model: streamgen.Model, changes: list[tuple[int, dict[str, Value]]], samples: int) -> np.ndarray:
    """The same music without doors and clocks: one stream, told everything beforehand, through the output chain."""
    values = Parameters(session_table(model), FIRST).values
    stream = model.open_stream(**stream_controls(values, values))
    step = 5 * model.hop_samples
    output = Output(model.sample_rate_hz, RATE_HZ, model.channels, step)
    output.set(values)
    for at, changed in changes:
        values |= changed
        if controls := stream_controls(values, changed):
            assert output.session_sample(stream.set(at_sample=output.model_sample(at), **controls)) == at
        output.set(changed, at)
    parts = [output.process(stream.read(step).samples, fade_in=True)]
    while output.position < samples:
        parts.append(output.process(stream.read(step).samples))
    return np.concatenate(parts, axis=1)


def test_a_bundle_two_seconds_ahead_and_at_sample_land_where_they_say_and_delay_nothing(model: streamgen.Model) -> None:
    hop = model.hop_samples * RATE_HZ // model.sample_rate_hz

    async def scene() -> Musician:
        async with on_stage(model) as me:
            while me.end < RATE_HZ // 2:
                await asyncio.sleep(0.01)
            at = time.time() + 2
            wanted = me.sample_at(at)
            assert me.osc is not None
            inner = [encode("/streamgen/temperature", 0.25), encode("/streamgen/prompt", "techno")]
            me.osc.sendto(encode_bundle(at, inner))
            exact = round(wanted) - 20_001
            assert await me.set(exact, gain_db=-12.0) == exact  # the output is cut at the sample
            step = await me.set(exact + 7, top_k=5)  # the music, at the next frame
            assert 0 <= step - (exact + 7) < hop
            waits = []
            for number in range(5):
                waits.append(await me.ping())
                at_once = await me.set(top_p=0.9 + number / 100)
                assert at_once < exact, "what is for now is not kept waiting by what is for later"
            assert sorted(waits)[2] < 0.5
            while me.end < wanted + RATE_HZ:
                await asyncio.sleep(0.01)
            ((applied, heard),) = me.changed("temperature")
            assert heard == 0.25
            assert abs(applied - wanted) <= hop
            return me

    me = asyncio.run(scene())
    changes = [(m["applied_at_sample"], m["values"]) for m in me.told if m["type"] == "changed"]
    assert len(changes) == 8
    heard, start = np.concatenate(me.pieces, axis=1), me.start
    assert start is not None
    np.testing.assert_allclose(heard, rendered(model, changes, me.end)[:, start : me.end], atol=2e-4)
    for number, early in ((0, 3), (1, 0), (2, 3)):  # a step draws the later codebooks of the three frames before, too
        at = changes[number][0]
        other = rendered(model, changes[:number] + changes[number + 1 :], me.end)[:, start : me.end]
        first = start + np.flatnonzero(np.abs(other - heard).max(axis=0) > 2e-4)[0]
        assert at - early * hop <= first < at + RATE_HZ, "it is heard, and not before"
