"""The port 8711: WebSockets by path, HTTP for everything else.

    TCP ─► guard ─► is it a WebSocket? ── no ──► http.Site
                          │ yes
                          ▼
        origin, host, token, places ── refused ──► accepted, then closed with 1008 or 1013: a browser can read why
                          │
               /v1/stream ─► listener.WebListener        / and /streamgen… ─► OSCQuery's LISTEN

Rules: event loop; knows who may come in and where they go, not what they say.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from bridge.doors.access import Access, Refusal, token_of
from bridge.doors.limits import is_loopback
from bridge.doors.http import oscquery
from bridge.doors.http.site import Address, OpenSession, Site, address_of, plain_headers, read_page, wants_websocket
from bridge.doors.native import opus
from bridge.doors.native.broadcast import Broadcast
from bridge.doors.native.connection import WebListener
from bridge.doors.native.encoders import fitting
from bridge.doors.native.frames import FORMAT_FIELDS, AudioFormat, audio_format
from bridge.doors.native.guard import GuardedConnection, Places
from bridge.doors.native.outbox import MAX_NOTES
from bridge.doors.native.protocol import PATH, PROTOCOL
from bridge.doors.native.requests import Client
from bridge.doors.ports import cannot_listen
from bridge.doors.turns import Turns
from bridge.errors import WireError
from bridge.metrics import Metrics
from bridge.session.interface import Session
from bridge.session.messages import Block, Changed, Event
from streamgen.errors import CapacityError, StreamgenError

__all__ = ["WebServer", "serve_web"]

_log = logging.getLogger("bridge.doors")
_quiet = logging.getLogger("bridge.doors.websockets")
_quiet.setLevel(logging.CRITICAL)  # websockets logs a stack trace for each malformed handshake: anyone could fill disks

_SESSION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OPEN_SECONDS, _CLOSE_SECONDS = 5.0, 2.0
_GOODBYE_SECONDS = 0.05
_PING_SECONDS = 20.0


class WebServer:
    """The service's web door, open.

    Attributes:
        port: where it listens; also if 0 was asked.
        url: of the page.
    """

    def __init__(self, door: _Door, server: Server) -> None:
        self._door, self._server = door, server
        self.port = int(server.sockets[0].getsockname()[1])
        door.site.port = self.port
        host = door.access.host
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/"

    async def close(self, reason: str) -> None:
        """Tell every client `goaway`, then close with 1001."""
        for listener in list(self._door.listeners):
            listener.goodbye(reason)
        if self._door.listeners:
            await asyncio.sleep(_GOODBYE_SECONDS)  # the senders run
        self._server.close(code=1001, reason=reason[:100])
        await self._server.wait_closed()


async def serve_web(
    open_session: OpenSession,
    host: str,
    port: int,
    *,
    access: Access,
    web_root: Path,
    metrics: Metrics,
    osc_port: int | None,
) -> WebServer:
    """Open the web door.

    Args:
        open_session: gives the session of a name, "live" or "new" or another; CapacityError is answered with 1013.
        host: to bind; `access` has judged it.
        port: to bind; 0 takes any.
        access: who may come in.
        web_root: the page's folder.
        metrics: what is counted, and what `/metrics` shows.
        osc_port: told to OSCQuery's clients; None if there is no OSC.

    Raises:
        BridgeError: the port is taken or the address is not this machine's.
    """
    assert is_loopback(host) or access.token or access.insecure, host  # Access refuses it; nobody may come around that
    await asyncio.to_thread(opus.load)
    door = _Door(open_session, access, metrics, Site(open_session, access, metrics, read_page(web_root), osc_port))
    limits = access.limits
    try:
        server = await serve(
            door.handle,
            host,
            port,
            process_request=door.process_request,
            select_subprotocol=_subprotocol,
            subprotocols=[Subprotocol(PROTOCOL)],
            create_connection=cast(Any, functools.partial(GuardedConnection, places=Places(access, metrics))),
            compression=None,  # PCM shrinks by 4 % for 2.5 times the CPU
            max_size=max(limits.upload_bytes, limits.message_bytes),
            max_queue=8,
            ping_interval=_PING_SECONDS,
            ping_timeout=limits.stall_seconds + _PING_SECONDS,  # who stalls is told so with 4008, not dropped as dead
            open_timeout=_OPEN_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            server_header=None,
            logger=_quiet,
        )
    except OSError as error:
        raise cannot_listen("the page", host, port, error, "--port") from error
    return WebServer(door, server)


def _subprotocol(_connection: ServerConnection, offered: list[Subprotocol] | Any) -> Subprotocol | None:
    return Subprotocol(PROTOCOL) if PROTOCOL in offered else None


class _Door:
    """What stands between the port and the listeners."""

    def __init__(self, open_session: OpenSession, access: Access, metrics: Metrics, site: Site) -> None:
        self.open_session, self.access, self.metrics, self.site = open_session, access, metrics, site
        self.listeners: set[WebListener] = set()
        self._numbers, self._decoders = 0, asyncio.Semaphore(2)
        self._turns = Turns()
        self._shared: WeakValueDictionary[int, Broadcast] = WeakValueDictionary()  # by session, kept by its listeners
        self._paths: dict[str, Callable[[GuardedConnection, Address], Awaitable[None]]] = {
            PATH: self._stream,
            "/": self._oscquery,
            oscquery.ROOT: self._oscquery,
        }

    async def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer HTTP; let WebSockets of a known path through."""
        await self._turns.take()  # a crowd that comes at once, such as an audience when the network is back
        if wants_websocket(plain_headers(request.headers)) and address_of(request.path).path in self._paths:
            return None
        return await self.site.answer(request, _host(connection.remote_address), _host(connection.local_address))

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one WebSocket."""
        socket, request = cast(GuardedConnection, connection), connection.request
        assert request is not None, connection
        address, peer = address_of(request.path), _host(connection.remote_address)
        refusal = self._judge(plain_headers(request.headers), address, peer) or self.access.enter(peer)
        if refusal is not None:
            await self._turn_away(socket, refusal)
            return
        try:
            await self._paths[address.path](socket, address)
        except ConnectionClosed:
            _log.debug("%s left while it was let in", peer)
        except Exception:  # noqa: BLE001 - a fault of ours must be seen, and must not end the service
            _log.exception("the connection of %s failed", peer)
            self.metrics.errors["internal"] += 1
            await socket.close(1011, "a fault of the server; its log says more")
        finally:
            self.access.leave(peer)

    def _judge(self, headers: dict[str, str], address: Address, peer: str) -> Refusal | None:
        token = token_of(address.query, headers.get("Authorization"))
        return self.access.refuses_page(headers) or self.access.refuses_token(token, peer)

    async def _turn_away(self, socket: GuardedConnection, refusal: Refusal) -> None:
        self.metrics.refused[refusal.reason] += 1
        await socket.close(refusal.close_code, _short(refusal.text))

    # -- /v1/stream ---------------------------------------------------------------------------------------------------

    async def _stream(self, socket: GuardedConnection, address: Address) -> None:
        try:
            session = await self._session(address.query.get("session", "live"))
            audio = _asked_format(session, address)
        except CapacityError as problem:
            await self._turn_away(socket, Refusal("capacity", str(problem), 1013))
        except (StreamgenError, WireError) as problem:
            await self._turn_away(socket, Refusal("bad_query", str(problem)))
        else:
            await self._listen(socket, session, audio)

    async def _session(self, name: str) -> Session:
        if not _SESSION_NAME.fullmatch(name):
            raise WireError("bad_value", "session is live, new, or a name of up to 64 letters, digits, _ and -")
        return await self.open_session(name)

    async def _listen(self, socket: GuardedConnection, session: Session, audio: AudioFormat) -> None:
        self._numbers += 1
        shared = self._shared.setdefault(id(session), Broadcast())
        client = Client(
            f"websocket {self._numbers}", self.access.limits, self.metrics, self._decoders, shared, self._turns
        )
        await self._turns.take()
        listener = WebListener(socket, session, client, audio)
        self.listeners.add(listener)
        try:
            await listener.run()
        finally:
            self.listeners.discard(listener)

    # -- OSCQuery's WebSocket -----------------------------------------------------------------------------------------

    async def _oscquery(self, socket: GuardedConnection, _address: Address) -> None:
        session = await self.open_session("live")
        ear = _OscQueryEar()
        session.add(ear)
        sender = asyncio.create_task(ear.send(socket))
        try:
            async for message in socket:
                self._osc_command(ear, message)
                await asyncio.sleep(0)
        finally:
            session.remove(ear)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def _osc_command(self, ear: _OscQueryEar, message: str | bytes) -> None:
        try:
            ear.wanted.command(message if isinstance(message, str) else "")
        except WireError as problem:  # the specification has no error message to answer with
            self.metrics.errors[problem.code] += 1
        else:
            self.metrics.commands["oscquery"] += 1


class _OscQueryEar:
    """A listener (`commands.Listener`) that passes on the parameters asked for; the newest value of each."""

    wants_audio = False

    def __init__(self) -> None:
        self.wanted = oscquery.Listening()
        self._news: dict[str, bytes] = {}
        self._ready = asyncio.Event()

    def audio(self, block: Block) -> None:
        """Audio is not for it."""

    def event(self, event: Event) -> None:
        """Keep what changed."""
        if isinstance(event, Changed):
            heard = {name: value for name, value in event.values.items() if name in self.wanted.names}
            self._news |= {name: oscquery.packet(name, value) for name, value in heard.items()}
            assert len(self._news) <= MAX_NOTES, len(self._news)  # one a parameter
            self._ready.set()

    async def send(self, socket: GuardedConnection) -> None:
        """Send news, for ever."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            news, self._news = self._news, {}
            for packet in news.values():
                await socket.send(packet)


def _asked_format(session: Session, address: Address) -> AudioFormat:
    """The format that a URL's query asks for: it spares a client the first frames in another one."""
    fields = {name: address.query[name] for name in FORMAT_FIELDS if name in address.query}
    rate = min(96_000, max(8_000, session.sample_rate_hz))
    return fitting(audio_format(AudioFormat("s16le", rate), fields), "sample_rate_hz" in fields)


def _host(address: tuple[Any, ...] | None) -> str:
    """Return the host of a socket's address; a lost connection has none."""
    return str((address or ("?",))[0])


def _short(text: str) -> str:
    """A close frame holds 123 bytes of reason."""
    return text.encode()[:120].decode(errors="ignore")
