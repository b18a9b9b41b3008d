"""A session that plays a sine without an engine, and a server around it, for tests of the web door."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from bridge.doors.access import Access, Limits
from bridge.doors.http.site import WEB_ROOT
from bridge.doors.native.door import WebServer, serve_web
from bridge.doors.native.frames import HEADER_BYTES, AudioHeader
from bridge.metrics import Metrics
from bridge.session.messages import (
    AudioPrompt,
    Block,
    Changed,
    Command,
    Event,
    Listener,
    Set,
    Stats,
    Transport,
    Transported,
)
from bridge.session.parameters import Value, defaults
from streamgen.errors import CapacityError, PromptError

RATE_HZ = 32_000
BLOCK = 640


def sine(start: int, stop: int, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    at = np.arange(start, stop) / rate_hz
    return (0.5 * np.sin(2 * np.pi * np.array([[440.0], [660.0]]) * at)).astype(np.float32)


@dataclass
class SineSession:
    """`bridge.session.interface.Session`: publishes blocks of 20 ms when told to, and obeys."""

    name: str = "live"
    model: str = "sine"
    sample_rate_hz: int = RATE_HZ
    position: int = 0
    done: list[Command] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    recent: deque[Block] = field(default_factory=lambda: deque(maxlen=10))
    now: dict[str, Value] = field(default_factory=defaults)
    is_playing: bool = True

    def values(self) -> Mapping[str, Value]:
        return dict(self.now)

    def playing(self) -> bool:
        return self.is_playing

    def position_samples(self) -> int:
        return self.position

    async def do(self, command: Command) -> int:
        if isinstance(command, Set) and command.values.get("prompt/1/text") == "refused":
            raise PromptError("prompt/1/text is refused: say something else")
        self.done.append(command)
        at = self.position
        if isinstance(command, Set):
            at = max(at, command.at_sample or 0)
            self.now |= command.values
            self.tell(Changed(command.values, command.by, at))
        elif isinstance(command, Transport):
            self.is_playing = command.action in ("play", "reset")
            self.tell(Transported(command.action, command.by, at))
        else:
            assert isinstance(command, AudioPrompt)
        return at

    def add(self, listener: Listener) -> Sequence[Block]:
        self.listeners.append(listener)
        return list(self.recent)

    def remove(self, listener: Listener) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)

    def stats(self) -> Stats:
        return Stats(float("inf"), 0.2, 0, len(self.listeners), 7, self.position, self.is_playing)

    async def record(self, path: Path | None) -> None:
        raise NotImplementedError

    def tell(self, event: Event) -> None:
        for listener in list(self.listeners):
            listener.event(event)

    def play(self, blocks: int = 1, **marks: bool) -> None:
        """Publish some blocks now."""
        for _ in range(blocks):
            samples = sine(self.position, self.position + BLOCK)
            block = Block(samples, self.position, time_us=self.position * 1_000_000 // RATE_HZ, **marks)
            self.position += BLOCK
            self.recent.append(block)
            for listener in list(self.listeners):
                listener.audio(block)

    async def pace(self, factor: float = 1.0) -> None:
        """Publish for ever, `factor` times as fast as real time."""
        began, count = time.monotonic(), 0
        while True:
            due = began + count * BLOCK / RATE_HZ / factor
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.play()
            count += 1


@dataclass
class Open:
    """A server on loopback, and its session."""

    web: WebServer
    session: SineSession
    metrics: Metrics
    access: Access

    @property
    def stream(self) -> str:
        return f"ws://127.0.0.1:{self.web.port}/v1/stream"

    async def http(self, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Ask by hand: clients clean paths up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.web.port)
        lines = {"Host": f"127.0.0.1:{self.web.port}"} | headers
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode())
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


@asynccontextmanager
async def serving(
    limits: Limits | None = None, osc_port: int | None = 8712, page: Path = WEB_ROOT, **access: Any
) -> AsyncIterator[Open]:
    session, metrics = SineSession(), Metrics()
    judge = Access(limits=limits or Limits(), **access)

    async def open_session(name: str) -> SineSession:
        if name == "full":
            raise CapacityError("2 sessions play, this machine keeps up with 2; try later")
        return session if name == "live" else SineSession(name)

    web = await serve_web(open_session, "127.0.0.1", 0, access=judge, web_root=page, metrics=metrics, osc_port=osc_port)
    try:
        yield Open(web, session, metrics, judge)
    finally:
        await web.close("the test is over")


@dataclass
class Caller:
    """A client that keeps audio and messages apart."""

    socket: ClientConnection
    hello: dict[str, Any] = field(default_factory=dict)
    frames: list[tuple[AudioHeader, bytes]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)

    async def next(self) -> dict[str, Any] | AudioHeader:
        message = await asyncio.wait_for(self.socket.recv(), 10)
        if isinstance(message, bytes):
            header = AudioHeader.unpack(message)
            self.frames.append((header, message[HEADER_BYTES:]))
            return header
        self.told.append(json.loads(message))
        return self.told[-1]

    async def until(self, kind: str) -> dict[str, Any]:
        """Read until a message of this type."""
        while True:
            told = await self.next()
            if isinstance(told, dict) and told["type"] == kind:
                return told

    async def hear(self, frames: int) -> None:
        """Read until so many sample frames have come in all."""
        while sum(header.frame_count for header, _ in self.frames) < frames:
            await self.next()

    async def ask(self, **message: Any) -> dict[str, Any]:
        """Send a message; return its ack or error."""
        await self.socket.send(json.dumps(message))
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """Read until an ack or error."""
        while True:
            told = await self.next()
            if isinstance(told, dict) and told["type"] in ("ack", "error"):
                return told

    def pcm(self) -> NDArray[np.int16]:
        """Everything heard as s16le, [2, n]."""
        return np.frombuffer(b"".join(payload for _, payload in self.frames), "<i2").reshape(-1, 2).T


@asynccontextmanager
async def calling(url: str, **options: Any) -> AsyncIterator[Caller]:
    async with connect(url, compression=None, max_size=None, **options) as socket:
        caller = Caller(socket)
        caller.hello = await caller.until("hello")
        yield caller
