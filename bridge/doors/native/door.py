"""The door on port 8711: the page, the WebSocket `streamgen.v1`, and HTTP.

    TCP ─► front ── a path that streams ──► the door whose it is (routes.py)
             │ else
           guard ─► is it a WebSocket? ── no ──► http.Site
                          │ yes
                          ▼
        origin, host, token, places ── refused ──► accepted, then closed with 1008 or 1013: a browser can read why
                          │
               /v1/stream ─► connection.Connection        / and /streamgen… ─► OSCQuery's LISTEN
               paths of other doors ─► theirs (routes.py)

Rules: event loop; knows who may come in and where they go, not what they say.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any, cast
from weakref import WeakKeyDictionary

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from bridge.doors.access import Refusal, tls_context, token_of
from bridge.doors.door import Place, Service, Sessions, Tasks, bracketed, cannot_listen, own_address
from bridge.doors.http import oscquery
from bridge.doors.http.site import WEB_ROOT, Address, Site, address_of, plain_headers, wants_websocket
from bridge.doors.limits import ACCEPTS_A_TURN, Turns, is_loopback, queue_newcomers
from bridge.doors.native import codecs
from bridge.doors.native.answers import PATH, PROTOCOL
from bridge.doors.native.broadcast import Broadcast
from bridge.doors.native.connection import ClientContext, Connection
from bridge.doors.native.frames import FORMAT_FIELDS, MAX_RATE_HZ, MIN_RATE_HZ, AudioFormat, audio_format
from bridge.doors.native.front import OPEN_SECONDS, Entrance, Front
from bridge.doors.native.guard import GuardedConnection, Places
from bridge.doors.native.listener import DOOR, WebListener
from bridge.errors import WireError
from bridge.session.events import Goaway
from bridge.session.session import Session
from streamgen.errors import CapacityError, StreamgenError

__all__ = ["NativeDoor"]

_log = logging.getLogger("bridge.doors")
_quiet = logging.getLogger("bridge.doors.websockets")
_quiet.setLevel(logging.CRITICAL)  # websockets logs a stack trace for each malformed handshake: anyone could fill disks

_SESSION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLOSE_SECONDS = 2.0
_GOODBYE_SECONDS = 0.05
_PING_SECONDS = 20.0
_LOOK_SECONDS, _IDLE_SECONDS = (
    0.02,
    0.2,
)  # between looks at the music, where somebody listens to them, and where nobody does


class NativeDoor:
    """A door (`doors.door.Door`).

    Args:
        service: settings, access, metrics.
        page: the page's folder.

    Attributes:
        port: where it listens, once it is open; also if 0 was asked.
        listeners: of all sessions, connected now.
    """

    name = DOOR

    def __init__(self, service: Service, page: Path = WEB_ROOT) -> None:
        self._service, self._access, self._metrics = service, service.access, service.metrics
        self._site = Site(service, page)
        self._places, self._streams, self._turns = Places(service.access, service.metrics), Tasks("stream"), Turns()
        self._tls = tls_context(service.settings.tls_cert, service.settings.tls_key)  # faults are told before loading
        self._entrance = Entrance(self._places, service.routes, self._streams, self._turns, self._tls)
        self.port = 0
        self.listeners: set[WebListener] = set()
        self._server: Server | None = None
        self._clients, self._decoders = 0, asyncio.Semaphore(2)
        self._broadcasts: WeakKeyDictionary[Session, Broadcast] = WeakKeyDictionary()

    async def open(self, sessions: Sessions) -> None:
        """Open the port.

        Raises:
            BridgeError: it is taken, or the address is not this machine's.
        """
        host, port, limits = self._service.settings.host, self._service.settings.port, self._access.limits
        assert is_loopback(host) or self._access.token or self._access.insecure, host  # Access has refused it
        self._sessions = self._site.sessions = sessions
        await asyncio.to_thread(codecs.load)
        try:
            self._server = await serve(
                self._accept,
                host,
                port,
                process_request=self._process_request,
                select_subprotocol=_subprotocol,
                subprotocols=[Subprotocol(PROTOCOL)],
                create_connection=cast(Any, self._new_connection),
                compression=None,  # PCM hardly shrinks, for more than twice the work
                max_size=max(limits.upload_bytes, limits.message_bytes),
                max_queue=8,
                ping_interval=_PING_SECONDS,
                ping_timeout=limits.stall_seconds + _PING_SECONDS,  # who stalls is told so with 4008
                open_timeout=OPEN_SECONDS,
                close_timeout=_CLOSE_SECONDS,
                server_header=None,
                logger=_quiet,
                backlog=ACCEPTS_A_TURN,
            )
        except OSError as error:
            raise cannot_listen("the page", host, port, error, "--port") from error
        queue_newcomers(self._server.sockets)
        self.port = self._site.port = int(self._server.sockets[0].getsockname()[1])

    def _new_connection(self, protocol: ServerProtocol, server: Server, **options: Any) -> Front:
        serve_it = functools.partial(GuardedConnection, protocol, server, places=self._places, **options)
        return Front(protocol, serve_it, self._entrance)

    async def close(self, reason: str) -> None:
        """Tell every client `goaway`, then close with 1001; who does not read it is cut off after _CLOSE_SECONDS."""
        if self._server is None:
            return
        for listener in list(self.listeners):
            listener.event(Goaway(reason))
        if self.listeners:
            await asyncio.sleep(_GOODBYE_SECONDS)  # the senders run
        self._server.close(code=1001, reason=reason[:100])
        cutting_off = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._cut_off)
        self._entrance.close()
        self._places.abort_unopened()
        await self._streams.close()
        await self._server.wait_closed()
        cutting_off.cancel()

    def _cut_off(self) -> None:
        """End who is still here: a farewell waits behind what a stalled client does not read, and that without end."""
        for connection in getattr(self._server, "all_connections", ()):
            connection.transport.abort()

    def places(self) -> Mapping[str, Place]:
        """Return the page's addresses and the WebSocket's, without the token: what is printed is kept in logs."""
        shown, others, s = self._service.settings.host, "", "s" if self._tls else ""
        if shown in ("0.0.0.0", "::", ""):
            shown, others = "127.0.0.1", own_address(AF_INET6 if shown == "::" else AF_INET)

        def place(scheme: str, host: str, path: str) -> str:
            return f"{scheme}{s}://{bracketed(host)}:{self.port}{path}"

        places = {"page": place("http", shown, "/"), "websocket": place("ws", shown, PATH)}
        return places | ({"page_for_others": place("http", others, "/")} if others else {})

    def stats(self) -> Mapping[str, float]:
        """Return who is here now."""
        return {"listeners": len(self.listeners), "connections": self._access.connections.total()}

    # -- who comes in -------------------------------------------------------------------------------------------------

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer HTTP; let WebSockets of a known path through."""
        await self._turns.take()  # a crowd that comes at once, such as an audience when the network is back
        if wants_websocket(plain_headers(request.headers)) and self._leads_anywhere(address_of(request.path)):
            return None
        return await self._site.answer(request, _host(connection.remote_address), _host(connection.local_address))

    async def _accept(self, connection: ServerConnection) -> None:
        """Serve one WebSocket."""
        socket, request = cast(GuardedConnection, connection), connection.request
        assert request is not None, connection
        address, peer = address_of(request.path), _host(connection.remote_address)
        refusal = self._judge(plain_headers(request.headers), address, peer) or self._access.enter(peer)
        if refusal is not None:
            await self._turn_away(socket, refusal)
            return
        try:
            if (handler := self._service.routes.socket(address.path)) is not None:
                await handler(socket, request)
            else:
                await (self._stream(socket, address) if address.path == PATH else self._oscquery(socket))
        except ConnectionClosed:
            _log.debug("%s left while it was let in", peer)
        except Exception:  # noqa: BLE001 - a fault of ours must be seen, and must not end the service
            _log.exception("the connection of %s failed", peer)
            self._metrics.errors["internal"] += 1
            await socket.close(1011, "a fault of the server; its log says more")
        finally:
            self._access.leave(peer)

    def _leads_anywhere(self, address: Address) -> bool:
        """Tell whether a WebSocket's path is anybody's."""
        return address.path in (PATH, "/", oscquery.ROOT) or self._service.routes.socket(address.path) is not None

    def _judge(self, headers: dict[str, str], address: Address, peer: str) -> Refusal | None:
        token = token_of(address.query, headers.get("Authorization"), headers.get("X-Goog-Api-Key"))
        return self._access.refuses_page(headers) or self._access.refuses_token(token, peer)

    async def _turn_away(self, socket: GuardedConnection, refusal: Refusal) -> None:
        self._metrics.refused[refusal.reason] += 1
        await socket.close(refusal.close_code, _short(refusal.text))

    # -- where they go ------------------------------------------------------------------------------------------------

    async def _stream(self, socket: GuardedConnection, address: Address) -> None:
        try:
            session = await self._session(address.query.get("session", "live"))
            audio = _asked_format(session, address)
        except CapacityError as problem:
            await self._turn_away(socket, Refusal("capacity", str(problem), 1013))
        except (StreamgenError, WireError) as problem:
            await self._turn_away(socket, Refusal("bad_query", str(problem)))
        else:
            await self._serve(socket, session, audio)

    async def _session(self, name: str) -> Session:
        if not _SESSION_NAME.fullmatch(name):
            raise WireError("bad_value", "session is live, new, or a name of up to 64 letters, digits, _ and -")
        return await self._sessions.get(name)

    async def _serve(self, socket: GuardedConnection, session: Session, audio: AudioFormat) -> None:
        self._clients += 1
        limits, metrics = self._access.limits, self._metrics
        client = ClientContext(f"websocket {self._clients}", limits, metrics, self._decoders)
        await self._turns.take()
        broadcast = self._broadcasts.setdefault(session, Broadcast(session.rate_hz))
        listener = WebListener(socket, session, broadcast, audio, limits, metrics, self._turns)
        self.listeners.add(listener)
        try:
            await Connection(socket, session, client, listener).run()
        finally:
            self.listeners.discard(listener)

    async def _oscquery(self, socket: GuardedConnection) -> None:
        session, ready = self._sessions.live, asyncio.Event()
        listener = oscquery.ParameterListener(session.table, session.rate_hz, ready.set)
        session.add(listener)
        tasks = [asyncio.create_task(work) for work in (_send_news(socket, listener, ready), _look(session, listener))]
        try:
            async for message in socket:
                self._osc_command(listener, message)
                await asyncio.sleep(0)
        finally:
            session.remove(listener)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _osc_command(self, listener: oscquery.ParameterListener, message: str | bytes) -> None:
        try:
            listener.command(message if isinstance(message, str) else "")
        except WireError as problem:  # the specification has no error message to answer with
            self._metrics.errors[problem.code] += 1
        else:
            self._metrics.commands["oscquery"] += 1


