"""A small server that speaks streamgen.v1 with sines, for tests of the page: pitch follows the prompts' weights.

Rules: the contract's words and bytes, the real parameter table, none of the engine. It runs in a thread of its own and
keeps what it sent, so that a test can compare it with what the page recorded.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bridge.audio.catalogue import Catalogue
from bridge.audio.faults import SlotFault
from bridge.audio.rack import Rack
from bridge.doors.http.site import WEB_ROOT, read_page
from bridge.doors.native import answers
from bridge.session.commands import EditRack, RackAction
from bridge.session.events import TableChanged
from bridge.session.parameters import Parameters, session_table
from bridge.session.rack_edits import edited
from streamgen.config import ControlSpec, checked
from streamgen.errors import StreamgenError

RATE_HZ = 48_000
BLOCK = 1920  # 40 ms
LEAD_SECONDS = 0.5
AUDIO = ("audio_prompt", "melody", "style")  # messages that announce bytes
TABLE = session_table()
POLICY = "default-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'"
# Slot 1 sounds at 220 Hz, each further one a major third higher; a mix sounds in between.
PITCHES_HZ = [220.0 * 2 ** (slot / 3) for slot in range(8)]


def _table() -> dict[str, ControlSpec]:
    """The real one, with what a model would suggest."""
    table = session_table()
    for slot in range(1, 9):
        name = f"prompt/{slot}/text"
        table[name] = replace(table[name], suggestions=(f"suggestion {slot}",))
    return table | {"tempo": replace(table["tempo"], suggestions=(94, 125, 150))}


@dataclass
class ToySession:
    """Values, position and phase of the one sine that everybody hears.

    Attributes:
        anchor: a position, and when it is due, Unix seconds.
    """

    table: dict[str, ControlSpec] = field(default_factory=_table)
    values: dict[str, Any] = field(default_factory=dict)
    playing: bool = False
    position: int = 0
    anchor: tuple[int, float] = (0, 0.0)
    phase: float = 0.0
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    rack: Rack = field(default_factory=Rack)
    presets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rack.prepare(RATE_HZ, 2, BLOCK)
        self.values = {name: row.default for name, row in self.table.items()} | self.values

    @property
    def state(self) -> str:
        """As the protocol tells it."""
        return "playing" if self.playing else "paused"

    def due(self) -> float:
        """When the next block is due, Unix seconds."""
        position, at = self.anchor
        return at + (self.position - position) / RATE_HZ

    def pitch_hz(self) -> float:
        """The pitch that the weights ask for."""
        weights = [float(self.values[f"prompt/{slot}/weight"]) for slot in range(1, 9)]
        return sum(w * p for w, p in zip(weights, PITCHES_HZ, strict=True)) / (sum(weights) or 1.0)

    def edit(self, action: RackAction, slot: int = 0, effect: str = "", index: int | None = None) -> TableChanged:
        """Edit the rack; nobody hears it."""
        made = Catalogue().make(effect, RATE_HZ) if effect else None
        parameters = Parameters(self.table)
        parameters.values = self.values
        told = edited(self.rack, parameters, EditRack(action, "websocket 1", slot, effect, index, made))
        self.table, self.values = dict(told.table), dict(told.values)
        return told

    def block(self) -> NDArray[np.int16]:
        """Make the next block, s16 [BLOCK, 2]: a sine with five harmonics and a little noise."""
        steps = self.phase + np.arange(BLOCK) * (2 * np.pi * self.pitch_hz() / RATE_HZ)
        self.phase = float(steps[-1] + 2 * np.pi * self.pitch_hz() / RATE_HZ)
        tone = sum(np.sin(n * steps) * 0.3 / n**1.4 for n in range(1, 6)) * (1 + 0.3 * np.sin(steps[0] / 400))
        sides = tone[:, None] * [0.95, 0.8] + self.noise.normal(0, 0.012, (BLOCK, 2))
        self.position += BLOCK
        return np.asarray(sides * 32767, np.int16)


@dataclass
class ToyClient:
    """One listener: what it asked for, and how far it was served."""

    connection: ServerConnection
    enabled: bool = True
    meters: bool = False
    sequence: int = 0


@dataclass
class ToyServer:
    """The server's thread side; tests read `messages`, `sent` and `session`, and order through `call`."""

    port: int = 0
    session: ToySession = field(default_factory=ToySession)
    messages: list[dict[str, Any]] = field(default_factory=list)
    sent: list[NDArray[np.int16]] = field(default_factory=list)
    clients: list[ToyClient] = field(default_factory=list)
    token: str = ""
    silent_seconds: float = 0.0  # before its hello
    refuses: bool = False
    stalled: bool = False
    realtime_factor: float = 1.84
    tls: ssl.SSLContext | None = None
    uploads: list[bytes] = field(default_factory=list)
    follows: list[str] = field(default_factory=list)  # audio that the music can follow
    ill: set[int] = field(default_factory=set)  # slots that failed, by their number
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/"

    def sets(self) -> list[dict[str, Any]]:
        """Values of every `set` so far, in order."""
        return [message["values"] for message in self.messages if message["type"] == "set"]

    def samples(self) -> NDArray[np.int16]:
        """Everything sent to listeners, s16 [samples, 2]."""
        return np.concatenate(self.sent)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to all, from the test's thread."""
        asyncio.run_coroutine_threadsafe(self._all(json.dumps(message)), self.loop).result(5)

    def change(self, values: dict[str, Any]) -> None:
        """Change values as another door would."""
        self.session.values |= checked(self.session.table, values)
        self.tell(self._changed(values, "osc"))

    def _changed(self, values: dict[str, Any], by: str) -> dict[str, Any]:
        at = {"applied_at_sample": self.session.position, "rate_hz": RATE_HZ}
        return {"type": "changed", "values": values, "by": by, **at}

    def edit(self, action: RackAction, slot: int = 0, effect: str = "", index: int | None = None) -> None:
        """Edit the rack as another door would."""
        self.tell(json.loads(answers.event(self.session.edit(action, slot, effect, index), RATE_HZ)))

    def fault(self, fault: SlotFault) -> None:
        """Tell of a fault in the rack, now and in what the statistics say of it."""
        (self.ill.add if fault.reason else self.ill.discard)(fault.slot)
        self.tell(json.loads(answers.event(fault, RATE_HZ)))

    def transport(self, action: str, state: str) -> None:
        """Tell of the transport, from the test's thread."""
        self.tell(self._transported(action, state, "osc"))

    def _transported(self, action: str, state: str, by: str) -> dict[str, Any]:
        at = {"applied_at_sample": self.session.position, "rate_hz": RATE_HZ}
        return {"type": "transport", "action": action, "state": state, "by": by, **at}

    def start_anew(self) -> None:
        """Count from zero, as a server does that was started again."""

        async def restart() -> None:
            self.session.position = 0
            self.session.anchor = (0, time.time())

        asyncio.run_coroutine_threadsafe(restart(), self.loop).result(5)

    def close_all(self, code: int = 1012) -> None:
        """Close every connection."""

        async def close() -> None:
            for client in list(self.clients):
                await client.connection.close(code, "restart")

        asyncio.run_coroutine_threadsafe(close(), self.loop).result(5)

    async def _all(self, data: str | bytes) -> None:
        for client in list(self.clients):
            await self._send(client, data)

    async def _send(self, client: ToyClient, data: str | bytes) -> None:
        try:
            await client.connection.send(data)
        except ConnectionClosed:
            if client in self.clients:
                self.clients.remove(client)

    async def _handle(self, connection: ServerConnection) -> None:
        if self.token and f"token={self.token}" not in (connection.request.path if connection.request else ""):
            await connection.close(1008, "a token is needed")
            return
        enabled = "enabled=true" in (connection.request.path if connection.request else "")
        client = ToyClient(connection, enabled)
        await asyncio.sleep(self.silent_seconds)
        await connection.send(json.dumps(self._hello()))
        self.clients.append(client)
        try:
            async for data in connection:
                if isinstance(data, bytes):
                    self.uploads.append(data)
                    announced = [one["id"] for one in self.messages if one["type"] in AUDIO]
                    await connection.send(json.dumps({"type": "ack", "id": announced[-1]}))
                else:
                    await self._received(client, json.loads(data))
        except ConnectionClosed:
            pass
        finally:
            if client in self.clients:
                self.clients.remove(client)

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "protocol": "streamgen.v1",
            "session": "live",
            "model": "pocket",
            "sample_rate_hz": RATE_HZ,
            "model_rate_hz": 32_000,
            "follows": self.follows,
            "audio": {"codec": "s16le", "sample_rate_hz": RATE_HZ, "channels": 2},
            "codecs": ["s16le", "f32le"],
            "parameters": [row.as_dict() for row in self.session.table.values()],
            "effects": Catalogue().names,
            "presets": self.session.presets,
            "state": {
                "slots": self._slots(),
                "values": self.session.values,
                "state": self.session.state,
                "playing": self.session.playing,
                "position_samples": self.session.position,
                "heard": "",
            },
        }

    def _slots(self) -> list[dict[str, Any]]:
        return [vars(slot) | {"failed": slot.slot in self.ill} for slot in self.session.rack.state()]

    async def _edited(self, message: dict[str, Any]) -> str:
        """Edit the rack as asked; returns why not."""
        try:
            action, effect = RackAction(message["action"]), message.get("effect", "")
            told = self.session.edit(action, message.get("slot", 0), effect, message.get("index"))
        except StreamgenError as error:
            return str(error)
        await self._all(answers.event(told, RATE_HZ))
        return ""

    async def _received(self, client: ToyClient, message: dict[str, Any]) -> None:
        self.messages.append(message)
        kind = message["type"]
        if kind in ("set", "transport") and self.refuses:
            await self._send(
                client, json.dumps({"type": "error", "id": message["id"], "code": "refused", "message": "refused"})
            )
            return
        if kind == "set":
            self.session.values |= checked(self.session.table, message["values"])
            await self._all(json.dumps(self._changed(message["values"], "websocket 1")))
        elif kind == "rack":
            if why := await self._edited(message):
                answer = {"type": "error", "id": message["id"], "code": "refused", "message": why}
                await self._send(client, json.dumps(answer))
                return
        elif kind == "preset" and message["action"] == "save":
            self.session.presets.append(message["name"])
            names = {"type": "presets", "names": self.session.presets, "by": "websocket 1"}
            await self._all(json.dumps(names))
        elif kind == "audio":
            client.enabled = message["enabled"]
        elif kind == "meters":
            client.meters = message["enabled"]
        elif kind == "transport":
            starts = message["action"] == "play" and not self.session.playing
            self.session.playing = message["action"] in ("play", "reset")
            await self._all(json.dumps(self._transported(message["action"], self.session.state, "websocket 1")))
            if starts:
                await self._burst()
        reply = {"type": "ack", "id": message.get("id"), "applied_at_sample": self.session.position, "rate_hz": RATE_HZ}
        if kind in AUDIO and message["bytes"]:
            reply |= {"ready": True}
        if kind == "ping":
            reply |= {"t": message["t"], "server_time_us": time.time_ns() // 1000}
        await self._send(client, json.dumps(reply))

    async def _burst(self) -> None:
        """The lead at once: what comes next is due now."""
        self.session.anchor = (self.session.position, time.time())
        while self.session.due() < time.time() + LEAD_SECONDS:
            await self._block()

    async def _block(self) -> None:
        listeners = [client for client in self.clients if client.enabled]
        position, due_us = self.session.position, round(1e6 * self.session.due())
        pcm = self.session.block()
        if not listeners:
            return
        self.sent.append(pcm)
        for client in listeners:
            head = (1, 0, 2, 0, client.sequence, position, due_us, RATE_HZ, BLOCK)
            client.sequence += 1
            await self._send(client, struct.pack("<BBBBIQQII", *head) + pcm.tobytes())

    async def _pace(self) -> None:
        """The lead ahead of the clock, however late a turn was; after a stall what comes next is due then."""
        while not self._stop.is_set():
            await asyncio.sleep(BLOCK / RATE_HZ / 2)
            if not self.session.playing or self.stalled:
                continue
            if self.session.due() < time.time():
                await self._burst()
            while self.session.due() < time.time() + LEAD_SECONDS:
                await self._block()

    async def _meters(self) -> None:
        while not self._stop.is_set():
            for client in [client for client in self.clients if client.meters and self.session.playing]:
                await self._send(client, json.dumps({"type": "meter", "left_db": -6.0, "right_db": -9.0}))
            await asyncio.sleep(0.04)

    async def _stats(self) -> None:
        while not self._stop.is_set():
            stats = {"realtime_factor": self.realtime_factor, "lead_seconds": LEAD_SECONDS, "underruns": 0}
            stats |= {"listeners": len(self.clients), "window_position": self.session.position // 960 % 1503}
            stats |= {"position_samples": self.session.position}
            stats |= {"playing": self.session.playing, "state": self.session.state, "slots": self._slots()}
            await self._all(json.dumps({"type": "stats", **stats}))
            await asyncio.sleep(1)

    def _http(self, _connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == "/v1/stream":
            return None
        found = read_page(WEB_ROOT).get(path)
        if found is None:
            return Response(HTTPStatus.NOT_FOUND, "not found", Headers({"Content-Length": "0"}), b"")
        body, kind = found
        return Response(
            HTTPStatus.OK,
            "OK",
            Headers({"Content-Type": kind, "Content-Length": str(len(body)), "Content-Security-Policy": POLICY}),
            body,
        )

    async def _serve(self, ready: threading.Event) -> None:
        tasks = [asyncio.create_task(work) for work in (self._pace(), self._stats(), self._meters())]
        options: dict[str, Any] = {"process_request": self._http, "compression": None, "subprotocols": ["streamgen.v1"]}
        options |= {"ssl": self.tls}
        async with serve(self._handle, "127.0.0.1", self.port, **options) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            ready.set()
            await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def toy_server(**options: Any) -> Iterator[ToyServer]:
    """Run a server while the block runs."""
    server, ready = ToyServer(**options), threading.Event()
    thread = threading.Thread(target=lambda: server.loop.run_until_complete(server._serve(ready)))
    thread.start()
    try:
        assert ready.wait(10), "the toy server did not start"
        yield server
    finally:
        server.loop.call_soon_threadsafe(server._stop.set)
        thread.join(10)
        server.loop.close()
