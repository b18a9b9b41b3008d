"""What a door is: a way in and out of the service, opened on its sessions and closed in order.

    Service (settings, access, metrics) ─► Door(service) ─ open(sessions) ─► … ─ close(reason)

Rules: a new door is one folder, and one line in `app.DOORS`. A door turns what comes from its clients into commands for
a session, and the session's blocks and events into what its clients read; it keeps no other clock than the session's
timeline, spells no parameter's range, and decides nothing about the music.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Protocol

from bridge.doors.access import Access
from bridge.errors import BridgeError, UsageError, reason
from bridge.metrics import Metrics
from bridge.session.commands import Command
from bridge.session.session import Session
from bridge.settings import Settings
from streamgen.errors import StreamgenError

if TYPE_CHECKING:  # settings and `play` come by here, and need no WebSockets
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request

__all__ = [
    "Door",
    "Place",
    "Routes",
    "Service",
    "Sessions",
    "StreamHandler",
    "Tasks",
    "bracketed",
    "cannot_listen",
    "host_and_port",
    "own_address",
    "send_unless_full",
    "without_stderr",
]

_log = logging.getLogger("bridge.doors")
_MOST_UNSENT_BYTES = 262_144  # a second of sound
_MOST_ASKED = 32  # at once: hands ask for a few, a storm of packets or notes for thousands
# an address of each family that is kept for documentation: no packet goes there
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}

Place = str | int | None
StreamHandler = Callable[["Request", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SocketHandler = Callable[["ServerConnection", "Request"], Awaitable[None]]


class Sessions(Protocol):
    """The open sessions, as doors see them.

    Attributes:
        live: the one that all doors share.
    """

    @property
    def live(self) -> Session:
        """The shared session."""
        ...

    async def get(self, name: str) -> Session:
        """Return the session of a name, opening it if need be; `new` is always a fresh one.

        Raises:
            CapacityError: this machine keeps up with no more.
        """
        ...


@dataclass
class Routes:
    """What other doors answer at the HTTP port: the native door has the port, and looks here whose a connection is.

        GET /listen.mp3              ─► streams: the request's head is read, the rest of the connection is the door's
        WebSocket at a path of its   ─► sockets: checked as all are (origin, host, token, places), then the door's

    A door writes itself in when it opens and out when it closes.

    Attributes:
        streams: GET and HEAD, by how the path begins. The handler judges the request itself, answers it in full and
            returns; then the connection is closed.
        sockets: WebSockets, by pattern of the whole path.
    """

    streams: dict[str, StreamHandler] = field(default_factory=dict)
    sockets: dict[re.Pattern[str], SocketHandler] = field(default_factory=dict)

    def socket(self, path: str) -> SocketHandler | None:
        """Return whose a WebSocket's path is; None is nobody's."""
        return next((handler for pattern, handler in self.sockets.items() if pattern.fullmatch(path)), None)


@dataclass(frozen=True)
class Service:
    """What every door is made with.

    Attributes:
        settings: the operator's.
        access: who may come in, and how much anyone may take.
        metrics: what is counted.
        places: where the doors are that are open; whoever opens them fills it in.
        routes: what other doors answer at the native door's port.
    """

    settings: Settings
    access: Access
    metrics: Metrics
    places: dict[str, Place] = field(default_factory=dict)
    routes: Routes = field(default_factory=Routes)


class Door(Protocol):
    """A way in and out.

    Attributes:
        name: in metrics and logs.
    """

    name: str

    async def open(self, sessions: Sessions) -> None:
        """Open it.

        Raises:
            BridgeError: it cannot open; one line says why and what to do.
        """
        ...

    async def close(self, reason: str) -> None:
        """Say goodbye to its clients and close it; one that never opened is closed too."""
        ...

    def places(self) -> Mapping[str, Place]:
        """Return where it is to be found, for the line and the JSON that tell that all is ready."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Return its counters by the names that `/metrics` shows."""
        ...


