"""Sends the live session to whom the operator names, uncompressed: `--reastream HOST`, `--rtp HOST`.

    session ──► pieces ──► when each is due ──► ReaStream ──► HOST:58710, for its plugin
                                            └─► RTP L24 ──► HOST:5004    GET /rtp.sdp tells players of it

Rules: event loop. Nothing comes in; who is named need not be there. While the session pauses nothing is sent.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.doors.answers import Exchange
from bridge.doors.door import Place, Service, Sessions, Tasks, host_and_port, send_unless_full
from bridge.doors.packetizer import Packetizer
from bridge.doors.udp.packets import REASTREAM_PORT, RTP_PORT, Format, ReaStream, Rtp, sdp
from bridge.errors import BridgeError, reason
from bridge.session.events import Block, Event
from bridge.session.session import Session

if TYPE_CHECKING:
    from websockets.http11 import Request

__all__ = ["UdpDoor"]

_log = logging.getLogger("bridge.udp")

NAME = "udp"
PATH = "/rtp.sdp"
_TOGETHER_SECONDS = 0.003  # packets that are due within it leave in one turn: RTP's would be a thousand a second


@dataclass
class _Sender:
    """Who is sent one format.

    Attributes:
        form: makes the packets.
        pieces: what they are made of.
        transports: of each receiver.
    """

    form: Format
    pieces: Packetizer
    transports: list[asyncio.DatagramTransport] = field(default_factory=list)


class UdpDoor:
    """A door (`doors.door.Door`) that sound leaves by, and nothing enters.

    Args:
        service: its settings name the receivers.

    Raises:
        UsageError: what is named is no place.
        BridgeError: there is no way to it.
    """

    name = NAME

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service = service
        self._reastream = [host_and_port("--reastream", one, REASTREAM_PORT) for one in settings.reastream]
        self._rtp = host_and_port("--rtp", settings.rtp, RTP_PORT) if settings.rtp else None
        for option, places in ("--reastream", self._reastream), ("--rtp", [self._rtp] if self._rtp else []):
            for place in places:
                _connected(option, *place).close()
        self._session: Session | None = None
        self._senders: list[_Sender] = []
        self._description = ""
        self._tasks = Tasks(NAME)
        self._came = asyncio.Event()
        self._packets = 0

    async def open(self, sessions: Sessions) -> None:
        """Begin to send.

        Raises:
            BridgeError: there is no way to a receiver.
        """
        self._session = session = sessions.live
        if self._reastream:
            sender = self._sender(session, ReaStream(session.rate_hz))
            for host, port in self._reastream:
                sender.transports.append(await _endpoint("--reastream", host, port))
        if self._rtp is not None:
            await self._open_rtp(session, *self._rtp)
        for block in session.add(self):
            self.audio(block)
        self._tasks.spawn(self._send(session))

    def _sender(self, session: Session, form: Format) -> _Sender:
        sender = _Sender(form, Packetizer(form.frames, session.timeline.seconds))
        self._senders.append(sender)
        return sender

    async def _open_rtp(self, session: Session, host: str, port: int) -> None:
        stream = Rtp(session.rate_hz)
        transport = await _endpoint("--rtp", host, port)
        self._sender(session, stream).transports.append(transport)
        ours, target = (str(transport.get_extra_info(name)[0]) for name in ("sockname", "peername"))
        self._description = sdp(stream, ours, target, port, int(time.time()))
        self._service.routes.streams[PATH] = self._answer

    async def close(self, reason: str) -> None:  # noqa: ARG002 - neither format has a farewell
        """Send no more."""
        self._service.routes.streams.pop(PATH, None)
        if self._session is not None:
            self._session.remove(self)
        await self._tasks.close()
        for sender in self._senders:
            for transport in sender.transports:
                transport.close()

    def places(self) -> Mapping[str, Place]:
        """Return who is sent to, and where a player finds the RTP."""
        if self._session is None:
            return {}
        page = self._service.places.get("page")
        names = ", ".join(f"{host}:{port}" for host, port in self._reastream)
        return ({"reastream": names} if names else {}) | ({"rtp": f"{page or '/'}{PATH[1:]}"} if self._rtp else {})

    def stats(self) -> Mapping[str, float]:
        """Return how many are sent to, and how many packets that was."""
        return {
            "receivers": sum(len(sender.transports) for sender in self._senders),
            "packets_total": self._packets,
        }

    # -- sound --------------------------------------------------------------------------------------------------------

    def audio(self, block: Block) -> None:
        """Take a block."""
        for sender in self._senders:
            sender.pieces.take(block.samples, block.start_sample)
        self._came.set()

    def event(self, event: Event) -> None:
        """Take an event; none changes what is sent."""

    async def _send(self, session: Session) -> None:
        """Send each piece when it is due, for ever; while none waits, sleep until a block comes."""
        while True:
            self._came.clear()
            now = session.timeline.now()
            for sender in self._senders:
                for piece in sender.pieces.due(now):
                    packet = sender.form.packet(piece)
                    for transport in sender.transports:
                        self._packets += send_unless_full(transport, packet)
            next_due = min(sender.pieces.next_due for sender in self._senders)
            if math.isinf(next_due):
                await self._came.wait()
            else:
                await asyncio.sleep(max(next_due - now, _TOGETHER_SECONDS))

    # -- its description ----------------------------------------------------------------------------------------------

    async def _answer(self, request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(request, writer)
        if (refusal := exchange.refusal(self._service.access)) is not None:
            exchange.refuse(refusal, self._service.metrics)
        elif exchange.address.path != PATH:
            exchange.write(404, f"there is no {exchange.address.path[:80]}; there is {PATH}\n")
        else:
            exchange.write(200, self._description, "application/sdp")


class _Receiver(asyncio.DatagramProtocol):
    """Who is sent to."""

    def error_received(self, exc: Exception) -> None:
        _log.debug("the network: %s", exc)  # nobody is there yet, or any more


async def _endpoint(option: str, host: str, port: int) -> asyncio.DatagramTransport:
    ours = await asyncio.to_thread(_connected, option, host, port)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(_Receiver, sock=ours)
    return transport


def _connected(option: str, host: str, port: int) -> socket.socket:
    """Return a socket whose datagrams go there.

    Raises:
        BridgeError: there is no way to it.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        ours = socket.socket(family, kind, protocol)
        try:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            ours.connect(place)  # so that it has an address of its own to tell of; nothing is sent
        except OSError:
            ours.close()
            raise
    except OSError as error:
        raise BridgeError(f"{option} is '{host}:{port}', but there is no way to it: {reason(error)}") from error
    return ours
