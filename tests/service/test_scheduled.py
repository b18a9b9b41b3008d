"""Changes at a time, through the real doors into the real engine: what is told is what is heard, to the sample."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

import streamgen
from bridge.audio.catalogue import Catalogue
from bridge.audio.output import OutputPath
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.spawn import HostSettings
from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.native.door import NativeDoor
from bridge.doors.native.frames import HEADER_BYTES, AudioHeader
from bridge.doors.osc.codec import decode, encode, encode_bundle
from bridge.doors.osc.door import OscDoor
from bridge.metrics import Metrics
from bridge.session.capacity import FixedCapacity
from bridge.session.engine_thread import EngineThread
from bridge.session.live_session import LiveSession
from bridge.session.parameters import Parameters, session_table, stream_controls
from bridge.settings import Settings
from streamgen.config import Value
from streamgen.testing import FakeModel, fake_pitch_hz, tiny_checkpoint

RATE_HZ = 48_000
FIRST: dict[str, Value] = {"prompt/1/text": "piano", "seed": 4, "lead_seconds": 0.6}


class Musician:
    """A WebSocket listener that keeps what it hears and is told, and an OSC socket."""

    def __init__(self, socket: ClientConnection, url: str) -> None:
        self.socket, self.url = socket, url
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
        return await self.ask(type="set", values=values, at_sample=at_sample)

    async def ask(self, **message: Any) -> int:
        """Ask over the WebSocket; returns where it was told to apply."""
        number = len(self.told)
        await self.socket.send(json.dumps(message | {"id": number}))
        async with asyncio.timeout(20):
            while True:
                for told in self.told:
                    if told.get("id") == number:
                        assert told["type"] == "ack", told
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

    async def newcomer(self, name: str) -> Any:
        """What somebody is told of a parameter who comes now."""
        async with connect(self.url, compression=None, max_size=None) as socket:
            hello = json.loads(await socket.recv())
        assert hello["type"] == "hello"
        return hello["state"]["values"][name]

    def changed(self, name: str) -> list[tuple[int, Any]]:
        told = [message for message in self.told if message["type"] == "changed"]
        return [
            (message["applied_at_sample"], message["values"][name]) for message in told if name in message["values"]
        ]


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
async def on_stage(model: streamgen.Model, catalogue: Catalogue | None = None) -> AsyncIterator[Musician]:
    loop = asyncio.get_running_loop()
    engine = EngineThread(model, loop, FixedCapacity(4))
    live = await LiveSession.open("live", engine, RATE_HZ, FIRST, catalogue=catalogue)
    service = Service(Settings(port=0, osc_port=0), Access(), Metrics())
    osc, web = OscDoor(service), NativeDoor(service)
    for door in (osc, web):
        await door.open(Only(live))
    url = f"ws://127.0.0.1:{web.port}/v1/stream?codec=f32le&chunk_ms=20"
    async with connect(url, compression=None, max_size=None) as socket:
        musician = Musician(socket, url)
        listening = asyncio.create_task(musician.listen())
        musician.osc, _ = await loop.create_datagram_endpoint(
            lambda: Udp(musician), remote_addr=("127.0.0.1", osc.places()["osc_port"])
        )
        try:
            async with asyncio.timeout(90):  # who listens may have failed: nobody would wait for an end then
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
    output = OutputPath(model.sample_rate_hz, RATE_HZ, model.channels, step)
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


@pytest.mark.slow
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
    # a step draws the later codebooks of the three frames before, too
    for name, early in (("temperature", 3), ("gain_db", 0), ("top_k", 3)):
        number = next(number for number, (_, values) in enumerate(changes) if name in values)
        at = changes[number][0]
        other = rendered(model, changes[:number] + changes[number + 1 :], me.end)[:, start : me.end]
        first = start + np.flatnonzero(np.abs(other - heard).max(axis=0) > 2e-4)[0]
        ahead = early * hop + RATE_HZ // 200  # the limiter looks 5 ms ahead
        assert at - ahead <= first < at + RATE_HZ, "it is heard, and not before"


ILL = Path(__file__).parents[1] / "bridge" / "audio" / "plugins"


def steps_of(sine: np.ndarray) -> list[int]:
    """Where a sine's level jumps: a pure one is foretold by its last two samples."""
    one = sine[0].astype(np.float64)
    before, now, after = one[:-2], one[1:-1], one[2:]
    factor = np.dot(now[:2_000], (before + after)[:2_000]) / np.dot(now[:2_000], now[:2_000])
    found = np.flatnonzero(np.abs(after + before - factor * now) > 1e-3) + 2
    return [int(at) for at in found if at - 1 not in found and at - 2 not in found]


