"""A session that plays a sine without an engine, and the native door around it, for tests of all doors.

What the engine does is tested elsewhere; here its place is taken so that time, samples and changes are known.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from bridge.audio.catalogue import Catalogue
from bridge.audio.faults import SlotState
from bridge.audio.rack import Rack
from bridge.doors.access import Access, Limits
from bridge.doors.door import Service
from bridge.doors.http.site import WEB_ROOT
from bridge.doors.native.door import NativeDoor
from bridge.doors.native.frames import HEADER_BYTES, AudioHeader
from bridge.metrics import Metrics
from bridge.session.commands import (
    Action,
    AudioPrompt,
    Command,
    EditRack,
    Follow,
    KeepTake,
    RecallPreset,
    SavePreset,
    Set,
    Transport,
)
from bridge.session.events import Block, Changed, Event, PlayerState, PresetsChanged, Stats, TransportCause, Transported
from bridge.session.parameters import Parameters, session_table
from bridge.session.rack_edits import edited
from bridge.session.session import Listener
from bridge.session.timeline import Moment, Schedule, Timeline
from bridge.settings import Settings
from streamgen.config import ControlSpec, Value
from streamgen.errors import CapacityError, PromptError

RATE_HZ = 48_000
MODEL_RATE_HZ = 32_000
BLOCK = 960  # 20 ms
COMMITTED_SECONDS = 0.2
TABLE = session_table()


def assert_audio_came(commands: Sequence[Command]) -> None:
    """A client sent a quarter of a second at 16 kHz as a melody for a sample, an audio prompt, and no melody."""
    melody, prompt, none = commands
    assert isinstance(melody, Follow)
    assert melody.samples is not None
    assert (melody.samples.shape[1], melody.rate_hz, melody.at) == (4_000, 16_000, Moment(sample=96_000))
    assert isinstance(prompt, AudioPrompt)
    assert isinstance(none, Follow)
    assert none.samples is None


def sine(start: int, stop: int, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    at = np.arange(start, stop) / rate_hz
    return (0.5 * np.sin(2 * np.pi * np.array([[440.0], [660.0]]) * at)).astype(np.float32)


@dataclass(eq=False)
class SineSession:
    """`session.Session` in full: 440 Hz left, 660 Hz right, half scale, in blocks of 20 ms.

    `play` publishes when it is told to, `pace` at a multiple of real time, `run` by its timeline: final 0.2 s before it
    is due, as in the engine. A change of values at a sample ahead is taken at once, as there; all else waits for its
    moment.

    Attributes:
        position: of the next sample to be published.
        work_seconds: how long each command takes.
        commands: what was carried out, in order.
        sets: (sample at which it applied, values), in order.
        acts: (sample at which it was done, action), in order.
        player_state: as `state` tells it.
    """

    name: str = "live"
    model: str = "sine"
    model_rate_hz: int = MODEL_RATE_HZ
    follows: tuple[str, ...] = ("melody",)
    rate_hz: int = RATE_HZ
    table: Mapping[str, ControlSpec] = field(default_factory=session_table)
    position: int = 0
    work_seconds: float = 0.0
    commands: list[Command] = field(default_factory=list)
    sets: list[tuple[int, dict[str, Value]]] = field(default_factory=list)
    acts: list[tuple[int, Action]] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    recent: deque[Block] = field(default_factory=lambda: deque(maxlen=10))
    player_state: PlayerState = PlayerState.PLAYING
    realtime_factor: float = 2.5

    def __post_init__(self) -> None:
        self.parameters = Parameters(self.table)
        self.table = self.parameters.table  # one: a test may add to it
        self.timeline = Timeline(self.rate_hz)
        self.rack, self.catalogue, self.saved = Rack(), Catalogue(), list[str]()
        self.rack.prepare(self.rate_hz, 2, BLOCK)
        self._schedule: Schedule[Command] = Schedule(self.timeline)
        self._runs = False

    @property
    def now(self) -> dict[str, Value]:
        """Every value; a test may write into it."""
        return self.parameters.values

    def values(self) -> Mapping[str, Value]:
        return dict(self.now)

    def state(self) -> PlayerState:
        return self.player_state

    def heard(self) -> str:
        return "a sine"

    def slots(self) -> Sequence[SlotState]:
        return self.rack.state()

    def effects(self) -> Sequence[str]:
        return self.catalogue.names

    def presets(self) -> Sequence[str]:
        return list(self.saved)

    def position_samples(self) -> int:
        return self.position

    async def do(self, command: Command) -> int:
        if self.work_seconds:
            await asyncio.sleep(self.work_seconds)
        if isinstance(command, Set):
            self.parameters.checked(command.values)
            if command.values.get("prompt/1/text") == "refused":
                raise PromptError("prompt/1/text is refused: say something else")
        if isinstance(command, EditRack):
            self._edit(command)
        self.commands.append(command)
        if isinstance(command, EditRack | RecallPreset | KeepTake):
            return self.position
        if isinstance(command, SavePreset):
            self.saved.append(command.name)
            self.tell(PresetsChanged(self.presets(), command.by))
            return self.position
        if isinstance(command, AudioPrompt) or command.at is None:
            return self._carry_out(command, self.position)
        if command.at.every and command.at.beat is None:
            command = replace(command, at=self.timeline.next(command.at, self.position))
        at = self.timeline.sample_at(command.at)
        if at is not None and (isinstance(command, Set) or at <= self.position):
            return self._carry_out(command, max(at, self.position))
        self._schedule.add(command.at, command)
        return self.position if at is None else at

    def _edit(self, command: EditRack) -> None:
        made = self.catalogue.make(command.effect, self.rate_hz) if command.effect else None
        told = edited(self.rack, self.parameters, replace(command, made=made))
        self.table = told.table
        self.tell(told)

    def _carry_out(self, command: Command, at: int) -> int:
        if isinstance(command, Set):
            values = self.parameters.checked(command.values)
            self.now.update(values)
            self.sets.append((at, values))
            self.tell(Changed(values, command.by, at))
        elif isinstance(command, Transport):
            self._act(command.action)
            self.acts.append((at, command.action))
            self.tell(Transported(TransportCause(command.action), self.player_state, command.by, at))
        elif not isinstance(command, Follow):
            self.tell(Transported(TransportCause.AUDIO_PROMPT, self.player_state, command.by, at))
        return at

    def _act(self, action: Action) -> None:
        states = {Action.PLAY: PlayerState.PLAYING, Action.RESET: self.player_state, Action.STOP: PlayerState.STOPPED}
        self.player_state = states.get(action, PlayerState.PAUSED)
        if self.timeline.running and not self.player_state.plays:
            self.timeline.stop()
        elif self._runs and self.player_state.plays and not self.timeline.running:
            self.timeline.start(self.position)

    def add(self, listener: Listener) -> Sequence[Block]:
        self.listeners.append(listener)
        return list(self.recent)

    def remove(self, listener: Listener) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)

    def stats(self) -> Stats:
        plays = self.player_state.plays
        factor, count = self.realtime_factor, len(self.listeners)
        return Stats(
            factor, 1.25, 3, count, 700, self.position, plays, self.player_state, slots=tuple(self.rack.state())
        )

    async def record(self, path: Path | None) -> None:
        raise NotImplementedError

    def tell(self, event: Event) -> None:
        """Tell every listener."""
        for listener in list(self.listeners):
            listener.event(event)

    def play(self, blocks: int = 1, **marks: bool) -> None:
        """Publish some blocks now."""
        for _ in range(blocks):
            self._do_scheduled()
            due_us = self.position * 1_000_000 // self.rate_hz
            if self.timeline.running:
                due_us = round(self.timeline.unix_seconds(self.position) * 1e6)
            end = self.position + BLOCK
            block = Block(sine(self.position, end, self.rate_hz), self.position, time_us=due_us, **marks)
            self.position = end
            self.recent.append(block)
            for listener in list(self.listeners):
                listener.audio(block)

    def _do_scheduled(self) -> None:
        for command in self._schedule.take(self.position) if len(self._schedule) else ():
            self._carry_out(command, self.position)

    async def pace(self, factor: float = 1.0) -> None:
        """Publish for ever, `factor` times as fast as real time."""
        began, count = time.monotonic(), 0
        while True:
            due = began + count * BLOCK / self.rate_hz / factor
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.play()
            count += 1

    async def run(self) -> None:
        """Play for ever, by the timeline, which stands still while the transport does."""
        self._runs = True
        self.timeline.start(self.position)
        while True:
            while self.timeline.running and self.position < self.timeline.due() + COMMITTED_SECONDS * self.rate_hz:
                self.play()
            self._do_scheduled()
            await asyncio.sleep(0.01)

    def sample_at(self, when: float) -> int:
        """Return the sample due at a time, Unix seconds."""
        at = self.timeline.sample_at(Moment(unix_seconds=when))
        assert at is not None, "it stands still"
        return at


@dataclass
class SineSessions:
    """`door.Sessions`: the live one, and any other of its own; `full` finds no room."""

    live: SineSession

    async def get(self, name: str) -> SineSession:
        if name == "full":
            raise CapacityError("2 sessions play, this machine keeps up with 2; try again in 5 s")
        return self.live if name == "live" else SineSession(name)


@dataclass
class Open:
    """A native door on loopback, and its session."""

    web: NativeDoor
    session: SineSession
    metrics: Metrics
    access: Access
    service: Service

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
    limits: Limits | None = None,
    osc_port: int | None = 8712,
    page: Path = WEB_ROOT,
    session: SineSession | None = None,
    tls: tuple[Path, Path] | tuple[None, None] = (None, None),
    **access: Any,
) -> AsyncIterator[Open]:
    session, metrics = session or SineSession(), Metrics()
    judge = Access(limits=limits or Limits(), **access)
    service = Service(
        Settings(host=judge.host, port=0, tls_cert=tls[0], tls_key=tls[1]), judge, metrics, {"osc_port": osc_port}
    )
    web = NativeDoor(service, page)
    await web.open(SineSessions(session))
    try:
        yield Open(web, session, metrics, judge, service)
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
