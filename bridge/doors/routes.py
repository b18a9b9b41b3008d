"""What other doors answer at the HTTP port: the native door has the port, and looks here whose a connection is.

    GET /listen.mp3              ─► streams: the request's head is read, the rest of the connection is the door's
    WebSocket at a path of its   ─► sockets: checked as all are (origin, host, token, places), then the door's

Rules: a table and no more. A door writes itself in when it opens and out when it closes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # settings and `play` come by here, and need no WebSockets
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request

__all__ = ["Routes", "SocketHandler", "StreamHandler"]

StreamHandler = Callable[["Request", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SocketHandler = Callable[["ServerConnection", "Request"], Awaitable[None]]


@dataclass
class Routes:
    """Who answers what.

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
