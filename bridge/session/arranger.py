"""Form by steering: the parts of a scene, one after another on bar lines, each a little different from the prompt.

    scene (TOML) ─► parts ─► dressed: the prompts that a part has the stream play, and its take
                      └───► when the next one begins: after so many bars

A model that repeats a bar for minutes is steered as a hand at the knobs would: a turn, a break without drums, an
answer, the theme again. What the person asked for stays what it is; only what the stream is told differs.

Rules: plain data; knows no stream and no clock. Positions count the model's samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from bridge.disk import read_toml
from bridge.errors import cannot_be
from streamgen.checkpoint import Heard
from streamgen.config import CONTROLS, MAX_TEXT
from streamgen.errors import ConfigError, PromptError, quoted

__all__ = ["DEFAULT_SCENE", "MOST_TAKES", "Arranger", "Part", "Place", "heaviest", "read_scene"]

DEFAULT_SCENE = Path(__file__).with_name("scenes.toml")
MOST_PARTS, MOST_BARS, MOST_SEMITONES, MOST_LETTERS = 64, 64, 11, 200
_USUAL_BPM, _BEATS = 120.0, 4
_TEMPO = re.compile(r"(\d{2,3}(?:\.\d+)?)\s*bpm", re.IGNORECASE)
_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MOST_TAKES = int(CONTROLS["take"].limits[1])

_KINDS: dict[type, str] = {str: "a text", int: "a whole number", bool: "true or false"}

Prompts = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Part:
    """A part of a scene.

    Attributes:
        name: as it is told.
        bars: how long it is.
        words: that go before those of the prompt.
        semitones: by which the prompt's key moves.
        take: parts of one take are the same music; "" is music that was not there before.
        others: whether it has the style's other instruments, where there are some and the prompt names none.
    """

    name: str
    bars: int
    words: str = ""
    semitones: int = 0
    take: str = ""
    others: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is in the prompt's own words and key: it may be held."""
        return not (self.words or self.semitones)


def read_scene(path: Path | None = None) -> tuple[Part, ...]:
    """Read the parts of a scene; None is the shipped one.

    Raises:
        ConfigError: it cannot be read, or says what cannot be.
    """
    path = path or DEFAULT_SCENE
    try:
        scene = read_toml(path)
    except (OSError, ValueError) as error:
        raise ConfigError(cannot_be("read", f"the scene {str(path)!r}", error)) from error
    if unknown := [name for name in scene if name != "part"]:
        raise ConfigError(f"the scene {str(path)!r} has {quoted(unknown[0])}; all of it stands under [[part]]")
    rows = scene.get("part", [])
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_PARTS:
        raise ConfigError(f"the scene {str(path)!r} must have 1 … {MOST_PARTS} parts, each under [[part]]")
    return tuple(_part(row, f"part {number} of {str(path)!r}") for number, row in enumerate(rows, 1))


def _part(row: object, where: str) -> Part:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is {quoted(row)}, must be a table: write [[part]] above it")
    kinds = get_type_hints(Part)
    for name in row:
        if name not in kinds:
            raise ConfigError(f"{where} has {quoted(name)}; a part has {', '.join(kinds)}")
    for name, kind in kinds.items():
        if type(row.get(name, kind())) is not kind:
            raise ConfigError(f"{where}: {name} is {quoted(row[name])}, must be {_KINDS[kind]}")
    part = Part(**{"name": "", "bars": 0, **row})
    for name in ("name", "words", "take"):
        if not (text := getattr(part, name)).isprintable() or len(text) > MOST_LETTERS:
            limit = f"one line of at most {MOST_LETTERS} letters"
            raise ConfigError(f"{where}: {name} is {quoted(text)}, must be {limit}")
    if not 1 <= part.bars <= MOST_BARS:
        raise ConfigError(f"{where}: bars is {part.bars}, must be within 1 … {MOST_BARS}")
    if abs(part.semitones) > MOST_SEMITONES:
        limit = f"-{MOST_SEMITONES} … {MOST_SEMITONES}"
        raise ConfigError(f"{where}: semitones is {part.semitones}, must be within {limit}")
    return part


def heaviest(prompts: Prompts) -> str:
    """Return the prompt with the largest share, the first of several; "" where none sounds."""
    return max(prompts, key=lambda pair: pair[1])[0] if prompts else ""


@dataclass(frozen=True)
class Place:
    """A place in a scene, to be gone back to.

    Attributes:
        number: of the part, from 0.
        take: of its music, as the stream is told.
        played: how many takes there were by then.
        takes: the numbers of those that have a name.
    """

    number: int
    take: int
    played: int
    takes: Mapping[str, int]


