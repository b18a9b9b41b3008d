"""Who may ask how much, and is answered how much. Event loop.

Rules: every refusal is counted, and answered as far as its sender is entitled to: a UDP source that is neither this
machine's, nor subscribed, nor has shown the token, gets at most three bytes for each it sent, for the address may be a
stranger's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence

from bridge.doors.osc.address import is_pattern
from bridge.doors.osc.codec import Message, OscError, encode
from bridge.doors.limits import Bucket, Buckets
from bridge.doors.osc.limits import OscCounters, OscLimits, Tokens
from bridge.doors.osc.namespace import PREFIX, Ignored, Login, Wish
from bridge.doors.osc.peer import Peer

__all__ = ["Admission", "price"]

_PATTERN_COST, _DUMP_COST, _MOST_COST = 16, 64, 256
_DUMPING = frozenset({f"{PREFIX}refresh", f"{PREFIX}subscribe"})
_LONGEST_ERROR = 200
_ERROR_FRAME = 32  # address, tags and padding of /streamgen/error


class Admission:
    """Admits wishes and lets answers out.

    Args:
        limits: what clients may take.
        counters: of the door.
        token: what other hosts must show; None = nothing.
        subscribed: tells whether a peer's own address is subscribed.
    """

    def __init__(
        self, limits: OscLimits, counters: OscCounters, token: str | None, subscribed: Callable[[Hashable], bool]
    ) -> None:
        self._limits, self._counters, self._subscribed = limits, counters, subscribed
        self._now = asyncio.get_running_loop().time
        self._tokens = Tokens(token)
        self._hosts = Buckets(limits.messages_per_second, limits.burst)
        self._total = Bucket(limits.total_messages_per_second, limits.total_messages_per_second)

    def charge(self, peer: Peer, cost: float) -> float:
        """Charge for work.

        Returns:
            0, or how many seconds too early it comes: a connection waits for so long, a datagram is lost.
        """
        now, host = self._now(), self._hosts.of(peer.host)
        if peer.connected:
            return max(host.owe(cost, now), self._total.owe(cost, now))
        if host.take(cost, now) and self._total.take(cost, now):
            return 0.0
        self._counters.dropped["rate"] += 1
        rate = self._limits.messages_per_second
        self.tell_error(peer, "", f"more than {rate:g} messages a second: this one is lost, send slower")
        return 1.0

    def check(self, peer: Peer, wish: Wish) -> None:
        """Let a wish pass.

        Raises:
            OscError: its sender has not shown the token.
        """
        if not isinstance(wish, Login | Ignored) and not self._tokens.admits(peer.host, self._now()):
            raise OscError("token wanted: send /streamgen/token s first", "token")

    def log_in(self, peer: Peer, token: str) -> None:
        """Take a token.

        Raises:
            OscError: it is wrong, or was tried too often.
        """
        if not self._tokens.show(peer.host, token, self._now()):
            raise OscError("this is not the token, or it was tried too often: wait 5 s", "token", f"{PREFIX}token")

    def proved(self, peer: Peer) -> bool:
        """Tell whether a peer is where it says it is."""
        return peer.connected or self._tokens.proved(peer.host, self._now())

    def refuse(self, peer: Peer, error: OscError) -> None:
        """Count a refusal and tell the peer."""
        self._counters.refused[error.reason] += 1
        self.tell_error(peer, error.address, str(error))

    def tell_error(self, peer: Peer, address: str, text: str) -> None:
        """Send /streamgen/error, as often as one peer may get it."""
        if peer.errors.take(1, self._now()):
            self._counters.errors += 1
            short = text.encode()[: self._room(peer, address)].decode(errors="ignore")
            self.reply(peer, encode(f"{PREFIX}error", address, short))

    def _room(self, peer: Peer, address: str) -> int:
        """Return how many bytes an error may have: a stranger's is cut to what it is entitled to, not unsent."""
        if self._entitled(peer):
            return _LONGEST_ERROR
        return max(0, min(_LONGEST_ERROR, int(peer.credit) - len(address.encode()) - _ERROR_FRAME))

    def _entitled(self, peer: Peer) -> bool:
        return self.proved(peer) or self._subscribed(peer.key)

    def reply(self, peer: Peer, packet: bytes) -> None:
        """Send a peer a packet, if it is entitled to it."""
        if not (self._entitled(peer) or peer.spend(len(packet))):
            self._counters.dropped["unentitled"] += 1
        elif peer.send(packet):
            self._counters.sent += 1
        else:
            self._counters.dropped["send"] += 1


def price(messages: Sequence[Message]) -> int:
    """Return a packet's units of work: 1 for a change or a query, more where one message means many.

    Raises:
        OscError: more than one packet may ask for; what it may takes 8 ms.
    """
    cost = sum(map(_price, messages))
    if cost > _MOST_COST:
        raise OscError(f"a packet asks for {cost} units of work, the limit is {_MOST_COST}: send several", "too_big")
    return cost


def _price(message: Message) -> int:
    if is_pattern(message.address):
        return _PATTERN_COST
    return _DUMP_COST if message.address in _DUMPING else 1
