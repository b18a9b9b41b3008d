"""Why nobody answers, in words that say what to do; addresses are tried in tests/bridge/doors/native/test_client.py."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from streamgen.errors import ConfigError
from streamgen.reaching import place_of, stream_url, unreachable


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call"),
            "Connection refused; is `streamgen serve` running",
        ),
        (socket.gaierror(-2, "Name or service not known"), "is `streamgen serve` running there, and are host and port"),
        (
            ssl.SSLCertVerificationError(1, "self-signed"),
            "self-signed; if the certificate is your own, let SSL_CERT_FILE",
        ),
        (
            ssl.SSLError(1, "WRONG_VERSION_NUMBER"),
            "WRONG_VERSION_NUMBER; if the service has no certificate, use http://",
        ),
        (
            InvalidStatus(Response(400, "", Headers(), b"this port speaks TLS\n")),
            "answers at http://a:1/b: this port speaks TLS",
        ),
        (InvalidStatus(Response(404, "", Headers(), b"<p>" * 100)), "HTTP 404"),
        (TimeoutError(), "TimeoutError; is `streamgen serve` running"),
        (ValueError("it says no hello"), ": it says no hello"),
    ],
)
def test_why_nobody_answers_says_what_to_do_and_no_token(problem: Exception, says: str) -> None:
    for url in ("http://a:1/b/?token=secret", "http://me:secret@a:1/b#token=secret"):
        line = unreachable(url, problem)
        assert line.startswith("no streamgen answers at http://a:1/b: ")
        assert says in line
        assert "secret" not in line
    assert unreachable("a:1", problem).startswith("no streamgen answers at ws://a:1: ")


def test_an_address_is_told_without_its_secrets() -> None:
    assert place_of(stream_url("http://me:pass@h:1/#token=sesame", {"session": "live"})) == "ws://h:1/v1/stream"
    assert place_of("h:1/?token=sesame") == "ws://h:1"
    with pytest.raises(ConfigError, match="must be like"):
        stream_url("ftp://h", {})
