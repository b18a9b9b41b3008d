"""OSC address patterns, in linear time. Sans-I/O.

Rules: no regular expressions, which python-osc makes of a pattern: a few stars in one datagram hold it for seconds.
Each token of a pattern moves a set of positions in the name, kept as the bits of one integer; so a pattern costs its
length times the number of different name parts, whatever it says.

    ?  any character      *  any number of them      [a-z] [!abc]  one of, none of      {one,two}  either
None of them crosses a slash.  Source: Open Sound Control 1.0, "OSC Message Dispatching and Pattern Matching".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from bridge.doors.osc.codec import OscError

__all__ = ["MAX_PATTERN", "AddressBook", "is_pattern"]

MAX_PATTERN = 128
_SPECIAL = frozenset("?*[]{}")

_Step = Callable[[str, int], int]  # (name part, reachable positions as bits) → positions reachable after the token


def is_pattern(address: str) -> bool:
    """Tell whether an address holds a character that only patterns have."""
    return not _SPECIAL.isdisjoint(address)


class AddressBook:
    """The addresses there are, and which of them a pattern means."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._parts = {address: address.split("/") for address in addresses}

    def match(self, pattern: str) -> list[str]:
        """Return the addresses that a pattern means, in the book's order; maybe none.

        Raises:
            OscError: the pattern is too long, or a bracket is not closed.
        """
        if len(pattern) > MAX_PATTERN:
            raise OscError(f"a pattern has {len(pattern)} characters, the limit is {MAX_PATTERN}", "pattern")
        steps = [_compiled(part) for part in pattern.split("/")]
        known: list[dict[str, bool]] = [{} for _ in steps]
        return [address for address, parts in self._parts.items() if _all_match(steps, parts, known)]


def _all_match(steps: list[list[_Step]], parts: list[str], known: list[dict[str, bool]]) -> bool:
    if len(steps) != len(parts):
        return False
    for step, part, seen in zip(steps, parts, known, strict=True):
        if part not in seen:
            seen[part] = _matches(step, part)
        if not seen[part]:
            return False
    return True


def _matches(steps: list[_Step], text: str) -> bool:
    positions = 1
    for step in steps:
        positions = step(text, positions)
        if not positions:
            return False
    return bool(positions >> len(text) & 1)


def _compiled(part: str) -> list[_Step]:
    steps: list[_Step] = []
    at = 0
    while at < len(part):
        step, at = _token(part, at)
        if step is not _star or steps[-1:] != [_star]:  # two stars in a row mean one
            steps.append(step)
    return steps


def _token(part: str, at: int) -> tuple[_Step, int]:
    mark = part[at]
    if mark == "*":
        return _star, at + 1
    if mark == "?":
        return _any, at + 1
    if mark == "[":
        inside, end = _inside(part, at, "]")
        return _one_of(inside), end
    if mark == "{":
        inside, end = _inside(part, at, "}")
        return _either(inside.split(",")), end
    if mark in "]}":
        raise OscError(f"a pattern closes {mark} that it never opened", "pattern")
    return _either([mark]), at + 1


def _inside(part: str, at: int, close: str) -> tuple[str, int]:
    end = part.find(close, at + 1)
    if end < 0:
        raise OscError(f"a pattern opens {part[at]} and never closes it", "pattern")
    return part[at + 1 : end], end + 1


def _star(text: str, positions: int) -> int:
    lowest = positions & -positions
    return (2 << len(text)) - lowest  # from the lowest position on, all


def _any(text: str, positions: int) -> int:
    return positions << 1 & (2 << len(text)) - 1


def _one_of(inside: str) -> _Step:
    refuse = inside.startswith("!")
    wanted = _spelled_out(inside[1:] if refuse else inside)

    def step(text: str, positions: int) -> int:
        allowed = sum(1 << at for at, letter in enumerate(text) if (letter in wanted) != refuse)
        return (positions & allowed) << 1

    return step


def _spelled_out(letters: str) -> frozenset[str]:
    out, at = set[str](), 0
    while at < len(letters):
        last = letters[at + 2 : at + 3] if letters[at + 1 : at + 2] == "-" else ""
        if last:  # a range may span Unicode; addresses are ASCII
            out.update(map(chr, range(ord(letters[at]), min(ord(last), 127) + 1)))
        else:
            out.add(letters[at])
        at += 3 if last else 1
    return frozenset(out)


def _either(words: list[str]) -> _Step:
    def step(text: str, positions: int) -> int:
        reached = 0
        for word in words:
            reached |= (positions & _occurrences(text, word)) << len(word)
        return reached

    return step


@lru_cache(maxsize=4096)
def _occurrences(text: str, word: str) -> int:
    """Return the positions in `text` at which `word` begins, as bits."""
    return sum(1 << at for at in range(len(text) - len(word) + 1) if text.startswith(word, at))
