"""Patterns, against the slow and obvious way, and their cost."""

from __future__ import annotations

import random
import time

import pytest
from pythonosc.dispatcher import Dispatcher

from bridge.doors.osc.address import MAX_PATTERN, AddressBook, is_pattern
from bridge.doors.osc.codec import OscError
from bridge.session.parameters import session_table

NAMES = [f"/streamgen/{name}" for name in session_table()]


def slow(pattern: str, text: str) -> bool:
    """One pattern part against one name part, by trying everything."""
    if not pattern:
        return not text
    head = pattern[0]
    if head == "*":
        return any(slow(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    if head == "{":
        inside, _, rest = pattern[1:].partition("}")
        return any(text.startswith(word) and slow(rest, text[len(word) :]) for word in inside.split(","))
    if not text:
        return False
    if head == "[":
        inside, _, rest = pattern[1:].partition("]")
        letters = inside.removeprefix("!")
        found = False
        while letters:
            if letters[1:2] == "-" and letters[2:3]:
                found, letters = found or letters[0] <= text[0] <= letters[2], letters[3:]
            else:
                found, letters = found or letters[0] == text[0], letters[1:]
        return found != inside.startswith("!") and slow(rest, text[1:])
    return head in ("?", text[0]) and slow(pattern[1:], text[1:])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/streamgen/tem*", ["tempo", "temperature"]),
        ("/streamgen/top_?", ["top_k", "top_p"]),
        ("/streamgen/prompt/[1-3]/weight", [f"prompt/{slot}/weight" for slot in (1, 2, 3)]),
        ("/streamgen/prompt/[!2-8]/text", ["prompt/1/text"]),
        ("/streamgen/{seed,tempo,nothing}", ["tempo", "seed"]),
        ("/streamgen/prompt/{1,8}/*", ["prompt/1/text", "prompt/1/weight", "prompt/8/text", "prompt/8/weight"]),
        ("/*/mute", ["mute"]),
        ("/streamgen/*/mute", []),
        ("/streamgen", []),
        ("*", []),
        ("/streamgen/[a-", None),
        ("/streamgen/{a,b", None),
        ("/streamgen/a]", None),
        ("/streamgen/" + "?" * MAX_PATTERN, None),
    ],
)
def test_what_a_pattern_means(pattern: str, found: list[str] | None) -> None:
    book = AddressBook(NAMES)
    if found is None:
        with pytest.raises(OscError) as caught:
            book.match(pattern)
        assert caught.value.reason == "pattern"
    else:
        assert book.match(pattern) == [f"/streamgen/{name}" for name in found]


def test_random_patterns_against_the_slow_way() -> None:
    rng = random.Random(4)
    pieces = ["a", "b", "c", "*", "?", "[ab]", "[!a]", "[a-c]", "{a,bc}", "{,ab}", "**"]
    hits = 0
    for _ in range(3000):
        pattern = "".join(rng.choices(pieces, k=rng.randint(0, 5)))
        text = "".join(rng.choices("abc", k=rng.randint(0, 5)))
        expected = slow(pattern, text)
        assert bool(AddressBook([text]).match(pattern)) == expected, (pattern, text)
        hits += expected
    assert 300 < hits < 2700


def test_which_addresses_are_patterns() -> None:
    assert not any(map(is_pattern, NAMES))
    assert all(map(is_pattern, ["/a*", "/a?", "/[ab]", "/{a}", "/}"]))


def fastest_ms(pattern: str) -> float:
    book = AddressBook(NAMES)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        book.match(pattern)
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


def test_two_stars_more_take_python_osc_many_times_as_long() -> None:
    theirs = Dispatcher()
    for name in NAMES:
        theirs.map(name, print)

    def seconds(stars: int) -> float:
        times = []
        for _ in range(3):
            began = time.perf_counter()
            assert list(theirs.handlers_for_address("/streamgen/" + "*" * stars + "!")) == []
            times.append(time.perf_counter() - began)
        return min(times)

    assert seconds(7) > 5 * seconds(5)


def test_the_fourteen_stars_cost_under_a_millisecond() -> None:
    assert fastest_ms("/streamgen/" + "*" * 14 + "!") < 1


@pytest.mark.parametrize(
    "pattern",
    [
        "/streamgen/" + "*a" * 58,
        "/streamgen/*" + "?" * 100 + "*!",
        "/streamgen/" + "{," + "a," * 55 + "}*!",
        "/streamgen/" + "*{t,e,m,p}" * 11,
        "/streamgen/" + "[!x]*" * 23,
    ],
)
def test_the_worst_patterns_cost_a_few_milliseconds(pattern: str) -> None:
    assert fastest_ms(pattern) < 8
