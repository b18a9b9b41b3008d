"""What a checkpoint hears in a free prompt: any words in, the words it was trained on out, and both told.

A small checkpoint knows a few hundred words. Which words of people mean which of its own is data that lies beside the
weights (`prompt_words.json`), so that another checkpoint brings its own, or none: its prompts are then read as typed.

Rules: pure, no torch. Phrases are compared without case, accents and punctuation, the longest first.

    "relaxing music with organ, no drums, 60bpm, shimmering"
     └ hints at ambient                   └ the nearest tempo it has is 94
    is given to the model as "ambient, warm pad, harp, 94 bpm, in A minor"; "shimmering" was not understood
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from streamgen.checkpoint.files import read_json
from streamgen.errors import CheckpointError

__all__ = [
    "ANY_MODELS_PROMPTS",
    "SEMITONES",
    "WORDS_FILE",
    "Heard",
    "Vocabulary",
    "hear",
    "read_vocabulary",
    "suggested",
    "vocabulary",
]

WORDS_FILE = "prompt_words.json"
LONGEST_PHRASE = 5
SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11, "h": 11}  # h: b in German
TEMPO = re.compile(
    r"(?:\b(?:tempo|at)\s+)?(?<![\d.#])(\d{2,3})(?:\.\d+)?\s*(?:bpm|beats per minute)\b|\b(?:tempo|at)\s+(\d{2,3})\b"
)
BARE_TEMPO = re.compile(r"(?<![\d.#-])([6-9]\d|1\d\d)(?![\d.a-z-])")
KEY = re.compile(r"\b([a-h])(?:\s*(#|♯|b|♭|sharp|flat|is)\b|([#♯♭]))?[\s-]*(?:major|minor|maj|min|dur|moll)\b")
SHORT_KEY = re.compile(r"\b([A-G])()([#♯b♭]?)m\b")

ANY_MODELS_PROMPTS = (  # of those that read prompts as they are typed
    "lofi hip hop with a mellow electric piano", "orchestral, sweeping strings and french horns",
    "drum and bass with deep sub bass, 170 bpm", "acoustic folk, fingerpicked guitar",
    "80s synthwave, arpeggios, gated drums", "ambient drone, warm pads, slow", "punchy techno, 128 bpm",
    "funk with slap bass and brass",
)  # fmt: skip

Phrase = tuple[str, ...]


@dataclass(frozen=True)
class StyleWords:
    """One style and what goes with it.

    Attributes:
        say: how the model is told.
        tempo_bpm, key: where the prompt names none.
        parts: the instruments of each role; the first is the usual one.
        moods: words that may be said of it.
    """

    say: str
    tempo_bpm: int
    key: str
    parts: tuple[tuple[str, ...], ...]
    moods: tuple[str, ...]


@dataclass(frozen=True)
class Meaning:
    """What a phrase stands for: a style, a hint at one, an instrument, a tempo, a mood, or nothing ("small").

    "inner" is an instrument within a longer phrase: in "bass guitar" a reggae band finds its bass and its guitar.
    """

    kind: str
    value: str


@dataclass(frozen=True)
class Vocabulary:
    """A checkpoint's words."""

    styles: dict[str, StyleWords]
    default_style: str
    style_of_instrument: dict[str, str | None]  # None: nearly every style has it
    bar_frames: dict[int, int]  # of each tempo it has, in bpm
    tonics: tuple[str, ...]
    without: frozenset[str]
    lexicon: dict[Phrase, tuple[Meaning, ...]]


