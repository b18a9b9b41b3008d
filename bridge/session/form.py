"""A session's way through its scene: dresses what its stream is told, and schedules each part just before it is drawn.

    values ─► told ─► the stream
    turn: before a block is made that reaches a part's end, the next part is scheduled there

Where the music begins anew by another's hand, the part begins there, and what was scheduled behind it is set to change
nothing: what a stream was asked for stays asked for, though the music before it was taken back.

A take that comes again comes with the opening it had: tried anew right after a short part, it might be another one.

Rules: the engine's thread. Positions count the model's samples, those of what is scheduled the session's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bridge.audio.output import OutputPath
from bridge.session.arranger import MOST_TAKES, Arranger
from bridge.session.generator import Generator
from bridge.session.parameters import PROMPT_NAMES, prompts_of, stream_controls
from bridge.session.scheduled import Coming, Scheduled
from streamgen.checkpoint import Heard
from streamgen.config import BEGIN_ANEW, Value
from streamgen.errors import StreamgenError

__all__ = ["Form"]

_MUSIC = frozenset({*PROMPT_NAMES, "take", "arrange"})  # parameters with which music may begin
_log = logging.getLogger("bridge.form")


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

    def heard(self, values: Mapping[str, Value]) -> str:
        """What the model understands of the sounding prompts, the loudest first, one line."""
        prompts = sorted(prompts_of(values), key=lambda pair: -pair[1])
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
        if "arrange" in changed or (values["arrange"] and not BEGIN_ANEW.isdisjoint(controls)):
            if values["arrange"]:
                self._arranger.check(prompts_of(values))
            if taken_back := [place for at, place in self._turns if kept is not None and at > kept]:
                self._arranger.place = taken_back[0]
            controls |= self._dressed(values)
        return controls

    def tell_again(
        self, generator: Generator, output: OutputPath, scheduled: Scheduled, told: Coming, soonest: int, reached: int
    ) -> None:
        """Tell a stream once more of what is scheduled, beside a change that it has just been told.

        It is told all prompts at once, and some have changed; and what comes to nothing is set to what is in force.

        Args:
            generator: whose stream.
            output: where the session's samples lie among the model's.
            scheduled: what is to come, the change among it.
            told: the change.
            soonest: the session's sample where it was to land: trying openings takes a second, and more may have come.
            reached: the session's sample up to which all was drawn before: the change may have taken some of it back.
        """
        music = not told.values.keys().isdisjoint(_MUSIC)
        opening = generator.candidate if told.named or told.candidate is None else told.candidate
        candidate = opening
        # it lands on a frame: what comes shortly before that was not in force at the sample it was asked for
        met = any(one.at_sample <= told.at_sample and one is not told for one in scheduled.behind(soonest))
        for one, before, values in scheduled.walk(output.turns_at):
            begins = not _MUSIC.isdisjoint(one.values)
            candidate = one.candidate if begins and one.candidate is not None else candidate
            at = output.model_sample(one.at_sample) - generator.hop_samples // 2  # where its frame begins
            touched = one.at_sample <= reached or (
                music and (one.at_sample > told.at_sample or one.void or met or not told.named)
            )
            if (begins or one.void) and touched and at >= generator.drawn - generator.hop_samples:
                self._tell_again(generator, replace(one, candidate=candidate), before, values, at)
        if music and met and not told.named:
            values = scheduled.at(told.at_sample)
            self._tell_again(generator, replace(told, candidate=opening), values, values, None)

    def _tell_again(
        self,
        generator: Generator,
        one: Coming,
        before: Mapping[str, Value],
        values: Mapping[str, Value],
        at: int | None,
    ) -> None:
        changed = {name: values[name] for name in (*one.values, *one.void) if name in values}
        if self.audible(before, changed).keys() != changed.keys():  # a tempo whose words have come to mean the same
            values = {**values, "tempo": before["tempo"]}
        try:
            controls = self.told(values, changed)
            again = {name: controls[name] for name in controls if name in BEGIN_ANEW or name in one.void}
            if again:
                generator.set({**again, "candidate": one.candidate}, at)
        except StreamgenError as error:  # each was checked by itself; the change beside them has been carried out
            _log.warning("what was scheduled by %s plays without what came before it: %s", one.by, error)

    def opening(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return what a fresh stream is told of the first part; nothing without a scene. Errors as of `told`."""
        if not values["arrange"]:
            return {}
        self._arranger.check(prompts_of(values))
        self._arranger.restart()
        return self._dressed(values)

    def _source(self, values: Mapping[str, Value]) -> str:
        """What the present part's music follows from, besides the candidate; no two takes have the same."""
        return repr((self._dressed(values), values["seed"]))

    def _dressed(self, values: Mapping[str, Value]) -> dict[str, Any]:
        if not values["arrange"]:
            return stream_controls(values, (*PROMPT_NAMES, "take"))
        told = self._arranger.dressed(prompts_of(values))
        if "take" in told:  # whoever asks for another take gets another one of every part
            told["take"] = (told["take"] - 1 + int(values["take"])) % MOST_TAKES + 1
        return told

    def begin(self, at: int) -> str:
        """Let the part begin with a fresh stream; returns its name."""
        self._arranger.began, self._turns = at, []
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
        return self._arranger.part.name if later else None

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
        controls, (source, candidate) = self._dressed(values), self._openings.get(self._arranger.part.take, ("", 0))
        if source == self._source(values):
            controls["candidate"] = candidate
        else:
            controls = generator.auditioned(controls, between_steps, paced=True)
        at = generator.set(controls, max(ends, generator.drawn))
        self._arranger.began = at
        self._turns.append((at, before))
        return self._arranger.part.name, at


def _on_bar_line(at: int, bars: tuple[int, int] | None) -> int:
    """Return a sample, or the bar line after it: the guard may have begun the music anew in the midst of a part."""
    if bars is None:
        return at
    downbeat, length = bars
    return downbeat + math.ceil((at - downbeat) / length) * length
