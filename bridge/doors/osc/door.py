"""The OSC door: the live session by Open Sound Control, over UDP and TCP on one port.

    UDP ─────────────────────┐
    TCP ─ tcp: framing ──────┴─► handler ─► session          datagrams are read here, many in one turn of the loop

Rules: event loop. Sockets and the Door contract only; what packets mean is the handler's.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from bridge.doors.door import Place, Service, Sessions, cannot_listen, host_and_port
from bridge.doors.limits import ACCEPTS_A_TURN, queue_newcomers
from bridge.doors.osc.admission import OscCounters, OscLimits
from bridge.doors.osc.codec import MAX_PACKET_BYTES
from bridge.doors.osc.handler import RequestHandler
from bridge.doors.osc.tcp import READ_BYTES, Connections
from bridge.errors import BridgeError, reason

__all__ = ["OscDoor"]

_TURN_SECONDS = 0.004  # of datagrams, before others have their turn
_RECEIVE_BYTES = 1 << 20
_PORT_TRIES = 8


class OscDoor:
    """Steers and shows the live session by OSC; see `bridge.doors.door.Door`.

    Args:
        service: settings say where it listens, access what hosts other than this one must show.
        limits: what clients may take.

    Attributes:
        counters: what came and what became of it.
        port: of UDP and TCP, once it is open.
    """

    name = "osc"

    def __init__(self, service: Service, limits: OscLimits | None = None) -> None:
        self._service, self._limits = service, limits or OscLimits()
        # faults are told before loading
        self._targets = [host_and_port("--osc-target", target) for target in service.settings.osc_target]
        self.counters = OscCounters()
        self.port: int | None = None
        self.handler: RequestHandler | None = None
        self._connections: Connections | None = None
        self._udp: socket.socket | None = None
        self._tcp: asyncio.Server | None = None

    async def open(self, sessions: Sessions) -> None:
        """Listen.

        Raises:
            BridgeError: the port is taken or the address is not this machine's.
        """
        settings = self._service.settings
        access = self._service.access
        self.handler = RequestHandler(sessions.live, access, self._limits, self.counters, self._send)
        self._connections = Connections(self.handler, self._limits)
        try:
            await self._listen(settings.host, settings.osc_port, self._connections)
        except OSError as error:
            await self.close("it did not open")
            raise cannot_listen("OSC", settings.host, settings.osc_port, error, "--osc-port") from error
        for host, port in self._targets:
            await self._keep(self.handler, host, port)
        self._service.metrics.sources.append(self._count)

    async def _keep(self, handler: RequestHandler, host: str, port: int) -> None:
        """Tell a target everything: once now, then as it changes."""
        assert self._udp is not None, host
        family, loop = self._udp.family, asyncio.get_running_loop()
        try:
            places = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
        except OSError as error:
            await self.close("it did not open")
            raise BridgeError(f"--osc-target is '{host}:{port}', but there is no way to it: {reason(error)}") from error
        found = places[0][4]
        handler.feedback.keep((str(found[0]), int(found[1])))

    async def _listen(self, host: str, port: int, connections: Connections) -> None:
        for tries_left in reversed(range(_PORT_TRIES if port == 0 else 1)):
            self._udp = await _bound(host, port)
            found = int(self._udp.getsockname()[1])
            try:
                self._tcp = await asyncio.start_server(
                    connections.serve, host, found, limit=READ_BYTES, backlog=ACCEPTS_A_TURN
                )
            except OSError:  # a free UDP port may be taken in TCP
                self._udp.close()
                if not tries_left:
                    raise
            else:
                self.port = found
                queue_newcomers(self._tcp.sockets)
                asyncio.get_running_loop().add_reader(self._udp, self._receive, self._udp)
                return

    async def close(self, reason: str) -> None:
        """Say goodbye, leave the session and close every socket."""
        if self.handler is not None:
            await self.handler.close(reason)
        if self._udp is not None and self._udp.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._udp)
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        if self._connections is not None:
            await self._connections.close()
        await asyncio.sleep(0)  # transports close at the loop's next turn

    def places(self) -> Mapping[str, Place]:
        """Return its port, of UDP and TCP."""
        return {"osc_port": self.port}

    # -- datagrams ----------------------------------------------------------------------------------------------------

    def _receive(self, udp: socket.socket) -> None:
        """Take what came: asyncio's own transport takes one datagram a turn, and a busy loop has few turns."""
        assert self.handler is not None
        until = time.monotonic() + _TURN_SECONDS
        with suppress(BlockingIOError):  # no more
            while True:
                try:
                    data, address = udp.recvfrom(MAX_PACKET_BYTES)
                except ConnectionError:  # the receiver of something that was sent is gone
                    self.counters.dropped["unreachable"] += 1
                    continue
                self.handler.packet(self.handler.udp_client(address), data)
                if time.monotonic() > until:
                    return

    def _send(self, packet: bytes, address: tuple[str, int]) -> bool:
        if self._udp is None or self._udp.fileno() < 0:
            return False
        try:
            self._udp.sendto(packet, address)
        except OSError:  # its buffer is full, or there is no way to the address
            return False
        return True

    # -- counters -----------------------------------------------------------------------------------------------------

    def stats(self) -> Mapping[str, float]:
        """Return who is there, and what no other door counts."""
        feedback = self.handler.feedback if self.handler else None
        own = ("messages", "late", "scheduled", "sent", "audio_packets")
        return {
            "listeners": len(feedback) if feedback is not None else 0,
            "connections": len(self._connections or ()),
            "audio_listeners": len(feedback.sender) if feedback is not None else 0,
            **{f"{name}_total": getattr(self.counters, name) for name in own},
        }

    def _count(self) -> None:
        """Show in `/metrics` what every door counts."""
        metrics, counters = self._service.metrics, self.counters
        metrics.received["osc"], metrics.commands["osc"] = counters.packets, counters.commands
        metrics.errors["osc"] = counters.errors
        for why, count in counters.refused.items():
            metrics.refused[f"osc_{why}"] = count
        metrics.dropped_packets = counters.dropped


async def _bound(host: str, port: int) -> socket.socket:
    """Return a datagram socket at an address; raises OSError."""
    loop = asyncio.get_running_loop()
    places = await loop.getaddrinfo(host or None, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = places[0]
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    with suppress(OSError):  # a burst finds room; the system's own size will do too
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    return bound
