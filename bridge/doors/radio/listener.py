"""One listener over HTTP: what it is sent, and how far it may fall behind.

    programme ─ begin, take ─► queue ─► titles put in, if it asked for them ─► socket

Rules: event loop. One that does not read is sent the newest: what does not fit its queue is dropped in whole pieces,
oldest first, and after a minute without reading it is let go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from bridge.doors.access import Limits
from bridge.doors.radio.icy import Interleaver
from bridge.doors.radio.station import BURST_SECONDS, DOOR, EncodedAudio
from bridge.metrics import Metrics

__all__ = ["UNSENT_BYTES", "HttpListener"]

_QUEUE_SECONDS = BURST_SECONDS + 6.0
UNSENT_BYTES = 16_384


class HttpListener:
    """A listener (`station.Tuner`) at the end of a connection.

    Args:
        writer: of the connection; the answer's head is written.
        titles: it asked for ICY titles.
        session_hz: rate of the session, in which losses are counted.
        limits: of the service.
        metrics: where it is counted.
    """

    def __init__(
        self, writer: asyncio.StreamWriter, titles: bool, session_hz: int, limits: Limits, metrics: Metrics
    ) -> None:
        self._writer, self._session_hz, self._limits, self._metrics = writer, session_hz, limits, metrics
        self._titles = Interleaver() if titles else None
        self._queue, self._queued_seconds, self._ready = deque[EncodedAudio](), 0.0, asyncio.Event()
        self._ended = False

    def begin(self, head: bytes, burst: Iterable[EncodedAudio]) -> None:
        """Queue what the stream begins with."""
        pieces = list(burst)
        self._put(EncodedAudio(head, 0.0, pieces[0].title if pieces else ""))
        for piece in pieces:
            self._put(piece)

    def take(self, piece: EncodedAudio) -> None:
        """Queue the next piece, at the cost of the oldest."""
        self._put(piece)
        while self._queued_seconds > _QUEUE_SECONDS:
            lost = self._queue.popleft()
            self._queued_seconds -= lost.seconds
            self._metrics.dropped_samples[DOOR] += round(lost.seconds * self._session_hz)

    def end(self) -> None:
        """Send what is queued, and no more."""
        self._ended = True
        self._ready.set()

    def _put(self, piece: EncodedAudio) -> None:
        self._queue.append(piece)
        self._queued_seconds += piece.seconds
        self._ready.set()

    async def send(self) -> None:
        """Send until the programme ends.

        Raises:
            ConnectionError: it has gone.
            TimeoutError: it read nothing for as long as it may.
        """
        while True:
            data = self._taken()
            if data:
                self._metrics.sent_bytes[DOOR] += len(data)
                self._writer.write(data)
                async with asyncio.timeout(self._limits.stall_seconds):
                    await self._writer.drain()
            elif self._ended:
                return
            else:
                self._ready.clear()
                await self._ready.wait()

    def _taken(self) -> bytes:
        """Take what goes out in one write: as many pieces as fit what may lie unsent."""
        out, size = [], 0
        while self._queue and size < UNSENT_BYTES:
            piece = self._queue.popleft()
            self._queued_seconds -= piece.seconds
            out.append(self._titles.process(piece.data, piece.title) if self._titles else piece.data)
            size += len(piece.data)
        return b"".join(out)
