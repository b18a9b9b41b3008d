"""One client of `streamgen.v1`: what it asks is read, carried out and answered, in its order.

    message ─► parse ─► waiting: get · set · set · set · transport ─► session.do ─► answer ─► listener's outbox
                                       └────┬────┘
                                 one change, three answers

The engine takes a change between two blocks of music, and a knob in motion sends more than there are blocks. So changes
that wait behind each other become one, unless they say when; if the session refuses it, each is tried alone, and
only the wrong one is told so.

Rules: event loop; a receiver, a request handler and a sender (listener.py) for each client, so that no client waits for
another. Taking a message never waits for the engine: behind a client's requests come its pongs, which say how much of
the music has reached it. What is too much is refused instead, at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed

from bridge.audio.audio_in import decode_audio
from bridge.doors.access import Limits
from bridge.doors.limits import Bucket
from bridge.doors.native import answers, requests
from bridge.doors.native.codecs import available
from bridge.doors.native.guard import GuardedConnection
from bridge.doors.native.listener import DOOR, WebListener
from bridge.doors.native.requests import Request
from bridge.errors import FileError, WireError
from bridge.metrics import Metrics
from bridge.session.commands import AudioPrompt, EditRack, Follow, KeepTake, SavePreset, Set
from bridge.session.session import Session
from bridge.session.timeline import Moment
from streamgen.config import Value
from streamgen.errors import StreamgenError

__all__ = ["MOST_AHEAD_SECONDS", "MOST_SCHEDULED", "MOST_WAITING", "ClientContext", "Connection"]

MOST_WAITING, _MOST_WAITING_SIZE = 256, 262_144  # messages, and their characters; an audio prompt comes on top
MOST_SCHEDULED, MOST_AHEAD_SECONDS = 100, 600
_OVER_RATE_PAUSE_SECONDS = 0.001
_FINISH_SECONDS = 1.0


@dataclass(frozen=True)
class ClientContext:
    """Who is there, and what it may.

    Attributes:
        name: as `changed` tells others.
        limits: of the service.
        metrics: where it is counted.
        decoders: how many audio prompts may be decoded at a time, in all.
    """

    name: str
    limits: Limits
    metrics: Metrics
    decoders: asyncio.Semaphore


class Connection:
    """A client's connection, past all checks.

    Args:
        socket: open.
        session: what it hears and steers.
        client: who it is.
        listener: what sends to it.
    """

    def __init__(
        self, socket: GuardedConnection, session: Session, client: ClientContext, listener: WebListener
    ) -> None:
        self._socket, self._session, self._client, self._listener = socket, session, client, listener
        self._bucket = Bucket(client.limits.messages_per_second, client.limits.burst_messages)
        self._waiting: deque[tuple[int, Request | WireError | bytes]] = deque()  # size, message
        self._arrived = asyncio.Event()
        self._unanswered = 0
        self._scheduled: list[int] = []  # samples at which its changes will apply
        self._upload: tuple[Request, requests.Upload] | None = None

    async def run(self) -> None:
        """Serve the client until it leaves, stalls or the service ends."""
        self._listener.answer(answers.hello(self._session, self._listener.format, available()))
        self._listener.join()
        # each may wait for something else than the socket when it is lost
        parts = self._receive(), self._listener.send(), self.carry_out(), self._socket.wait_closed()
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._listener.leave()
            await self._finish(tasks[0])
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            await self._ended(result)

    async def _receive(self) -> None:
        async for message in self._socket:
            await self.take(message)
            await self._listener.room()

    async def _finish(self, receiving: asyncio.Task[None]) -> None:
        """Carry out what was asked before the client hung up: a script sends, and leaves."""
        if self._socket.close_code is None:  # it stalled, or a fault of ours ends it
            return
        self._listener.hang_up()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await asyncio.wait({receiving})
                while self._unanswered:
                    await asyncio.sleep(_FINISH_SECONDS / 100)

    async def _ended(self, result: BaseException | None) -> None:
        if isinstance(result, TimeoutError):
            self._client.metrics.refused["stalled"] += 1
            await self._socket.close(4008, f"nothing was read for {self._client.limits.stall_seconds:g} s")
        elif isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
            raise result

    # -- in their order -----------------------------------------------------------------------------------------------

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
            self._refuse(busy, item.id if isinstance(item, Request) else None)

    def _fits(self, size: int) -> bool:
        waiting = sum(size for size, _ in self._waiting)
        return len(self._waiting) < MOST_WAITING and waiting + size <= _MOST_WAITING_SIZE

    def _parsed(self, text: str, in_time: bool) -> Request | WireError:
        try:
            session, client = self._session, self._client
            request = requests.parse(text, session.table, session.rate_hz, client.limits.upload_bytes, client.name)
        except WireError as problem:
            # the same without its traceback: that keeps this frame, which keeps it, until garbage is collected
            return WireError(problem.code, str(problem), problem.id)
        if in_time:
            return request
        self._client.metrics.refused["message_rate"] += 1
        rate = self._client.limits.messages_per_second
        return WireError("too_fast", f"more than {rate:g} messages a second: this one was not done", request.id)

    async def carry_out(self) -> None:
        """Carry out what waits, for ever."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await self._listener.room()
            _, item = self._waiting.popleft()
            if _may_merge(item):
                await self._change([item, *self._following()])
            else:
                await self._carry_out_alone(item)

    def _following(self) -> list[Request]:
        """Take out the changes that wait at the front."""
        following = []
        while self._waiting and _may_merge(item := self._waiting[0][1]):
            following.append(item)
            self._waiting.popleft()
        return following

    async def _change(self, changes: list[Request]) -> None:
        """Make several changes as one, or one by one if it is refused."""
        values: dict[str, Value] = {}
        for change in changes:
            assert isinstance(change.body, Set), change
            values |= change.body.values
        try:
            applied = await self._session.do(Set(values, self._client.name))
        except StreamgenError as problem:
            if len(changes) == 1:
                self._refuse(WireError("refused", str(problem)), changes[0].id)
                return
            for change in changes:
                await self._change([change])
        else:
            self._client.metrics.commands[DOOR] += len(changes)
            for change in changes:
                self._tell(self._ack(change.id, applied))

    async def _carry_out_alone(self, item: Request | WireError | bytes) -> None:
        if isinstance(item, WireError):
            self._refuse(item, None)
            return
        id_ = item.id if isinstance(item, Request) else self._upload and self._upload[0].id
        try:
            answer = await self._done(item)
        except WireError as problem:
            self._refuse(problem, id_)
        except FileError as problem:
            self._refuse(WireError("bad_audio", str(problem)), id_)
        except StreamgenError as problem:
            self._refuse(WireError("refused", str(problem)), id_)
        else:
            self._client.metrics.commands[DOOR] += 1
            self._tell(answer)

    def _refuse(self, problem: WireError, id_: str | float | None) -> None:
        problem.id = id_ if problem.id is None else problem.id
        self._client.metrics.errors[problem.code] += 1
        self._tell(answers.error(problem))

    def _tell(self, answer: str) -> None:
        self._unanswered -= 1
        self._listener.answer(answer)

    def _ack(self, id_: str | float | None, applied_at_sample: int | None = None, **more: Any) -> str:
        at = self._session.position_samples() if applied_at_sample is None else applied_at_sample
        return answers.ack(id_, at, self._session.rate_hz, **more)

    # -- what can be asked --------------------------------------------------------------------------------------------

    async def _done(self, item: Request | bytes) -> str:
        """Carry a message out; returns its answer."""
        if isinstance(item, bytes):
            return await self._uploaded(item)
        id_, body = item.id, item.body
        match body:
            case requests.WantBeats():
                self._listener.wants_beats = body.enabled
                return self._ack(id_, enabled=body.enabled)
            case requests.WantMeters():
                self._listener.wants_meters = body.enabled
                return self._ack(id_, enabled=body.enabled)
            case requests.SetAudio():
                return self._ack(id_, audio=self._listener.change_format(body.fields))
            case requests.Upload(bytes=0):
                return self._ack(id_, await self._session.do(self._followed(body, None, 0)))
            case requests.Upload():
                return self._announced(item, body)
            case requests.GetValues():
                return self._values(id_, body.name)
            case requests.Ping():
                return self._ack(id_, t=body.t, server_time_us=time.time_ns() // 1000)
        if not isinstance(body, SavePreset | KeepTake):
            self._expect(body.at)
        applied = await self._session.do(body)
        rack = {"slots": answers.slots_of(self._session)} if isinstance(body, EditRack) else {}
        return self._ack(id_, applied, **rack)

    def _expect(self, at: Moment | None) -> None:
        """Bound what this client has waiting for its moment: the session keeps so much for all of them."""
        now = self._session.position_samples()
        self._scheduled = [sample for sample in self._scheduled if sample > now]
        sample = None if at is None or at.every else self._session.timeline.sample_at(at)
        if sample is None or sample <= now:
            return
        if sample - now > MOST_AHEAD_SECONDS * self._session.rate_hz:
            word = "at_sample" if at is not None and at.sample is not None else "at_beat"
            raise WireError("too_far", f"{word} lies more than {MOST_AHEAD_SECONDS} s ahead: send it later")
        if len(self._scheduled) >= MOST_SCHEDULED:
            raise WireError("busy", f"{MOST_SCHEDULED} of your changes wait for their sample: send it later")
        self._scheduled.append(sample)

    def _values(self, id_: str | float | None, name: str | None) -> str:
        state = answers.state_of(self._session)
        if name is not None:
            if name not in state["values"]:  # it was, when the request was read: its slot is gone
                raise WireError("bad_value", f"there is no parameter {name!r} any more")
            state["values"] = {name: state["values"][name]}
        return self._ack(id_, **state)

    def _announced(self, request: Request, body: requests.Upload) -> str:
        if self._upload is not None:
            raise WireError("busy", f"{self._upload[1].kind} is announced already: send its bytes first")
        self._upload = request, body
        return self._ack(request.id, bytes=body.bytes, ready=True)

    async def _uploaded(self, data: bytes) -> str:
        upload, self._upload = self._upload, None
        try:
            if upload is None:
                raise WireError(
                    "unexpected_binary", "bytes that no audio_prompt, melody or style announced were ignored"
                )
            request, body = upload
            if len(data) != body.bytes:
                raise WireError("bad_audio", f"{body.bytes} bytes were announced, {len(data)} came")
            async with self._client.decoders:
                seconds, what = self._client.limits.upload_seconds, body.kind.replace("_", " ")
                samples, rate_hz = await asyncio.to_thread(decode_audio, data, seconds, what)
            if body.kind in requests.FOLLOWED:
                applied = await self._session.do(self._followed(body, samples, rate_hz))
            else:
                applied = await self._session.do(AudioPrompt(samples, rate_hz, self._client.name))
        finally:
            self._socket.upload_finished()
        return self._ack(request.id, applied)

    def _followed(self, body: requests.Upload, samples: NDArray[np.float32] | None, rate_hz: int) -> Follow:
        self._expect(body.at)
        return Follow(body.kind, samples, rate_hz, self._client.name, body.at)


def _may_merge(item: Request | WireError | bytes) -> TypeGuard[Request]:
    """Tell whether a message is a change for now: one at a moment keeps that, one that glides its glide."""
    if not isinstance(item, Request) or not isinstance(item.body, Set):
        return False
    return item.body.at is None and not item.body.glide_seconds
