"""The stream as a channel of Link Audio: told to who takes audio, sent to who asks, each piece with its beat. Sans-I/O.

    block ─► 16 bits ─► pieces of 125 frames, each with the beat that falls on it ─► when it is due ─► who asked
    announced four times a second, to those who take audio ◄─ pong      request, for five seconds ◄─ who listens

Rules: knows no socket and no session; times are microseconds of the monotonic clock, positions the session's samples.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bridge.doors.link import wire
from bridge.doors.link.wire import AudioType, Buffer, BufferPart, Place
from bridge.doors.packetizer import Packet, Packetizer

__all__ = ["FRAMES", "Channel"]

FRAMES = 125  # in a message, as Ableton's library sends them
_TTL_SECONDS = 5
_MOST_REQUESTS = 16
_MOST_WAITING = 2_000  # messages: five seconds
_NAME = "streamgen"


class Channel:
    """One stereo channel of one node.

    Args:
        node: the node's id.
        rate_hz: of the samples.
        beat_at: which beat falls on a sample, and the tempo there in bpm.
        due_us: when a sample is due.

    Attributes:
        sent: messages of audio so far.
    """

    def __init__(
        self,
        node: bytes,
        rate_hz: int,
        beat_at: Callable[[float], tuple[float, float]],
        due_us: Callable[[float], float],
    ) -> None:
        self._node, self._rate_hz, self._beat_at = node, rate_hz, beat_at
        self._id = secrets.token_bytes(wire.NODE_BYTES)
        self._requests: dict[Place, float] = {}
        self._pieces = Packetizer(FRAMES, due_us, _MOST_WAITING)
        self.sent = 0

    # -- who listens ----------------------------------------------------------------------------------------------

    def listeners(self, now_us: float) -> list[Place]:
        """Return who has asked lately."""
        self._requests = {place: until for place, until in self._requests.items() if until > now_us}
        return list(self._requests)

    def announcement(self, session: bytes, now_us: float) -> bytes:
        """Return the message that says what there is to hear."""
        told = wire.entry(b"sess", session) + wire.audio_channels(_NAME, {self._id: _NAME})
        told += wire.entry(b"__ht", round(now_us).to_bytes(8, "big", signed=True))
        return wire.audio_message(AudioType.ANNOUNCEMENT, _TTL_SECONDS, self._node, told)

    def farewell(self) -> bytes:
        """Return the message that says that there is nothing to hear any more."""
        told = wire.entry(b"aucb", (1).to_bytes(4, "big") + self._id)
        return wire.audio_message(AudioType.BYES, _TTL_SECONDS, self._node, told)

    def received(self, data: bytes, source: Place, now_us: float) -> bytes | None:
        """Take a datagram; returns the answer, if there is one."""
        found = wire.read_audio(data)
        if found is None:
            return None
        kind, ttl, _, entries = found
        if isinstance(entries, Buffer):
            return None
        if kind is AudioType.ANNOUNCEMENT and b"__ht" in entries:
            echo = wire.entry(b"__ht", entries[b"__ht"][:8])
            return wire.audio_message(AudioType.PONG, _TTL_SECONDS, self._node, echo)
        if entries.get(b"chid") == self._id:
            if kind is AudioType.STOP:
                self._requests.pop(source, None)
            elif kind is AudioType.REQUEST and (source in self._requests or len(self._requests) < _MOST_REQUESTS):
                self._requests[source] = now_us + 1e6 * ttl
        return None

    # -- the sound ------------------------------------------------------------------------------------------------

    def take(self, samples: NDArray[np.float32], start_sample: int) -> None:
        """Take the next samples, float32 [2, n]; where they do not follow on, what is pending goes first."""
        self._pieces.take(samples, start_sample)

    def clear(self) -> None:
        """Forget what waits: nobody listens."""
        self._pieces.clear()

    @property
    def next_due_us(self) -> float:
        """When the next piece is due; infinite where none waits."""
        return self._pieces.next_due

    def due(self, session: bytes, now_us: float) -> list[bytes]:
        """Return the messages whose sound is due by now, for everyone who listens."""
        return [self._message(piece, session) for piece in self._pieces.due(now_us)]

    def _message(self, piece: Packet, session: bytes) -> bytes:
        self.sent += 1
        beat, bpm = self._beat_at(piece.position)
        chunk = BufferPart(self.sent, piece.samples.shape[1], round(1e6 * beat), round(60e6 / bpm))
        pcm = np.clip(np.rint(np.nan_to_num(piece.samples) * 32_768), -32_768, 32_767).astype(">i2").T.tobytes()
        return wire.buffer_message(self._node, Buffer(self._id, session, (chunk,), self._rate_hz, 2, pcm))