def cannot_listen(door: str, host: str, port: int, error: OSError, port_option: str) -> BridgeError:
    """Say why a door does not open there and what to choose instead: a port that is taken, or else a host."""
    option = port_option if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
    lookup = isinstance(error, socket.gaierror)  # it has numbers of its own
    why = os.strerror(error.errno) if error.errno and not lookup else reason(error)  # asyncio says all of it again
    return BridgeError(f"{door} cannot listen at {host}:{port}: {why}; choose another with {option}")


def own_address(family: socket.AddressFamily, towards: tuple[str, int] | None = None) -> str:
    """Return the address by which this machine reaches a place, and others of its network this machine.

    Args:
        family: of the address.
        towards: host and port; None is anywhere.

    Returns:
        An empty one where no way leads there.
    """
    with suppress(OSError), closing(socket.socket(family, socket.SOCK_DGRAM)) as out:
        out.connect(towards or (_ELSEWHERE[family], 9))  # a datagram socket's: it chooses a way, and sends nothing
        return str(out.getsockname()[0]).partition("%")[0]
    return ""


@contextmanager
def without_stderr() -> Iterator[None]:
    """Hide what ALSA and JACK print on their own while devices are looked for: dozens of lines that name no remedy."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def send_unless_full(transport: asyncio.DatagramTransport, data: bytes, place: tuple[str, int] | None = None) -> bool:
    """Send a datagram, unless the network takes none any more: a transport would keep them all, and send them late."""
    if transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:  # type: ignore[attr-defined]  # all of asyncio's have it
        return False
    transport.sendto(data, place)
    return True


_FEW_DIGITS = 3  # of a last group: more are as likely a port


def host_and_port(option: str, said: str, usual_port: int | None = None) -> tuple[str, int]:
    """Return the host and port that an operator names.

    Args:
        option: that says it.
        said: HOST:PORT, an IPv6 address in brackets; alone it needs none.
        usual_port: that is meant where HOST stands alone; None lets it not.

    Raises:
        UsageError: it is none.
    """
    host, colon, port = said.rpartition(":")
    if _is_ipv6(said):
        ends_like_a_port = port.isdecimal() and len(port) > _FEW_DIGITS and _is_ipv6(host)
        if usual_port is None or ends_like_a_port:
            raise UsageError(f"{option} is {said[:100]!r}, an IPv6 address: put it in brackets, as in [::1]:9000")
        return said, usual_port
    if usual_port is not None and (not colon or said.endswith("]")):
        host, port = said, str(usual_port)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        rest = "" if usual_port is None else f"; without a port it is {usual_port}"
        raise UsageError(f"{option} is {said[:100]!r}, must be a host and a port, as in 192.168.1.20:9000{rest}")
    return host.strip("[]"), int(port)


def _is_ipv6(said: str) -> bool:
    with suppress(ValueError):
        return bool(IPv6Address(said)) and ":" not in said.partition("%")[2]
    return False


class Tasks:
    """What a door does beside its clients: each until it ends, all until the door closes.

    Args:
        name: of the tasks.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: set[asyncio.Task[Any]] = set()  # the loop itself would let them be collected
        self._asked = 0
        self._left_over: tuple[Session, Command] | None = None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something from now on."""
        task = asyncio.create_task(work, name=self._name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def do(self, session: Session, command: Command) -> None:
        """Let a session do what a program or a hand asks that nobody can answer: where it cannot, the log says why."""
        try:
            await session.do(command)
        except StreamgenError as error:
            _log.warning("what %s asks for could not be done: %s", self._name, error)

    def ask(self, session: Session, command: Command) -> None:
        """The same, without waiting for it; where far too much is asked for at once, the newest of it is done."""
        if self._asked >= _MOST_ASKED:
            self._left_over = session, command
            return
        self._asked += 1
        self.spawn(self._do_asked(session, command))

    async def _do_asked(self, session: Session, command: Command) -> None:
        try:
            await self.do(session, command)
            while self._left_over is not None:
                (session, command), self._left_over = self._left_over, None
                await self.do(session, command)
        finally:
            self._asked -= 1

    async def close(self) -> None:
        """End what runs."""
        running = [*self._running]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
