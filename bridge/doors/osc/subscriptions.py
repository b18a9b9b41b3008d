"""Who is told what happens, where, and for how long. Event loop.

    target   a peer itself, or a UDP port of the peer's own host: nobody can subscribe somebody else's
    owner    the peer that asked; its messages keep a UDP subscription alive, a TCP one lives with its connection

Rules: decides nothing about commands. What it cannot do is an OscError.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from bridge.doors.osc.audio import AudioSender
from bridge.doors.osc.codec import OscError, encode
from bridge.doors.osc.feedback import ECHO_SECONDS, METER_SECONDS, Echo, Levels, Read, Subscriber
from bridge.doors.osc.limits import OscCounters, OscLimits
from bridge.doors.osc.namespace import PREFIX, READABLE
from bridge.doors.osc.peer import Peer
from bridge.doors.turns import Turns
from bridge.session.interface import Session
from bridge.session.messages import Block

__all__ = ["TRANSPORT", "OscSubscriptions", "UdpSend"]

UdpSend = Callable[[bytes, tuple[str, int]], bool]
TRANSPORT = (f"{PREFIX}playing", f"{PREFIX}play")
_TICK_SECONDS = 0.05


@dataclass(frozen=True)
class _Target:
    key: Hashable
    send: Callable[[bytes], bool]
    connected: bool


class OscSubscriptions:
    """All subscribers, to feedback and to audio.

    Args:
        session: what is told about.
        limits: how many, and for how long.
        counters: of the door.
        read: encodes what an address shows.
        udp_send: sends a datagram; False if it could not.
        turns: with all else that this door does.
    """

    def __init__(
        self, session: Session, limits: OscLimits, counters: OscCounters, read: Read, udp_send: UdpSend, turns: Turns
    ) -> None:
        self._session, self._limits, self._counters = session, limits, counters
        self._read, self._udp_send, self._turns = read, udp_send, turns
        self._subscribers: dict[Hashable, Subscriber] = {}
        self.audio = AudioSender(session, counters, limits.audio_subscribers)
        self._levels = Levels(session.sample_rate_hz)
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._subscribers)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._subscribers

    # -- coming and going ---------------------------------------------------------------------------------------------

    def subscribe(self, peer: Peer, port: int | None, interval_ms: int | None) -> bytes:
        """Begin feedback, or renew it with another interval; a new subscriber is shown everything once.

        Returns:
            The answer to the peer.

        Raises:
            OscError: there are as many subscribers as may be.
        """
        target, most = self._target(peer, port), self._limits.subscribers
        known = self._subscribers.get(target.key)
        if known is None and len(self) >= most:
            text = f"{most} subscribers listen, the limit; try again when one has left"
            raise OscError(text, "capacity", f"{PREFIX}subscribe")
        if known is not None:
            known.echo.close()
        wanted = (interval_ms or 0) / 1000
        interval = max(ECHO_SECONDS, wanted)
        echo = Echo(lambda packet: self._count(target.send(packet)), self._read, self._turns, interval)
        meter = max(METER_SECONDS, wanted)
        self._subscribers[target.key] = Subscriber(echo, meter, peer.key, self._until(target.connected))
        echo.mark((*READABLE, *TRANSPORT) if known is None else ())
        return encode(f"{PREFIX}subscribed", port or peer.address[1], round(meter * 1000))

    def unsubscribe(self, peer: Peer, port: int | None) -> None:
        """End feedback to a target."""
        self._end(self._target(peer, port).key)

    def subscribe_audio(self, peer: Peer, port: int | None) -> None:
        """Begin audio packets, or renew them.

        Raises:
            OscError: there are as many receivers as may be.
        """
        target = self._target(peer, port)
        self.audio.subscribe(target.key, target.send, peer.key, self._until(target.connected))

    def unsubscribe_audio(self, peer: Peer, port: int | None) -> None:
        """End audio packets to a target."""
        self.audio.unsubscribe(self._target(peer, port).key)

    def heard_from(self, peer: Peer) -> None:
        """Renew what a peer asked for."""
        until = self._until(False)
        self.audio.heard_from(peer.key, until)
        for key, subscriber in self._subscribers.items():
            if peer.key in (key, subscriber.owner):
                subscriber.until = max(subscriber.until, until)

    def left(self, peer: Peer) -> None:
        """End what went through a connection that is no more."""
        self._end(peer.key)
        self.audio.unsubscribe(peer.key)

    def close(self) -> None:
        """End everything."""
        self.audio.close()
        for key in list(self._subscribers):
            self._end(key)

    def _end(self, key: Hashable) -> None:
        subscriber = self._subscribers.pop(key, None)
        if subscriber is not None:
            subscriber.echo.close()

    def _target(self, peer: Peer, port: int | None) -> _Target:
        if port is None or (port == peer.address[1] and not peer.connected):
            return _Target(peer.key, peer.send, peer.connected)
        address = (peer.host, port, *peer.address[2:])  # IPv6 has a scope
        return _Target((peer.host, port), lambda packet: self._udp_send(packet, address), False)

    def _until(self, connected: bool) -> float:
        return float("inf") if connected else self._loop.time() + self._limits.subscription_seconds

    def _count(self, sent: bool) -> None:
        self._counters.sent += sent
        self._counters.dropped["send"] += not sent

    # -- telling ------------------------------------------------------------------------------------------------------

    def echo(self, addresses: Iterable[str]) -> None:
        """Tell every subscriber what addresses show now."""
        shown = list(addresses)
        for subscriber in self._subscribers.values():
            subscriber.echo.mark(shown)

    def publish(self, packets: Sequence[bytes]) -> None:
        """Send every subscriber these packets."""
        for subscriber in self._subscribers.values():
            for packet in packets:
                subscriber.echo.send(packet)

    def heard(self, block: Block) -> None:
        """Take a block's level, if anyone reads meters."""
        if self._subscribers:
            self._levels.heard(block)

    async def run(self) -> None:
        """Send meters and heartbeats, and end what was not renewed, for ever."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._tick(self._loop.time())

    def _tick(self, now: float) -> None:
        self.audio.expire(now)
        levels, playing = self._levels.due(time.time()), self._session.playing()
        for key, subscriber in list(self._subscribers.items()):
            if subscriber.until < now:
                subscriber.echo.send(encode(f"{PREFIX}unsubscribed", "nothing heard: subscribe again"))
                self._end(key)
            else:
                subscriber.tick(now, levels, playing)
