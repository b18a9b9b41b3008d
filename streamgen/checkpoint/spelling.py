"""Slips of the keyboard and words spelled by ear: which of a checkpoint's words a word that means nothing may be.

    "techo" ─ a letter is missing ─► techno        "drumandbass" ─ written as one ─► drum and bass
    "horse" ─ another consonant   ─► no slip: it is a word of its own more often than not

No dictionary says here which words exist, but for a few that lie near known ones. So a slip keeps the first letter, and
the less of a word is left as it was the longer that word has to be; what it may stand for names a style, an instrument
or a tempo, never a mood.

Rules: pure; knows words and phrases, and of what they mean only whether two mean the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from itertools import groupby

__all__ = ["Spelling"]

_VOWELS = "aeiouy"
_LEAST_TYPED = 4  # letters
# The letters that a word needs for each slip to be one; pocket's card counts what they cost
_LEAST_SWAPPED, _LEAST_DOUBLED, _LEAST_MISSING, _LEAST_VOWEL = 4, 5, 6, 7
_LEAST_LAST_MISSING, _LEAST_ADDED, _LEAST_BY_EAR, _LEAST_CONSONANT = 8, 8, 8, 9

Phrase = tuple[str, ...]


class Spelling:
    """What may have been meant.

    Args:
        meant: the phrases that a slip may stand for, and what each means.
        known: the words that are read as they stand.

    Attributes:
        known: the same.
    """

    def __init__(self, meant: Mapping[Phrase, Hashable], known: Iterable[str]) -> None:
        self.known = frozenset(known)
        self._meaning: dict[Phrase, Hashable] = {phrase: sense for phrase, sense in meant.items() if _plain(phrase)}
        self._wholes = defaultdict[str, list[tuple[str, Phrase]]](list)  # by their first letter: as one word
        self._parts = defaultdict[str, list[tuple[str, int, Phrase]]](list)  # a word, and its place in a longer phrase
        for phrase in self._meaning:
            one = "".join(phrase)
            self._wholes[one[0]].append((one, phrase))
            for place, word in enumerate(phrase if len(phrase) > 1 else ()):
                self._parts[word[0]].append((word, place, phrase))

    def mended(self, said: list[str]) -> list[tuple[str, Phrase]]:
        """Each word as it was typed, and the words that it is taken for: itself, where there is no slip."""
        taken: list[tuple[str, Phrase]] = [(word, (word,)) for word in said]
        wholes = dict[str, Phrase | None]()
        for at, word in enumerate(said):
            if not (word.isascii() and word.isalpha()) or word in self.known or word.removesuffix("s") in self.known:
                continue
            if word not in wholes:
                wholes[word] = self._whole(word) or self._whole(word.removesuffix("s"))
            taken[at] = (word, wholes[word] or self._part(word, said[:at], said[at + 1 :]) or (word,))
        return taken

    def _whole(self, word: str) -> Phrase | None:
        """The one phrase, or the first of several of one meaning, that a word is a slip of."""
        near = [(slips, phrase) for one, phrase in self._wholes[word[0]] if (slips := _slips(word, one)) is not None]
        fewest = min((slips for slips, _ in near), default=0)
        nearest = [phrase for slips, phrase in near if slips == fewest]
        return nearest[0] if nearest and len({self._meaning[phrase] for phrase in nearest}) == 1 else None

    def _part(self, word: str, before: list[str], after: list[str]) -> Phrase | None:
        """The word that makes a known phrase of those beside it: "electrc guitar"."""
        for one, place, phrase in self._parts[word[0]]:
            beside = (phrase[:place], phrase[place + 1 :])
            if beside == (tuple(before[len(before) - place :]), tuple(after[: len(beside[1])])) and _slips(word, one):
                return (one,)
        return None


def _plain(phrase: Phrase) -> bool:
    """Whether a phrase is written in letters that a keyboard's slips are known of."""
    return all(word.isascii() and word.isalnum() for word in phrase) and "".join(phrase).isalpha()


def _slips(typed: str, known: str) -> int | None:
    """How many slips lie between a word and a known one, 0 … 2; None: it is another word."""
    if typed == known:
        return 0
    if typed[0] != known[0] or len(typed) < _LEAST_TYPED or abs(len(typed) - len(known)) > 2:
        return None
    one, other = _undoubled(typed), _undoubled(known)
    if one == other:
        return 1 if len(typed) >= _LEAST_DOUBLED else None
    if len(known) >= _least(typed, known):
        return 1
    apart = [(a, b) for a, b in zip(one, other, strict=False) if a != b]
    by_ear = len(one) == len(other) and len(apart) <= 2 and all(a in _VOWELS and b in _VOWELS for a, b in apart)
    return 2 if by_ear and len(known) >= _LEAST_BY_EAR else None


def _least(typed: str, known: str) -> float:
    """The letters that a word needs for this to be one slip of it."""
    never = float("inf")
    head = next(
        (at for at, (a, b) in enumerate(zip(typed, known, strict=False)) if a != b), min(len(typed), len(known))
    )
    typed, known = typed[head:], known[head:]
    if typed == known[1:]:
        return _LEAST_MISSING if typed else _LEAST_LAST_MISSING
    if typed[1:] == known:
        return _LEAST_ADDED if known else never  # "moderated" is a word
    if typed[2:] == known[2:] and typed[:2] == known[1::-1]:
        return _LEAST_SWAPPED
    if typed[1:] != known[1:] or not typed[1:]:  # of two words the last letter differs more often than not
        return never
    return _LEAST_VOWEL if typed[0] in _VOWELS and known[0] in _VOWELS else _LEAST_CONSONANT


def _undoubled(word: str) -> str:
    return "".join(letter for letter, _ in groupby(word))
