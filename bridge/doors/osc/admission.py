"""What OSC clients may take: limits, tokens, prices, and what of it is answered. Event loop.

Rules: every refusal is counted, and answered as far as its sender is entitled to: a UDP source that is neither this
machine's, nor subscribed, nor has shown the token, gets at most three bytes for each it sent, for the address may be a
stranger's. No socket: how a packet leaves is the client's.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from bridge.doors.access import Access
from bridge.doors.limits import Bucket, Buckets, is_loopback
from bridge.doors.osc.address import is_pattern
from bridge.doors.osc.clients import Client
from bridge.doors.osc.codec import Message, OscError, encode
from bridge.doors.osc.namespace import PREFIX, Ignored, Login, Request

__all__ = ["Admission", "OscCounters", "OscLimits", "Tokens", "price"]

_PATTERN_COST, _DUMP_COST, _MOST_COST = 16, 64, 256
_BYTES_A_UNIT = 1024  # of work: 1 MB a second from one host
_DUMPING = frozenset({f"{PREFIX}refresh", f"{PREFIX}subscribe"})
_LONGEST_ERROR = 200
_ERROR_FRAME = 32  # address, tags and padding of /streamgen/error
_MAX_HOSTS = 1024


@dataclass(frozen=True)
class OscLimits:
    """Bounds of the OSC door.

    Attributes:
        messages_per_second, burst: of one host. A fader sends up to 120 a second; a pattern counts as 16, a refresh and
            a subscription as 64, and each kB as one.
        total_messages_per_second: of all hosts; a part of one core.
        subscribers, audio_subscribers, connections, clients: how many at most.
        subscription_seconds: how long a UDP subscriber may be silent.
        ahead_seconds: how far a bundle's time tag may lie ahead.
        scheduled, total_scheduled: how many bundles may wait for their time, of one host and of all.
        pending: how many requests of one client may wait for the engine.
        silence_seconds: how long a TCP client may take for its first packet, and for a packet from first byte to last.
        unsent_bytes: how much a TCP client may leave unread before it is closed.
        amplification: bytes answered for each byte received, until a host has subscribed or proved that it is there.
        errors_per_second: error replies to one client.
    """

    messages_per_second: float = 1_000
    burst: float = 2_000
    total_messages_per_second: float = 10_000
    subscribers: int = 32
    audio_subscribers: int = 8
    connections: int = 32
    clients: int = 256
    subscription_seconds: float = 60.0
    ahead_seconds: float = 10.0
    scheduled: int = 256
    total_scheduled: int = 1_000
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
        scheduled: commands handed to the session for a time.
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

    A host is its address: OSC clients open a new socket for each message. It is forgotten an hour after its last word.

    Args:
        access: the token, and how often it may be guessed.
    """

    _LEASE_SECONDS = 3600.0

    def __init__(self, access: Access) -> None:
        self._access = access
        self._until: OrderedDict[str, float] = OrderedDict()

    def admits(self, host: str) -> bool:
        """Tell whether a host may speak."""
        return not self._access.token or self.proved(host)

    def proved(self, host: str) -> bool:
        """Tell whether a host is loopback or has shown the token: no address that a stranger wrote into a packet."""
        if is_loopback(host):
            return True
        now = self._access.now()
        if self._until.get(host, -1.0) < now:
            return False
        self._until[host] = now + self._LEASE_SECONDS
        return True

    def show(self, host: str, token: str) -> bool:
        """Take a token; False if it is wrong."""
        if not self._access.token:
            return True
        if self._access.refuses_token(token, host):
            return False
        self._until[host] = self._access.now() + self._LEASE_SECONDS
        if len(self._until) > _MAX_HOSTS:
            self._until.popitem(last=False)
        return True


