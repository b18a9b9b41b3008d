"""What a checkpoint hears in a free prompt: any words in, the words it was trained on out, and both told.

A small checkpoint knows a few hundred words. Which words of people mean which of its own is data that lies beside the
weights (`vocabulary.py`), so that another checkpoint brings its own, or none: its prompts are then read as typed.

Rules: pure, no torch. The longest phrase first.

    "relaxing music with organ, no drums, 60bpm, shimmering"
     └ hints at ambient                   └ the nearest tempo it has is 94
    is given to the model as "ambient, church organ, harp, 94 bpm, in A minor"; "shimmering" was not understood
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from math import log
from zlib import crc32

from streamgen.checkpoint.tempo_and_key import SEMITONES, AskedKey, AskedTempo, asked_key, asked_tempo
from streamgen.checkpoint.vocabulary import Meaning, StyleWords, Vocabulary, parted, words_of

__all__ = ["WORDINGS", "Heard", "hear"]

WORDINGS = 2**20  # that are told apart: of a million pairs of texts one is not

LONGEST_PHRASE = 5
_MOST_KEYS = 8  # that are told of a prompt which names several: the first is played
_NOT_WANTED = "no "
_SAME_TEMPO_BPM = 1.0  # nobody minds, and a tempo in whole frames is not quite one in whole numbers


@dataclass(frozen=True)
class Heard:
    """What was heard in a prompt.

    Attributes:
        prompt: what the model is given.
        style, instruments, tempo_bpm, key, moods: the same, one by one.
        unheard: the words that meant nothing.
        bar_frames: code frames of a bar at that tempo.
        left_out: what was understood and has no part in it, such as an instrument of other styles; "no piano" where a
            piano was not wanted and plays all the same.
        taken_for: words as they were typed, and those that they were taken for: "techo" for "techno".
        played_as: what it does not have, and what it plays in its place: brass for a saxophone.
        others: instruments that could play in place of those that nobody asked for.
        loudness_db: by how much the prompt is louder than the mean of all there are, for players that even them out.
        wording: a number of the words that were typed, whatever their case, marks and tempo: 0 of the model's own, 1 …
            `WORDINGS` of others. It tells prompts apart that are one to the model, and equal here.
    """

    prompt: str
    style: str
    instruments: tuple[str, ...]
    tempo_bpm: int
    key: str
    moods: tuple[str, ...]
    unheard: tuple[str, ...]
    bar_frames: int
    left_out: tuple[str, ...] = ()
    taken_for: tuple[tuple[str, str], ...] = ()
    played_as: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()
    loudness_db: float = 0.0
    wording: int = field(default=0, compare=False)

    def told(self) -> str:
        """One line for the person who typed it."""
        taken = ", ".join(f'"{typed}" taken for {known}' for typed, known in self.taken_for)
        played = ", ".join(f"{asked} played as {had}" for asked, had in self.played_as)
        unmet = [one.removeprefix(_NOT_WANTED) for one in self.left_out if one.startswith(_NOT_WANTED)]
        parts = {
            "left out": ", ".join(one for one in self.left_out if not one.startswith(_NOT_WANTED)),
            "cannot leave out": ", ".join(unmet),
            "not understood": " ".join(dict.fromkeys(self.unheard)),
        }
        told = [f"{name}: {said}" for name, said in parts.items() if said]
        return "; ".join([self.prompt, *filter(None, (taken, played)), *told])


@dataclass(frozen=True)
class _Said:
    """A phrase of a prompt, what it may mean, and whether it is what is not wanted."""

    phrase: str
    meanings: tuple[Meaning, ...]
    denied: bool = False


@dataclass(frozen=True)
class _ParsedPrompt:
    """Everything a prompt says, in its order."""

    said: tuple[_Said, ...]
    unheard: tuple[str, ...]

    def values(self, kind: str, *, denied: bool = False) -> list[str]:
        said = [one for one in self.said if one.denied == denied]
        return [meaning.value for one in said for meaning in one.meanings if meaning.kind == kind]


def hear(text: str, words: Vocabulary) -> Heard:
    """Find a checkpoint's words in a prompt; what it does not say is filled in from its style."""
    tempo, unwanted, rest = _tempo(text, words)
    (asked, rest), other_keys = asked_key(rest), list[str]()
    while len(other_keys) < _MOST_KEYS and (other := asked_key(rest))[0] is not None:
        other_keys.append(other[0].written)
        rest = other[1]
    known = words.spelling.known
    taken = words.spelling.mended([part for word in words_of(rest) for part in parted(word, known)])
    found = _look_up([word for _, phrase in taken for word in phrase], words)
    chosen = _style(found, words)
    name = _stand_in(chosen, found.values("instrument", denied=True), words)
    meant = words.styles[chosen]
    style = words.styles[name]
    tempo_bpm = _nearest_tempo(tempo.bpm, words) if tempo else _said_tempo(found, meant, words)
    mode = style.key.split()[1]
    key = f"{_nearest_tonic(asked, words) if asked else meant.key.split()[0]} {mode}"
    instruments, others = _instruments(style, found)
    moods = tuple(mood for mood in dict.fromkeys(found.values("mood")) if mood in style.moods)
    prompt = ", ".join([style.say, *instruments, f"{tempo_bpm} bpm", f"in {key}", *moods])
    played = {("style", name), ("hint", name), ("tempo", str(tempo_bpm)), *(("mood", mood) for mood in moods)}
    played |= _sounding(instruments, words)
    played |= {("mode", mode), ("change", _change(meant.tempo_bpm, tempo_bpm))}
    left_out = [f"{_NOT_WANTED * one.denied}{one.phrase}" for one in found.said if not _has_a_part(one, played)]
    left_out += [*_missed(tempo, tempo_bpm, asked, key), *other_keys]
    if unwanted and abs(unwanted.bpm - tempo_bpm) <= _SAME_TEMPO_BPM:
        left_out.append(f"{_NOT_WANTED}{unwanted.written}")
    return Heard(
        prompt, name, instruments, tempo_bpm, key, moods, found.unheard, words.bar_frames[tempo_bpm],
        left_out=tuple(dict.fromkeys(left_out)),
        taken_for=tuple(dict.fromkeys((typed, " ".join(as_)) for typed, as_ in taken if (typed,) != as_)),
        played_as=_played_as(found, style, instruments, played),
        others=others,
        loudness_db=_loudness_db(style, instruments, tempo_bpm, key),
        wording=_wording(text, prompt),
    )  # fmt: skip


