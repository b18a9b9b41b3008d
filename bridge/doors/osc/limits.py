"""What OSC clients may take, and what was counted. Sans-I/O.

Rules: time is an argument (seconds, any monotonic clock); plain arithmetic, no socket.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["Bucket", "Buckets", "OscCounters", "OscLimits", "Tokens", "is_loopback"]

_MAX_HOSTS = 1024


@dataclass(frozen=True)
class OscLimits:
    """Bounds of the OSC door.

    Attributes:
        messages_per_second, burst: of one host. A fader sends up to 120 a second; a pattern counts as 16, a refresh and
            a subscription as 64.
        total_messages_per_second: of all hosts; 40 % of a 2026 laptop's core.
        subscribers, audio_subscribers, connections, peers: how many at most.
        subscription_seconds: how long a UDP subscriber may be silent.
        ahead_seconds: how far a bundle's time tag may lie ahead.
        scheduled: how many wishes may wait for their time.
        pending: how many wishes of one peer may wait for the engine.
        silence_seconds: how long a TCP client may take for its first packet, and for a packet from first byte to last.
        unsent_bytes: how much a TCP client may leave unread before it is closed.
        amplification: bytes answered for each byte received, until a host has subscribed or proved that it is there.
        errors_per_second: error replies to one peer.
    """

    messages_per_second: float = 1_000
    burst: float = 2_000
    total_messages_per_second: float = 10_000
    subscribers: int = 32
    audio_subscribers: int = 8
    connections: int = 32
    peers: int = 256
    subscription_seconds: float = 60.0
    ahead_seconds: float = 10.0
    scheduled: int = 256
    pending: int = 256
    silence_seconds: float = 10.0
    unsent_bytes: int = 256 * 1024
    amplification: float = 3.0
    errors_per_second: float = 20


@dataclass
class OscCounters:
    """What /metrics shows of the OSC door.

    Attributes:
        packets: datagrams and TCP packets received.
        messages: understood well enough to have an address.
        commands: asked of the session.
        refused: packets and messages refused, by reason; answered with /streamgen/error where limits allow.
        errors: error replies sent.
        dropped: not answered or not sent, by reason: rate, busy, unentitled, slow_client, send, audio …
        late: bundles whose time had passed.
        scheduled: bundles' wishes that waited for their time.
        sent: packets sent; audio packets are counted in audio_packets.
    """

    packets: int = 0
    messages: int = 0
    commands: int = 0
    errors: int = 0
    late: int = 0
    scheduled: int = 0
    sent: int = 0
    audio_packets: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


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


class Tokens:
    """Which hosts have shown the token. Loopback needs none; without a token nobody does.

    A host is its address: OSC clients open a new socket for each message. It is forgotten an hour after it was heard.
    """

    _LEASE_SECONDS = 3600.0

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._until: OrderedDict[str, float] = OrderedDict()
        self._tries = Buckets(1.0, 5.0)

    def admits(self, host: str, now: float) -> bool:
        """Tell whether a host may speak."""
        return self._token is None or self.proved(host, now)

    def proved(self, host: str, now: float) -> bool:
        """Tell whether a host is loopback or has shown the token: no address that a stranger wrote into a packet."""
        if is_loopback(host):
            return True
        if self._until.get(host, -1.0) < now:
            return False
        self._until[host] = now + self._LEASE_SECONDS
        return True

    def show(self, host: str, token: str, now: float) -> bool:
        """Take a token; False if it is wrong or this host has tried too often."""
        if self._token is None:
            return True
        if not self._tries.of(host).take(1, now) or not hmac.compare_digest(token.encode(), self._token.encode()):
            return False
        self._until[host] = now + self._LEASE_SECONDS
        if len(self._until) > _MAX_HOSTS:
            self._until.popitem(last=False)
        return True


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own; names are not looked up."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