async def _send_news(socket: GuardedConnection, listener: oscquery.ParameterListener, ready: asyncio.Event) -> None:
    while True:
        await ready.wait()
        ready.clear()
        for packet in listener.take():
            await socket.send(packet)


async def _look(session: Session, listener: oscquery.ParameterListener) -> None:
    while True:
        await asyncio.sleep(_LOOK_SECONDS if listener.looks else _IDLE_SECONDS)
        listener.look(session.timeline.wall())


def _subprotocol(_connection: ServerConnection, offered: list[Subprotocol] | Any) -> Subprotocol | None:
    return Subprotocol(PROTOCOL) if PROTOCOL in offered else None


def _asked_format(session: Session, address: Address) -> AudioFormat:
    """The format that a URL's query asks for: it spares a client the first frames in another one."""
    fields = {name: address.query[name] for name in FORMAT_FIELDS if name in address.query}
    rate = min(MAX_RATE_HZ, max(MIN_RATE_HZ, session.rate_hz))
    return codecs.fitting(audio_format(AudioFormat("s16le", rate), fields), "sample_rate_hz" in fields)


def _host(address: tuple[Any, ...] | None) -> str:
    """Return the host of a socket's address; a lost connection has none."""
    return str((address or ("?",))[0])


def _short(text: str) -> str:
    """A close frame holds 123 bytes of reason."""
    return text.encode()[:120].decode(errors="ignore")
