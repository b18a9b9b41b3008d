"""How much anyone may take of the service: token buckets, and which addresses are this machine's own. Sans-I/O.

Rules: time is an argument (seconds, any monotonic clock); plain arithmetic, no socket.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache

__all__ = ["Bucket", "Buckets", "is_loopback"]

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


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own; localhost is the only name that is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
