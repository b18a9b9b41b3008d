"""The tempo and the key that a prompt names: numbers and note names out of free text, as people of six languages spell.

    "techno, 120-130 bpm, in Es-Dur" ─► 125 bpm ─► E flat, major ─► "techno,  , in  "

Rules: pure, no torch, no vocabulary. What a checkpoint makes of a tempo or key that it does not have is not said here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["SEMITONES", "AskedKey", "AskedTempo", "asked_key", "asked_tempo"]

SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11, "h": 11}  # h: b in German
_SOLFEGE = {"do": 0, "ut": 0, "re": 2, "ré": 2, "mi": 4, "fa": 5, "sol": 7, "la": 9, "si": 11}
_B_FLAT = 10

_NO_COUNT = r"(?!\s*(?:[ap]\.?m\b|o['’ ]?clock|uhr\b|h\b|secs?\b|seconds?\b|min\b|minutes?\b|hours?\b|years?\b|%))"
_TEMPO = re.compile(
    r"(?:\b(?:tempo|at|around|about)\s+|~\s*)?"
    r"(?<![\d#])(?<!\d[.,e])(?<!^-)(?<![\s,]-)"  # no end of a longer number, none below zero
    r"(?:(\d{2,3})\s*(?:-|–|to|bis)\s*)?(\d{2,3}(?:[.,]\d+)?)(?:\s*-?ish)?\s*(?:bpm|beats per minute)(?:-?ish)?\b"
    r"|(?:\b(?:tempo|bpm)\b\s*[:=]?|(?:\b(?:quarter|crotchet)(?:\s+note)?|♩)\s*=)\s*()(\d{2,3})\b(?:\s*bpm\b)?"
    r"|\bat\s+()(\d{2,3})\b" + _NO_COUNT  # "at 10 pm" is a time
)
_BARE_TEMPO = re.compile(  # what is numbered, as roads and works are, or counted, has no tempo
    r"(?<![\d.#-])(?<!\bop )(?<!\bop\. )(?<!\bopus )(?<!\bno )(?<!\bno\. )(?<!\broute )()([6-9]\d|1\d\d)(?![\d.a-z-])"
    + _NO_COUNT
)

_MODE = r"(?P<mode>major|minor|maj|min|dur|moll)\b"
_KEY = re.compile(
    r"\b(?P<note>[a-h])(?:(?:\s*|[\s-]*(?=sharp|flat))(?P<sign>b|sharp|flat|is|es|s)\b|\s*(?P<mark>##?|♯|♭♭?))?"
    r"[\s-]*" + _MODE
)
_SOLFEGE_KEY = re.compile(
    r"\b(?P<note>do|ut|r[eé]|mi|fa|sol|la|si)"
    r"(?:\s*(?P<sign>b[eé]mol(?:le)?|di[eè]se|diesis|sostenido|sustenido)\b|(?P<mark>[#♯♭]))?"
    r"\s+(?P<mode>majeur|mineur|mayor|menor|maggiore|minore|maior)\b"
)
_SHORT_KEY = re.compile(r"\b(?P<note>[A-G])(?P<mark>[#♯b♭]?)(?P<mode>m)\b")
# "in A" and "in g" need an end: "in A smoky bar" is no key
_KEY_ALONE = re.compile(
    r"\b(?:[Ii]n|[Kk]ey of)\s+(?:(?P<note>[B-G])(?P<mark>[#♯b♭]|[\s-]+(?:sharp|flat)\b)?(?![\w#♯♭'’])"
    r"|(?P<a>[Aa-g])(?P<a_mark>[#♯b♭]|[\s-]+(?:sharp|flat)\b)?(?=\s*(?:[,.;)]|$)))"
)
# "F# dorian", "D Lydian": the mode stays in the prompt; "A lydian piece" is no key
_MODAL_KEY = re.compile(
    r"\b(?P<note>[A-G])(?P<mark>[#♯b♭]|(?<!A))\s+"
    r"(?=(?:[Dd]orian|[Pp]hrygian|[Ll]ydian|[Mm]ixolydian|[Ll]ocrian|[Aa]eolian|[Ii]onian|[Hh]armonic|[Mm]elodic)\b)"
)
_ARTICLE = re.compile(r"a (?:major|minor) (?:key|mode)\b")  # "in a minor key"
_MINOR = ("minor", "min", "moll", "mineur", "menor", "minore", "m")
_LOWER = ("b", "bb", "♭", "flat", "es", "s", "bemol", "bémol", "bemolle")


@dataclass(frozen=True)
class AskedTempo:
    """A tempo in numbers as it was asked for.

    Attributes:
        bpm: what to play, of a range its middle.
        written: its number, or both ends of its range, in bpm.
        begin: where it stood in the prompt.
    """

    bpm: float
    written: str
    begin: int = field(default=0, compare=False)


@dataclass(frozen=True)
class AskedKey:
    """A key as it was asked for.

    Attributes:
        semitone: of its tonic, above C.
        mode: "major" or "minor"; "" where it was not said.
        written: as it stood in the prompt.
    """

    semitone: int
    mode: str
    written: str


def asked_tempo(text: str) -> tuple[AskedTempo | None, str]:
    """The tempo that a prompt names in numbers, and the prompt without it."""
    low = _lower(text)
    match = _TEMPO.search(low) or _BARE_TEMPO.search(low)
    if match is None:
        return None, text
    named = [float(group.replace(",", ".")) for group in match.groups() if group]
    if not any(named):
        return None, text
    written = " to ".join(f"{bpm:g}" for bpm in named) + " bpm"
    return AskedTempo(sum(named) / len(named), written, match.start()), _without(text, match)


def asked_key(text: str) -> tuple[AskedKey | None, str]:
    """The key that a prompt names, and the prompt without it."""
    low = _lower(text)
    match = _KEY.search(low) or _SOLFEGE_KEY.search(low) or _SHORT_KEY.search(text)
    match = match or _MODAL_KEY.search(text) or _KEY_ALONE.search(text)
    if match is None or _ARTICLE.match(text, match.start()):
        return None, text
    found = match.groupdict()
    note = (found["note"] or found["a"]).lower()
    sign = (found.get("sign") or found["mark"] or found.get("a_mark") or "").strip(" -")
    semitone = SEMITONES[note] if note in SEMITONES else _SOLFEGE[note]
    mode = found.get("mode") or ""
    if note == "b" and not sign and mode in ("dur", "moll"):
        semitone = _B_FLAT  # in German
    shift = 0 if not sign else -1 if sign in _LOWER else len(sign) if sign == "##" else -2 if sign == "♭♭" else 1
    named = "" if not mode else "minor" if mode in _MINOR else "major"
    written = text[match.start() : match.end()].strip()
    return AskedKey((semitone + shift) % 12, named, written), _without(text, match)


def _lower(text: str) -> str:
    """In lower case, every letter where it was: the Turkish İ would become two."""
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def _without(text: str, match: re.Match[str]) -> str:
    # in "125 bpm-house" the hyphen is no minus
    return f"{text[: match.start()]} {text[match.end() :].removeprefix('-')}"
