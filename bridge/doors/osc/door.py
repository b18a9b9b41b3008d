"""Packets in, commands to the session; the session's events out to subscribers. Event loop, no socket of its own.

    packet ─ limits ─ decode ─ interpret ─► a peer's queue ─► session.do          at once, in the peer's order
                                      └───► at a time tag: the sample that is due then, or a timer

Rules: no input raises anything out of `packet`; nothing waits inside the loop; whether a client may ask and be answered
is osc_admission's, in which order and when is osc_queue's, who else is told is osc_subscriptions'.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby

from bridge.doors.osc.admission import Admission, price
from bridge.doors.osc.clock import SampleClock
from bridge.doors.osc.codec import Argument, Message, OscError, decode, encode
from bridge.doors.osc.feedback import Echo, stats_messages
from bridge.doors.limits import Bucket
from bridge.doors.osc.limits import OscCounters, OscLimits
from bridge.doors.osc.namespace import (
    PREFIX,
    READABLE,
    Act,
    Ask,
    Assign,
    Audio,
    Ignored,
    Login,
    Subscribe,
    Wish,
    addresses_of,
    interpret,
    reading,
)
from bridge.doors.osc.peer import Peer
from bridge.doors.osc.queue import WishQueue
from bridge.doors.osc.subscriptions import TRANSPORT, OscSubscriptions, UdpSend
from bridge.doors.turns import Turns
from bridge.session.interface import Session
from bridge.session.messages import Block, Changed, Event, Goaway, Set, Stats, Transport, Transported
from streamgen.errors import StreamgenError

__all__ = ["OscDoor"]

_log = logging.getLogger("bridge.osc")


class OscDoor:
    """Everything about OSC but its sockets.

    Args:
        session: what is played.
        limits: what clients may take.
        token: what hosts other than this one must show; None = nothing.
        udp_send: sends a datagram; False if it could not.
    """

    wants_audio = False  # hears blocks for their time, and is no reason to make any

    def __init__(self, session: Session, limits: OscLimits, token: str | None, udp_send: UdpSend) -> None:
        self.session, self.limits, self.counters = session, limits, OscCounters()
        self._turns = Turns()
        self.subscriptions = OscSubscriptions(session, limits, self.counters, self._read, udp_send, self._turns)
        self.admission = Admission(limits, self.counters, token, self.subscriptions.__contains__)
        self._udp_send = udp_send
        self._loop = asyncio.get_running_loop()
        self._peers: OrderedDict[Hashable, Peer] = OrderedDict()
        self._clock = SampleClock(session.sample_rate_hz)
        self._shown = dict(session.values())
        self._ended = False
        self._queue = WishQueue(self._carry_out, self._turns, limits.pending, limits.scheduled)
        for block in session.add(self):
            self.audio(block)
        self._queue.spawn(self.subscriptions.run())

    # -- clients ------------------------------------------------------------------------------------------------------

    def udp_peer(self, address: tuple[str, int]) -> Peer:
        """Return the peer at a datagram's source."""
        key = address[:2]
        if key in self._peers:
            self._peers.move_to_end(key)
            return self._peers[key]
        return self.meet(key, address, lambda packet: self._udp_send(packet, address), connected=False)

    def meet(self, key: Hashable, address: tuple[str, int], send: Callable[[bytes], bool], *, connected: bool) -> Peer:
        """Remember a client; the one unheard for longest is forgotten for it."""
        rate = self.limits.errors_per_second
        peer = Peer(key, address, send, connected, Bucket(rate, rate))
        peer.echo = Echo(lambda packet: self.admission.reply(peer, packet), self._read, self._turns)
        self._peers[key] = peer
        if len(self._peers) > self.limits.peers:
            self.leave(next(peer for peer in self._peers.values() if not peer.connected))
        return peer

    def leave(self, peer: Peer) -> None:
        """Forget a client; what it subscribed for its connection ends."""
        if self._peers.get(peer.key) is peer:
            del self._peers[peer.key]
        if peer.echo is not None:
            peer.echo.close()
        if peer.connected:
            self.subscriptions.left(peer)

    # -- packets in ---------------------------------------------------------------------------------------------------

    def packet(self, peer: Peer, data: bytes) -> float:
        """Take a packet.

        Returns:
            Seconds for which a TCP client shall not be read; a datagram over the rate is dropped instead.
        """
        self.counters.packets += 1
        peer.earn(self.limits.amplification * len(data))
        try:
            return self._packet(peer, data)
        except OscError as error:
            self.admission.refuse(peer, error)
        return self.admission.charge(peer, 1) if peer.connected else 0.0

    def _packet(self, peer: Peer, data: bytes) -> float:
        if not peer.connected and self.admission.charge(peer, 1):
            return 0.0
        messages = decode(data)
        self.counters.messages += len(messages)
        cost = price(messages)
        wait = self.admission.charge(peer, cost if peer.connected else cost - 1)
        if wait and not peer.connected:
            return 0.0
        for at, group in groupby(messages, lambda message: message.at):
            self._messages(peer, list(group), at)
        return wait

    def _messages(self, peer: Peer, messages: list[Message], at: float | None) -> None:
        wishes = [wish for message in messages for wish in self._interpret(peer, message)]
        if any(not isinstance(wish, Ignored) for wish in wishes):
            self.subscriptions.heard_from(peer)
        now = time.time()
        if at is None or at <= now:
            self.counters.late += at is not None
            self._put(peer, wishes)
        else:
            self._schedule(peer, wishes, at, now, messages[0].address)

    def _interpret(self, peer: Peer, message: Message) -> list[Wish]:
        """Tell what a message wants; nothing if that is refused."""
        try:
            wishes = interpret(message)
            for wish in wishes:
                self.admission.check(peer, wish)
        except OscError as error:
            self.admission.refuse(peer, error)
            return []
        return wishes

    # -- now and later ------------------------------------------------------------------------------------------------

    def _schedule(self, peer: Peer, wishes: list[Wish], at: float, now: float, address: str) -> None:
        ahead, limits = at - now, self.limits
        if ahead > limits.ahead_seconds:
            text = f"a time tag lies {ahead:.1f} s ahead, the limit is {limits.ahead_seconds:g} s: send it later"
            self.admission.refuse(peer, OscError(text, "too_far", address))
            return
        if self._queue.full:
            text = f"{limits.scheduled} bundles wait for their time, the limit: send later"
            self.admission.refuse(peer, OscError(text, "busy", address))
            return
        self.counters.scheduled += len(wishes)
        sample = self._clock.sample_at(at, now) if self.session.playing() else None
        changes = [wish for wish in wishes if isinstance(wish, Assign)] if sample is not None else []
        for change in changes:
            peer.uses(change)
        if changes:
            values = {name: value for change in changes for name, value in change.values.items()}
            self._queue.spawn(self._do(peer, Set(values, peer.by, sample), changes[0].addresses[0]))
        self._queue.put_later(ahead, peer, [wish for wish in wishes if wish not in changes])

    def _put(self, peer: Peer, wishes: Sequence[Wish]) -> None:
        lost = self._queue.put(peer, wishes)
        if lost:
            self.counters.dropped["busy"] += lost
            self.admission.tell_error(peer, "", f"{self.limits.pending} messages wait, the limit: {lost} lost")

    async def _carry_out(self, peer: Peer, wish: Wish) -> None:
        try:
            if isinstance(wish, Assign):
                await self._assign(peer, wish)
            elif isinstance(wish, Act):
                await self._act(peer, wish.action)
            else:
                self._serve(peer, wish)
        except OscError as error:
            self.admission.refuse(peer, error)

    async def _assign(self, peer: Peer, wish: Assign) -> None:
        present = self.session.values()
        values = {name: value for name, value in wish.values.items() if present[name] != value}
        if values:  # without a change there is no echo: controllers that mirror would swing for ever
            peer.uses(wish)
            await self._do(peer, Set(values, peer.by), wish.addresses[0])

    async def _act(self, peer: Peer, action: str) -> None:
        if action != ("play" if self.session.playing() else "pause"):
            await self._do(peer, Transport(action, peer.by), PREFIX + action)

    async def _do(self, peer: Peer, command: Set | Transport, address: str) -> None:
        self.counters.commands += 1
        try:
            await self.session.do(command)
        except StreamgenError as error:
            self.admission.refuse(peer, OscError(f"{error}", "value", address))
        except Exception:  # noqa: BLE001 - the door must outlive whatever the session does; the client is told
            _log.exception("the session failed at %s", command)
            self.admission.refuse(peer, OscError("the server failed at this; its log says why", "failed", address))

    # -- services -----------------------------------------------------------------------------------------------------

    def _serve(self, peer: Peer, wish: Wish) -> None:
        if isinstance(wish, Ask):
            self._ask(peer, wish)
        elif isinstance(wish, Subscribe):
            self._subscribe(peer, wish)
        elif isinstance(wish, Audio):
            self._audio(peer, wish)
        elif isinstance(wish, Login):
            self.admission.log_in(peer, wish.token)

    def _ask(self, peer: Peer, wish: Ask) -> None:
        if wish.what == "refresh":
            values = self.session.values()
            for address in READABLE:
                self.admission.reply(peer, reading(address, values))
        elif wish.what == "version":
            self.admission.reply(peer, encode(f"{PREFIX}version", _version()))
        elif wish.what == "ping":
            self.admission.reply(peer, _pong(wish.arguments))
        else:
            self.admission.reply(peer, self._read(wish.what))

    def _subscribe(self, peer: Peer, wish: Subscribe) -> None:
        if wish.on:
            self.admission.reply(peer, self.subscriptions.subscribe(peer, wish.port, wish.interval_ms))
        else:
            self.subscriptions.unsubscribe(peer, wish.port)

    def _audio(self, peer: Peer, wish: Audio) -> None:
        if not wish.on:
            self.subscriptions.unsubscribe_audio(peer, wish.port)
        elif self.admission.proved(peer):
            self.subscriptions.subscribe_audio(peer, wish.port)
        else:  # 130 kB a second to whatever address a stranger wrote into a packet
            text = "show the token first, or ask over TCP"
            raise OscError(text, "token", f"{PREFIX}audio/subscribe")

    def _read(self, address: str) -> bytes:
        if address in TRANSPORT:
            return encode(address, self.session.playing())
        return reading(address, self.session.values())

    # -- what the session says ----------------------------------------------------------------------------------------

    def audio(self, block: Block) -> None:
        """Take a block, for its time and level."""
        self._clock.heard(block)
        self.subscriptions.heard(block)

    def event(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Changed):
            self._changed(event)
        elif isinstance(event, Transported):
            self.subscriptions.echo(TRANSPORT)
            self._echo(event.by, TRANSPORT)
        elif isinstance(event, Stats):
            self.subscriptions.publish(stats_messages(event, self.session.sample_rate_hz))
        elif isinstance(event, Goaway):
            self._goodbye(event.reason)

    def _changed(self, event: Changed) -> None:
        news = [name for name, value in event.values.items() if self._shown.get(name) != value]
        self._shown.update(event.values)
        self.subscriptions.echo(address for name in news for address in addresses_of(name))
        self._echo(event.by, None, news)

    def _echo(self, by: str, addresses: Sequence[str] | None, names: Sequence[str] = ()) -> None:
        """Tell who did it, unless it subscribed: these addresses, or those by which it set these parameters."""
        for peer in self._peers.values():
            if peer.by == by and peer.key not in self.subscriptions and peer.echo is not None:
                peer.echo.mark(peer.used_for(names) if addresses is None else addresses)

    def _goodbye(self, reason: str) -> None:
        if not self._ended:
            self.subscriptions.publish([encode(f"{PREFIX}goaway", reason)])
        self._ended = True

    async def close(self) -> None:
        """Say goodbye, leave the session, tell nothing more."""
        self._goodbye("the server ends")
        self.session.remove(self)
        self.subscriptions.close()
        for peer in list(self._peers.values()):
            self.leave(peer)
        await self._queue.close()


def _pong(arguments: tuple[Argument, ...]) -> bytes:
    """Answer a ping: under its address if it is bare, else pong with its argument; pongs are never answered."""
    if arguments and isinstance(arguments[0], int | float | str | bytes):
        return encode(f"{PREFIX}pong", arguments[0])
    return encode(f"{PREFIX}pong") if arguments else encode(f"{PREFIX}ping", 1)


def _version() -> str:
    try:
        return version("streamgen")
    except PackageNotFoundError:  # run from a checkout
        return "0"
