"""Buckets and tokens, on a clock of the test's own."""

from __future__ import annotations

import pytest

from bridge.doors.osc.limits import Bucket, Buckets, Tokens, is_loopback


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(10, 5)
    assert [bucket.take(1, 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(1, 100.25) for _ in range(3)] == [True, True, False]
    assert [bucket.take(1, 200.0) for _ in range(6)] == [True] * 5 + [False]


def test_debts_are_waited_for() -> None:
    bucket = Bucket(10, 5)
    assert bucket.owe(5, 1.0) == 0
    assert bucket.owe(20, 1.0) == pytest.approx(2.0)
    assert bucket.owe(0, 2.0) == pytest.approx(1.0)


def test_hosts_have_their_own_bucket_and_are_forgotten_in_turn() -> None:
    buckets = Buckets(1, 1)
    assert buckets.of("a").take(1, 5.0)
    assert not buckets.of("a").take(1, 5.0)
    assert buckets.of("b").take(1, 5.0)
    for host in range(2000):
        buckets.of(str(host))
    assert buckets.of("a").take(1, 5.0)  # forgotten, so full again


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False),
     ("::ffff:10.0.0.1", False), ("fe80::1%eth0", False), ("localhost", False), ("", False)],
)  # fmt: skip
def test_which_hosts_are_this_one(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_the_token_is_shown_once_an_hour_and_tried_five_times() -> None:
    tokens = Tokens("secret")
    assert tokens.admits("127.0.0.1", 0.0)
    assert not tokens.admits("10.0.0.1", 0.0)
    assert not tokens.show("10.0.0.1", "guess", 0.0)
    assert tokens.show("10.0.0.1", "secret", 0.0)
    assert tokens.admits("10.0.0.1", 3000.0)
    assert tokens.admits("10.0.0.1", 6000.0)  # heard in between
    assert not tokens.admits("10.0.0.1", 9601.0)
    assert [tokens.show("10.0.0.2", "guess", 0.0) for _ in range(5)] == [False] * 5
    assert not tokens.show("10.0.0.2", "secret", 0.0)
    assert tokens.show("10.0.0.2", "secret", 1.5)


def test_without_a_token_everyone_may_speak_and_none_but_this_host_is_proved() -> None:
    tokens = Tokens(None)
    assert tokens.admits("10.0.0.1", 0.0)
    assert not tokens.proved("10.0.0.1", 0.0)
    assert tokens.proved("::1", 0.0)
