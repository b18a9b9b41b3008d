"""How much audio is on its way to one listener: sent, but not known to have arrived.

A TCP connection takes in a second and more before it blocks, most of it in the peer's own buffers, which no option of
ours bounds. Every peer must answer a ping (RFC 6455, 5.5.2), and answers it in turn, after what it read before: so a
ping after every MARK_SECONDS of audio tells how far the peer has read.

    sent        ├────────┼────────┼────────┼───►
    marks       0        1        2        3
    answered    ✓        ✓                          on its way: all after mark 1; beyond the window, wait

A window shorter than the way there and back would let only a part of the music through, so it grows with the shortest
of the newest round trips: a peer that stops reading lengthens those to come, and finds the window as it was.

Rules: no I/O, no clock; counts samples of the session.
"""

from __future__ import annotations

from collections import deque

__all__ = ["LONGEST_WINDOW_SECONDS", "MARK_SECONDS", "Flow"]

MARK_SECONDS = 0.1
LONGEST_WINDOW_SECONDS = 1.0
_ROUND_TRIPS = 16


class Flow:
    """One listener's account.

    Args:
        rate_hz: of the session.
        window_seconds: audio that may be on its way to a peer that is near.
    """

    def __init__(self, rate_hz: int, window_seconds: float) -> None:
        self._rate_hz, self._shortest_seconds = rate_hz, window_seconds
        self._mark_every = round(MARK_SECONDS * rate_hz)
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._sent = self._arrived = self._marked = 0
        self._marks: deque[tuple[int, int]] = deque()
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

    def send(self, samples: int) -> int | None:
        """Account for audio that was sent; returns a mark's number if it is time for a ping, else None."""
        self._sent += samples
        if self._sent - self._marked < self._mark_every:
            return None
        self._marked, self._count = self._sent, self._count + 1
        self._marks.append((self._count, self._sent))
        return self._count

    def arrive(self, mark: int, round_trip_seconds: float) -> None:
        """Account for an answered mark; it answers all before it too."""
        self._round_trips.append(round_trip_seconds)
        while self._marks and self._marks[0][0] <= mark:
            self._arrived = self._marks.popleft()[1]
