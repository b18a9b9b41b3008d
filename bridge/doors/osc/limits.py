"""What OSC clients may take, and what was counted. Sans-I/O.

Rules: time is an argument (seconds, any monotonic clock); plain arithmetic, no socket.
"""

from __future__ import annotations

import hmac
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from bridge.doors.limits import Buckets, is_loopback

__all__ = ["OscCounters", "OscLimits", "Tokens"]

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
