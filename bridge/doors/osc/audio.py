"""The session's sound for OSC: packets to those who subscribed them. Event loop.

    /streamgen/audio iiib    stream, sequence, rate in Hz, stereo frames s16le
                             frames a packet: the longest whole number of milliseconds that is at most 320 frames, so
                             that a packet fits one MTU: 288 (6 ms) at 48 kHz, 320 (10 ms) at 32 kHz
                             position of the first frame = frames a packet · sequence

Rules: a packet leaves shortly before it is due, so that receivers buffer jitter and not the whole lead; what could not
be sent in time is dropped and counted, never queued. The session's timeline is the only clock. How a packet leaves is
given as a function.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.doors.osc.admission import OscCounters
from bridge.doors.osc.codec import OscError, encode
from bridge.doors.osc.namespace import PREFIX
from bridge.session.events import Block, Event
from bridge.session.session import Session

__all__ = ["AudioPackets", "AudioSender", "packet_frames"]

STREAM = 1  # one session, one stream
_MOST_FRAMES = 320
_AHEAD_SECONDS = 0.05  # before it is due: what a loop and a network may lose
_LATE_SECONDS = 0.5
_KEPT_SECONDS = 12.0  # more than any session is ahead


def packet_frames(rate_hz: int) -> int:
    """Return how many frames a packet has: whole milliseconds of them (all but whole at 44.1 kHz), at most 320."""
    return rate_hz * (_MOST_FRAMES * 1000 // rate_hz) // 1000


@dataclass(frozen=True)
class _Packet:
    due: float
    data: bytes


class AudioPackets:
    """Cuts blocks into packets on their grid. Sans-I/O.

    Args:
        rate_hz: of the blocks.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz, self._frames = rate_hz, packet_frames(rate_hz)
        self._packets: deque[_Packet] = deque()
        self._rest: NDArray[np.float32] = np.zeros((2, 0), np.float32)
        self._end = 0

    def add(self, block: Block) -> None:
        """Take a block; one that does not follow on begins anew at the next packet's boundary."""
        samples, start, frames = block.samples, block.start_sample, self._frames
        if start == self._end:
            samples, start = np.concatenate([self._rest, samples], axis=1), start - self._rest.shape[1]
        skip = -start % frames
        due = block.time_us / 1e6 - (block.start_sample - start) / self._rate_hz
        whole = max(0, samples.shape[1] - skip) // frames
        for first in range(skip, skip + whole * frames, frames):
            self._append(samples[:, first : first + frames], start + first, due + first / self._rate_hz)
        self._rest, self._end = samples[:, skip + whole * frames :], block.end_sample
        if skip > samples.shape[1]:  # not even the boundary was in it
            self._end = -1

    def _append(self, samples: NDArray[np.float32], start: int, due: float) -> None:
        pcm = np.rint(np.clip(samples, -1, 1) * 32_767).astype("<i2").T.tobytes()
        sequence = start // self._frames % 2**31
        self._packets.append(_Packet(due, encode(f"{PREFIX}audio", STREAM, sequence, self._rate_hz, pcm)))
        while due - self._packets[0].due > _KEPT_SECONDS:
            self._packets.popleft()

    def next_due(self) -> float | None:
        """Return when the next packet should leave, Unix seconds."""
        return self._packets[0].due - _AHEAD_SECONDS if self._packets else None

    def take(self, now: float) -> tuple[list[bytes], int]:
        """Take the packets that should leave now, and how many were too late for that."""
        due: list[bytes] = []
        late = 0
        while self._packets and self._packets[0].due - _AHEAD_SECONDS <= now:
            packet = self._packets.popleft()
            if packet.due < now - _LATE_SECONDS:
                late += 1
            else:
                due.append(packet.data)
        return due, late


@dataclass
class _Receiver:
    send: Callable[[bytes], bool]
    owner: Hashable
    until: float


class AudioSender:
    """Sends a session's audio to those who asked for it; listens to the session only while there are any.

    Args:
        session: whose audio.
        counters: of the door.
        most: how many receivers at once.
    """

    wants_audio = True

    def __init__(self, session: Session, counters: OscCounters, most: int) -> None:
        self._session, self._counters, self._most = session, counters, most
        self._receivers: dict[Hashable, _Receiver] = {}
        self._packets = AudioPackets(session.rate_hz)
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._receivers)

    def subscribe(self, target: Hashable, send: Callable[[bytes], bool], owner: Hashable, until: float) -> None:
        """Send to a target until a time (loop seconds); a target that is there is renewed.

        Raises:
            OscError: there are as many as may be.
        """
        if target not in self._receivers and len(self._receivers) >= self._most:
            raise OscError(f"{self._most} audio subscribers listen, the limit; try again when one has left", "capacity")
        self._receivers[target] = _Receiver(send, owner, until)
        if self._task is None:
            self._packets = AudioPackets(self._session.rate_hz)
            for block in self._session.add(self):
                self.audio(block)
            self._task = asyncio.create_task(self._send(), name="osc audio")

    def unsubscribe(self, target: Hashable) -> None:
        """Send no more to a target."""
        self._receivers.pop(target, None)
        if not self._receivers:
            self.close()

    def renew(self, owner: Hashable, until: float) -> None:
        """Go on with what a source address asked for."""
        for target, receiver in self._receivers.items():
            if owner in (receiver.owner, target):
                receiver.until = max(receiver.until, until)

    def expire(self, now: float) -> None:
        """End what was not renewed."""
        for target in [target for target, receiver in self._receivers.items() if receiver.until < now]:
            self.unsubscribe(target)

    def close(self) -> None:
        """Send no more to anyone."""
        self._receivers.clear()
        if self._task is not None:
            self._session.remove(self)
            self._task.cancel()
            self._task = None

    def audio(self, block: Block) -> None:
        """Take the session's next block."""
        self._packets.add(block)
        self._arrived.set()

    def event(self, event: Event) -> None:
        """Take an event; none changes the sound."""

    async def _send(self) -> None:
        wall = self._session.timeline.wall
        while True:
            due = self._packets.next_due()
            if due is None:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await asyncio.sleep(max(0.0, due - wall()))
            packets, late = self._packets.take(wall())
            self._counters.dropped["audio_late"] += late
            for packet in packets:
                self._send_one(packet)

    def _send_one(self, packet: bytes) -> None:
        for receiver in list(self._receivers.values()):
            sent = receiver.send(packet)
            self._counters.audio_packets += sent
            self._counters.dropped["audio"] += not sent
