"""Who may come in: where the service binds, tokens, Origin and Host, and how much of it anyone may take.

Rules: decides, does no I/O; every refusal has a reason (a label in `/metrics`) and a line for people. A page on the
web can reach a service on localhost: what stops it is here.

    Origin   sent by browsers: the page's own host, localhost, or one that the operator allowed. "null" is refused.
    Host     without a token it must be an address, localhost or an allowed name: a hostile name that resolves to
             127.0.0.1 (DNS rebinding) would otherwise be its own origin.
    token    query `token=…` (browsers cannot set headers) or `Authorization: Bearer …`, compared in constant time.
             After five wrong ones an address is told no more than one answer a second; the right one always lets in,
             for behind a proxy everyone has one address. So it must be long: `openssl rand -hex 16`.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.doors.limits import Buckets, is_loopback, plain_address
from bridge.errors import UsageError, reason

__all__ = ["Access", "Limits", "Refusal", "tls_context", "token_of"]

_GUESSES_A_SECOND, _GUESSES_AT_ONCE = 1.0, 5.0
_FULL_SECONDS = 10  # until a full service is asked again
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:]+\]|[a-z0-9_.-]+)(:(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Limits:
    """How much of the service anyone may take.

    Attributes:
        clients, clients_per_address: WebSocket clients at a time.
        connections, connections_per_address: TCP connections at a time, those not yet or never WebSockets included.
        message_bytes: of one text message.
        messages_per_second, burst_messages: sustained and at once, for each client; what is more is refused.
        upload_bytes, upload_seconds: of one audio prompt.
        window_seconds: audio on its way to a listener, unanswered; it grows with the round trip, see native/outbox.py.
        queue_seconds: audio kept for a listener beyond that, when it came in one go: our own loop was late, not it.
        stalled_queue_seconds: the same for a listener that has not taken any for a third of a second.
        stall_seconds: how long a listener may not read before it is closed with 4008.
    """

    clients: int = 128
    clients_per_address: int = 96
    connections: int = 256
    connections_per_address: int = 128
    message_bytes: int = 65_536
    messages_per_second: float = 200.0
    burst_messages: int = 400
    upload_bytes: int = 32 * 2**20
    upload_seconds: float = 60.0
    window_seconds: float = 0.5
    queue_seconds: float = 1.0
    stalled_queue_seconds: float = 0.4
    stall_seconds: float = 60.0


@dataclass(frozen=True)
class Refusal:
    """Why someone is turned away.

    Attributes:
        reason: one word, for `/metrics`.
        text: one line for people.
        close_code: of the WebSocket.
        status: of the HTTP answer.
        retry_seconds: after which it may be otherwise; None where trying again will not help.
    """

    reason: str
    text: str
    close_code: int = 1008
    status: int = 403
    retry_seconds: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What the HTTP answer says besides."""
        return {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}


