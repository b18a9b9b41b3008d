"""How much anyone may take: messages, by token buckets, turns of the event loop, and what lies unsent below a door.

Also which addresses are this machine's own.

Rules: knows no socket but its options; a bucket is told the time (seconds, any monotonic clock), a turn is the loop's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

__all__ = [
    "ACCEPTS_A_TURN",
    "TURN_SECONDS",
    "Bucket",
    "Buckets",
    "Turns",
    "bound_buffers",
    "is_loopback",
    "plain_address",
    "queue_newcomers",
]

TURN_SECONDS = 0.005
ACCEPTS_A_TURN = 32
"""How many connections a door takes in one turn: asyncio's `backlog`, which is also how long its queue is."""
_QUEUE = 4_096
_MAX_HOSTS = 1024


class Bucket:
    """A token bucket: `rate` a second, `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level = burst
        self._at: float | None = None

    def take(self, amount: float, now: float) -> bool:
        """Take so much if it is there."""
        self._fill(now)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def owe(self, amount: float, now: float) -> float:
        """Take it even if it is not there; returns the seconds to wait for it."""
        self._fill(now)
        self._level -= amount
        return max(0.0, -self._level / self._rate)

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now


class Buckets:
    """One bucket a host, the least recently used forgotten first."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._hosts: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, host: str) -> Bucket:
        """Return a host's bucket, a full one for a new host."""
        bucket = self._hosts.pop(host, None) or Bucket(self._rate, self._burst)
        self._hosts[host] = bucket
        if len(self._hosts) > _MAX_HOSTS:
            self._hosts.popitem(last=False)
        return bucket


class Turns:
    """Work of many tasks, spread over turns of the event loop; one for all that share it.

    turn    │ A B C D ▌ E F G ▌ H …             fifty listeners get a block at once: whoever comes after the first
            └─ 5 ms ──┘                         5 ms waits for the next turn, and timers and sockets come between
    """

    def __init__(self) -> None:
        self._ends: float | None = None  # of this turn; None before its first piece of work

    async def take(self) -> None:
        """Wait until there is time for a piece of work in this turn; do it without awaiting anything."""
        while self.spent:
            await asyncio.sleep(0)

    @property
    def spent(self) -> bool:
        """Whether there is no time left in this turn; who asks first in a turn begins it."""
        if self._ends is not None:
            return time.monotonic() > self._ends
        self._ends = time.monotonic() + TURN_SECONDS
        asyncio.get_running_loop().call_soon(self._over)  # before all who wait, which queue behind it
        return False

    def _over(self) -> None:
        self._ends = None


def bound_buffers(transport: asyncio.WriteTransport, unsent_bytes: int) -> None:
    """Let little wait below us: what is dropped, and how late a listener hears, is decided here.

    The system otherwise takes in half a minute of audio before a write blocks.

    Args:
        transport: of an open connection.
        unsent_bytes: what may wait.
    """
    transport.set_write_buffer_limits(high=unsent_bytes)
    raw = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS
    if raw is not None and option is not None:
        with suppress(OSError):  # the peer may have gone this moment
            raw.setsockopt(socket.IPPROTO_TCP, option, unsent_bytes)


def queue_newcomers(listening: Iterable[socket.socket]) -> None:
    """Let a crowd wait below us, however few are taken in a turn: who finds no place there tries again after a second.

    Args:
        listening: an asyncio server's sockets.
    """
    for place in listening:
        with place.dup() as same:  # asyncio's own view of a socket cannot listen
            same.listen(_QUEUE)


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own; localhost is the only name that is."""
    try:
        return ipaddress.ip_address(plain_address(host)).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@lru_cache(maxsize=1024)
def plain_address(host: str) -> str:
    """Return an address as it is counted: IPv4 within IPv6 is IPv4, and a zone is left out. A name stays as it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)
