"""A checkpoint's words: which of people's mean which of its own, as `prompt_words.json` beside the weights says it.

Rules: pure, no torch. Phrases are compared without case, accents and punctuation. What a whole prompt means is said in
`words.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from streamgen.checkpoint.files import read_json
from streamgen.checkpoint.spelling import Phrase, Spelling
from streamgen.checkpoint.words_file import check_words
from streamgen.errors import CheckpointError

__all__ = [
    "ANY_MODELS_PROMPTS",
    "WORDS_FILE",
    "Meaning",
    "StyleWords",
    "Vocabulary",
    "parted",
    "read_vocabulary",
    "suggested",
    "vocabulary",
    "words_of",
]

WORDS_FILE = "prompt_words.json"
ANY_MODELS_PROMPTS = (  # of those that read prompts as they are typed
    "lofi hip hop with a mellow electric piano", "orchestral, sweeping strings and french horns",
    "drum and bass with deep sub bass, 170 bpm", "acoustic folk, fingerpicked guitar",
    "80s synthwave, arpeggios, gated drums", "ambient drone, warm pads, slow", "punchy techno, 128 bpm",
    "funk with slap bass and brass",
)  # fmt: skip


_SHORTENED = (
    (r"n['’]t\b", "nt"),
    (r"\bw/o(?:ut)?\b", "without"),
    (r"\bw/", "with "),
    (r"\b(drum|beat|bass|guitar|piano|vocal)-?less\b", r"without \1"),
    (r"(?:^|(?<=\s))-(?=[^\W\d])", "minus "),
)
_ACCENTS = re.compile("(?<=[a-z])[\u0300-\u036f]+")  # of Latin letters: a Russian й is no и
_MOST_CHARACTERS = 8  # of a known word that is written with others as one
_DIVIDER = re.compile(r"[,;:.!?()/|+、。]+")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")  # kana, Chinese characters, Hangul
_WORD = re.compile(r"[ァ-ヺー]+|(?:(?![ァ-ヺー_])\w)+|[^\w\s]")

_MISSPELT = ("style", "instrument", "tempo", "change")  # kinds: of moods there are too many real words beside them


@dataclass(frozen=True)
class StyleWords:
    """One style and what goes with it.

    Attributes:
        say: how the model is told.
        tempo_bpm, key: where the prompt names none.
        parts: the instruments of each role; the first is the usual one.
        moods: words that may be said of it.
        loudness_db: by how much it is louder than the mean of all styles, under "", and by how much more with an
            instrument, a tempo and a tonic.
    """

    say: str
    tempo_bpm: int
    key: str
    parts: tuple[tuple[str, ...], ...]
    moods: tuple[str, ...]
    loudness_db: Mapping[str, float]


@dataclass(frozen=True)
class Meaning:
    """What a phrase stands for: a style, a hint at one, an instrument, a tempo, a mood, or nothing ("small").

    "inner" is an instrument within a longer phrase: in "bass guitar" a reggae band finds its bass and its guitar.
    "change" is "faster" or "slower" than the style usually is, "mode" is major or minor without a tonic.
    "without" takes back what follows, as a "join" then does ("no drums and bass"), "without_before" what it follows, as
    Japanese says it. "never" is what it never plays.

    `nearest`: it is none ("saxophone"), and this is the nearest there is ("brass").
    """

    kind: str
    value: str
    nearest: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """A checkpoint's words."""

    styles: dict[str, StyleWords]
    default_style: str
    style_of_instrument: dict[str, str | None]  # None: nearly every style has it
    stand_ins: dict[str, dict[str, str]]  # for an unwanted instrument, of each style that always has it, another
    bar_frames: dict[int, int]  # of each tempo it has, in bpm
    tonics: tuple[str, ...]
    lexicon: dict[Phrase, tuple[Meaning, ...]]
    spelling: Spelling  # which of them a word that means nothing may be


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The words that lie beside a checkpoint's weights, or None where there are none.

    Raises:
        CheckpointError: the file is damaged, or names what is not there.
    """
    path = folder / WORDS_FILE
    if not path.is_file():
        return None
    data = read_json(path)
    try:
        check_words(data)
    except ValueError as error:
        raise CheckpointError(f"{path} is no list of words: {error}; correct it, or move it away") from None
    return vocabulary(data)


def vocabulary(data: dict[str, Any]) -> Vocabulary:
    """Turn the file's data into something to look phrases up in."""
    lexicon = _lexicon(data)
    return Vocabulary(
        styles={name: _style(style) for name, style in data["styles"].items()},
        default_style=data["default_style"],
        style_of_instrument={name: entry["style"] for name, entry in data["instruments"].items()},
        stand_ins=data.get("stand_ins", {}),
        bar_frames={int(bpm): int(frames) for bpm, frames in data["bar_frames"].items()},
        tonics=tuple(data["tonics"]),
        lexicon=lexicon,
        spelling=_spelling(lexicon, data.get("as_typed", ())),
    )


