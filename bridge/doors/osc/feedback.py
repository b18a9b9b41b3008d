"""Who is told what happens, where, and for how long: echoes, meters, heartbeat, statistics. Event loop.

    target   a client itself, or a UDP port of its own host: nobody can subscribe somebody else's
    owner    the client that asked; its messages keep a UDP subscription alive, a TCP one lives with its connection

Rules: decides nothing about commands, opens no socket. What it cannot do is an OscError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass

from bridge.doors.osc.admission import OscCounters, OscLimits
from bridge.doors.osc.audio import METER_SECONDS, SILENCE_DB, AudioSender, Levels
from bridge.doors.osc.clients import ECHO_SECONDS, Client, Echo, Read
from bridge.doors.osc.codec import OscError, encode
from bridge.doors.osc.namespace import PREFIX, STATES, Namespace, Subscribe, SubscribeAudio
from bridge.doors.turns import Turns
from bridge.session.messages import Block, Session, Stats

__all__ = ["Subscriber", "Subscriptions", "UdpSend", "stats_packets"]

UdpSend = Callable[[bytes, tuple[str, int]], bool]
_HEARTBEAT_SECONDS = 1.0
_TICK_SECONDS = 0.05


def stats_packets(stats: Stats, rate_hz: int) -> list[bytes]:
    """Encode statistics, one address each; positions in seconds, for 32 bits of samples last half a day."""
    values = asdict(stats)
    values["position_seconds"] = values.pop("position_samples") / rate_hz
    return [encode(f"{PREFIX}stats/{name}", value) for name, value in values.items()]


@dataclass
class Subscriber:
    """One target of feedback.

    Attributes:
        echo: its echoes.
        interval_seconds: between meters.
        owner: source address whose messages keep the subscription alive.
        until: time at which it ends if no message comes, loop seconds; infinite over TCP.
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
            self.echo.send(encode(f"{PREFIX}meter", *(levels or (SILENCE_DB, SILENCE_DB))))


def _next(due: float, now: float, interval: float) -> float:
    """Return the next time on the grid, or a new grid after a pause."""
    return due + interval if now < due + interval else now + interval


@dataclass(frozen=True)
class _Target:
    key: Hashable
    send: Callable[[bytes], bool]
    connected: bool


class Subscriptions:
    """All subscribers, to feedback and to audio.

    Args:
        session: what is told about.
        namespace: its addresses.
        limits: how many, and for how long.
        counters: of the door.
        read: encodes what an address shows.
        udp_send: sends a datagram; False if it could not.
        turns: with all else that this door does.
    """

    def __init__(
        self,
        session: Session,
        namespace: Namespace,
        limits: OscLimits,
        counters: OscCounters,
        read: Read,
        udp_send: UdpSend,
        turns: Turns,
    ) -> None:
        self._session, self._namespace, self._limits, self._counters = session, namespace, limits, counters
        self._read, self._udp_send, self._turns = read, udp_send, turns
        self._subscribers: dict[Hashable, Subscriber] = {}
        self.audio = AudioSender(session, counters, limits.audio_subscribers)
        self._levels = Levels(session.rate_hz)
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._subscribers)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._subscribers

    # -- coming and going ---------------------------------------------------------------------------------------------

    def change(self, client: Client, request: Subscribe) -> bytes | None:
        """Begin feedback, renew it with another interval, or end it; a new subscriber is shown everything once.

        Returns:
            The answer, if there is one.

        Raises:
            OscError: there are as many subscribers as may be.
        """
        target = self._target(client, request.port)
        if not request.on:
            self._end(target.key)
            return None
        known, most = self._subscribers.get(target.key), self._limits.subscribers
        if known is None and len(self) >= most:
            text = f"{most} subscribers listen, the limit; try again when one has left"
            raise OscError(text, "capacity", f"{PREFIX}subscribe")
        if known is not None:
            known.echo.close()
        wanted = (request.interval_ms or 0) / 1000
        send, meter = self._counted(target.send), max(METER_SECONDS, wanted)
        echo = Echo(send, self._read, self._turns, max(ECHO_SECONDS, wanted))
        self._subscribers[target.key] = Subscriber(echo, meter, client.key, self._until(target.connected))
        echo.mark((*self._namespace.readable, *STATES) if known is None else ())
        return encode(f"{PREFIX}subscribed", request.port or client.address[1], round(meter * 1000))

    def change_audio(self, client: Client, request: SubscribeAudio) -> None:
        """Begin audio packets, renew or end them.

        Raises:
            OscError: there are as many receivers as may be.
        """
        target = self._target(client, request.port)
        if request.on:
            self.audio.subscribe(target.key, target.send, client.key, self._until(target.connected))
        else:
            self.audio.unsubscribe(target.key)

    def renew(self, client: Client) -> None:
        """Go on with what a client asked for: it is there."""
        until = self._until(False)
        self.audio.renew(client.key, until)
        for key, subscriber in self._subscribers.items():
            if client.key in (key, subscriber.owner):
                subscriber.until = max(subscriber.until, until)

    def left(self, client: Client) -> None:
        """End what went through a connection that is no more."""
        self._end(client.key)
        self.audio.unsubscribe(client.key)

    def close(self) -> None:
        """End everything."""
        self.audio.close()
        for key in list(self._subscribers):
            self._end(key)

    def _end(self, key: Hashable) -> None:
        subscriber = self._subscribers.pop(key, None)
        if subscriber is not None:
            subscriber.echo.close()

    def _target(self, client: Client, port: int | None) -> _Target:
        if port is None or (port == client.address[1] and not client.connected):
            return _Target(client.key, client.send, client.connected)
        address = (client.host, port, *client.address[2:])  # IPv6 has a scope
        return _Target((client.host, port), lambda packet: self._udp_send(packet, address), False)

    def _until(self, connected: bool) -> float:
        return float("inf") if connected else self._loop.time() + self._limits.subscription_seconds

    def _counted(self, send: Callable[[bytes], bool]) -> Callable[[bytes], None]:
        def counted(packet: bytes) -> None:
            sent = send(packet)
            self._counters.sent += sent
            self._counters.dropped["send"] += not sent

        return counted

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

    def add(self, block: Block) -> None:
        """Take a block's level, if anyone reads meters."""
        if self._subscribers:
            self._levels.add(block)

    async def run(self) -> None:
        """Send meters and heartbeats, and end what was not renewed, for ever."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._tick(self._loop.time())

    def _tick(self, now: float) -> None:
        self.audio.expire(now)
        levels, playing = self._levels.due(self._session.timeline.wall()), self._session.state().plays
        for key, subscriber in list(self._subscribers.items()):
            if subscriber.until < now:
                subscriber.echo.send(encode(f"{PREFIX}unsubscribed", "no message came: subscribe again"))
                self._end(key)
            else:
                subscriber.tick(now, levels, playing)