@dataclass(frozen=True)
class Heard:
    """What was heard in a prompt.

    Attributes:
        prompt: what the model is given.
        style, instruments, tempo_bpm, key, moods: the same, one by one.
        unheard: the words that meant nothing.
        bar_frames: code frames of a bar at that tempo.
    """

    prompt: str
    style: str
    instruments: tuple[str, ...]
    tempo_bpm: int
    key: str
    moods: tuple[str, ...]
    unheard: tuple[str, ...]
    bar_frames: int

    def told(self) -> str:
        """One line for the person who typed it."""
        return f"{self.prompt}; not understood: {' '.join(self.unheard)}" if self.unheard else self.prompt


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The words that lie beside a checkpoint's weights, or None where there are none.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / WORDS_FILE
    if not path.is_file():
        return None
    try:
        return vocabulary(read_json(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is no list of words ({error!r:.80}); correct it, or move it away") from None


def vocabulary(data: dict[str, Any]) -> Vocabulary:
    """Turn the file's data into something to look phrases up in."""
    styles = {
        name: StyleWords(s["say"], s["tempo_bpm"], s["key"], tuple(map(tuple, s["parts"])), tuple(s["moods"]))
        for name, s in data["styles"].items()
    }
    return Vocabulary(
        styles=styles,
        default_style=data["default_style"],
        style_of_instrument={name: entry["style"] for name, entry in data["instruments"].items()},
        bar_frames={int(bpm): int(frames) for bpm, frames in data["bar_frames"].items()},
        tonics=tuple(data["tonics"]),
        without=frozenset(data["without"]),
        lexicon=_lexicon(data),
    )


def _lexicon(data: dict[str, Any]) -> dict[Phrase, tuple[Meaning, ...]]:
    found: dict[Phrase, tuple[Meaning, ...]] = {}
    for kind, value, phrases in _entries(data):
        for phrase in phrases:
            words = tuple(words_of(phrase))
            found[words] = (*found.get(words, ()), Meaning(kind, value))
    return found


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
    yield "small", "", data["small_words"]


def words_of(text: str) -> list[str]:
    """Lower-case words without accents and marks; a comma, which no phrase crosses, stands for all that divide."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("&", " and ").replace("ß", "ss"))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.findall(r"[a-z0-9]+|,", re.sub(r"[,;:.!?()/|]+", ",", letters))


def suggested(words: Vocabulary | None) -> tuple[str, ...]:
    """Prompts to begin with: of each style its name and what leads in it; any model's where there are no words."""
    if words is None:
        return ANY_MODELS_PROMPTS
    return tuple(
        style.say if style.parts[-1][0] in style.say else f"{style.say}, {style.parts[-1][0]}"
        for style in words.styles.values()
    )


@dataclass(frozen=True)
class _ParsedPrompt:
    """Everything a prompt says, in its order; `absent` are instruments it does not want."""

    meanings: tuple[Meaning, ...]
    absent: frozenset[str]
    unheard: tuple[str, ...]

    def values(self, kind: str) -> list[str]:
        return [meaning.value for meaning in self.meanings if meaning.kind == kind]


def hear(text: str, words: Vocabulary) -> Heard:
    """Find a checkpoint's words in a prompt; what it does not say is filled in from its style."""
    tempo_bpm, rest = _tempo(text, words)
    tonic, rest = _tonic(rest, words)
    found = _look_up(words_of(rest), words)
    name = _style(found, words)
    style = words.styles[name]
    if tempo_bpm is None:
        tempo_bpm = next((int(bpm) for bpm in found.values("tempo")), style.tempo_bpm)
    usual_tonic, mode = style.key.split()
    key = f"{tonic or usual_tonic} {mode}"
    instruments = _instruments(style, found)
    moods = tuple(mood for mood in dict.fromkeys(found.values("mood")) if mood in style.moods)
    prompt = ", ".join([style.say, *instruments, f"{tempo_bpm} bpm", f"in {key}", *moods])
    return Heard(prompt, name, instruments, tempo_bpm, key, moods, found.unheard, words.bar_frames[tempo_bpm])


def _tempo(text: str, words: Vocabulary) -> tuple[int | None, str]:
    """The nearest tempo there is to the one named in numbers, and the prompt without it."""
    low = text.lower()
    match = TEMPO.search(low) or BARE_TEMPO.search(low)
    if match is None or not (asked := int(next(group for group in match.groups() if group))):
        return None, text
    nearest = min(words.bar_frames, key=lambda bpm: abs(log(bpm / asked)))
    return nearest, text[: match.start()] + " " + text[match.end() :]


def _tonic(text: str, words: Vocabulary) -> tuple[str | None, str]:
    """The nearest tonic there is to the one named, and the prompt without it; its mode is the style's to say."""
    match = KEY.search(text.lower()) or SHORT_KEY.search(text)
    if match is None:
        return None, text
    letter, sign = match.group(1).lower(), (match.group(2) or match.group(3) or "")
    shift = -1 if sign in ("b", "♭", "flat") else bool(sign)
    asked = SEMITONES[letter] + shift
    nearest = min(words.tonics, key=lambda tonic: _apart(SEMITONES[tonic.lower()], asked))
    return nearest, text[: match.start()] + " " + text[match.end() :]


def _apart(one: int, two: int) -> int:
    """Semitones between two pitch classes, the shorter way round."""
    return min((one - two) % 12, (two - one) % 12)


def _look_up(said: list[str], words: Vocabulary) -> _ParsedPrompt:
    meanings, absent, unheard = list[Meaning](), set[str](), list[str]()
    at, denied = 0, False
    while at < len(said):
        length, found = _longest(said[at:], words)
        if said[at] == ",":
            denied = False
        elif not length and said[at] in words.without:
            denied = True
        elif not length:
            unheard.append(said[at])
        elif denied and any(meaning.kind != "small" for meaning in found):
            absent.update(meaning.value for meaning in found if meaning.kind == "instrument")
            denied = False
        else:
            meanings += [*found, *_inner(said[at : at + length], words)]
        at += max(1, length)
    return _ParsedPrompt(tuple(meanings), frozenset(absent), tuple(unheard))


def _longest(said: list[str], words: Vocabulary) -> tuple[int, tuple[Meaning, ...]]:
    """The longest phrase that begins here, in words, and what it means; its last word may be a plural."""
    for length in range(min(LONGEST_PHRASE, len(said)), 0, -1):
        phrase = tuple(said[:length])
        for form in (phrase, (*phrase[:-1], phrase[-1].removesuffix("s"))):
            if form in words.lexicon:
                return length, words.lexicon[form]
    return 0, ()


def _inner(phrase: list[str], words: Vocabulary) -> list[Meaning]:
    """The instruments that parts of a phrase name."""
    places = [(at, end) for at in range(len(phrase)) for end in range(at + 1, len(phrase) + 1)]
    named = [words.lexicon.get(tuple(phrase[at:end]), ()) for at, end in places if end - at < len(phrase)]
    return [Meaning("inner", meaning.value) for found in named for meaning in found if meaning.kind == "instrument"]


def _style(found: _ParsedPrompt, words: Vocabulary) -> str:
    """The first style named; else the one most hinted at; else the one whose instruments are asked for."""
    if named := found.values("style"):
        return named[0]
    votes: Counter[str] = Counter(found.values("hint"))
    if not votes:
        styles = [words.style_of_instrument[name] for name in found.values("instrument")]
        votes.update(style for style in styles if style is not None)
    return votes.most_common(1)[0][0] if votes else words.default_style


def _instruments(style: StyleWords, found: _ParsedPrompt) -> tuple[str, ...]:
    """One instrument for each role: the one asked for, or else the usual; without those unwanted, but never nothing."""
    asked = {*found.values("instrument"), *found.values("inner")}
    chosen = [next((name for name in part if name in asked), part[0]) for part in style.parts]
    wanted = [name for name in dict.fromkeys(chosen) if name not in found.absent]
    return tuple(wanted or chosen[-1:])
