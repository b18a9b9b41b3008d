"""What waits to be sent to one listener, and how much is on its way to it. No I/O, no clock.

        put_chunk, put_note ─►  ┌ note ┬ chunk ┬ chunk ┬ note ┬ chunk ┐  ─► take ─► sent ─── ✓ answered ─── on its way
                                └──────┴───────┴───────┴──────┴───────┘
        too much audio:            the oldest chunk goes, and a Gap takes its place

A slow listener costs `limit_samples` of audio and MAX_NOTES messages, whatever it does. Answers to its own requests are
never dropped: whoever reads its requests must wait while `answers` is high.

A TCP connection takes in a second and more before it blocks, most of it in the peer's own buffers, which no option of
ours bounds. Every peer must answer a ping (RFC 6455, 5.5.2), and answers it in turn, after what it read before: so a
ping after every MARK_SECONDS of audio tells how far the peer has read.

    sent        ├────────┼────────┼────────┼───►
    marks       0        1        2        3
    answered    ✓        ✓                          on its way: all after mark 1; beyond the window, wait

A window shorter than the way there and back would let only a part of the music through, so it grows with the shortest
of the newest round trips: a peer that stops reading lengthens those to come, and finds the window as it was.

Rules: counts samples of the session.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from bridge.doors.native.broadcast import Chunk
from bridge.session.events import Gap

__all__ = ["LONGEST_WINDOW_SECONDS", "MARK_SECONDS", "MAX_ANSWERS", "MAX_NOTES", "FlowControl", "Note", "Outbox"]

MAX_NOTES = 256
MAX_ANSWERS = 32
_NEWEST_ONLY = ("stats", "meter")
_URGENT = ("answer", "goaway")  # do not wait until the peer has read more

MARK_SECONDS = 0.2
LONGEST_WINDOW_SECONDS = 2.5  # a satellite, a full LTE queue: two seconds there and back
_ROUND_TRIPS = 16


@dataclass(frozen=True)
class Note:
    """A text message.

    Attributes:
        kind: "answer" (kept), "stats" or "meter" (the newest replaces the last), "resync" (stands for all that was
            dropped), or any other event.
        text: what to send; "" for "resync".
    """

    kind: str
    text: str


class Outbox:
    """One listener's queue.

    Attributes:
        queued_samples: audio waiting.
        dropped_samples: audio dropped so far.
        answers: answers waiting.
    """

    def __init__(self, limit_samples: int) -> None:
        self.limit_samples = limit_samples
        self.queued_samples = 0
        self.dropped_samples = 0
        self.answers = 0
        self._count = 0
        self._chunks: deque[tuple[int, Chunk]] = deque()
        self._notes: deque[tuple[int, Note]] = deque()
        self._gap: Gap | None = None

    def __len__(self) -> int:
        """How many chunks and messages wait."""
        return len(self._chunks) + len(self._notes)

    def put_chunk(self, chunk: Chunk) -> int:
        """Add audio; returns how many samples were dropped for it."""
        self._chunks.append((self._next(), chunk))
        self.queued_samples += _samples(chunk)
        before = self.dropped_samples
        while self.queued_samples > self.limit_samples and len(self._chunks) > 1:
            self._drop()
        return self.dropped_samples - before

    def put_note(self, note: Note) -> None:
        """Add a message."""
        if note.kind in _NEWEST_ONLY:
            self._notes = deque(entry for entry in self._notes if entry[1].kind != note.kind)
        elif note.kind != "answer" and len(self._notes) - self.answers >= MAX_NOTES:
            self._notes = deque(entry for entry in self._notes if entry[1].kind == "answer")
            note = Note("resync", "")
        self.answers += note.kind == "answer"
        self._notes.append((self._next(), note))

    def clear_audio(self) -> None:
        """Forget all audio, without a gap: the listener wants none."""
        self._chunks.clear()
        self._gap, self.queued_samples = None, 0

    def take(self) -> Chunk | Note | Gap | None:
        """Remove and return what is to be sent next; None if nothing waits."""
        if self._notes and (not self._chunks or self._notes[0][0] < self._chunks[0][0]):
            note = self._notes.popleft()[1]
            self.answers -= note.kind == "answer"
            return note
        if not self._chunks:
            return None
        if self._gap is not None:
            gap, self._gap = self._gap, None
            return gap
        chunk = self._chunks.popleft()[1]
        self.queued_samples -= _samples(chunk)
        return chunk

    def take_urgent(self) -> Note | None:
        """Remove and return the oldest answer or goodbye, whatever else waits; None if there is none."""
        for entry in self._notes:
            if entry[1].kind in _URGENT:
                self._notes.remove(entry)
                self.answers -= entry[1].kind == "answer"
                return entry[1]
        return None

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _drop(self) -> None:
        chunk = self._chunks.popleft()[1]
        samples = _samples(chunk)
        self.queued_samples -= samples
        self.dropped_samples += samples
        before = self._gap or Gap(chunk.start_sample, 0, "slow_client")
        self._gap = Gap(before.from_sample, before.samples + samples, "slow_client")


def _samples(chunk: Chunk) -> int:
    return chunk.end_sample - chunk.start_sample


class FlowControl:
    """One listener's account of what is on its way.

    Args:
        rate_hz: of the session.
        window_seconds: audio that may be on its way to a peer that is near.
    """

    def __init__(self, rate_hz: int, window_seconds: float) -> None:
        self._rate_hz, self._shortest_seconds = rate_hz, window_seconds
        self._mark_every = round(MARK_SECONDS * rate_hz)
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._sent = self._arrived = self._marked = 0
        self._marks: deque[tuple[int, int, float]] = deque()
        self._count = 0

    @property
    def on_its_way(self) -> int:
        """Samples sent and not known to have arrived."""
        return self._sent - self._arrived

    @property
    def window_seconds(self) -> float:
        """Audio that may be on its way."""
        wanted = min(self._round_trips, default=0.0) + 2 * MARK_SECONDS
        return min(max(wanted, self._shortest_seconds), LONGEST_WINDOW_SECONDS)

    @property
    def open(self) -> bool:
        """Whether more may be sent."""
        return self.on_its_way < self.window_seconds * self._rate_hz

    def send(self, samples: int, now: float) -> int | None:
        """Account for audio that is sent now (seconds); returns a mark's number if it is time for a ping, else None."""
        self._sent += samples
        if self._sent - self._marked < self._mark_every:
            return None
        self._marked, self._count = self._sent, self._count + 1
        self._marks.append((self._count, self._sent, now))
        return self._count

    def arrive(self, mark: int, now: float) -> None:
        """Account for a mark that was answered now; it answers all before it too. One that was never set is ignored."""
        while self._marks and self._marks[0][0] <= mark <= self._count:
            number, self._arrived, sent_at = self._marks.popleft()
            if number == mark:
                self._round_trips.append(now - sent_at)
