"""A session's way through its scene: dresses what its stream is told, and schedules each part just before it is drawn.

    values ─► told ─► the stream
    turn: before a block is made that reaches a part's end, the next part is scheduled there

Where the music begins anew by another's hand, the part begins there, and what was scheduled behind it is set to change
nothing: what a stream was asked for stays asked for, though the music before it was taken back. Another prompt or take
begins with the first part: whoever asks for techno in a break without drums wants to hear techno. Whoever switches
`arrange` off keeps the part that plays, or the first one where that has words or a key of its own.

A take that comes again comes with the opening it had: tried anew right after a short part, it might be another one.

Rules: the engine's thread. Positions count the model's samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from bridge.session.arranger import MOST_TAKES, Arranger
from bridge.session.generator import Generator
from bridge.session.parameters import PROMPT_NAMES, lead_text, prompts_of, stream_controls
from streamgen.checkpoint import Heard
from streamgen.config import BEGIN_ANEW, Value

__all__ = ["Form"]

_NO_PROMPT = "no prompt, the style is left to chance"


class Form:
    """What `arrange` does for one session.

    Args:
        arranger: of its scene.
        hear: what the model hears in a text; None from models that read texts as they are typed.
        blends: whether it plays several prompts at once, which it has to for a glide from one to another.
    """

    def __init__(self, arranger: Arranger, hear: Callable[[str], Heard | None], *, blends: bool) -> None:
        self._arranger, self._hear, self._blends = arranger, hear, blends
        # where parts begin, as far as they may be taken back, and what came before each
        self._turns: list[tuple[int, tuple[int, int]]] = []
        self._openings: dict[str, tuple[str, int]] = {}  # of named takes: what they follow from, and the candidate
        self._played: tuple[str, Value] | None = None  # the prompt and take whose parts are heard, or were at last
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
        if not concerned or (self._played is None and not values["arrange"]):
            return controls
        if values["arrange"]:
            self._arranger.check(prompts_of(values))
        if kept is not None:
            self._go_to_part(values, kept)
        return controls | self._dressed(values) | self._remembered(values)

    def _go_to_part(self, values: Mapping[str, Value], kept: int) -> None:
        """Go to the part in which a change by hand is heard."""
        if taken_back := [place for at, place in self._turns if at > kept]:
            self._arranger.place = taken_back[0]
        played = _lead(values)
        if played != self._played or not (values["arrange"] or self._arranger.part.plain):
            self._arranger.restart()
        self._played = played if values["arrange"] or played == self._played else None

    def opening(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return what a fresh stream is told of the first part; nothing without a scene. Errors as of `told`."""
        self._played = _lead(values) if values["arrange"] else None
        if not values["arrange"]:
            return {}
        self._arranger.check(prompts_of(values))
        self._arranger.restart()
        return self._dressed(values)

    def _source(self, values: Mapping[str, Value]) -> str:
        """What the present part's music follows from, besides the candidate; no two takes have the same."""
        return repr((self._dressed(values), values["seed"]))

    def _remembered(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return the candidate that the present part's take had before; nothing where it was not played yet."""
        source, candidate = self._openings.get(self._arranger.part.take, ("", 0))
        return {"candidate": candidate} if source == self._source(values) else {}

    def _dressed(self, values: Mapping[str, Value]) -> dict[str, Any]:
        if not values["arrange"] and (self._played is None or not self._arranger.part.plain):
            return stream_controls(values, (*PROMPT_NAMES, "take"))
        told = self._arranger.dressed(prompts_of(values))
        if "take" in told:  # whoever asks for another take gets another one of every part
            told["take"] = (told["take"] - 1 + int(values["take"])) % MOST_TAKES + 1
        return told

    def begin(self, at: int) -> str:
        """Let the part begin with a fresh stream; returns its name."""
        self._arranger.began, self._turns = at, []
        self._told_number = self._arranger.place[0]
        return self._arranger.part.name

    def follow(self, generator: Generator, controls: Mapping[str, Any], at: int) -> str | None:
        """Let the part begin where controls have begun the music anew; its name, if another was told from there on."""
        if BEGIN_ANEW.isdisjoint(controls):
            return None
        self._arranger.began = at
        told = {name: controls[name] for name in (*BEGIN_ANEW, "candidate") if name in controls}
        later = [turn for turn in self._turns if turn[0] >= at]
        for turn, _ in later:
            generator.set(told, turn)
        self._turns = [turn for turn in self._turns if turn[0] <= at][-1:]
        before, self._told_number = self._told_number, self._arranger.place[0]
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
        if not values["arrange"]:
            return None
        ends = _on_bar_line(self._arranger.ends(prompts_of(values)), generator.bars())
        if generator.drawn + generator.block_samples + generator.hop_samples < ends:
            return None
        self._openings[self._arranger.part.take] = (self._source(values), generator.candidate)
        before = self._arranger.place
        self._arranger.advance()
        controls = self._dressed(values) | self._remembered(values)
        if "candidate" not in controls:
            controls = generator.auditioned(controls, between_steps, paced=True)
        at = generator.set(controls, max(ends, generator.drawn))
        self._arranger.began, self._told_number = at, self._arranger.place[0]
        self._turns.append((at, before))
        return self._arranger.part.name, at


def _lead(values: Mapping[str, Value]) -> tuple[str, Value]:
    """What, if it changes, makes the music another one."""
    return lead_text(values), values["take"]


def _on_bar_line(at: int, bars: tuple[int, int] | None) -> int:
    """Return a sample, or the bar line after it: the guard may have begun the music anew in the midst of a part."""
    if bars is None:
        return at
    downbeat, length = bars
    return downbeat + math.ceil((at - downbeat) / length) * length