@pytest.mark.slow
def test_a_plugins_knob_is_turned_at_its_sample_from_every_door(tmp_path: Path) -> None:
    """A plugin in a child of its own, whose gain jumps: by at_sample, by an OSC bundle's time, and at once."""
    host = HostSettings(
        tmp_path, engine="ill_engine:IllEngine", deadline_seconds=0.15, python_path=(str(ILL),), strikes=1_000
    )
    catalogue = Catalogue({"ill": Reference(str(tmp_path / "orders"))}, host)

    async def scene() -> tuple[Musician, list[int], float]:
        async with on_stage(FakeModel(), catalogue) as me:
            assert me.osc is not None
            await me.ask(type="rack", action="add", effect="ill")
            await me.set(**{"plugin/1/gain": 1.0})
            begins = me.end + RATE_HZ // 2
            while me.end < begins:
                await asyncio.sleep(0.01)
            exact = me.end + RATE_HZ + 123
            assert await me.set(exact, **{"plugin/1/gain": 0.5}) == exact
            at = time.time() + 1.6
            wanted = me.sample_at(at)
            me.osc.sendto(encode_bundle(at, [encode("/streamgen/plugin/1/gain", 1.0)]))
            while me.end < wanted + RATE_HZ // 4:
                await asyncio.sleep(0.01)
            before = me.end
            at_once = await me.set(**{"plugin/1/gain": 0.25})
            assert before <= at_once + RATE_HZ // 5
            while me.end < at_once + RATE_HZ // 4:
                await asyncio.sleep(0.01)
            told = [applied for applied, _ in me.changed("plugin/1/gain")][1:]
            assert told[0] == exact
            assert abs(told[1] - wanted) < 10, "a time is a sample, as near as clocks can say"
            assert told[2] == at_once
            return me, told, begins

    me, told, begins = asyncio.run(scene())
    heard = np.concatenate(me.pieces, axis=1)[:, begins - (me.start or 0) :]
    assert [int(begins) + at for at in steps_of(heard)] == told


def pitch(sine: np.ndarray) -> float:
    """Of a pure one: it is foretold by its last two samples."""
    before, now, after = (sine[0].astype(np.float64)[at : len(sine[0]) - 2 + at] for at in range(3))
    return float(np.arccos(np.dot(now, before + after) / np.dot(now, now) / 2) * RATE_HZ / (2 * np.pi))


@pytest.mark.slow
def test_what_is_scheduled_comes_and_every_door_tells_it_though_knobs_are_turned_meanwhile() -> None:
    async def scene() -> tuple[Musician, int]:
        async with on_stage(FakeModel()) as me:
            assert me.osc is not None
            while me.end < RATE_HZ // 2:
                await asyncio.sleep(0.01)
            exact = me.end + 2 * RATE_HZ
            at = await me.set(exact, gain_db=-12.0)
            drop = await me.set(exact, **{"prompt/1/text": "drop"})
            assert (at, drop - exact < 960) == (exact, True)
            for turn in range(20):
                now = await me.set(gain_db=-3.0)
                me.osc.sendto(encode("/streamgen/prompt/1/weight", 0.5 + turn / 40))
                await asyncio.sleep(0.05)
            assert me.end < exact
            assert await me.newcomer("gain_db") == -3.0
            while me.end < exact + RATE_HZ:
                await asyncio.sleep(0.01)
            told = me.changed("gain_db")
            assert (told[0], told[-2], told[-1]) == ((exact, -12.0), (now, -3.0), (exact, -12.0))
            assert len(told) == 22
            assert me.changed("prompt/1/text") == [(drop, "drop")], "nothing came sooner: it is told once"
            assert await me.newcomer("gain_db") == -12.0
            assert await me.newcomer("prompt/1/weight") == 0.5 + 19 / 40
            return me, drop

    me, drop = asyncio.run(scene())
    heard = np.concatenate(me.pieces, axis=1)
    at = drop - (me.start or 0)
    for first, text in ((at - RATE_HZ, "piano"), (at - RATE_HZ // 4, "piano"), (at + RATE_HZ // 4, "drop")):
        assert pitch(heard[:, first : first + RATE_HZ // 5]) == pytest.approx(fake_pitch_hz(text), rel=0.01)
