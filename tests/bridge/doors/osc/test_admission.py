"""Tokens on a clock of the test's own, and what packets cost."""

from __future__ import annotations

import pytest

from bridge.doors.access import Access
from bridge.doors.osc.admission import Tokens, price
from bridge.doors.osc.codec import Message, OscError


def test_the_token_is_shown_once_an_hour() -> None:
    now = [0.0]
    tokens = Tokens(Access(token="secret", now=lambda: now[0]))
    assert tokens.admits("127.0.0.1")
    assert not tokens.admits("10.0.0.1")
    assert not tokens.show("10.0.0.1", "guess")
    assert tokens.show("10.0.0.1", "secret")
    now[0] = 3000.0
    assert tokens.admits("10.0.0.1")
    now[0] = 6000.0
    assert tokens.admits("10.0.0.1")  # it spoke in between
    now[0] = 9601.0
    assert not tokens.admits("10.0.0.1")
    assert [tokens.show("10.0.0.2", "guess") for _ in range(5)] == [False] * 5
    assert tokens.show("10.0.0.2", "secret"), "whoever else is behind that address"


def test_guesses_at_another_door_count_too() -> None:
    access = Access(token="secret", now=lambda: 0.0)
    for _ in range(5):
        assert not Tokens(access).show("10.0.0.1", "guess")
    refusal = access.refuses_token("guess", "10.0.0.1")
    assert refusal is not None
    assert refusal.reason == "guesses"


def test_without_a_token_everyone_may_speak_and_none_but_this_host_is_proved() -> None:
    tokens = Tokens(Access(now=lambda: 0.0))
    assert tokens.admits("10.0.0.1")
    assert tokens.show("10.0.0.1", "whatever")
    assert not tokens.proved("10.0.0.1")
    assert tokens.proved("::1")


def test_what_means_much_costs_much() -> None:
    change, pattern, dump = Message("/streamgen/tempo", (1,)), Message("/streamgen/*"), Message("/streamgen/refresh")
    assert [price([message]) for message in (change, pattern, dump)] == [1, 16, 64]
    assert price([dump] * 3 + [pattern] * 4) == 256
    with pytest.raises(OscError, match="257 units of work") as caught:
        price([dump] * 3 + [pattern] * 4 + [change])
    assert caught.value.reason == "too_big"