def _style(said: dict[str, Any]) -> StyleWords:
    parts, moods = tuple(map(tuple, said["parts"])), tuple(said["moods"])
    return StyleWords(said["say"], said["tempo_bpm"], said["key"], parts, moods, said.get("loudness_db", {}))


def _lexicon(data: dict[str, Any]) -> dict[Phrase, tuple[Meaning, ...]]:
    found: dict[Phrase, tuple[Meaning, ...]] = {}
    nearest = {tuple(words_of(phrase)) for phrase in data.get("nearest", ())}
    for kind, value, phrases in _entries(data):
        for phrase in phrases:
            words = tuple(words_of(phrase))
            found[words] = (*found.get(words, ()), Meaning(kind, value, words in nearest))
    return found


def _spelling(lexicon: dict[Phrase, tuple[Meaning, ...]], as_typed: Iterable[str]) -> Spelling:
    senses = {phrase: frozenset(one for one in found if one.kind in _MISSPELT) for phrase, found in lexicon.items()}
    known = {word for phrase in lexicon for word in phrase}
    return Spelling({phrase: sense for phrase, sense in senses.items() if sense}, known.union(as_typed))


def _entries(data: dict[str, Any]) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Kind, value and phrases of everything in the file."""
    for name, style in data["styles"].items():
        yield "style", name, style["phrases"]
        for mood in style["moods"]:
            yield "mood", mood, (mood,)
    for name, phrases in data["hints"].items():
        yield "hint", name, phrases
    for name, entry in data["instruments"].items():
        yield "instrument", name, (name, *entry["phrases"])
    for bpm, phrases in data["tempi"].items():
        yield "tempo", bpm, phrases
    for kind, entry in (("change", "tempo_changes"), ("mode", "modes")):
        for value, phrases in data.get(entry, {}).items():
            yield kind, value, phrases
    for kind, entry in (("small", "small_words"), ("join", "joins")):
        yield kind, "", data.get(entry, ())
    for kind in ("without", "without_before", "never"):
        yield kind, "", data.get(kind, ())


def words_of(text: str) -> list[str]:
    """Lower-case words without accents and marks; a comma, which no phrase crosses, stands for all that divide.

    Scripts without spaces are parted where katakana begins or ends. A symbol (♪, an emoji) is a word.
    """
    plain = unicodedata.normalize("NFKD", text.lower().replace("&", " and ").replace("ß", "ss"))
    bare = _ACCENTS.sub("", plain)
    for shortened, whole in _SHORTENED:
        bare = re.sub(shortened, whole, bare)
    said = _WORD.findall(_DIVIDER.sub(",", unicodedata.normalize("NFC", bare)))
    return [word for word in said if word == "," or word.isalnum() or unicodedata.category(word[0]) == "So"]


def parted(word: str, known: Container[str]) -> list[str]:
    """The known words that a word is made of, in scripts that write several as one: 安静的钢琴 is 安静, 的, 钢琴.

    Nothing but known words, as few as can be; else those of two characters or more, and what is left between them: of
    one character, most are in words that mean something else.
    """
    if word in known or not _UNSPACED.fullmatch(word):
        return [word]
    least = [0, *[len(word) + 1] * len(word)]  # pieces up to here
    begins = [0] * (len(word) + 1)  # of the last one
    for end in range(1, len(word) + 1):
        for at in range(max(0, end - _MOST_CHARACTERS), end):
            if word[at:end] in known and least[at] + 1 < least[end]:
                least[end], begins[end] = least[at] + 1, at
    if least[-1] > len(word):
        return _known_within(word, known)
    ends = [len(word)]
    while ends[-1]:
        ends.append(begins[ends[-1]])
    return [word[at:end] for at, end in pairwise(reversed(ends))]


def _known_within(word: str, known: Container[str]) -> list[str]:
    """From left to right the longest known words of two characters or more, and what lies between them."""
    found, at, left = list[str](), 0, 0  # left: where what is not known begins
    while at < len(word):
        length = next((n for n in range(min(_MOST_CHARACTERS, len(word) - at), 1, -1) if word[at : at + n] in known), 0)
        if length:
            found += [word[left:at], word[at : at + length]]
            left = at + length
        at += length or 1
    return [piece for piece in (*found, word[left:]) if piece]


def suggested(words: Vocabulary | None) -> tuple[str, ...]:
    """Prompts to begin with: of each style its name and what leads in it; any model's where there are no words."""
    if words is None:
        return ANY_MODELS_PROMPTS
    return tuple(
        style.say if style.parts[-1][0] in style.say else f"{style.say}, {style.parts[-1][0]}"
        for style in words.styles.values()
    )