@dataclass
class Access:
    """The rules of one service, and who is in.

    Attributes:
        host: the address it binds.
        token: the secret; "" asks for none, which only loopback or `insecure` allow.
        insecure: serve other machines without a token; for closed networks.
        allowed_origins: further origins, such as "https://stage.example", and by them further names of this host. As
            people write them: a slash at the end, capitals and the scheme's own port make no difference, and without a
            scheme both are meant.
        limits: how much anyone may take.
        connections, clients: who is in, by address.
        guesses: wrong tokens that an address may still show.
        now: a monotonic clock in seconds.

    Raises:
        UsageError: a bind that others can reach without token and without `insecure`; an origin that is none.
    """

    host: str = "127.0.0.1"
    token: str = ""
    insecure: bool = False
    allowed_origins: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    connections: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    guesses: Buckets = field(default_factory=lambda: Buckets(_GUESSES_A_SECOND, _GUESSES_AT_ONCE))
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Check that what is reachable from elsewhere is guarded."""
        if not (is_loopback(self.host) or self.token or self.insecure):
            raise UsageError(
                f"--host is {self.host!r}, which other machines reach: "
                "set --token SECRET, or --insecure on a closed network"
            )
        if self.token and not self.token.isascii():
            raise UsageError("--token has characters that HTTP headers cannot carry: use letters and digits")
        self.allowed_origins = tuple(one for text in self.allowed_origins for one in _allowed(text))

    def refuses_page(self, headers: Mapping[str, str]) -> Refusal | None:
        """Judge a request by where it comes from; None lets it in."""
        origin, host = headers.get("Origin"), headers.get("Host")
        if origin is not None and not self._origin_allowed(origin, host or ""):
            return Refusal("origin", f"pages of {origin[:100]!r} may not connect; allow it with --allow-origin")
        if not self.token and host is not None and not self._host_allowed(host):  # health checks send none, browsers do
            return Refusal("host", f"{host[:100]!r} is not a name of this service; use its address, or --allow-origin")
        return None

    def refuses_token(self, offered: str | None, address: str = "") -> Refusal | None:
        """Judge a token that came from an address; None lets it in."""
        if not self.token:
            return None
        if offered is None:
            return Refusal("token", "a token is needed: add ?token=… to the URL", status=401)
        if hmac.compare_digest(self.token.encode(), offered.encode(errors="replace")):
            return None
        if not self.guesses.of(plain_address(address)).take(1, self.now()):
            return Refusal("guesses", "the token is wrong, as many from your address were: wait a second", 1013, 429, 1)
        return Refusal("token", "the token is wrong", status=401)

    def enter(self, address: str) -> Refusal | None:
        """Count a client in, or say why there is no room."""
        address = plain_address(address)
        if self.clients.total() >= self.limits.clients:
            text = f"all {self.limits.clients} places are taken; try again in {_FULL_SECONDS} s"
            return Refusal("clients", text, 1013, 503, _FULL_SECONDS)
        if self.clients[address] >= self.limits.clients_per_address:
            limit = self.limits.clients_per_address
            text = f"{address} already has {limit} connections; close one"
            return Refusal("clients_per_address", text, 1013, 503, _FULL_SECONDS)
        self.clients[address] += 1
        return None

    def leave(self, address: str) -> None:
        """Count a client out."""
        _count_out(self.clients, plain_address(address))

    def connect(self, address: str) -> str | None:
        """Count a TCP connection in; returns which of the limits that exceeds."""
        address = plain_address(address)
        self.connections[address] += 1
        if self.connections[address] > self.limits.connections_per_address:
            return "connections_per_address"
        return "connections" if self.connections.total() > self.limits.connections else None

    def disconnect(self, address: str) -> None:
        """Count a TCP connection out."""
        _count_out(self.connections, plain_address(address))

    def _origin_allowed(self, origin: str, host: str) -> bool:
        found = _ORIGIN.fullmatch(origin.lower())
        if found is None:
            return False
        own = _ORIGIN.fullmatch(f"{found['scheme']}://{host.lower()}")
        same = own is not None and _normal(own) == _normal(found)
        return same or _normal(found) in self.allowed_origins or is_loopback(_name(found["host"]))

    def _host_allowed(self, host: str) -> bool:
        name = _name(host)
        allowed = {_name(origin.partition("://")[2]) for origin in self.allowed_origins}
        return _is_address(name) or name in ("localhost", self.host.lower()) or name in allowed


def _normal(origin: re.Match[str]) -> str:
    """Return an origin as browsers send it: without the port that is its scheme's own."""
    port = origin["port"]
    own = port is None or port == _DEFAULT_PORTS[origin["scheme"]]
    return f"{origin['scheme']}://{origin['host']}" + ("" if own else f":{port}")


def _allowed(text: str) -> list[str]:
    """Return the origins that an operator means.

    Raises:
        UsageError: it is none.
    """
    written = text.strip().lower().removesuffix("/")
    forms = [written] if "://" in written else [f"http://{written}", f"https://{written}"]
    found = [_ORIGIN.fullmatch(form) for form in forms]
    if any(one is None or int(one["port"] or 1) > 65_535 for one in found):
        raise UsageError(
            f"--allow-origin is {text[:100]!r}, must be a scheme, a host and, if need be, a port, without path or *: "
            "https://stage.example"
        )
    return [_normal(one) for one in found if one is not None]


def _count_out(counts: Counter[str], address: str) -> None:
    counts[address] -= 1
    if counts[address] <= 0:
        del counts[address]  # addresses that have gone take no room


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(place: str) -> str:
    """Return host of `host`, `host:port` or `[v6]:port`, in lower case."""
    if place.startswith("["):
        return place[1:].partition("]")[0].lower()
    return place.partition(":")[0].lower()


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what serves https and wss; None for plain http.

    Raises:
        UsageError: a key without a certificate, an encrypted one, or files that are none, or not of each other.
    """
    if certificate is None:
        if key is not None:
            raise UsageError("--tls-key is given without --tls-cert: give both, or neither")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name, path in (("--tls-cert", certificate), ("--tls-key", key)):
        if path is not None and path.exists() and not path.is_file():  # a pipe would keep us waiting
            raise UsageError(f"{name} is {str(path)!r}, which is no file: `streamgen certificate` makes both")
    try:
        context.load_cert_chain(certificate, key, _no_passphrase)
    except FileNotFoundError:
        missing = [str(path) for path in (certificate, key) if path is not None and not path.is_file()]
        raise UsageError(f"--tls-cert, --tls-key: there is no file {missing[0]!r}") from None
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or reason(error)
        raise UsageError(
            f"--tls-cert is {str(certificate)!r}: not a certificate in PEM with its key ({why}); "
            "`streamgen certificate` makes both"
        ) from None
    return context


def _no_passphrase() -> str:
    """Refuse a key that is encrypted: OpenSSL would ask at the terminal, and a service has nobody there."""
    raise UsageError(
        "--tls-key is encrypted: `openssl pkey -in KEY -out PLAIN` writes a plain one, for your eyes alone"
    )


def token_of(query: Mapping[str, str], authorization: str | None, api_key: str | None = None) -> str | None:
    """Return the token that a request offers, by query or by header; Google's SDKs call it a key."""
    if "token" in query:
        return query["token"]
    kind, _, value = (authorization or "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else query.get("key", api_key)
