"""The Link door: the live session's beats are those of the room, and its tempo, start and stop are everybody's.

    group 224.76.78.75:20808 ─┐                     ┌─► timeline.follow: beats, whatever the music does
    this node's own port     ─┴─► peer ─ in a session ─┼─► tempo: the words of the prompts, told at every door
                                                       └─► start, stop
    tempo, play, pause at any door ──► peer ──► everybody in the session
    the session's blocks ──► channel ──► who asked for it, when each piece is due

Off unless the operator says `--link`: nothing is announced, no port is opened. One interface, IPv4.

Rules: event loop. What messages mean is the peer's; this file owns sockets, and the way to and from the live session.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

from bridge.doors.door import Place, Service, Sessions, Tasks, own_address, send_unless_full
from bridge.doors.link import wire
from bridge.doors.link.channel import Channel
from bridge.doors.link.peer import ALIVE_SECONDS, LinkPeer
from bridge.errors import BridgeError, reason
from bridge.session.beats import BAR_BEATS
from bridge.session.commands import Action, Set, Transport
from bridge.session.events import Block, Changed, Event, Transported
from bridge.session.session import Session
from bridge.session.timeline import AT_ONCE, Moment

__all__ = ["LinkDoor"]

_log = logging.getLogger("bridge.link")

NAME = "link"
_MEASURING_SECONDS = 0.05  # after which a ping without an answer is sent again
_STILL_SECONDS = 0.05  # between looks who listens still, while nothing is played
_TOGETHER_SECONDS = 0.005  # pieces that are due within it leave in one turn
_SETTLED_SECONDS = 0.3  # after which a tempo counts as chosen: a knob in motion must not begin the music anew
_PAUSE = Transport(Action.PAUSE, "link", AT_ONCE)


class LinkDoor:
    """Follows and leads a session of Ableton Link; see `bridge.doors.door.Door`.

    Args:
        service: its settings say whether it opens, and at which interface.

    Raises:
        BridgeError: the interface takes no multicast, or is not there.

    Attributes:
        peer: the node, once it is open.
        wants_audio: whether anybody has asked for the channel: it makes nothing for nobody.
    """

    name = NAME

    def __init__(self, service: Service) -> None:
        self._wanted, self._interface = service.settings.link, service.settings.link_interface
        if self._wanted and self._interface:
            for one in _sockets(self._interface):
                one.close()
        self.peer: LinkPeer | None = None
        self.wants_audio = False
        self._channel: Channel | None = None
        self._session: Session | None = None
        self._transports: list[asyncio.DatagramTransport] = []  # its own, the group's
        self._tasks = Tasks(NAME)
        self._followed: tuple[float, float, float] | None = None
        self._play: wire.PlayState | None = None  # of the session, as last heard; None before
        self._settles_at = math.inf
        self._tempo_changes = 0
        self._news, self._asked = asyncio.Event(), asyncio.Event()  # of the session; for audio

    async def open(self, sessions: Sessions) -> None:
        """Open it, if it is wanted.

        Raises:
            BridgeError: the interface takes no multicast.
        """
        if not self._wanted:
            return
        self._session = session = sessions.live
        loop = asyncio.get_running_loop()
        own, group = _sockets(self._interface or _usual_interface())
        for one in (own, group):
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._received), sock=one)
            self._transports.append(transport)
        timeline = session.timeline
        bpm = timeline.bpm(timeline.due())
        place = own.getsockname()[:2]
        self.peer = LinkPeer(lambda: timeline.now() * 1e6, self._send, place, bpm, audio=True)
        self._channel = Channel(
            self.peer.node,
            session.rate_hz,
            lambda sample: (timeline.beat(sample), timeline.bpm(sample)),
            lambda sample: timeline.seconds(sample) * 1e6,
        )
        session.add(self)
        self._tasks.spawn(self._run(self.peer, session))
        self._tasks.spawn(self._send_audio(self.peer, self._channel, session))

    async def close(self, reason: str) -> None:  # noqa: ARG002 - Link's farewell has no words
        """Leave the session of Link and ours."""
        if self.peer is None or self._session is None:
            return
        self._session.remove(self)
        self._session.timeline.unfollow(NAME)
        await self._tasks.close()
        if self._channel is not None:
            for place in self.peer.audio_places:
                self._send(self._channel.farewell(), place)
        self.peer.close()
        for transport in self._transports:
            transport.close()

    def places(self) -> Mapping[str, Place]:
        """Return where its own port is."""
        return {"link_port": int(self._transports[0].get_extra_info("sockname")[1])} if self._transports else {}

    def stats(self) -> Mapping[str, float]:
        """Return how many are in the session, and how often its tempo changed."""
        peers = 0 if self.peer is None else self.peer.peers
        sent = 0 if self._channel is None else self._channel.sent
        return {
            "link_peers": peers,
            "link_tempo_changes_total": self._tempo_changes,
            "link_audio_messages_total": sent,
        }

    # -- sockets --------------------------------------------------------------------------------------------------

    def _send(self, data: bytes, place: wire.Place | None) -> None:
        send_unless_full(self._transports[0], data, place or (wire.GROUP, wire.PORT))

    def _received(self, data: bytes, source: wire.Place) -> None:
        if self.peer is None or self._session is None or self._channel is None:
            return
        if self.peer.received(data, source):
            self._follow(self.peer, self._session)
            self._news.set()
        elif (answer := self._channel.received(data, source, self._session.timeline.now() * 1e6)) is not None:
            self._send(answer, source)
        else:
            self._asked.set()

    async def _run(self, peer: LinkPeer, session: Session) -> None:
        """Announce, measure and let go of who is silent, for ever."""
        timeline = session.timeline
        next_alive = timeline.now()
        while True:
            self._news.clear()
            peer.lead(timeline.bpm(timeline.due()), timeline.beat(timeline.due()))
            peer.tick()
            self._follow(peer, session)
            now = timeline.now()
            if now >= next_alive:
                peer.announce()
                self._announce_channel(peer, now * 1e6)
                next_alive = now + ALIVE_SECONDS
            wakes = min(next_alive, self._settles_at, now + _MEASURING_SECONDS if peer.busy else math.inf)
            with suppress(TimeoutError):
                async with asyncio.timeout(wakes - now):
                    await self._news.wait()

    def _announce_channel(self, peer: LinkPeer, now_us: float) -> None:
        if self._channel is not None:
            for place in peer.audio_places:
                self._send(self._channel.announcement(peer.session, now_us), place)

    async def _send_audio(self, peer: LinkPeer, channel: Channel, session: Session) -> None:
        """Send what is due to who listens, for ever; nobody listening, take no audio and sleep until somebody asks."""
        while True:
            self._asked.clear()
            now_us = session.timeline.now() * 1e6
            places = channel.listeners(now_us)
            if bool(places) != self.wants_audio:
                self.wants_audio = bool(places)
                channel.clear()
                session.remove(self)  # it counts who wants audio when they come and go
                for block in session.add(self):
                    self.audio(block)
            for message in channel.due(peer.session, now_us):
                for place in places:
                    self._send(message, place)
            if not places:
                await self._asked.wait()
            else:
                until = (channel.next_due_us - now_us) / 1e6
                await asyncio.sleep(min(max(until, _TOGETHER_SECONDS), _STILL_SECONDS))

    # -- from the room --------------------------------------------------------------------------------------------

    def _follow(self, peer: LinkPeer, session: Session) -> None:
        """Let the live session follow what the peer knows by now."""
        if not peer.joined:
            session.timeline.unfollow(NAME)
            self._followed = self._play = None
            return
        line = at_us, beat, bpm = peer.line()
        if line != self._followed:
            if self._followed is None or bpm != self._followed[2]:
                self._settles_at = session.timeline.now() + _SETTLED_SECONDS
                self._tempo_changes += 1
            session.timeline.follow(NAME, at_us / 1e6, beat, bpm)
            self._followed = line
        if session.timeline.now() >= self._settles_at:
            self._settles_at = math.inf
            self._tell_tempo(session, bpm)
        if self._play is not None and peer.play != self._play:
            starts = Transport(Action.PLAY, NAME, Moment(every=BAR_BEATS))
            self._tasks.ask(session, starts if peer.play.playing else _PAUSE)
        self._play = peer.play

    def _tell_tempo(self, session: Session, bpm: float) -> None:
        tempo = round(session.table["tempo"].nearest(bpm), 2)
        if tempo != session.values()["tempo"]:
            self._tasks.ask(session, Set({"tempo": tempo}, NAME))

    # -- from the live session ------------------------------------------------------------------------------------

    def audio(self, block: Block) -> None:
        """Take a block, where anybody has asked for it."""
        if self.wants_audio and self._channel is not None:
            self._channel.take(block.samples, block.start_sample)

    def event(self, event: Event) -> None:
        """Let the room go at a tempo that was set here, start and stop."""
        peer = self.peer
        if peer is None or not peer.joined:
            return
        if isinstance(event, Changed) and event.by != NAME and event.values.get("tempo"):
            peer.set_tempo(float(event.values["tempo"]))
            self._news.set()
        elif isinstance(event, Transported) and event.by != NAME and event.state.plays != peer.play.playing:
            peer.set_playing(event.state.plays)
            self._play = peer.play


class _Datagrams(asyncio.DatagramProtocol):
    """Hands every datagram on."""

    def __init__(self, received: Callable[[bytes, wire.Place], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: wire.Place) -> None:
        self._received(data, addr)

    def error_received(self, exc: Exception) -> None:
        _log.debug("the network: %s", exc)  # what is sent four times a second will come through later


def _usual_interface() -> str:
    """Return the address from which multicast goes out; this machine's own where there is no network."""
    return own_address(socket.AF_INET, (wire.GROUP, wire.PORT)) or "127.0.0.1"


def _sockets(host: str) -> tuple[socket.socket, socket.socket]:
    """Return our own and the group's socket at one interface.

    Raises:
        BridgeError: it takes no multicast, or is not there.
    """
    try:
        own = _own_socket(host)
        try:
            return own, _group_socket(host)
        except OSError:
            own.close()
            raise
    except OSError as error:
        why = f"{reason(error)}; name another with --link-interface"
        raise BridgeError(f"Link cannot be joined at {host}: {why}") from error


def _own_socket(host: str) -> socket.socket:
    """Return the socket that all is sent from, and answers come to."""
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        own.bind((host, 0))
        own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host))
        own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # other programs on this machine
    except OSError:
        own.close()
        raise
    return own


def _group_socket(host: str) -> socket.socket:
    """Return a socket that hears the group at one interface; other programs of this machine hear it as well."""
    group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        group.bind(("" if sys.platform == "win32" else wire.GROUP, wire.PORT))
        joined = socket.inet_aton(wire.GROUP) + socket.inet_aton(host)
        group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    except OSError:
        group.close()
        raise
    return group