def _loudness_db(style: StyleWords, instruments: tuple[str, ...], tempo_bpm: int, key: str) -> float:
    """By how much a prompt of these words is louder than others: what they do to it adds up."""
    return sum(style.loudness_db.get(word, 0.0) for word in ("", *instruments, str(tempo_bpm), key.split()[0]))


def _wording(text: str, prompt: str) -> int:
    """Number the words of a text without its tempo, which a session writes in; the same in every process."""
    typed, own = (" ".join(words_of(asked_tempo(one)[1])).replace(",", "").split() for one in (text, prompt))
    return 0 if typed == own else 1 + crc32(" ".join(typed).encode()) % WORDINGS


def _tempo(text: str, words: Vocabulary) -> tuple[AskedTempo | None, AskedTempo | None, str]:
    """The tempo in numbers that is wanted, the one that is not ("without 174 bpm"), and the prompt without them."""
    tempo, rest = asked_tempo(text)
    if tempo is None:
        return None, None, rest
    before, after = rest[: tempo.begin].split(), rest[tempo.begin :]
    for length in (2, 1):
        phrase = tuple(words_of(" ".join(before[-length:])))
        if any(meaning.kind == "without" for meaning in words.lexicon.get(phrase, ())):
            return None, tempo, " ".join([*before[:-length], after])
    return tempo, None, rest


def _sounding(instruments: tuple[str, ...], words: Vocabulary) -> set[tuple[str, str]]:
    """What sounds, as meanings: "no synth" is no synth bass either."""
    known = [name for name in words.style_of_instrument if any(_sounds_as(played, name) for played in instruments)]
    sounding = {(kind, name) for kind in ("instrument", "inner") for name in known}
    return sounding | {("word", word) for name in instruments for word in name.split()}


