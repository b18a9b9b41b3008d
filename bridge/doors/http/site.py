"""Plain HTTP on the WebSocket's port: the page, health, metrics, OSCQuery.

    /  /app.js …    the page, files of a fixed table             free: a page holds no secret
    /healthz        200 or 503                                   free
    /metrics        Prometheus                                   token
    /streamgen…     OSCQuery JSON, and ?HOST_INFO anywhere       token

Rules: answers from memory; no path from a request is ever opened. Every answer closes its connection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

import bridge.web
from bridge.doors.access import Refusal, token_of
from bridge.doors.door import Service, Sessions
from bridge.doors.http import oscquery
from streamgen.errors import StreamgenError

__all__ = ["SAFETY", "WEB_ROOT", "Address", "Site", "address_of", "plain_headers", "read_page", "wants_websocket"]

WEB_ROOT = Path(bridge.web.__file__).parent

_MAX_QUERY_FIELDS = 32
SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token may be in the page's address
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer, of whichever door."""
_FOR_OTHER_PAGES = ("/client.js", "/protocol.js")  # modules, which browsers fetch as they fetch data
_NO_PAGE = b"there is no such page: it is at /, the radio at /listen.mp3; with --rtp there is /rtp.sdp\n"
_PAGE_SAFETY = {
    **SAFETY,
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; media-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


@dataclass(frozen=True)
class Address:
    """A request's target, taken apart. Raw: nothing in it is trusted."""

    path: str
    query: dict[str, str]
    raw_query: str


def address_of(target: str) -> Address:
    """Take a target apart; a query that is too long or malformed counts as none."""
    path, _, raw = target.partition("?")
    try:
        query = dict(parse_qsl(raw, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS))
    except ValueError:
        query = {}
    return Address(unquote(path, errors="replace"), query, raw)


def plain_headers(headers: Headers) -> dict[str, str]:
    """Return the headers that matter; one sent twice is joined, and so matches nothing it should not."""
    names = ("Host", "Origin", "Authorization", "Accept", "Upgrade", "X-Goog-Api-Key")
    return {name: ", ".join(values) for name in names if (values := headers.get_all(name))}


def wants_websocket(headers: dict[str, str]) -> bool:
    """Tell whether a request asks for a WebSocket."""
    return "websocket" in headers.get("Upgrade", "").lower()


def read_page(root: Path) -> dict[str, tuple[bytes, str]]:
    """Read the page: path → bytes and content type. A fixed table; what is not in it does not exist."""
    files = {
        "/" + file.name: (file.read_bytes(), bridge.web.TYPES[file.suffix])
        for file in sorted(root.iterdir())
        if file.suffix in bridge.web.TYPES and file.is_file()
    }
    return files | ({"/": files["/index.html"]} if "/index.html" in files else {})


class Site:
    """What is answered over HTTP.

    Args:
        service: settings, access, metrics.
        page: the page's folder.

    Attributes:
        page: see `read_page`.
        sessions: whose live one is told of; set before the port opens.
        port: the WebSocket's own; known once the socket is bound.
    """

    sessions: Sessions

    def __init__(self, service: Service, page: Path = WEB_ROOT) -> None:
        self._service, self._access, self._metrics = service, service.access, service.metrics
        self.page, self.port = read_page(page), 0

    async def answer(self, request: Request, peer: str, reached: str) -> Response:
        """Answer one request.

        Args:
            request: as it came.
            peer: address it came from.
            reached: our address it came to; we may have several.
        """
        headers, address = plain_headers(request.headers), address_of(request.path)
        refusal = self._access.refuses_page(headers) or self._needs_token(address, headers, peer)
        if refusal is not None:
            return self._refused(refusal)
        if request.method not in ("GET", "HEAD"):
            return _response(405, b"only GET and HEAD\n", "text/plain", Allow="GET, HEAD")
        try:
            response = self._get(address, headers, reached)
        except StreamgenError as problem:  # the session has ended: the service is about to
            response = _response(503, f"{problem}\n".encode(), "text/plain; charset=utf-8")
        if request.method == "HEAD":
            response.body = b""
        return response

    def _needs_token(self, address: Address, headers: dict[str, str], peer: str) -> Refusal | None:
        if _asks_namespace(address, headers) or address.path == "/metrics":
            return self._access.refuses_token(token_of(address.query, headers.get("Authorization")), peer)
        return None

    def _refused(self, refusal: Refusal) -> Response:
        self._metrics.refused[refusal.reason] += 1
        body = f"{refusal.text}\n".encode()
        return _response(refusal.status, body, "text/plain; charset=utf-8", **refusal.headers)

    def _get(self, address: Address, headers: dict[str, str], reached: str) -> Response:
        if _asks_namespace(address, headers):
            return self._namespace(address, reached)
        if address.path == "/healthz":
            return self._health()
        if address.path == "/metrics":
            self._metrics.take(self.sessions.live.stats())
            return _response(200, self._metrics.text().encode(), "text/plain; version=0.0.4; charset=utf-8")
        if address.path in self.page:
            body, kind = self.page[address.path]
            more: dict[str, str] = {}
            origin = headers.get("Origin")  # allowed, or it had been refused
            if origin and address.path in _FOR_OTHER_PAGES:
                more = {"Access-Control-Allow-Origin": origin, "Cross-Origin-Resource-Policy": "cross-origin"}
            return _response(200, body, kind, **more)
        return _response(404, _NO_PAGE, "text/plain")

    def _health(self) -> Response:
        self._metrics.refresh()
        problem = self._metrics.unhealthy
        body = {"status": problem or "ok", "listeners": self._metrics.listeners.total()}
        return _response(503 if problem else 200, json.dumps(body).encode(), "application/json")

    def _namespace(self, address: Address, reached: str) -> Response:
        if address.raw_query.startswith("HOST_INFO"):
            return _json(200, json.dumps(oscquery.host_info(reached, self.port, self._osc_port)))
        session = self.sessions.live
        node = oscquery.find(oscquery.tree(session.table, session.values(), session.heard()), address.path)
        if node is None:
            return _json(404, "")
        wanted = [name for name in address.query if name != "token"]
        return _json(*oscquery.attribute(node, wanted[0])) if wanted else _json(200, json.dumps(node))

    @property
    def _osc_port(self) -> int | None:
        """Where OSC is, if there is OSC."""
        port = self._service.places.get("osc_port")
        return port if isinstance(port, int) else None


def _asks_namespace(address: Address, headers: dict[str, str]) -> bool:
    if address.path == "/":  # shared with the page, which browsers ask for by its type; ossia score says */*
        return "HOST_INFO" in address.query or "text/html" not in headers.get("Accept", "").lower()
    return (address.path + "/").startswith(oscquery.ROOT + "/") or "HOST_INFO" in address.query


def _json(status: int, body: str) -> Response:
    return _response(status, body.encode(), "application/json")


def _response(status: int, body: bytes, kind: str, **more: str) -> Response:
    headers = Headers({"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"})
    headers.update({"Cache-Control": "no-cache", **_PAGE_SAFETY, **more})
    return Response(status, HTTPStatus(status).phrase, headers, body)