class Admission:
    """Admits packets and requests, and lets answers out.

    Args:
        limits: what clients may take.
        counters: of the door.
        access: what other hosts must show, and the clock.
        subscribed: tells whether a client's own address is subscribed.
    """

    def __init__(
        self,
        limits: OscLimits,
        counters: OscCounters,
        access: Access,
        subscribed: Callable[[Hashable], bool],
        tell_elsewhere: Callable[[Hashable, bytes], None],
    ) -> None:
        self._limits, self._counters, self._subscribed = limits, counters, subscribed
        self._tell_elsewhere = tell_elsewhere
        self._now, self._tokens = access.now, Tokens(access)
        self._hosts = Buckets(limits.messages_per_second, limits.burst)
        self._total = Bucket(limits.total_messages_per_second, limits.total_messages_per_second)
        self._scheduled: list[tuple[str, float]] = []

    def charge_bytes(self, client: Client, count: int) -> float:
        """Charge for bytes to look at, a datagram's as one message at least; see `charge`."""
        cost = count / _BYTES_A_UNIT
        return self.charge(client, cost if client.connected else max(1.0, cost))

    def charge(self, client: Client, cost: float) -> float:
        """Charge for work.

        Returns:
            0, or how many seconds too early it comes: a connection waits for so long, a datagram is lost.
        """
        now, host = self._now(), self._hosts.of(client.host)
        if client.connected:
            return max(host.owe(cost, now), self._total.owe(cost, now))
        if host.take(cost, now) and self._total.take(cost, now):
            return 0.0
        self._counters.dropped["rate"] += 1
        rate = self._limits.messages_per_second
        self.tell_error(client, "", f"more than {rate:g} messages a second: this one is lost, send slower")
        return 1.0

    def check(self, client: Client, request: Request) -> None:
        """Let a request pass.

        Raises:
            OscError: its sender has not shown the token.
        """
        if not isinstance(request, Login | Ignored) and not self._tokens.admits(client.host):
            raise OscError("token wanted: send /streamgen/token s first", "token")

    def check_time(self, client: Client, at: float, now: float) -> None:
        """Let a bundle wait for its time, Unix seconds both.

        Raises:
            OscError: it lies too far ahead, or too many wait.
        """
        limits = self._limits
        if at - now > limits.ahead_seconds:
            text = f"a time tag lies {at - now:.1f} s ahead, the limit is {limits.ahead_seconds:g} s: send it later"
            raise OscError(text, "too_far")
        self._scheduled = [one for one in self._scheduled if one[1] > now]
        of_host = sum(host == client.host for host, _ in self._scheduled)
        if of_host >= limits.scheduled or len(self._scheduled) >= limits.total_scheduled:
            raise OscError(f"{len(self._scheduled)} bundles wait for their time, the limit: send later", "busy")
        self._scheduled.append((client.host, at))

    def log_in(self, client: Client, token: str) -> None:
        """Take a token.

        Raises:
            OscError: it is wrong.
        """
        if not self._tokens.show(client.host, token):
            raise OscError("this is not the token", "token", f"{PREFIX}token")

    def proved(self, client: Client) -> bool:
        """Tell whether a client is where it says it is."""
        return client.connected or self._tokens.proved(client.host)

    def refuse(self, client: Client, error: OscError) -> None:
        """Count a refusal and tell the client."""
        self._counters.refused[error.reason] += 1
        self.tell_error(client, error.address, str(error))

    def tell_error(self, client: Client, address: str, text: str) -> None:
        """Send /streamgen/error, as often as one client may get it."""
        if client.errors.take(1, self._now()):
            self._counters.errors += 1
            short = text.encode()[: self._room(client, address)].decode(errors="ignore")
            packet = encode(f"{PREFIX}error", address, short)
            self.reply(client, packet)
            self._tell_elsewhere(client.key, packet)

    def _room(self, client: Client, address: str) -> int:
        """Return how many bytes an error may have: a stranger's is cut to what it is entitled to, not unsent."""
        if self._entitled(client):
            return _LONGEST_ERROR
        return max(0, min(_LONGEST_ERROR, int(client.credit) - len(address.encode()) - _ERROR_FRAME))

    def _entitled(self, client: Client) -> bool:
        return self.proved(client) or self._subscribed(client.key)

    def reply(self, client: Client, packet: bytes) -> None:
        """Send a client a packet, if it is entitled to it."""
        if not (self._entitled(client) or client.spend(len(packet))):
            self._counters.dropped["unentitled"] += 1
        elif client.send(packet):
            self._counters.sent += 1
        else:
            self._counters.dropped["send"] += 1


def price(messages: Sequence[Message]) -> int:
    """Return a packet's units of work: 1 for a change or a query, more where one message means many.

    Raises:
        OscError: more than one packet may ask for.
    """
    cost = sum(map(_price, messages))
    if cost > _MOST_COST:
        raise OscError(f"a packet asks for {cost} units of work, the limit is {_MOST_COST}: send several", "too_big")
    return cost


def _price(message: Message) -> int:
    if is_pattern(message.address):
        return _PATTERN_COST
    return _DUMP_COST if message.address in _DUMPING else 1
