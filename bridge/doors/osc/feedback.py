"""What subscribers and senders are told: echoes, meters, heartbeat, statistics. Event loop, no socket of its own.

Rules: an address is echoed at most 30 times a second to each, the last value always; nothing is queued but the names of
what changed. How a packet leaves is given as a function.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from bridge.doors.osc.codec import encode
from bridge.doors.osc.namespace import PREFIX
from bridge.doors.turns import Turns
from bridge.session.messages import Block, Stats

__all__ = ["ECHO_SECONDS", "METER_SECONDS", "Echo", "Levels", "Subscriber", "stats_messages"]

ECHO_SECONDS = 1 / 30
METER_SECONDS = 1 / 20
_HEARTBEAT_SECONDS = 1.0
_SILENCE_DB = -120.0
_KEPT_SECONDS = 15.0  # the longest lead is 10 s

Send = Callable[[bytes], object]
Read = Callable[[str], bytes]


class Echo:
    """Tells one client what addresses show, each at most once an interval.

    Args:
        send: takes a packet.
        read: encodes what an address shows now.
        turns: with other clients: ninety addresses for each of thirty take 30 ms.
        interval_seconds: between two echoes.
    """

    def __init__(self, send: Send, read: Read, turns: Turns, interval_seconds: float = ECHO_SECONDS) -> None:
        self.send, self._read, self._turns, self._interval = send, read, turns, interval_seconds
        self._changed: dict[str, None] = {}
        self._timer: asyncio.Handle | None = None
        self._last = -1e9

    def mark(self, addresses: Iterable[str]) -> None:
        """Tell these: now if the last time is long enough ago, else as soon as it is."""
        self._changed.update(dict.fromkeys(addresses))
        if self._timer is None and self._changed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, self._last + self._interval - loop.time()), self._flush)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        if self._turns.spent:
            self._timer = loop.call_soon(self._flush)
            return
        self._timer, self._last = None, loop.time()
        changed, self._changed = self._changed, {}
        for address in changed:
            self.send(self._read(address))

    def close(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None


@dataclass
class Subscriber:
    """One target of feedback.

    Attributes:
        echo: its echoes.
        interval_seconds: between meters.
        owner: source address whose messages keep the subscription alive.
        until: time at which it ends if nothing is heard, loop seconds; infinite over TCP.
    """

    echo: Echo
    interval_seconds: float
    owner: object
    until: float
    next_meter: float = 0.0
    next_heartbeat: float = 0.0
    silent: bool = False

    def tick(self, now: float, levels: tuple[float, float] | None, playing: bool) -> None:
        """Send what is due: a meter (once more, at the floor, when the sound ends) and the heartbeat."""
        if now >= self.next_heartbeat:
            self.next_heartbeat = _next(self.next_heartbeat, now, _HEARTBEAT_SECONDS)
            self.echo.send(encode(f"{PREFIX}heartbeat", playing))
        if now >= self.next_meter and not (levels is None and self.silent):
            self.next_meter = _next(self.next_meter, now, self.interval_seconds)
            self.silent = levels is None
            self.echo.send(encode(f"{PREFIX}meter", *(levels or (_SILENCE_DB, _SILENCE_DB))))


def _next(due: float, now: float, interval: float) -> float:
    """Return the next time on the grid, or a new grid after a pause."""
    return due + interval if now < due + interval else now + interval


class Levels:
    """Peaks of 50 ms, told when they sound rather than when they are made."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._peaks: deque[tuple[float, float, float]] = deque()

    def heard(self, block: Block) -> None:
        """Take a block's peaks."""
        length = round(METER_SECONDS * self._rate_hz)
        for start in range(0, block.samples.shape[1], length):
            left, right = np.abs(block.samples[:, start : start + length]).max(axis=1)
            due = block.time_us / 1e6 + start / self._rate_hz
            self._peaks.append((due, float(left), float(right)))
        while self._peaks[-1][0] - self._peaks[0][0] > _KEPT_SECONDS:
            self._peaks.popleft()

    def due(self, now: float) -> tuple[float, float] | None:
        """Return the levels in dBFS that sound since the last call; Unix seconds. None: nothing does."""
        left = right = -1.0
        while self._peaks and self._peaks[0][0] <= now:
            _, one, two = self._peaks.popleft()
            left, right = max(left, one), max(right, two)
        return None if left < 0 else (_db(left), _db(right))


def _db(peak: float) -> float:
    return max(_SILENCE_DB, 20 * float(np.log10(max(peak, 1e-6))))


def stats_messages(stats: Stats, rate_hz: int) -> list[bytes]:
    """Encode statistics, one address each; positions in seconds, for 32 bits of samples last 18 hours."""
    values = asdict(stats)
    values["position_seconds"] = values.pop("position_samples") / rate_hz
    return [encode(f"{PREFIX}stats/{name}", value) for name, value in values.items()]
