"""One Lyria client: what it asks for, done to a session of its own; what that plays, sent in chunks as it is played.

    message ─► request ─► session.do            session ─► blocks ─► 48 kHz, 16 bits ─► half a second ─► socket

Rules: event loop; a receiver and a sender. Paced by the session, which lets audio go a fifth of a second before it is
due, so never far ahead. What is no message of the protocol ends the connection with 1007, as at Google's.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection

from bridge.audio.conversion import resampler, to_s16
from bridge.doors.access import Limits
from bridge.doors.limits import Bucket, bound_buffers
from bridge.doors.lyria import protocol
from bridge.doors.lyria.music_request import MusicRequest
from bridge.doors.lyria.protocol import RATE_HZ, SETUP_COMPLETE, Config, Control, Message, Setup, WeightedPrompts
from bridge.errors import WireError
from bridge.metrics import Metrics
from bridge.session.commands import Action, EditRack, RackAction, Set, Transport
from bridge.session.events import Block, Event, Goaway, TransportCause, Transported
from bridge.session.session import Session
from streamgen.config import Value
from streamgen.errors import StreamgenError

__all__ = ["CHUNK_SECONDS", "DOOR", "Connection"]

DOOR = "lyria"
CHUNK_SECONDS = 0.5
_QUEUE_SECONDS = 4.0
_UNSENT_BYTES = 65_536
_GLIDE_SECONDS = 0.2
_TOO_FAST_PAUSE_SECONDS = 0.001
_INVALID, _TOO_SLOW = 1007, 4008

Pcm = NDArray[np.float32]


class Connection:
    """A client's connection, past all checks, and the listener (`session.Listener`) of its session.

    Args:
        socket: open.
        session: the client's own; it is left pausing.
        by: who it is, as the session's events tell.
        limits: of the service.
        metrics: where it is counted.
    """

    wants_audio = True

    def __init__(self, socket: ServerConnection, session: Session, by: str, limits: Limits, metrics: Metrics) -> None:
        self._socket, self._session, self._by, self._limits, self._metrics = socket, session, by, limits, metrics
        self._request, self._fresh = MusicRequest(), True
        self._bucket = Bucket(limits.messages_per_second, limits.burst_messages)
        self._convert = resampler(session.rate_hz, RATE_HZ)
        self._pending: Pcm = np.zeros((2, 0), np.float32)
        self._chunks, self._ready = deque[bytes](), asyncio.Event()
        self._equalizer: int | None = None

    async def run(self) -> None:
        """Serve the client until it leaves, stalls or the service ends."""
        await self._session.do(Transport(Action.PAUSE, self._by))  # until PLAY
        bound_buffers(self._socket.transport, _UNSENT_BYTES)
        self._session.add(self)
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._session.remove(self)
            for task in (sending, receiving):
                task.cancel()
            results = await asyncio.gather(sending, receiving, return_exceptions=True)
            await self._pause()
        for result in results:
            await self._ended(result)

    async def _pause(self) -> None:
        """Let the session rest: one that does not play gives its place to whoever comes next."""
        try:
            await self._session.do(Transport(Action.PAUSE, self._by))
        except StreamgenError:  # it has ended already
            return

    async def _ended(self, result: BaseException | None) -> None:
        if isinstance(result, WireError):
            self._metrics.errors[result.code] += 1
            await self._socket.close(_INVALID, str(result).encode()[:120].decode(errors="ignore"))
        elif isinstance(result, TimeoutError):
            self._metrics.refused["stalled"] += 1
            await self._socket.close(_TOO_SLOW, f"nothing was read for {self._limits.stall_seconds:g} s")
        elif isinstance(result, Exception):
            raise result

    # -- what it asks for ---------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        async for data in self._socket:
            self._metrics.received[DOOR] += 1
            in_time = self._bucket.take(1, time.monotonic())
            await asyncio.sleep(0 if in_time else _TOO_FAST_PAUSE_SECONDS)
            await self._carry_out(protocol.parse(data))
            self._metrics.commands[DOOR] += 1

    async def _carry_out(self, message: Message) -> None:
        match message:
            case Setup():
                await self._socket.send(SETUP_COMPLETE)
            case WeightedPrompts():
                self._request.prompt(message.weighted)
                await self._apply()
            case Config():
                self._request.configure(message.fields)
                await self._apply()
            case Control():
                await self._control(message.action)

    async def _control(self, action: str) -> None:
        if action == "RESET_CONTEXT" or (action == "PLAY" and self._fresh):
            self._request.begin_anew()
            await self._apply()
        self._fresh = action == "STOP" or (self._fresh and action != "PLAY")
        wanted = {"PLAY": Action.PLAY, "PAUSE": Action.PAUSE, "STOP": Action.STOP, "RESET_CONTEXT": Action.RESET}
        if action in wanted:
            await self._do(Transport(wanted[action], self._by))

    async def _apply(self) -> None:
        """Set what is not as it was asked for."""
        now = self._session.values()
        values = {
            name: value for name, value in self._request.values(self._session.table).items() if now[name] != value
        }
        if values:
            await self._do(Set(values, self._by))
        await self._equalize(self._request.equalizer())

    async def _equalize(self, values: dict[str, Value]) -> None:
        if self._equalizer is None:
            if not (values["low_db"] or values["high_db"]):
                return
            before = {slot.slot for slot in self._session.slots()}
            await self._do(EditRack(RackAction.ADD, self._by, effect="equalizer"))
            added = [slot.slot for slot in self._session.slots() if slot.slot not in before]
            if not added:  # the warning is written
                return
            self._equalizer = added[0]
        now = self._session.values()
        named = {f"plugin/{self._equalizer}/{name}": value for name, value in values.items()}
        changed = {name: value for name, value in named.items() if now.get(name) != value}
        if changed:
            await self._do(Set(changed, self._by, glide_seconds=_GLIDE_SECONDS))

    async def _do(self, command: Set | Transport | EditRack) -> None:
        try:
            await self._session.do(command)
        except StreamgenError as problem:
            self._request.warnings.append(str(problem))

    # -- what it hears ------------------------------------------------------------------------------------------------

    def audio(self, block: Block) -> None:
        """Cut blocks into chunks; for who is slow the oldest are dropped, and that is told."""
        self._take(self._convert.process(block.samples))

    def event(self, event: Event) -> None:
        """Send the rest of a passage where it ends."""
        if isinstance(event, Transported) and event.action in (TransportCause.PAUSE, TransportCause.STOP):
            self._take(self._convert.process(np.zeros((2, 0), np.float32), last=True))
            self._convert = resampler(self._session.rate_hz, RATE_HZ)
            if self._pending.shape[1]:
                self._put(self._pending.shape[1])
        elif isinstance(event, Goaway):
            self._chunks.clear()  # the door closes the socket

    def _take(self, samples: Pcm) -> None:
        self._pending = np.concatenate((self._pending, samples), axis=1)
        while self._pending.shape[1] >= CHUNK_SECONDS * RATE_HZ:
            self._put(round(CHUNK_SECONDS * RATE_HZ))

    def _put(self, frames: int) -> None:
        chunk, self._pending = self._pending[:, :frames], self._pending[:, frames:]
        self._chunks.append(to_s16(chunk).T.astype("<i2").tobytes())
        if len(self._chunks) > _QUEUE_SECONDS / CHUNK_SECONDS:
            lost = len(self._chunks.popleft()) // 4
            self._metrics.dropped_samples[DOOR] += lost * self._session.rate_hz // RATE_HZ
            self._request.warnings.append("this connection is too slow: audio was dropped")
        self._ready.set()

    async def _send(self) -> None:
        while True:
            self._ready.clear()
            while self._chunks:
                text = protocol.audio(self._chunks.popleft(), self._request.source(), self._request.told())
                self._metrics.sent_bytes[DOOR] += len(text)
                async with asyncio.timeout(self._limits.stall_seconds):
                    await self._socket.send(text)
            await self._ready.wait()
