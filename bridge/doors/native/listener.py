"""One listener of a session at the end of a WebSocket: its audio and events, out.

    session ─ audio(), event() ─► lane ─► outbox ─┬─► written at once, while the peer takes it
                                                  └─► sender task: what waits for the peer, and messages

A block that fifty listeners are told of is fifty writes in one turn of the event loop, and no task is woken for it. Who
cannot take it now, or finds the turn spent, leaves it to its own sender.

Rules: event loop. Audio comes paced from the session; here it gets its header and is sent, and dropped, oldest first,
when the peer is slow. Knows no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from bridge.doors.access import Limits
from bridge.doors.limits import Turns
from bridge.doors.native import answers
from bridge.doors.native.broadcast import Broadcast, Chunk, Lane
from bridge.doors.native.codecs import fitting
from bridge.doors.native.frames import DISCONTINUITY, AudioFormat, audio_format
from bridge.doors.native.guard import GuardedConnection, bound_kernel_buffer
from bridge.doors.native.outbox import MAX_ANSWERS, FlowControl, Note, Outbox
from bridge.metrics import Metrics
from bridge.session.events import (
    Beat,
    Block,
    Changed,
    Event,
    Gap,
    Goaway,
    Meter,
    PresetsChanged,
    TableChanged,
    TransportCause,
    Transported,
)
from bridge.session.session import Session

__all__ = ["DOOR", "WebListener"]

DOOR = "websocket"
_BYTES_A_SAMPLE = {"s16le": 4, "f32le": 8, "opus": 0.4}  # both channels; Opus' 128 kbit/s at its usual 48 kHz
_AT_ONCE, _AT_ONCE_SECONDS = 16, 0.1  # messages in one write, and their audio
_PATIENCE_SECONDS = 0.3  # after which a send that has not ended is the listener's fault
_ENDS_A_PASSAGE = (TransportCause.PAUSE, TransportCause.STOP)


class WebListener:
    """A listener (`session.Listener`) at the end of a WebSocket.

    Args:
        socket: open, past all checks.
        session: what it hears.
        broadcast: what it shares with the session's other listeners.
        audio: how it wants its audio, checked by `codecs.fitting`.
        limits: of the service.
        metrics: where it is counted.
        turns: of all listeners of the service.

    Attributes:
        wants_beats: whether it is told each beat.
        wants_meters: whether it is told the level.
    """

    def __init__(
        self,
        socket: GuardedConnection,
        session: Session,
        broadcast: Broadcast,
        audio: AudioFormat,
        limits: Limits,
        metrics: Metrics,
        turns: Turns,
    ) -> None:
        self._socket, self._session, self._broadcast, self._audio = socket, session, broadcast, audio
        self._limits, self._metrics, self._turns = limits, metrics, turns
        self._outbox = Outbox(round(limits.queue_seconds * session.rate_hz))
        self._flow = FlowControl(session.rate_hz, limits.window_seconds)
        self._lane: Lane | None = None
        self._begin = self._sequence = 0  # session sample before which nothing is sent; number of the next frame
        self._expected: int | None = None  # session sample that follows on what was sent
        self._ready, self._read = asyncio.Event(), asyncio.Event()
        self._now = asyncio.get_running_loop().time
        self._held_since: float | None = None  # since when the peer takes nothing more
        self._ending = self._hung_up = False
        self._fault: Exception | None = None  # of ours; the sender raises it, for the session has others to tell
        self.wants_beats = self.wants_meters = False
        socket.passed = self._passed

    # -- what the session tells ---------------------------------------------------------------------------------------

    @property
    def wants_audio(self) -> bool:
        """False for a client that only steers: no reason to generate."""
        return self._audio.enabled

    def audio(self, block: Block) -> None:
        """Send a block, or queue it."""
        try:
            if self._lane is not None:
                self._queue(self._lane.take(block))
                self._send_at_once()
        except Exception as fault:  # noqa: BLE001 - it ends one connection, not the session's way to the others
            self._fault, self._lane = fault, None
            self._ready.set()

    def _send_at_once(self) -> None:
        if self._ending or self._turns.spent:
            self._ready.set()
            return
        while self._socket.writable and (items := self._next_items()):
            self._socket.write(*self._messages(items))
            self._sent()
        if len(self._outbox):
            self._ready.set()

    def event(self, event: Event) -> None:
        """Queue what happened."""
        if (isinstance(event, Meter) and not self.wants_meters) or (isinstance(event, Beat) and not self.wants_beats):
            return
        if self._lane is not None and isinstance(event, Transported) and event.action in _ENDS_A_PASSAGE:
            self._queue(self._lane.flush(event))
        self._ending = self._ending or isinstance(event, Goaway)  # the sender closes behind it
        self._put(Note(type(event).__name__.lower(), self._broadcast.text(event)))

    def answer(self, text: str) -> None:
        """Queue the answer to a request."""
        self._put(Note("answer", text))

    def _put(self, note: Note) -> None:
        self._outbox.put_note(note)
        self._ready.set()

    def _queue(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            if (left := chunk.since(self._begin)) is not None:
                self._outbox.limit_samples = self._limit_samples()
                self._metrics.dropped_samples[DOOR] += self._outbox.put_chunk(left)

    def _limit_samples(self) -> int:
        stalled = self._held_since is not None and self._now() - self._held_since > _PATIENCE_SECONDS
        seconds = self._limits.stalled_queue_seconds if stalled else self._limits.queue_seconds
        return round(seconds * self._session.rate_hz)

    # -- joining, and another format ----------------------------------------------------------------------------------

    @property
    def format(self) -> dict[str, Any]:
        """How its audio comes, as messages tell it."""
        return {**vars(self._audio), "channels": 2}

    def join(self) -> None:
        """Begin to listen; the first burst must fit the queue, so a long one loses its earliest part, unheard."""
        self._size_buffers()
        burst = self._session.add(self)
        if not self._audio.enabled:
            return
        self._lane = self._broadcast.lane(self._audio, burst)
        if burst:
            self._begin = max(burst[0].start_sample, burst[-1].end_sample - self._outbox.limit_samples)
            self._queue(self._lane.newest)
        self._ready.set()

    def leave(self) -> None:
        """Listen no more; what waits is still sent."""
        self._session.remove(self)
        self._lane = None  # at once: a lane that nobody feeds must not be found by who comes next

    def change_format(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Let its audio come otherwise, by the fields of an `audio` message; returns how it comes now.

        Raises:
            WireError: a field outside its range, or a codec that is not here.
        """
        before, after = self._audio, fitting(audio_format(self._audio, fields), "sample_rate_hz" in fields)
        self._audio = after
        if after.enabled != before.enabled:
            self._lane = None
            self._outbox.clear_audio()
            self._session.remove(self)  # it counts who wants audio when they come and go
            self.join()
        elif self._lane is not None and after != before:
            self._change_lane(self._lane)
        return self.format

    def _change_lane(self, before: Lane) -> None:
        """Finish in the old format; what follows comes in the new one, without a sample lost."""
        rest = before.rest()
        self._queue(rest)
        self._begin = rest[-1].end_sample if rest else before.end_sample
        self._lane = self._broadcast.lane(self._audio, before.blocks)
        self._queue(self._lane.newest)
        self._size_buffers()

    def _size_buffers(self) -> None:
        bound_kernel_buffer(self._socket, _BYTES_A_SAMPLE[self._audio.codec] * self._audio.sample_rate_hz)

    # -- out ----------------------------------------------------------------------------------------------------------

    async def send(self) -> None:
        """Send what was not sent at once, for ever.

        Raises:
            TimeoutError: the peer took nothing for as long as it may.
            ConnectionClosed: it has gone.
        """
        while True:
            if self._fault is not None:
                raise self._fault
            await self._turns.take()
            if items := self._next_items():
                await self._send_items(items)
            else:
                await self._wait()

    async def _send_items(self, items: list[Chunk | Note | Gap]) -> None:
        self._held_since = self._held_since or self._now()
        async with asyncio.timeout(self._limits.stall_seconds):
            await self._socket.send_together(*self._messages(items))
            if any(isinstance(item, Note) and item.kind == "goaway" for item in items):
                await self._socket.close(1001, "the session ends")
        self._sent()

    async def _wait(self) -> None:
        """Wait for something to send; for a peer that does not take what it was sent, only so long."""
        self._ready.clear()
        async with asyncio.timeout(self._patience()):
            if self._socket.paused:
                await self._socket.drain()
                self._sent()
            else:
                await self._ready.wait()

    def _patience(self) -> float | None:
        if self._held_since is None:
            return None
        return max(0.0, self._held_since + self._limits.stall_seconds - self._now())

    async def room(self) -> None:
        """Wait while the peer leaves its answers unread."""
        while self._outbox.answers >= MAX_ANSWERS and not self._hung_up:
            self._read.clear()
            await self._read.wait()

    def hang_up(self) -> None:
        """Let nobody wait for room any more: the peer has gone."""
        self._hung_up = True
        self._read.set()

    def _next_items(self) -> list[Chunk | Note | Gap]:
        """Take what goes out in one write: the next messages, and not too much audio.

        While too much audio is unanswered only answers go out: else no request could be read any more, and behind the
        requests come the peer's pongs.
        """
        items: list[Chunk | Note | Gap] = []
        while len(items) < _AT_ONCE and _samples(items) < _AT_ONCE_SECONDS * self._session.rate_hz:
            item = self._outbox.take() if self._flow.open else self._outbox.take_urgent()
            if item is None:
                break
            items.append(item)
        return items

    def _messages(self, items: list[Chunk | Note | Gap]) -> tuple[list[str | bytes], int | None]:
        """Return what is written for items, and the mark behind it, if it is time for one."""
        messages: list[str | bytes] = []
        for item in items:
            if isinstance(item, Chunk):
                messages.append(self._frame(item))
            elif isinstance(item, Gap):
                messages.append(answers.event(item, self._session.rate_hz))
            else:
                messages += [item.text] if item.text else self._resync()
        samples = _samples(items)
        return messages, self._flow.send(samples, self._now()) if samples else None

    def _frame(self, chunk: Chunk) -> bytes:
        # a sample more or less is how positions at another rate are rounded
        broken = self._expected is not None and abs(chunk.start_sample - self._expected) > 1
        frame = chunk.frame(self._sequence, chunk.flags | (DISCONTINUITY if broken else 0))
        self._expected, self._sequence = chunk.end_sample, self._sequence + 1
        self._metrics.sent_bytes[DOOR] += len(frame)
        return frame

    def _resync(self) -> list[str]:
        """Tell how all stands, in place of too many events."""
        session = self._session
        position, rate_hz, state = session.position_samples(), session.rate_hz, session.state()
        action = TransportCause.PLAY if state.plays else TransportCause.PAUSE
        return [
            answers.event(TableChanged(session.table, session.values(), session.slots(), "resync"), rate_hz),
            answers.event(PresetsChanged(session.presets(), "resync"), rate_hz),
            answers.event(Changed(session.values(), "resync", position), rate_hz),
            answers.event(Transported(action, state, "resync", position), rate_hz),
        ]

    def _sent(self) -> None:
        """Note whether the peer takes more; if not, the sender waits no longer than it may."""
        self._read.set()
        if self._flow.open and not self._socket.paused:
            self._held_since = None
        elif self._held_since is None:
            self._held_since = self._now()
            self._ready.set()

    def _passed(self, mark: int) -> None:
        """Note that the peer has read up to a mark."""
        self._flow.arrive(mark, self._now())
        self._held_since = None
        if len(self._outbox):
            self._ready.set()


def _samples(items: Iterable[Chunk | Note | Gap]) -> int:
    """Return how much audio is among them, in the session's samples."""
    return sum(item.end_sample - item.start_sample for item in items if isinstance(item, Chunk))
