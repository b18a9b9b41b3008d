"""Where a service is to be reached, of what people type; and, where nobody answers, why and what to do.

Rules: words alone, no I/O. A token is in no line for people: lines are kept in logs.
"""

from __future__ import annotations

import os
import ssl
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from streamgen.errors import ConfigError, one_line

__all__ = ["place_of", "stream_url", "unreachable", "why_unconnected"]

_PATH = "/v1/stream"
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_LONGEST_REASON = 200  # bytes of an answer that is a line for people; a page is longer


def stream_url(url: str, query: dict[str, str]) -> str:
    """Make the WebSocket's address of what people type: HOST:PORT, http://…, the page's with its token, or all of it.

    Raises:
        ConfigError: it has no host, or a scheme that is none of ours.
    """
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        usable = parts.scheme in _SCHEMES and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"url is {one_line(url)!r}, must be like http://127.0.0.1:8711")
    path = _PATH if parts.path in ("", "/") else parts.path
    shown = {name: value for name, value in parse_qsl(parts.fragment) if name == "token"}  # as the page has it
    return urlunsplit(
        (_SCHEMES[parts.scheme], parts.netloc, path, urlencode(dict(parse_qsl(parts.query)) | shown | query), "")
    )


def place_of(url: str) -> str:
    """Return an address as messages name it: without query, fragment and user, which hold secrets."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    return one_line(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")))


def unreachable(url: str, problem: Exception) -> str:
    """Say that nobody answers there, why, and what to do."""
    return f"no streamgen answers at {place_of(url)}: {why_unconnected(problem)}{_remedy(problem)}"


def why_unconnected(problem: Exception) -> str:
    """Say in a few words why there is no connection, or none any more: the other side's where it has said some."""
    if isinstance(problem, ConnectionClosed) and problem.rcvd is not None:
        return one_line(problem.rcvd.reason) or f"closed with {problem.rcvd.code}"
    if isinstance(problem, InvalidStatus) and 0 < len(body := bytes(problem.response.body or b"")) < _LONGEST_REASON:
        return one_line(body.decode(errors="replace"))
    if isinstance(problem, ConnectionError) and problem.errno is not None:
        return os.strerror(problem.errno)
    return one_line(problem) or type(problem).__name__


def _remedy(problem: Exception) -> str:
    """What to do about it; "" where the other side has said it, or nobody knows."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return "; if the certificate is your own, let SSL_CERT_FILE name it"
    if isinstance(problem, ssl.SSLError):
        return "; if the service has no certificate, use http://"
    if isinstance(problem, OSError | InvalidMessage | TimeoutError):
        return "; is `streamgen serve` running there, and are host and port right?"
    return ""
