"""One client of `streamgen.v1`: its requests in, its session's audio and events out.

    session ─ audio(), event() ─► outbox ─► sender task ─► socket        (blocks when the peer does not read)
    socket ─► receiver ─► desk ─► answers into the outbox                (waits while many are unanswered or unread)

Rules: event loop; a sender, a receiver and a desk for each client, so that no client waits for another. Audio comes
paced from the session; here it is only cut, coded and sent, and dropped, oldest first, when the peer is slow.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from websockets.exceptions import ConnectionClosed

from bridge.doors.native import protocol as wire
from bridge.doors.native.encoders import Packer, available, fitting
from bridge.doors.native.flow_control import Flow
from bridge.doors.native.frames import AudioFormat, audio_format
from bridge.doors.native.guard import GuardedConnection, bound_kernel_buffer
from bridge.doors.native.outbox import MAX_ANSWERS, Note, Outbox
from bridge.doors.native.requests import DOOR, Client, Desk, state_of
from bridge.session.interface import Session
from bridge.session.messages import Block, Changed, Discard, Event, Gap, Goaway, Meter, Transported

__all__ = ["WebListener"]

_BYTES_A_SAMPLE = {"s16le": 4, "f32le": 8, "opus": 0.4}  # both channels; Opus' 128 kbit/s at its usual 48 kHz
_FINISH_SECONDS = 1.0
_AT_ONCE = 16  # messages in one write
_PATIENCE_SECONDS = 0.3  # after which a send that has not ended is the listener's fault


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
        self._desk = Desk(
            session,
            client,
            answer=lambda text: self._put(Note("answer", text)),
            room=self._room,
            reformat=self._change_format,
            uploaded=socket.upload_finished,
        )
        self._packer = Packer(session.sample_rate_hz, audio, packets=client.shared.packets)
        self._packed_as = audio
        self._ready, self._read = asyncio.Event(), asyncio.Event()
        self._flow = Flow(session.sample_rate_hz, client.limits.window_seconds)
        self._held_since: float | None = None  # loop time since which the peer takes nothing more
        self._hung_up = False

    # -- what the session tells ---------------------------------------------------------------------------------------

    @property
    def wants_audio(self) -> bool:
        """False for a client that only steers: no reason to generate."""
        return self._format.enabled

    def audio(self, block: Block) -> None:
        """Queue a block."""
        if self._format.enabled:
            self._outbox.limit_samples = self._limit_samples()
            self._client.metrics.dropped_samples[DOOR] += self._outbox.put_block(block)
            self._ready.set()

    def _limit_samples(self) -> int:
        limits, now = self._client.limits, asyncio.get_running_loop().time()
        stalled = self._held_since is not None and now - self._held_since > _PATIENCE_SECONDS
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
        self._put(Note(kind, self._client.shared.text(event)))

    def _put(self, note: Note) -> None:
        self._outbox.put_note(note)
        self._ready.set()

    # -- the connection's life ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client until it leaves, stalls or the service ends."""
        self._greet()
        # both may wait for something else than the socket when it is lost
        receiving, *others = self._receive(), self._send(), self._desk.run(), self._socket.wait_closed()
        tasks = [asyncio.create_task(part) for part in (receiving, *others)]
        self._client.metrics.listeners[DOOR] += 1
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._session.remove(self)
            self._client.metrics.listeners[DOOR] -= 1
            await self._finish(tasks[0])
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
        session, state = self._session, state_of(self._session)
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

    def _size_buffers(self) -> None:
        bound_kernel_buffer(self._socket, _BYTES_A_SAMPLE[self._format.codec] * self._format.sample_rate_hz)

    # -- out ----------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            await self._client.turns.take()
            items = self._next_items()
            if items:
                await self._send_items(items)
            else:
                await self._wait()

    def _next_items(self) -> list[Block | Note | Gap]:
        """Take what goes out in one write: the next messages, up to a block and with it.

        While too much audio is unanswered only answers go out: else no request could be read any more, and behind the
        requests come the peer's pongs.
        """
        items: list[Block | Note | Gap] = []
        while len(items) < _AT_ONCE and not (items and isinstance(items[-1], Block)):
            item = self._outbox.take() if self._flow.open else self._outbox.take_urgent()
            if item is None:
                break
            items.append(item)
        return items

    async def _wait(self) -> None:
        """Wait for something to send; for a peer that does not hear what it was sent, only so long."""
        self._ready.clear()
        loop = asyncio.get_running_loop()
        patience = None if self._held_since is None else self._held_since + self._client.limits.stall_seconds
        async with asyncio.timeout(None if patience is None else patience - loop.time()):
            await self._ready.wait()

    async def _send_items(self, items: list[Block | Note | Gap]) -> None:
        self._held_since = self._held_since or asyncio.get_running_loop().time()
        messages = [message for item in items for message in self._messages(item)]
        async with asyncio.timeout(self._client.limits.stall_seconds):
            await self._socket.send_together(messages)
            if any(isinstance(item, Note) and item.kind == "goaway" for item in items):
                await self._socket.close(1001, "the session ends")
            if isinstance(items[-1], Block):
                await self._mark(items[-1].samples.shape[1])
        self._read.set()
        if self._flow.open:
            self._held_since = None

    async def _mark(self, samples: int) -> None:
        """Account for audio that was sent."""
        mark = self._flow.send(samples)
        if mark is not None:
            pong = asyncio.ensure_future(await self._socket.ping())
            pong.add_done_callback(functools.partial(self._answered, mark))

    def _answered(self, mark: int, pong: asyncio.Future[float]) -> None:
        if not pong.cancelled() and pong.exception() is None:
            self._flow.arrive(mark, pong.result())
            self._held_since = None
            self._ready.set()

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
            position, action = self._session.position_samples(), "play" if self._session.playing() else "pause"
            return [
                wire.event(Changed(self._session.values(), "resync", position)),
                wire.event(Transported(action, "resync", position)),
            ]
        return [note.text]

    def _repacked(self) -> list[bytes]:
        """Finish in the old format; what follows comes in the new one, without a sample lost."""
        frames = self._packer.flush()
        self._packed_as = self._format
        sequence, packets = self._packer.sequence, self._client.shared.packets
        self._packer = Packer(self._session.sample_rate_hz, self._format, sequence, packets)
        self._size_buffers()
        return frames

    def _count(self, frames: list[bytes]) -> list[str | bytes]:
        self._client.metrics.sent_bytes[DOOR] += sum(map(len, frames))
        return list(frames)

    # -- in -----------------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        async for message in self._socket:
            await self._desk.take(message)
            await self._room()

    async def _room(self) -> None:
        """Wait while the peer leaves its answers unread."""
        while self._outbox.answers >= MAX_ANSWERS and not self._hung_up:
            self._read.clear()
            await self._read.wait()

    async def _finish(self, receiving: asyncio.Task[None]) -> None:
        """Carry out what was asked before the client hung up: a script sends, and leaves."""
        if self._socket.close_code is None:  # it stalled, or a fault of ours ends it
            return
        self._hung_up = True
        self._read.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await asyncio.wait({receiving})
                while len(self._desk):
                    await asyncio.sleep(_FINISH_SECONDS / 100)

    def _change_format(self, fields: dict[str, Any]) -> dict[str, Any]:
        before = self._format
        after = fitting(audio_format(before, fields), "sample_rate_hz" in fields)
        self._format = after
        if before.enabled and not after.enabled:
            self._outbox.clear_audio()
        if after.enabled and not before.enabled:
            self._session.remove(self)
            self._join()
        return {**vars(after), "channels": 2}

    def goodbye(self, reason: str) -> None:
        """Tell the client that the service ends."""
        self.event(Goaway(reason))
