"""The Lyria door: Google's live music protocol at the HTTP port, for its SDKs as they are.

    wss://HOST/ws/google.ai.generativelanguage.VERSION.GenerativeService.BidiGenerateMusic     any version, `//ws` too

Each connection has a session of its own. Where there is no room it is told behind `setupComplete`: there the SDKs
listen.

Rules: event loop; the native door has judged origin, host, key (as token) and places.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from bridge.doors.door import Place, Service, Sessions
from bridge.doors.lyria import protocol
from bridge.doors.lyria.connection import DOOR, Connection
from bridge.errors import WireError
from streamgen.errors import CapacityError

__all__ = ["PATH", "LyriaDoor"]

PATH = re.compile(r"/+ws/google\.ai\.generativelanguage\.v\w+\.GenerativeService\.BidiGenerateMusic")
_SETUP_SECONDS = 5.0
_FULL = 1013

_log = logging.getLogger("bridge.doors")


class LyriaDoor:
    """A door (`doors.door.Door`) at the native door's port.

    Args:
        service: settings, access, metrics, and the routes it writes itself into.
    """

    name = DOOR

    def __init__(self, service: Service) -> None:
        self._service, self._access, self._metrics = service, service.access, service.metrics
        self._listeners = self._clients = 0

    async def open(self, sessions: Sessions) -> None:
        """Answer from now on."""
        self._sessions = sessions
        self._service.routes.sockets[PATH] = self._serve

    async def close(self, reason: str) -> None:  # noqa: ARG002 - the native door closes the sockets, and tells it
        """Answer no more."""
        self._service.routes.sockets.pop(PATH, None)

    def places(self) -> Mapping[str, Place]:
        """Return nothing: the SDKs take the page's address."""
        return {}

    def stats(self) -> Mapping[str, float]:
        """Return who is here now."""
        return {"listeners": self._listeners}

    async def _serve(self, socket: ServerConnection, _request: Request) -> None:
        try:
            session = await self._sessions.get("new")
        except CapacityError as problem:
            await self._turn_away(socket, str(problem))
            return
        self._clients += 1
        self._listeners += 1
        try:
            limits, metrics = self._access.limits, self._metrics
            await Connection(socket, session, f"lyria {self._clients}", limits, metrics).run()
        except ConnectionClosed:
            _log.debug("lyria %d left", self._clients)
        finally:
            self._listeners -= 1

    async def _turn_away(self, socket: ServerConnection, why: str) -> None:
        """Let the SDK connect, then close: what closes before is no error of its own to it."""
        self._metrics.refused["capacity"] += 1
        try:
            async with asyncio.timeout(_SETUP_SECONDS):
                if isinstance(protocol.parse(await socket.recv()), protocol.Setup):
                    await socket.send(protocol.SETUP_COMPLETE)
        except (TimeoutError, WireError):
            _log.debug("a client that is turned away said nothing that fits")
        await socket.close(_FULL, f"RESOURCE_EXHAUSTED: {why}".encode()[:120].decode(errors="ignore"))
