"""What one client asks: read, carried out and answered, in its order.

    message ─► parse ─► waiting: get · set · set · set · transport ─► session.do ─► answer
                                       └────┬────┘
                                 one change, three answers

The engine takes a change between two blocks of music, on a slow machine ten a second; a knob in motion sends sixty. So
changes that wait behind each other become one, unless they name a sample; if the session refuses it, each is tried
alone, and only the wrong one is told so.

Rules: event loop; knows no socket. Taking never waits for the engine: behind a client's requests come its pongs, which
say how much of the music has reached it. What is too much is refused instead, at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

from bridge.doors.access import Limits
from bridge.doors.limits import Bucket
from bridge.doors.native import protocol as wire
from bridge.doors.native.broadcast import Broadcast
from bridge.doors.native.upload import decode
from bridge.doors.turns import Turns
from bridge.errors import WireError
from bridge.metrics import Metrics
from bridge.session.interface import Session
from bridge.session.messages import AudioPrompt, Set, Transport
from bridge.session.parameters import Value
from streamgen.errors import StreamgenError

__all__ = ["DOOR", "MOST_AHEAD_SECONDS", "MOST_SCHEDULED", "MOST_WAITING", "Client", "Desk", "state_of"]

DOOR = "websocket"
MOST_WAITING, _MOST_WAITING_SIZE = 256, 262_144  # messages, and their characters; an audio prompt comes on top
MOST_SCHEDULED, MOST_AHEAD_SECONDS = 100, 600
_OVER_RATE_PAUSE_SECONDS = 0.001


@dataclass(frozen=True)
class Client:
    """Who is there, and what it may.

    Attributes:
        name: as `changed` tells others.
        limits: of the service.
        metrics: where it is counted.
        decoders: how many audio prompts may be decoded at a time, in all.
        shared: with the session's other listeners.
        turns: with all listeners of the service.
    """

    name: str
    limits: Limits
    metrics: Metrics
    decoders: asyncio.Semaphore
    shared: Broadcast
    turns: Turns


def state_of(session: Session) -> dict[str, Any]:
    """Return how a session stands, as `hello` and `get` tell it."""
    return {
        "values": dict(session.values()),
        "playing": session.playing(),
        "position_samples": session.position_samples(),
    }


class Desk:
    """One client's requests.

    Args:
        session: what is asked.
        client: who asks.
        answer: sends an answer.
        room: waits until there is room for one.
        reformat: changes how the client's audio comes, by the fields of an `audio` message; returns how it comes now.
        uploaded: called when the bytes of an audio prompt were read, whatever became of them.
    """

    def __init__(
        self,
        session: Session,
        client: Client,
        *,
        answer: Callable[[str], None],
        room: Callable[[], Awaitable[None]],
        reformat: Callable[[dict[str, Any]], dict[str, Any]],
        uploaded: Callable[[], None],
    ) -> None:
        self._session, self._client = session, client
        self._answer, self._room, self._reformat, self._uploaded = answer, room, reformat, uploaded
        self._bucket = Bucket(client.limits.messages_per_second, client.limits.burst_messages)
        self._waiting: deque[tuple[int, wire.Request | WireError | bytes]] = deque()  # size, message
        self._arrived = asyncio.Event()
        self._unanswered = 0
        self._scheduled: list[int] = []  # samples at which its changes will apply
        self._upload: tuple[wire.Request, int] | None = None

    def __len__(self) -> int:
        """How many messages are not answered yet."""
        return self._unanswered

    async def take(self, message: str | bytes) -> None:
        """Take a message; who sends faster than allowed is read slower."""
        self._client.metrics.received[DOOR] += 1
        in_time = isinstance(message, bytes) or self._bucket.take(1, time.monotonic())
        # recv() of what is already here does not yield: a flood would starve the others
        await asyncio.sleep(0 if in_time else _OVER_RATE_PAUSE_SECONDS)
        self._unanswered += 1
        item = message if isinstance(message, bytes) else self._parsed(message, in_time)
        announced = isinstance(item, bytes) and self._upload is not None
        if announced or self._fits(len(message)):
            self._waiting.append((len(message), item))
            self._arrived.set()
        elif isinstance(item, WireError):
            self._refuse(item, None)
        else:
            busy = WireError("busy", "too many messages wait already: this one was not done")
            self._refuse(busy, item.id if isinstance(item, wire.Request) else None)

    def _fits(self, size: int) -> bool:
        waiting = sum(size for size, _ in self._waiting)
        return len(self._waiting) < MOST_WAITING and waiting + size <= _MOST_WAITING_SIZE

    def _parsed(self, text: str, in_time: bool) -> wire.Request | WireError:
        try:
            request = wire.parse(text, self._client.limits.upload_bytes)
        except WireError as problem:
            # the same without its traceback: that keeps this frame, which keeps it, until garbage is collected
            return WireError(problem.code, str(problem), problem.id)
        if in_time:
            return request
        self._client.metrics.refused["message_rate"] += 1
        rate = self._client.limits.messages_per_second
        return WireError("too_fast", f"more than {rate:g} messages a second: this one was not done", request.id)

    async def run(self) -> None:
        """Carry out what waits, for ever."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await self._room()
            _, item = self._waiting.popleft()
            if _may_merge(item):
                await self._change([item, *self._following()])
            else:
                await self._carry_out(item)

    def _following(self) -> list[wire.Request]:
        """Take out the changes that wait at the front."""
        following = []
        while self._waiting and _may_merge(item := self._waiting[0][1]):
            following.append(item)
            self._waiting.popleft()
        return following

    async def _change(self, requests: list[wire.Request]) -> None:
        """Make several changes as one, or one by one if it is refused."""
        values: dict[str, Value] = {}
        for request in requests:
            assert isinstance(request.body, wire.SetValues), request
            values |= request.body.values
        try:
            applied = await self._session.do(Set(values, self._client.name))
        except StreamgenError as problem:
            if len(requests) == 1:
                self._refuse(WireError("refused", str(problem)), requests[0].id)
                return
            for request in requests:
                await self._change([request])
        else:
            self._client.metrics.commands[DOOR] += len(requests)
            for request in requests:
                self._tell(wire.ack(request.id, applied))

    async def _carry_out(self, item: wire.Request | WireError | bytes) -> None:
        if isinstance(item, WireError):
            self._refuse(item, None)
            return
        id_ = item.id if isinstance(item, wire.Request) else self._upload and self._upload[0].id
        try:
            answer = await self._do(item)
        except WireError as problem:
            self._refuse(problem, id_)
        except StreamgenError as problem:
            self._refuse(WireError("refused", str(problem)), id_)
        else:
            self._client.metrics.commands[DOOR] += 1
            self._tell(answer)

    def _refuse(self, problem: WireError, id_: str | float | None) -> None:
        problem.id = id_ if problem.id is None else problem.id
        self._client.metrics.errors[problem.code] += 1
        self._tell(wire.error(problem))

    def _tell(self, answer: str) -> None:
        self._unanswered -= 1
        self._answer(answer)

    # -- what can be asked --------------------------------------------------------------------------------------------

    async def _do(self, item: wire.Request | bytes) -> str:
        if isinstance(item, bytes):
            return await self._audio_prompt(item)
        id_, body, by = item.id, item.body, self._client.name
        match body:
            case wire.SetValues():
                self._check_ahead(body.at_sample)
                return wire.ack(id_, await self._session.do(Set(body.values, by, body.at_sample)))
            case wire.Steer():
                return wire.ack(id_, await self._session.do(Transport(body.action, by)))
            case wire.Audio():
                return wire.ack(id_, self._session.position_samples(), audio=self._reformat(body.fields))
            case wire.Upload():
                return self._announced(item, body)
            case wire.Get():
                return self._values(id_, body.name)
            case wire.Ping():
                now = time.time_ns() // 1000
                return wire.ack(id_, self._session.position_samples(), t=body.t, server_time_us=now)

    def _check_ahead(self, at_sample: int | None) -> None:
        """Bound what this client has waiting for its sample: the session keeps so much for all of them."""
        now = self._session.position_samples()
        self._scheduled = [sample for sample in self._scheduled if sample > now]
        if at_sample is None or at_sample <= now:
            return
        if at_sample - now > MOST_AHEAD_SECONDS * self._session.sample_rate_hz:
            raise WireError("too_far", f"at_sample lies more than {MOST_AHEAD_SECONDS} s ahead: send it later")
        if len(self._scheduled) >= MOST_SCHEDULED:
            raise WireError("busy", f"{MOST_SCHEDULED} of your changes wait for their sample already: send it later")
        self._scheduled.append(at_sample)

    def _values(self, id_: str | float | None, name: str | None) -> str:
        state = state_of(self._session)
        if name is not None:
            state["values"] = {name: state["values"][name]}
        return wire.ack(id_, self._session.position_samples(), **state)

    def _announced(self, request: wire.Request, body: wire.Upload) -> str:
        if self._upload is not None:
            raise WireError("busy", "an audio prompt is announced already: send its bytes first")
        self._upload = request, body.bytes
        return wire.ack(request.id, self._session.position_samples(), bytes=body.bytes, ready=True)

    async def _audio_prompt(self, data: bytes) -> str:
        upload, self._upload = self._upload, None
        try:
            if upload is None:
                raise WireError("unexpected_binary", "bytes that no audio_prompt announced were ignored")
            if len(data) != upload[1]:
                raise WireError("bad_audio", f"{upload[1]} bytes were announced, {len(data)} came")
            async with self._client.decoders:
                samples, rate_hz = await asyncio.to_thread(decode, data, self._client.limits.upload_seconds)
            applied = await self._session.do(AudioPrompt(samples, rate_hz, self._client.name))
        finally:
            self._uploaded()
        return wire.ack(upload[0].id, applied)


def _may_merge(item: wire.Request | WireError | bytes) -> TypeGuard[wire.Request]:
    """Tell whether a message is a change for now: one at a sample keeps its sample."""
    return isinstance(item, wire.Request) and isinstance(item.body, wire.SetValues) and item.body.at_sample is None
