"""Who may come in."""

from __future__ import annotations

import pytest

from bridge.doors.access import Access, Limits, token_of
from bridge.doors.limits import is_loopback
from bridge.errors import UsageError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    assert Access(host).refuses_token(None) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "studio.local", "127.0.0.1.evil.example"])
def test_other_binds_demand_a_token_or_a_loud_word(host: str) -> None:
    with pytest.raises(UsageError, match=r"--token SECRET, or --insecure"):
        Access(host)
    assert Access(host, token="secret").refuses_token("secret") is None
    assert Access(host, insecure=True).refuses_token(None) is None


def test_a_token_is_equal_or_refused() -> None:
    access = Access(token="secret")
    reasons = [access.refuses_token(offered) for offered in (None, "", "secre", "secrets", "sécret", "\ud800")]
    assert access.refuses_token("secret", "elsewhere") is None
    assert [reason is not None and (reason.reason, reason.status) for reason in reasons] == [("token", 401)] * 6
    with pytest.raises(UsageError, match="letters and digits"):
        Access(token="sécret")


def test_guesses_are_slowed_for_their_address_alone() -> None:
    time = 0.0
    access = Access(token="secret", now=lambda: time)
    for _ in range(100):
        assert access.refuses_token("secret", "a") is None, "right ones cost nothing"
    refusals = [access.refuses_token("wrong", address) for address in ("a", "::ffff:10.0.0.1", "10.0.0.1") * 7]
    assert all(refusal is not None for refusal in refusals)
    reasons = [refusal.reason for refusal in refusals if refusal]
    assert reasons[0::3] == ["token"] * 5 + ["guesses"] * 2
    assert reasons.count("token") == 5 + 5, "an address is the same one in IPv6's clothes"
    assert (refusals[-1].status, refusals[-1].close_code) == (429, 1013)  # type: ignore[union-attr]
    assert access.refuses_token("secret", "a") is None, "behind a proxy everyone has one address"
    time = 1.0
    assert (refusal := access.refuses_token("wrong", "a")) is not None
    assert refusal.reason == "token"


def test_a_token_comes_by_query_or_header() -> None:
    assert token_of({"token": "a"}, "Bearer b") == "a"
    assert token_of({}, "bearer  b ") == "b"
    assert token_of({}, "Basic b") is None
    assert token_of({}, None) is None


@pytest.mark.parametrize(
    ("origin", "host", "reason"),
    [
        (None, "127.0.0.1:8711", None),
        (None, "[::1]:8711", None),
        (None, "LOCALHOST:8711", None),
        ("http://127.0.0.1:8711", "127.0.0.1:8711", None),
        ("http://localhost:5173", "127.0.0.1:8711", None),
        ("http://[::1]:1", "127.0.0.1:8711", None),
        ("https://stage.example", "127.0.0.1:8711", None),
        (None, "stage.example", None),
        ("https://stage.example.evil", "127.0.0.1:8711", "origin"),
        ("null", "127.0.0.1:8711", "origin"),
        ("", "127.0.0.1:8711", "origin"),
        ("file://", "127.0.0.1:8711", "origin"),
        ("http://localhost.evil.example", "127.0.0.1:8711", "origin"),
        ("http://localhost@evil.example", "127.0.0.1:8711", "origin"),
        ("http://127.0.0.1:8711, http://evil.example", "127.0.0.1:8711", "origin"),
        ("http://evil.example:8711", "evil.example:8711", "host"),  # DNS rebinding: a hostile name for 127.0.0.1
        (None, "evil.example:8711", "host"),
        (None, "", "host"),
        ("http://127.0.0.1", "127.0.0.1:80", None),
        ("https://127.0.0.1:443", "127.0.0.1", None),
        ("HTTPS://STAGE.example", "127.0.0.1:8711", None),
        ("https://stage.example:443", "127.0.0.1:8711", None),
        ("https://stage.example:8443", "127.0.0.1:8711", "origin"),
        ("http://stage.example", "127.0.0.1:8711", "origin"),
    ],
)
def test_pages_and_names(origin: str | None, host: str, reason: str | None) -> None:
    access = Access(allowed_origins=("https://stage.example",))
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    refusal = access.refuses_page(headers)
    assert (None if refusal is None else refusal.reason) == reason


def test_a_request_without_host_is_no_browsers() -> None:
    """HAProxy's health check, in HTTP/1.0, by default."""
    assert Access().refuses_page({}) is None


@pytest.mark.parametrize(
    ("written", "origins"),
    [
        ("https://stage.example", ["https://stage.example"]),
        ("https://stage.example/", ["https://stage.example"]),
        (" HTTPS://Stage.Example:443 ", ["https://stage.example"]),
        ("http://stage.example:80", ["http://stage.example"]),
        ("https://stage.example:80", ["https://stage.example:80"]),
        ("stage.example", ["http://stage.example", "https://stage.example"]),
        ("stage.example:443", ["http://stage.example:443", "https://stage.example"]),
        ("http://[::1]:8711/", ["http://[::1]:8711"]),
    ],
)
def test_an_allowed_origin_is_meant_as_people_write_it(written: str, origins: list[str]) -> None:
    access = Access(allowed_origins=(written,))
    assert list(access.allowed_origins) == origins
    for origin in origins:
        assert access.refuses_page({"Host": "127.0.0.1:8711", "Origin": origin}) is None


@pytest.mark.parametrize("written", ["*", "", "https://", "https://stage.example/page", "ftp://a", "a:99999", "a b"])
def test_an_origin_that_could_never_match_is_refused_at_the_start(written: str) -> None:
    with pytest.raises(UsageError, match=r"--allow-origin is .*https://stage\.example"):
        Access(allowed_origins=(written,))


def test_with_a_token_any_name_of_the_host_will_do() -> None:
    access = Access("0.0.0.0", token="secret")
    assert access.refuses_page({"Host": "studio.local:8711", "Origin": "http://studio.local:8711"}) is None


def test_places() -> None:
    access = Access(limits=Limits(clients=3, clients_per_address=2))
    refusals = [access.enter(address) for address in ("a", "a", "a", "b", "c")]
    reasons = [refusal and refusal.reason for refusal in refusals]
    assert reasons == [None, None, "clients_per_address", None, "clients"]
    access.leave("a")
    assert access.enter("c") is None
    for address in ("a", "b", "c"):
        access.leave(address)
    assert not access.clients