class Arranger:
    """Where a session is in its scene.

    Args:
        parts: of the scene.
        heard: what the model hears in a text; None from models that read texts as they are typed.
        frame_rate_hz: of the model.
        hop_samples: of one frame.
    """

    def __init__(
        self, parts: Sequence[Part], heard: Callable[[str], Heard | None], frame_rate_hz: float, hop_samples: int
    ) -> None:
        self._parts, self._heard = parts, heard
        self._frame_rate_hz, self._hop = frame_rate_hz, hop_samples
        self._number, self._takes = 0, dict[str, int]()
        self._played = 0
        self._take = self._next_take()

    @property
    def part(self) -> Part:
        """The part that plays."""
        return self._parts[self._number]

    @property
    def place(self) -> Place:
        """Where it is; put back, what was played since never was: its takes are new ones again."""
        return Place(self._number, self._take, self._played, dict(self._takes))

    @place.setter
    def place(self, place: Place) -> None:
        self._number, self._take, self._played, self._takes = place.number, place.take, place.played, dict(place.takes)

    def begin(self) -> None:
        """Begin with the first part as a fresh session does: the same seed is the same music."""
        self._takes, self._played = {}, 0
        self.restart()

    def restart(self) -> None:
        """Go back to the first part; what has no name is music that was not there yet."""
        self._number = 0
        self._take = self._next_take()

    def advance(self) -> None:
        """Go on to the next part."""
        self._number = (self._number + 1) % len(self._parts)
        self._take = self._next_take()

    def _next_take(self) -> int:
        """The number of the part's take: its own, or one that was not there yet."""
        name = self.part.take
        if name in self._takes:
            return self._takes[name]
        self._played = self._played % MOST_TAKES + 1
        if name:
            self._takes[name] = self._played
        return self._played

    def part_samples(self, prompts: Prompts) -> int:
        """How long the part is, under these prompts."""
        return self.part.bars * self._bar_samples(prompts)

    def _bar_samples(self, prompts: Prompts) -> int:
        text = heaviest(prompts)
        dressed = self._words(text, self.part) if text else ""  # a part's words may name a tempo of their own
        heard = self._heard(dressed) if text else None
        if heard is not None:
            return heard.bar_frames * self._hop
        found = _TEMPO.search(dressed)
        bpm = min(max(float(found.group(1)), 40.0), 240.0) if found else _USUAL_BPM
        return round(_BEATS * 60 / bpm * self._frame_rate_hz) * self._hop

    def dressed(self, prompts: Prompts) -> dict[str, Any]:
        """What the stream is told in this part: the prompts with its words and key, and its take.

        A take begins the music anew, out of the prompt alone: right for a model that makes a bar of it and repeats
        that, not for one whose music grows out of what it played.
        """
        if not prompts:
            return {"prompt": None}
        told: dict[str, Any] = {"prompts": [(self._words(text, self.part), weight) for text, weight in prompts]}
        return told | ({"take": self._take} if self._heard(prompts[0][0]) is not None else {})

    def check(self, prompts: Prompts) -> None:
        """Check that prompts have room for every part's words: in the midst of the music it is too late to be told.

        Raises:
            PromptError: one is too long.
        """
        for text, _ in prompts:
            letters, part = max(((len(self._words(text, part)), part) for part in self._parts), key=lambda one: one[0])
            if letters > MAX_TEXT:
                raise PromptError(
                    f"the prompt has {len(text):,} characters, {letters:,} with what the scene's part {part.name!r} "
                    f"says, the limit is {MAX_TEXT:,}: shorten it, or switch arrange off"
                )

    def _words(self, text: str, part: Part) -> str:
        heard = self._heard(text)
        words = [part.words] if part.words else []
        words += self._others(words, text) if part.others else ()
        if heard is not None and part.semitones:
            tonic, mode = heard.key.split()
            words.append(f"in {_NOTES[(_NOTES.index(tonic) + part.semitones) % len(_NOTES)]} {mode}")
        return ", ".join([*words, text])

    def _others(self, words: Sequence[str], text: str) -> tuple[str, ...]:
        """The other instruments of what plays under a part's words, where naming them changes nothing else.

        Where a prompt names no style they are a hint at one, with a key and a tempo of its own.
        """
        own = self._heard(", ".join([*words, text]))
        other = None if own is None else self._heard(", ".join([*words, *own.others, text]))
        if own is None or other is None:
            return ()
        same = (own.style, own.tempo_bpm, own.key) == (other.style, other.tempo_bpm, other.key)
        return own.others if same else ()
