from __future__ import annotations

from types import SimpleNamespace

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from bridge.doors.access import Access
from bridge.doors.answers import Exchange
from bridge.metrics import Metrics


def asked(path: str = "/x", method: str = "GET", tls: bool = False, **headers: str) -> tuple[Exchange, list[bytes]]:
    told = {"peername": ("192.0.2.9", 5), "sockname": ("192.0.2.1", 8711), "ssl_object": tls or None}
    out: list[bytes] = []
    writer = SimpleNamespace(get_extra_info=told.get, write=out.append)
    request = Request(path, Headers(headers), method=method)
    return Exchange(request, writer), out  # type: ignore[arg-type]


def test_the_services_address_is_as_the_client_knows_it() -> None:
    assert asked(Host="radio.example:80")[0].base == "http://radio.example:80"
    assert asked(tls=True)[0].base == "https://192.0.2.1:8711"


def test_a_token_is_asked_for_and_a_refusal_is_counted() -> None:
    access, metrics = Access("127.0.0.1", token="secret"), Metrics()
    one, out = asked(Host="127.0.0.1")
    refusal = one.refusal(access)
    assert refusal is not None
    one.refuse(refusal, metrics)
    assert b" 401 " in out[0]
    assert metrics.refused.total() == 1
    assert asked("/x?token=secret", Host="127.0.0.1")[0].refusal(access) is None


@pytest.mark.parametrize(("method", "body"), [("GET", [b"there\n"]), ("HEAD", [])])
def test_a_text_has_its_length_and_a_head_alone_has_none_of_it(method: str, body: list[bytes]) -> None:
    one, out = asked(method=method)
    one.write(200, "there\n")
    assert out[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 6\r\n" in out[0]
    assert out[1:] == body