def _played_as(
    found: _ParsedPrompt, style: StyleWords, instruments: tuple[str, ...], played: set[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """What it does not have, and what plays in its place; nothing of what is left out altogether."""
    pairs = list[tuple[str, str]]()
    for one in found.said:
        nearest = [m for m in one.meanings if m.nearest and not one.denied and (m.kind, m.value) in played]
        for meaning in sorted(nearest, key=lambda m: m.kind != "instrument")[:1]:  # a guitar, sooner than its style
            alike = (name for name in instruments if _sounds_as(name, meaning.value))
            pairs.append((one.phrase, next(alike) if meaning.kind == "instrument" else style.say))
    return tuple(dict.fromkeys(pairs))


def _missed(tempo: AskedTempo | None, tempo_bpm: int, asked: AskedKey | None, key: str) -> list[str]:
    """The tempo and the key that were asked for, where others are played."""
    tonic, mode = key.split()
    missed = [tempo.written] if tempo and abs(tempo.bpm - tempo_bpm) > _SAME_TEMPO_BPM else []
    if asked and SEMITONES[tonic.lower()] != asked.semitone:
        return [*missed, asked.written]
    return [*missed, asked.mode] if asked and asked.mode not in ("", mode) else missed


def _has_a_part(one: _Said, played: set[tuple[str, str]]) -> bool:
    """Whether the music is otherwise for a phrase, or as it asks; small words ask for nothing."""
    if not one.denied:
        modes = {(meaning.kind, meaning.value) for meaning in one.meanings if meaning.kind == "mode"}
        if modes and not modes & played:
            return False  # "sad" hints at a piano, and is none in major
        return any(meaning.kind == "small" or (meaning.kind, meaning.value) in played for meaning in one.meanings)
    mattering = [meaning for meaning in one.meanings if meaning.kind != "hint"]  # it hinted at nothing
    unwanted = {(meaning.kind, meaning.value) for meaning in mattering} | {("word", one.phrase.removesuffix("s"))}
    return not unwanted & played


def _nearest_tempo(bpm: float, words: Vocabulary) -> int:
    return min(words.bar_frames, key=lambda had: abs(log(had / bpm)))


def _said_tempo(found: _ParsedPrompt, style: StyleWords, words: Vocabulary) -> int:
    """The tempo that a word names; else the next one up or down from the style's, where it is to be another."""
    usual = style.tempo_bpm
    nearer = {
        "faster": min((bpm for bpm in words.bar_frames if bpm > usual), default=usual),
        "slower": max((bpm for bpm in words.bar_frames if bpm < usual), default=usual),
    }
    named = [*map(int, found.values("tempo")), *(nearer[way] for way in found.values("change"))]
    return named[0] if named else usual


def _change(usual_bpm: int, tempo_bpm: int) -> str:
    return "faster" if tempo_bpm > usual_bpm else "slower" if tempo_bpm < usual_bpm else ""


def _nearest_tonic(asked: AskedKey, words: Vocabulary) -> str:
    """The mode is the style's to say."""
    return min(words.tonics, key=lambda tonic: _apart(SEMITONES[tonic.lower()], asked.semitone))


def _apart(one: int, two: int) -> int:
    """Semitones between two pitch classes, the shorter way round."""
    return min((one - two) % 12, (two - one) % 12)


def _look_up(said: list[str], words: Vocabulary) -> _ParsedPrompt:
    known, unheard = list[_Said](), list[str]()
    at, denied, before = 0, False, False  # before: the phrase before was not wanted
    for_nothing = 0  # where in `unheard` a "no" goes of which nothing comes
    while at < len(said):
        length, found = _longest(said[at:], words)
        kinds = {meaning.kind for meaning in found}
        phrase, just_denied, before = said[at : at + max(1, length)], before, False
        at += len(phrase)
        if "without" in kinds or (just_denied and "join" in kinds and _names_instrument(said[at:], words)):
            denied, for_nothing = True, len(unheard)
            unheard.append(" ".join(phrase))
        elif "without_before" in kinds and known:
            known[-1] = replace(known[-1], denied=True)
        elif phrase == [","]:
            denied = False
        elif not length:
            unheard += phrase
        elif kinds - {"small", "join"}:
            known.append(_Said(" ".join(phrase), (*found, *_inner(phrase, words)), denied))
            if denied:
                del unheard[for_nothing]
            before, denied = denied, False
    return _ParsedPrompt(tuple(known), tuple(unheard))


def _names_instrument(said: list[str], words: Vocabulary) -> bool:
    return any(meaning.kind == "instrument" for meaning in _longest(said, words)[1])


def _longest(said: list[str], words: Vocabulary) -> tuple[int, tuple[Meaning, ...]]:
    """The longest phrase that begins here, in words, and what it means; its last word may be a plural."""
    for length in range(min(LONGEST_PHRASE, len(said)), 0, -1):
        phrase = tuple(said[:length])
        last = phrase[-1]  # "es" is no plural of "e", nor "less" of "les"
        one = last.removesuffix("s") if len(last) > 2 and not last.endswith("ss") else last
        for form in (phrase, (*phrase[:-1], one)):
            if form in words.lexicon:
                return length, words.lexicon[form]
    return 0, ()


def _inner(phrase: list[str], words: Vocabulary) -> list[Meaning]:
    """The instruments that parts of a phrase name."""
    places = [(at, end) for at in range(len(phrase)) for end in range(at + 1, len(phrase) + 1)]
    named = [words.lexicon.get(tuple(phrase[at:end]), ()) for at, end in places if end - at < len(phrase)]
    return [Meaning("inner", meaning.value) for found in named for meaning in found if meaning.kind == "instrument"]


def _style(found: _ParsedPrompt, words: Vocabulary) -> str:
    """The first style named; else the one most hinted at that has most of the instruments asked for."""
    refused = set(found.values("style", denied=True))
    if named := [style for style in found.values("style") if style not in refused]:
        return named[0]
    hints, asked = Counter(found.values("hint")), found.values("instrument")
    homes = [home for one in asked if (home := words.style_of_instrument[one])]
    able = dict.fromkeys([*found.values("hint"), *homes, words.default_style, *words.styles])
    scores = {name: _fit(name, hints[name], asked, words) for name in able if name not in refused}
    return max(scores, key=scores.__getitem__, default=words.default_style)  # of equals the first


def _fit(name: str, hints: int, asked: list[str], words: Vocabulary) -> float:
    """How well a style fits: an instrument that it has weighs more than a hint, its home a little more than others."""
    has = [instrument for part in words.styles[name].parts for instrument in part]
    played = sum(any(_is_one(instrument, one) for instrument in has) for one in asked)
    return hints + 2 * played + 0.5 * sum(words.style_of_instrument[one] == name for one in asked)


def _stand_in(style: str, unwanted: list[str], words: Vocabulary) -> str:
    """A style that can do without what is not wanted, in place of one whose every bar has it."""
    return next((words.stand_ins[name][style] for name in unwanted if style in words.stand_ins.get(name, {})), style)


def _instruments(style: StyleWords, found: _ParsedPrompt) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """One instrument for each role: the one asked for, else the usual, another if that is unwanted and there is one.

    No role is ever left out: what a model was not trained on it plays all the same, whatever it is told.

    Returns:
        What plays, and what could in its place, where nobody asked.
    """
    asked, unwanted = {*found.values("instrument"), *found.values("inner")}, found.values("instrument", denied=True)
    never_else = [*unwanted, *found.values("inner", denied=True)]  # "no piano, no synth": one of them plays, as ever
    chosen, others = list[str](), list[str]()
    for part in style.parts:
        kept = [name for name in part if not any(_is_one(name, other) for other in unwanted)] or part
        named = [name for name in kept if name in asked] or [n for n in kept if any(_is_one(n, one) for one in asked)]
        chosen.append((named or kept)[0])
        free = [name for name in kept[1:] if not any(_is_one(name, other) for other in never_else)]
        others += [] if named else free[:1]
    return tuple(dict.fromkeys(chosen)), tuple(others)


def _sounds_as(instrument: str, kind: str) -> bool:
    """Whether an instrument is of a kind or has it in its name: a contrabass sounds as a bass, too."""
    return _is_one(instrument, kind) or instrument.endswith(kind)


def _is_one(instrument: str, kind: str) -> bool:
    """Whether an instrument is of a kind: a synth bass is a bass, a distorted guitar a guitar."""
    return set(kind.split()) <= set(instrument.split())
