"""A session's way through its scene: dresses what its stream is told, and schedules each part just before it is drawn.

    values ─► told ─► the stream ─ landed ─► follow
    turn: before a block is made that reaches a part's end, the next part is scheduled there

Where a hand begins other music, the part begins there, and what was scheduled behind it is set to change nothing: what
a stream was asked for stays asked for, though the music before it was taken back. Weights that move begin nothing: the
part ends when it would have. Another prompt or take begins with the first part: whoever asks for techno in a break
without drums wants to hear techno. Whoever switches `arrange` off keeps the part that plays, or the first one where
that has words or a key of its own.

A take that comes again comes with the opening it had: tried anew right after a short part, it might be another one.

Rules: the engine's thread. Positions count the model's samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.session.arranger import MOST_TAKES, Arranger, Place, heaviest
from bridge.session.generator import Generator
from bridge.session.parameters import PROMPT_NAMES, prompts_of, stream_controls
from streamgen.checkpoint import Heard
from streamgen.config import BEGIN_ANEW, Value

__all__ = ["Form"]

_NO_PROMPT = "no prompt, the style is left to chance"
_MOST_OPENINGS = 256  # remembered: several prompts' worth of the longest scene


@dataclass(frozen=True)
class _State:
    """Where a session is in its scene, and what of it is heard.

    Attributes:
        place: in the scene.
        began: the sample that the part began at.
        sounds: what the stream was told to play, with another of which other music begins.
        played: the prompt and take whose parts are heard; None where a prompt plays as it is.
        arranges: whether the next part will come.
    """

    place: Place
    began: int = 0
    sounds: tuple[Any, Any] = (None, None)
    played: tuple[str, Value] | None = None
    arranges: bool = False


class Form:
    """What `arrange` does for one session.

    Args:
        arranger: of its scene.
        hear: what the model hears in a text; None from models that read texts as they are typed.
        blends: whether it plays several prompts at once, which it has to for a glide from one to another.
    """

    def __init__(self, arranger: Arranger, hear: Callable[[str], Heard | None], *, blends: bool) -> None:
        self._arranger, self._hear, self._blends = arranger, hear, blends
        self._now = _State(arranger.place)
        self._before_told: _State | None = None  # as long as the stream has not taken what it is told
        self._begins = False  # whether a part begins with what was told last, whatever it sounds like
        self._turns: list[tuple[int, _State]] = []  # where parts begin that may be taken back, and what came before
        self._asked: set[int] = set()  # where the stream was asked for parts, taken back or not, and is not yet
        self._openings: dict[tuple[Any, ...], int] = {}  # of takes: what they follow from, and the candidate
        self._source: tuple[Any, ...] = ()  # of what was told last
        self._told_number = 0  # of the part that was told last

    def heard(self, values: Mapping[str, Value]) -> str:
        """What the model understands of the sounding prompts, the loudest first, one line; without one, what plays."""
        prompts = sorted(prompts_of(values), key=lambda pair: -pair[1])
        if not prompts and self._hear("music") is not None:
            return _NO_PROMPT
        heard = [one.told() for text, _ in prompts if (one := self._hear(text)) is not None]
        if len(heard) > 1 and not self._blends:
            return f"{heard[0]}; not played beside it: {', '.join(text for text, _ in prompts[1:])}"
        return " + ".join(heard)

    def audible(self, values: Mapping[str, Value], changed: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return what the stream may have to hear of: not of a tempo whose words the model takes for the same."""
        if {*PROMPT_NAMES}.intersection(changed) != {"tempo"}:
            return changed
        before, after = ([self._hear(text) for text, _ in prompts_of({**values, **new})] for new in ({}, changed))
        same = all(a is not None and b is not None and a.prompt == b.prompt for a, b in zip(before, after, strict=True))
        return {name: value for name, value in changed.items() if name != "tempo"} if before and same else changed

    def told(
        self, values: Mapping[str, Value], changed: Mapping[str, Value], kept: int | None = None
    ) -> dict[str, Any]:
        """Return what the stream has to be told of a change: as it is, or dressed for the part.

        Args:
            values: of all parameters, the changed ones among them.
            changed: what is to be told.
            kept: parts that begin behind this sample are taken back, to come after the part that plays there; None
                takes back none.

        Raises:
            PromptError: a prompt has no room for the words of a part.
        """
        controls = stream_controls(values, changed)
        concerned = "arrange" in changed or not BEGIN_ANEW.isdisjoint(controls)
        if not concerned or (self._now.played is None and not values["arrange"]):
            return controls
        if values["arrange"]:
            self._arranger.check(prompts_of(values))
        if kept is not None:
            self._go_to_part(values, kept)
        return controls | self._with_opening(self._dressed(values), values)

    def _go_to_part(self, values: Mapping[str, Value], kept: int) -> None:
        """Go to the part in which a change by hand is heard."""
        self._put_back()
        before, arranges, played = self._now, bool(values["arrange"]), _lead(values)
        self._before_told = before
        if taken_back := [state for at, state in self._turns if at > kept]:
            first = taken_back[0]
            self._now = replace(before, place=first.place, began=first.began, sounds=first.sounds)
            self._arranger.place = first.place
        again = played != before.played or not (arranges or self._arranger.part.plain)
        if again:
            self._arranger.restart()
        self._begins = again or (arranges and not before.arranges)
        stays = arranges or played == before.played
        self._now = replace(self._now, place=self._arranger.place, played=played if stays else None, arranges=arranges)

    def _put_back(self) -> None:
        """Be where it was before something was told that came to nothing: it was refused, or there was no room."""
        if self._before_told is not None:
            self._now, self._before_told = self._before_told, None
            self._arranger.place = self._now.place

    def opening(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return what a fresh stream is told of the first part; nothing without a scene. Errors as of `told`."""
        self._put_back()
        self._before_told = self._now
        if not values["arrange"]:
            self._now = _State(self._arranger.place)
            return {}
        self._arranger.check(prompts_of(values))
        self._arranger.begin()
        told = self._dressed(values)
        self._now = _State(self._arranger.place, sounds=_sounds(told), played=_lead(values), arranges=True)
        self._source = self._source_of(told, values)
        return told

    def _source_of(self, told: Mapping[str, Any], values: Mapping[str, Value]) -> tuple[Any, ...]:
        """What the opening follows from of what is told, besides the candidate; no two takes have the same."""
        text, take = _sounds(told)
        heard = None if text is None else self._hear(text)
        words = text if heard is None else (heard.prompt, heard.wording)
        return words, take, values["seed"]

    def _with_opening(self, told: dict[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
        """Return what is told with the candidate that its take had before, if it was played."""
        self._source = self._source_of(told, values)
        return told | ({"candidate": self._openings[self._source]} if self._source in self._openings else {})

    def _remember(self, candidate: int) -> None:
        """Keep the candidate of what was told last."""
        self._openings.pop(self._source, None)
        self._openings[self._source] = candidate
        while len(self._openings) > _MOST_OPENINGS:
            del self._openings[next(iter(self._openings))]

    def _dressed(self, values: Mapping[str, Value]) -> dict[str, Any]:
        if not values["arrange"] and (self._now.played is None or not self._arranger.part.plain):
            return stream_controls(values, (*PROMPT_NAMES, "take"))
        told = self._arranger.dressed(prompts_of(values))
        if "take" in told:  # whoever asks for another take gets another one of every part
            told["take"] = (told["take"] - 1 + int(values["take"])) % MOST_TAKES + 1
        return told

    def begin(self, at: int, candidate: int) -> str:
        """Let the part begin with a fresh stream, which plays that opening; returns its name."""
        self._before_told = None
        self._now, self._turns, self._asked = replace(self._now, began=at), [], set()
        self._told_number = self._now.place.number
        if self._now.arranges:
            self._remember(candidate)
        return self._arranger.part.name

    def follow(self, generator: Generator, controls: Mapping[str, Any], at: int) -> str | None:
        """Let the part begin where controls have begun other music; its name, if others were told from there on."""
        if BEGIN_ANEW.isdisjoint(controls):
            return None
        self._before_told = None
        sounds = _sounds(controls)
        begins = self._begins or sounds != self._now.sounds
        self._now = replace(self._now, sounds=sounds, began=at if begins else self._now.began)
        self._begins = False
        later = any(turn >= at for turn, _ in self._turns)
        self._turns = [turn for turn in self._turns if turn[0] <= at][-1:]
        if begins or not self._now.arranges:  # else the same parts come again where they were told
            told = {name: controls[name] for name in (*BEGIN_ANEW, "candidate") if name in controls}
            self._asked = {turn for turn in self._asked if turn > generator.taken}
            for turn in sorted(turn for turn in self._asked if turn >= at):
                generator.set(told, turn)
        else:
            later = False
        if self._now.played is None:
            return None
        if "candidate" in controls:
            self._remember(controls["candidate"])
        before, self._told_number = self._told_number, self._now.place.number
        return self._arranger.part.name if later or before != self._told_number else None

    def turn(
        self, generator: Generator, values: Mapping[str, Value], between_steps: Callable[[], None]
    ) -> tuple[str, int] | None:
        """Schedule the next part, if the block that is made next reaches it.

        Args:
            generator: whose stream is told.
            values: of all parameters.
            between_steps: called after each step that trying openings takes.

        Returns:
            The part's name and where it begins.
        """
        self._put_back()
        if not values["arrange"]:
            return None
        ends, bars = self._now.began + self._arranger.part_samples(prompts_of(values)), generator.bars()
        if generator.drawn + generator.block_samples + generator.hop_samples < _on_bar_line(ends, bars):
            return None
        self._openings.setdefault(self._source_of(self._dressed(values), values), generator.candidate)
        before = self._before_told = self._now
        self._arranger.advance()
        controls = self._with_opening(self._dressed(values), values)
        if "candidate" not in controls:
            controls = generator.auditioned(controls, between_steps, paced=True)
        at = generator.set(controls, _on_bar_line(max(ends, generator.drawn), bars))
        self._before_told = None
        if "candidate" in controls:
            self._remember(controls["candidate"])
        self._now = replace(before, place=self._arranger.place, began=at, sounds=_sounds(controls))
        self._told_number = self._now.place.number
        self._turns = [*(turn for turn in self._turns if turn[0] > generator.taken), (at, before)]
        self._asked = {at, *(turn for turn in self._asked if turn > generator.taken)}
        return self._arranger.part.name, at


def _lead(values: Mapping[str, Value]) -> tuple[str, Value]:
    """What, if it changes, makes the music another one: the heaviest prompt as it is typed, and the take."""
    return heaviest(prompts_of({**values, "tempo": 0.0})), values["take"]


def _sounds(controls: Mapping[str, Any]) -> tuple[Any, Any]:
    """What, if it changes, has the stream begin other music: the heaviest prompt and the take."""
    return heaviest(controls.get("prompts", ())) or None, controls.get("take")


def _on_bar_line(at: int, bars: tuple[int, int] | None) -> int:
    """Return a sample, or the bar line after it: the guard may have begun the music anew in the midst of a part."""
    if bars is None:
        return at
    downbeat, length = bars
    return downbeat + math.ceil((at - downbeat) / length) * length
