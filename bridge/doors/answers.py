"""Answers of doors that have a path at the HTTP port: who is let in, and how it is written.

Rules: event loop; writes and does not wait. Every answer ends the connection, and HTTP/1.0 is answered in kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

from bridge.doors.access import Access, Refusal, token_of
from bridge.doors.http.site import SAFETY, Address, address_of, plain_headers
from bridge.metrics import Metrics

if TYPE_CHECKING:
    from websockets.http11 import Request

__all__ = ["Exchange", "speaks_tls", "unreadable"]

_ALWAYS = {"Connection": "close", "Cache-Control": "no-cache, no-store", **SAFETY}
_SHOWN = 120  # characters of what was wrong


def _head(status_line: str, headers: Mapping[str, str]) -> bytes:
    lines = [status_line, *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def unreadable(problem: BaseException | None) -> bytes:
    """Return the answer to what is no request, with what was wrong where that is known."""
    why = f": {str(problem)[:_SHOWN]}" if problem is not None and str(problem) else ""
    body = f"this is no HTTP request that can be read{why}\n".encode("ascii", "backslashreplace")
    headers = {"Content-Type": "text/plain", "Content-Length": str(len(body)), **_ALWAYS}
    return _head("HTTP/1.1 400 Bad Request", headers) + body


def speaks_tls(host: str | None) -> bytes:
    """Return the answer to plain HTTP where TLS is spoken, with the address to use where the request said a host."""
    body = f"this port speaks TLS: use https://{(host or '')[:_SHOWN]}\n".encode("ascii", "backslashreplace")
    headers = {"Content-Type": "text/plain", "Content-Length": str(len(body)), **_ALWAYS}
    return _head("HTTP/1.1 400 Bad Request", headers) + body


@dataclass
class Exchange:
    """One request, and the way back.

    Args:
        request: its head.
        writer: of the connection.

    Attributes:
        address: its path and query.
        headers: those that matter.
        peer: the address it came from.
    """

    request: Request
    writer: asyncio.StreamWriter

    def __post_init__(self) -> None:
        self.address: Address = address_of(self.request.path)
        self.headers: dict[str, str] = plain_headers(self.request.headers)
        self.peer = str((self.writer.get_extra_info("peername") or ("?",))[0])

    def refusal(self, access: Access) -> Refusal | None:
        """Return why it is turned away: its page, its token; None lets it in."""
        token = token_of(self.address.query, self.headers.get("Authorization"))
        return access.refuses_page(self.headers) or access.refuses_token(token, self.peer)

    @property
    def base(self) -> str:
        """The service's own address, as this client knows it."""
        scheme = "https" if self.writer.get_extra_info("ssl_object") else "http"
        host = self.headers.get("Host") or "{}:{}".format(*self.writer.get_extra_info("sockname")[:2])
        return f"{scheme}://{host}"

    def refuse(self, refusal: Refusal, metrics: Metrics) -> None:
        """Turn it away."""
        metrics.refused[refusal.reason] += 1
        self.write(refusal.status, f"{refusal.text}\n", more=refusal.headers)

    def write(
        self, status: int, text: str, kind: str = "text/plain", more: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Answer with a text."""
        body = text.encode()
        head = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body))}
        self.write_head(status, {**head, **more})
        if self.request.method != "HEAD":
            self.writer.write(body)

    def write_head(self, status: int, more: Mapping[str, str]) -> None:
        """Write the answer's head, `more` beside what is always said."""
        self.writer.write(_head(f"{self.request.protocol} {status} {HTTPStatus(status).phrase}", {**_ALWAYS, **more}))
