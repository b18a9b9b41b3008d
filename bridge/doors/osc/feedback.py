"""What the session says, told to OSC clients: echoes, meters, onsets, heartbeat, statistics, goodbye. Event loop.

    target   a client itself, or a UDP port of its own host: nobody can subscribe somebody else's
    owner    the client that asked; its messages keep a UDP subscription alive, a TCP one lives with its connection
Who changes something and has not subscribed is told of that change alone, under the addresses it used.

Rules: decides nothing about commands, opens no socket. What it cannot do is an OscError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bridge.audio.faults import SlotFault
from bridge.doors.limits import Turns
from bridge.doors.osc.admission import OscCounters, OscLimits
from bridge.doors.osc.audio import AudioSender
from bridge.doors.osc.clients import ECHO_SECONDS, Client, Clients, Echo
from bridge.doors.osc.codec import OscError, encode
from bridge.doors.osc.namespace import (
    EFFECTS,
    HEARD,
    PREFIX,
    PRESETS,
    RACK,
    STATES,
    Namespace,
    Subscribe,
    SubscribeAudio,
)
from bridge.doors.visuals import METER_SECONDS, SILENCE_DB, SILENT_BANDS, Levels, Visuals
from bridge.session.events import (
    Beat,
    Block,
    Changed,
    Event,
    Goaway,
    Notice,
    PresetsChanged,
    Stats,
    TableChanged,
    Transported,
)
from bridge.session.session import Session
from streamgen.config import Value

__all__ = ["Feedback", "Subscriber", "UdpSend", "stats_packets"]

UdpSend = Callable[[bytes, tuple[str, int]], bool]
_HEARTBEAT_SECONDS = 1.0
_TICK_SECONDS = 0.05


def stats_packets(stats: Stats, rate_hz: int) -> list[bytes]:
    """Encode statistics, one address each; positions in seconds, for 32 bits of samples last half a day.

    Of every slot of the rack: load, latency in seconds, strikes, whether it failed.
    """
    values = {name: value for name, value in asdict(stats).items() if name != "slots"}
    values["position_seconds"] = values.pop("position_samples") / rate_hz
    packets = [encode(f"{PREFIX}stats/{name}", value) for name, value in values.items()]
    for slot in stats.slots:
        latency = slot.latency_samples / rate_hz
        packets.append(encode(f"{PREFIX}stats/slot/{slot.slot}", slot.load, latency, slot.strikes, slot.failed))
    return packets


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

    def tick(
        self, now: float, levels: tuple[float, float] | None, bands: tuple[float, ...] | None, playing: bool
    ) -> None:
        """Send what is due: meter and bands (once more, at the floor, when the sound ends) and the heartbeat."""
        if now >= self.next_heartbeat:
            self.next_heartbeat = _next(self.next_heartbeat, now, _HEARTBEAT_SECONDS)
            self.echo.send(encode(f"{PREFIX}heartbeat", playing))
        if now >= self.next_meter and not (levels is None and self.silent):
            self.next_meter = _next(self.next_meter, now, self.interval_seconds)
            self.silent = levels is None
            self.echo.send(encode(f"{PREFIX}meter", *(levels or (SILENCE_DB, SILENCE_DB))))
            self.echo.send(encode(f"{PREFIX}bands", *(bands or SILENT_BANDS)))


def _next(due: float, now: float, interval: float) -> float:
    """Return the next time on the grid, or a new grid after a pause."""
    return due + interval if now < due + interval else now + interval


@dataclass(frozen=True)
class _Target:
    key: Hashable
    send: Callable[[bytes], bool]
    connected: bool


class Feedback:
    """The session's listener, and all who subscribed to what it says or to its audio.

    Args:
        session: what is told about.
        namespace: its addresses.
        clients: those that may have changed something.
        limits: how many subscribers, and for how long.
        counters: of the door.
        udp_send: sends a datagram; False if it could not.
        turns: with all else that this door does.

    Attributes:
        sender: of audio packets.
        transports: how often the session has told that its transport changed.
    """

    wants_audio = False  # it takes blocks for their level, and is no reason to make any

    def __init__(
        self,
        session: Session,
        namespace: Namespace,
        clients: Clients,
        limits: OscLimits,
        counters: OscCounters,
        udp_send: UdpSend,
        turns: Turns,
    ) -> None:
        self._session, self._namespace, self._clients = session, namespace, clients
        self._limits, self._counters, self._udp_send, self._turns = limits, counters, udp_send, turns
        self._subscribers: dict[Hashable, Subscriber] = {}
        self.sender = AudioSender(session, counters, limits.audio_subscribers)
        self._levels, self._visuals = Levels(session.rate_hz), Visuals(session.rate_hz)
        self._loop = asyncio.get_running_loop()
        self._shown, self._state = dict(session.values()), session.state()
        self.transports = 0
        self._ended = False
        for block in session.add(self):
            self.audio(block)

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
        echo = Echo(send, self.read, self._turns, max(ECHO_SECONDS, wanted))
        self._subscribers[target.key] = Subscriber(echo, meter, client.key, self._until(target.connected))
        echo.mark((*self._namespace.readable, *STATES, HEARD, RACK, PRESETS) if known is None else ())
        return encode(f"{PREFIX}subscribed", request.port or client.address[1], round(meter * 1000))

    def keep(self, address: tuple[str, int]) -> None:
        """Tell an address everything for as long as the door is open; it need not subscribe, and is no client."""
        echo = Echo(self._counted(lambda packet: self._udp_send(packet, address)), self.read, self._turns)
        self._subscribers[address[:2]] = Subscriber(echo, METER_SECONDS, None, self._until(connected=True))
        echo.mark((*self._namespace.readable, *STATES, HEARD, RACK, PRESETS))

    def change_audio(self, client: Client, request: SubscribeAudio) -> None:
        """Begin audio packets, renew or end them.

        Raises:
            OscError: there are as many receivers as may be.
        """
        target = self._target(client, request.port)
        if request.on:
            self.sender.subscribe(target.key, target.send, client.key, self._until(target.connected))
        else:
            self.sender.unsubscribe(target.key)

    def renew(self, client: Client) -> None:
        """Go on with what a client asked for: it is there."""
        until = self._until(False)
        self.sender.renew(client.key, until)
        for key, subscriber in self._subscribers.items():
            if client.key in (key, subscriber.owner):
                subscriber.until = max(subscriber.until, until)

    def tell_elsewhere(self, owner: Hashable, packet: bytes) -> None:
        """Tell a client where it has subscribed besides: many programs send from one port and listen at another."""
        for key, subscriber in self._subscribers.items():
            if subscriber.owner == owner != key:
                subscriber.echo.send(packet)

    def left(self, client: Client) -> None:
        """End what went through a connection that is no more."""
        self._end(client.key)
        self.sender.unsubscribe(client.key)

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

    # -- what the session says ----------------------------------------------------------------------------------------

    def read(self, address: str) -> bytes | None:
        """Encode what an address shows; None if there is no such address any more."""
        if address == HEARD:
            return encode(address, self._session.heard())
        if address in (RACK, EFFECTS, PRESETS):
            return encode(address, *self._listed(address))
        if address not in STATES:
            return self._namespace.reading(address, self._session.values())
        state = self._session.state()
        return encode(address, state if address.endswith("/state") else state.plays)

    def _listed(self, address: str) -> list[int | str]:
        """Return what an address lists, its number first: an empty list would read as a query."""
        if address == RACK:
            slots = self._session.slots()
            return [len(slots), *(part for slot in slots for part in (slot.slot, slot.name))]
        names = self._session.effects() if address == EFFECTS else self._session.presets()
        return [len(names), *names]

    def audio(self, block: Block) -> None:
        """Take a block's level, bands and onsets, if anyone looks at them."""
        if not self._subscribers:
            return
        self._levels.add(block)
        for due, strength in self._visuals.add(block):
            self._publish_at(due, encode(f"{PREFIX}onset", strength))

    def event(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Changed):
            self._changed(event)
        elif isinstance(event, TableChanged):
            self._rebuilt(event)
        elif isinstance(event, SlotFault):
            fault = event.slot, event.name, event.reason, event.strikes, event.given_up
            self._publish([encode(f"{PREFIX}rack/fault", *fault)])
        elif isinstance(event, PresetsChanged):
            self._echo([PRESETS], event.by)
        elif isinstance(event, Transported):
            self._echo(STATES, event.by)
            self._state = event.state
            self.transports += 1
        elif isinstance(event, Stats):
            if event.state is not self._state:  # it started, or it is late: nobody told it so
                self._echo(STATES)
            self._state = event.state
            self._publish(stats_packets(event, self._session.rate_hz))
        elif isinstance(event, Notice):
            self._publish([encode(f"{PREFIX}{event.topic}", event.text)])
        elif isinstance(event, Beat):
            self._beat(event)
        elif isinstance(event, Goaway):
            self._goodbye(event.reason)

    def _beat(self, beat: Beat) -> None:
        """Tell a beat when it comes, to whoever has subscribed by then."""
        packet = encode(f"{PREFIX}beat", beat.beat, beat.bar, float(beat.tempo), float(beat.phase or 0.0))
        self._publish_at(beat.time_us / 1e6, packet)

    def _publish_at(self, due: float, packet: bytes) -> None:
        """Tell something at a time, Unix seconds."""
        self._loop.call_later(max(due - self._session.timeline.wall(), 0.0), self._publish, [packet])

    def _changed(self, event: Changed) -> None:
        self._echo(self._news(event.values), event.by)
        self._shown.update(event.values)

    def _rebuilt(self, event: TableChanged) -> None:
        """Take another table: what is new is told as if it had been changed."""
        self._namespace.rebuild(event.table)
        self._echo([*self._news(event.values), RACK], event.by)
        self._shown = dict(event.values)

    def _news(self, values: Mapping[str, Value]) -> list[str]:
        changed = [name for name, value in values.items() if self._shown.get(name) != value]
        return [address for name in changed for address in self._namespace.addresses_of(name)]

    def _echo(self, addresses: Sequence[str], by: str = "") -> None:
        """Tell every subscriber, and who did it, what addresses show now."""
        for subscriber in self._subscribers.values():
            subscriber.echo.mark(addresses)
        for client in self._clients:
            if client.by == by and client.key not in self:
                client.echo.mark(one for one in addresses if one in (*STATES, RACK, PRESETS) or one in client.used)

    def _publish(self, packets: Sequence[bytes]) -> None:
        for subscriber in self._subscribers.values():
            for packet in packets:
                subscriber.echo.send(packet)

    async def run(self) -> None:
        """Send meters and heartbeats, and end what was not renewed, for ever."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._tick(self._loop.time())

    def _tick(self, now: float) -> None:
        self.sender.expire(now)
        wall, playing = self._session.timeline.wall(), self._session.state().plays
        levels, bands = self._levels.due(wall), self._visuals.due(wall)
        for key, subscriber in list(self._subscribers.items()):
            if subscriber.until < now:
                subscriber.echo.send(encode(f"{PREFIX}unsubscribed", "no message came: subscribe again"))
                self._end(key)
            else:
                subscriber.tick(now, levels, bands, playing)

    def _goodbye(self, reason: str) -> None:
        if not self._ended:
            self._publish([encode(f"{PREFIX}goaway", reason)])
        self._ended = True

    def close(self, reason: str) -> None:
        """Say goodbye, leave the session, tell nothing more."""
        self._goodbye(reason)
        self._session.remove(self)
        self.sender.close()
        for key in list(self._subscribers):
            self._end(key)
