"""One client of `streamgen.v1`: its requests in, its session's audio and events out.

    session ─ audio(), event() ─► outbox ─► sender task ─► socket        (blocks when the peer does not read)
    socket ─► receiver ─► session.do ─► answers into the outbox          (waits while many answers are unread)

Rules: event loop; one sender and one receiver a client, so that no client waits for another. Audio comes paced from
the session; here it is only cut, coded and sent, and dropped, oldest first, when the peer is slow.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed

from bridge.commands import AudioPrompt, Block, Changed, Discard, Event, Gap, Goaway, Meter, Set, Transport, Transported
from bridge.errors import WireError
from bridge.metrics import Metrics
from bridge.network import wire
from bridge.network.access import Bucket, Limits
from bridge.network.audio_frames import AudioFormat, audio_format
from bridge.network.codecs import Packer, available, fitting
from bridge.network.flow import Flow
from bridge.network.guard import GuardedConnection, bound_kernel_buffer
from bridge.network.opus import OpusPackets
from bridge.network.outbox import MAX_ANSWERS, Note, Outbox
from bridge.network.upload import decode
from bridge.session import Session
from streamgen.errors import StreamgenError

__all__ = ["Client", "WebListener"]

_DOOR = "websocket"
_BYTES_A_SAMPLE = {"s16le": 4, "f32le": 8, "opus": 0.4}  # both channels; Opus' 128 kbit/s at its usual 48 kHz
_OVER_RATE_PAUSE_SECONDS = 0.001
_PATIENCE_SECONDS = 0.3  # after which a send that has not ended is the listener's fault


@dataclass(frozen=True)
class Client:
    """Who is there, and what it may.

    Attributes:
        name: as `changed` tells others.
        limits: of the service.
        metrics: where it is counted.
        decoders: how many audio prompts may be decoded at a time, in all.
        packets: the session's Opus packets.
    """

    name: str
    limits: Limits
    metrics: Metrics
    decoders: asyncio.Semaphore
    packets: OpusPackets


class WebListener:
    """A listener (`commands.Listener`) at the end of a WebSocket.

    Args:
        socket: open, past all checks.
        session: what it hears and steers.
        client: who it is.
        audio: how it wants its audio, checked by `codecs.fitting`.
    """

    def __init__(self, socket: GuardedConnection, session: Session, client: Client, audio: AudioFormat) -> None:
        self._socket, self._session, self._client, self._format = socket, session, client, audio
        self._outbox = Outbox(round(client.limits.queue_seconds * session.sample_rate_hz))
        self._bucket = Bucket(client.limits.messages_per_second, client.limits.burst_messages, time.monotonic())
        self._packer = Packer(session.sample_rate_hz, audio, packets=client.packets)
        self._packed_as = audio
        self._ready, self._read, self._arrived = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._flow = Flow(session.sample_rate_hz, client.limits.window_seconds)
        self._sending_since: float | None = None
        self._upload: tuple[wire.Request, int] | None = None

    # -- what the session tells ---------------------------------------------------------------------------------------

    @property
    def wants_audio(self) -> bool:
        """False for a client that only steers: no reason to generate."""
        return self._format.enabled

    def audio(self, block: Block) -> None:
        """Queue a block."""
        if self._format.enabled:
            self._outbox.limit_samples = self._limit_samples()
            self._client.metrics.dropped_samples[_DOOR] += self._outbox.put_block(block)
            self._ready.set()

    def _limit_samples(self) -> int:
        stalled = self._sending_since is not None and time.monotonic() - self._sending_since > _PATIENCE_SECONDS
        limits = self._client.limits
        return round((limits.stalled_queue_seconds if stalled else limits.queue_seconds) * self._session.sample_rate_hz)

    def event(self, event: Event) -> None:
        """Queue what happened."""
        if isinstance(event, Meter) or (isinstance(event, Discard) and not self._format.rewind):
            return
        if isinstance(event, Discard):
            self._outbox.discard(event.from_sample)
        kind = type(event).__name__.lower()
        if isinstance(event, Transported) and event.action in ("pause", "stop"):
            self._put(Note("flush", ""))
        self._put(Note(kind, wire.event(event)))

    def _put(self, note: Note) -> None:
        self._outbox.put_note(note)
        self._ready.set()

    # -- the connection's life ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client until it leaves, stalls or the service ends."""
        self._greet()
        # both may wait for something else than the socket when it is lost
        work = (self._send(), self._receive(), self._socket.wait_closed())
        tasks = [asyncio.create_task(part) for part in work]
        self._client.metrics.listeners[_DOOR] += 1
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._session.remove(self)
            self._client.metrics.listeners[_DOOR] -= 1
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            await self._ended(result)

    async def _ended(self, result: BaseException | None) -> None:
        if isinstance(result, TimeoutError):
            self._client.metrics.refused["stalled"] += 1
            await self._socket.close(4008, f"nothing was read for {self._client.limits.stall_seconds:g} s")
        elif isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
            raise result

    def _greet(self) -> None:
        self._size_buffers()
        state = self._state()
        session = self._session
        text = wire.hello(session.name, session.model, session.sample_rate_hz, self._format, available(), state)
        self._put(Note("answer", text))
        self._join()

    def _join(self) -> None:
        """Begin to listen; the first burst must fit the queue, so a long one loses its earliest part, unheard."""
        burst = self._session.add(self)
        begin = burst[-1].end_sample - self._outbox.limit_samples if burst else 0
        for block in burst:
            if block.start_sample >= begin or block is burst[-1]:
                self.audio(block)

    def _state(self) -> dict[str, object]:
        session = self._session
        return {
            "values": dict(session.values()),
            "playing": session.playing(),
            "position_samples": session.position_samples(),
        }

    def _size_buffers(self) -> None:
        bound_kernel_buffer(self._socket, _BYTES_A_SAMPLE[self._format.codec] * self._format.sample_rate_hz)

    # -- out ----------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            item = self._outbox.take()
            if item is None:
                self._ready.clear()
                await self._ready.wait()
                continue
            self._sending_since = time.monotonic()
            async with asyncio.timeout(self._client.limits.stall_seconds):
                for message in self._messages(item):
                    await self._socket.send(message)
                self._read.set()
                if isinstance(item, Note) and item.kind == "goaway":
                    await self._socket.close(1001, "the session ends")
                if isinstance(item, Block):
                    await self._keep_in_touch(item.samples.shape[1])
            self._sending_since = None

    async def _keep_in_touch(self, samples: int) -> None:
        """Account for audio that was sent; wait while too much is unanswered."""
        mark = self._flow.send(samples)
        if mark is not None:
            pong = asyncio.ensure_future(await self._socket.ping())
            pong.add_done_callback(functools.partial(self._answered, mark))
        while not self._flow.open:
            self._arrived.clear()
            await self._arrived.wait()

    def _answered(self, mark: int, pong: asyncio.Future[float]) -> None:
        if not pong.cancelled() and pong.exception() is None:
            self._flow.arrive(mark)
            self._arrived.set()

    def _messages(self, item: Block | Note | Gap) -> Iterable[str | bytes]:
        if isinstance(item, Note):
            return self._note(item)
        if isinstance(item, Gap):
            return [*self._count(self._packer.flush()), wire.event(item)]
        frames = self._repacked() if self._format != self._packed_as else []
        return self._count([*frames, *self._packer.pack(item)])

    def _note(self, note: Note) -> list[str | bytes]:
        if note.kind == "flush":
            return self._count(self._packer.flush())
        if note.kind == "resync":
            position = self._session.position_samples()
            return [wire.event(Changed(self._session.values(), "resync", position))]
        return [note.text]

    def _repacked(self) -> list[bytes]:
        """Finish in the old format; what follows comes in the new one, without a sample lost."""
        frames = self._packer.flush()
        self._packed_as = self._format
        sequence, packets = self._packer.sequence, self._client.packets
        self._packer = Packer(self._session.sample_rate_hz, self._format, sequence, packets)
        self._size_buffers()
        return frames

    def _count(self, frames: list[bytes]) -> list[str | bytes]:
        self._client.metrics.sent_bytes[_DOOR] += sum(map(len, frames))
        return list(frames)

    # -- in -----------------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        async for message in self._socket:
            while self._outbox.answers >= MAX_ANSWERS:
                self._read.clear()
                await self._read.wait()
            await self._take(message)
            await asyncio.sleep(0)  # recv() of what is already here does not yield: a flood would starve the others

    async def _take(self, message: str | bytes) -> None:
        id_: str | float | None = None
        try:
            if isinstance(message, bytes):
                id_ = self._upload[0].id if self._upload else None
                answer = await self._audio_prompt(message)
            else:
                in_time = self._bucket.take(time.monotonic())
                if not in_time:
                    await asyncio.sleep(_OVER_RATE_PAUSE_SECONDS)
                request = wire.parse(message, self._client.limits.upload_bytes)
                id_ = request.id
                self._check_rate(in_time)
                answer = await self._do(request)
        except WireError as problem:
            self._refuse(problem, id_)
        except StreamgenError as problem:
            self._refuse(WireError("refused", str(problem)), id_)
        else:
            self._put(Note("answer", answer))

    def _refuse(self, problem: WireError, id_: str | float | None) -> None:
        problem.id = id_ if problem.id is None else problem.id
        self._client.metrics.errors[problem.code] += 1
        self._put(Note("answer", wire.error(problem)))

    def _check_rate(self, in_time: bool) -> None:
        if not in_time:
            self._client.metrics.refused["message_rate"] += 1
            rate = self._client.limits.messages_per_second
            raise WireError("too_fast", f"more than {rate:g} messages a second: this one was not done")

    async def _do(self, request: wire.Request) -> str:
        body, by = request.body, self._client.name
        self._client.metrics.commands[_DOOR] += 1
        match body:
            case wire.SetValues():
                return wire.ack(request.id, await self._session.do(Set(body.values, by, body.at_sample)))
            case wire.Steer():
                return wire.ack(request.id, await self._session.do(Transport(body.action, by)))
            case wire.Audio():
                return self._change_format(request.id, body)
            case wire.Upload():
                return self._announced(request, body)
            case wire.Get():
                return self._values(request.id, body.name)
            case wire.Ping():
                now = time.time_ns() // 1000
                return wire.ack(request.id, self._session.position_samples(), t=body.t, server_time_us=now)

    def _values(self, id_: str | float | None, name: str | None) -> str:
        state = self._state()
        values = self._session.values()
        state["values"] = dict(values) if name is None else {name: values[name]}
        return wire.ack(id_, self._session.position_samples(), **state)

    def _change_format(self, id_: str | float | None, body: wire.Audio) -> str:
        before = self._format
        after = audio_format(before, body.fields)
        after = fitting(after, "sample_rate_hz" in body.fields)
        self._format = after
        if before.enabled and not after.enabled:
            self._outbox.clear_audio()
        if after.enabled and not before.enabled:
            self._session.remove(self)
            self._join()
        return wire.ack(id_, self._session.position_samples(), audio={**vars(after), "channels": 2})

    # -- audio prompts ------------------------------------------------------------------------------------------------

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
            self._socket.upload_finished()
        self._client.metrics.commands[_DOOR] += 1
        return wire.ack(upload[0].id, applied)

    def goodbye(self, reason: str) -> None:
        """Tell the client that the service ends."""
        self.event(Goaway(reason))
