"""What is scheduled comes at its sample, whatever is turned until then, and is told again only where it must be.

    asked for    A, for 10 s ·· B, at once
    in force    ─── before ────┤ B ├────── 10 s ──┤ A ├──────►
    doors know                 A │ B │            A, told again: they knew B, and B has ended

Doors know what they were told last: what sounds, or what comes next. So each change is told when it is asked for, with
its sample, and at its sample once more only if something that comes sooner was told of that parameter since. A curve
that is sent ahead, in its order, is told once.

A stream is told all of its prompts at once: those that are in force where the change lands. What lies behind was told
with others beside it, so it is told anew before it is drawn (`due`): no storm of a knob fills the stream's queue.

What of the music waits for a beat or a bar line by itself, where nobody named a sample, gives way to what is asked for
later and comes sooner.

Rules: the engine's thread; values, and samples of the session.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.audio.output import OutputPath
from bridge.session.events import Changed
from bridge.session.metronome import Metronome
from bridge.session.parameters import MUSIC_NAMES, PROMPT_NAMES, STREAM_NAMES, Parameters
from streamgen.config import BEGIN_ANEW, Value

__all__ = ["Coming", "Scheduled"]


@dataclass
class Coming:
    """What comes at one sample.

    Attributes:
        at_sample: of the session.
        by: who asked for it.
        values: by name.
        told: what the stream was told there; nothing of what concerns no stream.
        loose: names for which nobody named this sample.
        sure: whether no other music that comes sooner was told since.
        names: all that the stream was told of there, though it may have come to nothing since.
        beside: what was in force there of that, and beside a prompt of all prompts, when it was told.
    """

    at_sample: int
    by: str
    values: dict[str, Value]
    told: dict[str, Any] = field(default_factory=dict)
    loose: set[str] = field(default_factory=set)
    sure: bool = True
    names: set[str] = field(default_factory=set)
    beside: dict[str, Value] = field(default_factory=dict)

    @property
    def music(self) -> bool:
        """Whether other music may begin with it."""
        return not MUSIC_NAMES.isdisjoint(self.names)

    def drop(self, names: Collection[str]) -> None:
        """Let some of it come to nothing."""
        for name in self.values.keys() & names:
            del self.values[name]
        self.loose.difference_update(names)

    def join(self, later: Coming) -> None:
        """Let more come here, that was asked for later."""
        self.by = later.by
        self.values |= later.values
        self.told |= later.told
        self.loose = (self.loose - later.values.keys()) | later.loose
        self.sure = self.sure and later.sure
        self.names |= later.names

    def again(self, told: dict[str, Any], opening: int) -> dict[str, Any]:
        """Return what the stream is to be told by now, with the opening that was tried; `opening` plays before."""
        if BEGIN_ANEW.isdisjoint(told):
            return told
        comes = not MUSIC_NAMES.isdisjoint(self.values)
        tried = {"candidate": self.told["candidate"]} if "candidate" in self.told else {}
        return (tried if comes else {"candidate": opening}) | told


class Scheduled:
    """What is to come in one player.

    Args:
        parameters: of the session; their values are what doors were told last.
        output: whose rack is told tempi.
        metronome: and whose beats.
    """

    def __init__(self, parameters: Parameters, output: OutputPath, metronome: Metronome) -> None:
        self._parameters, self._output, self._metronome = parameters, output, metronome
        self._coming: list[Coming] = []  # in order of their samples, one for each
        self._before: dict[str, Value] = {}  # of every name that comes, what is in force until the first
        self._told_at: dict[str, int] = {}  # … and the sample of what was told last

    def at(self, sample: float) -> dict[str, Value]:
        """Return every parameter's value at a sample that is not final."""
        values = {**self._parameters.values, **self._before}
        for one in self._coming:
            if one.at_sample > sample:
                break
            values |= one.values
        return values

    def note(self, change: Coming, others_at: int, *, at_once: bool) -> None:
        """Note a change that was carried out; `Parameters.values` are still those before it.

        Args:
            change: with the sample where the stream's part of it lands.
            others_at: where the rest does.
            at_once: whether it comes as soon as can be, but for music that waits for a bar line.
        """
        others = {name: change.values.pop(name) for name in change.values.keys() - STREAM_NAMES}
        if others:
            self._set(Coming(others_at, change.by, others), at_once=at_once)  # what effects were told, comes
        if change.values:
            change.loose.intersection_update(change.values)
            # a part of a scene says more than was asked for: told anew without one, it must be said as well
            more = {"take": "take", "prompt": PROMPT_NAMES[0], "prompts": PROMPT_NAMES[0]}
            change.names = set(change.values) | {more[name] for name in more.keys() & change.told.keys()}
            self._set(change, at_once=at_once and not change.loose)

    def turned(self, values: Mapping[str, Value], at: int) -> None:
        """Note what was turned at once by no command."""
        self._set(Coming(at, "", dict(values)), at_once=True)

    def _set(self, change: Coming, *, at_once: bool) -> None:
        names, at = change.values.keys() & self._before.keys(), change.at_sample
        # a knob of another name asks nobody: a curve of thousands may wait
        less = [one for one in self._coming if (one.loose if one.at_sample > at else at_once)] if names else []
        for one in less:
            one.drop(names & one.loose if one.at_sample > at else names)
        if not BEGIN_ANEW.isdisjoint(change.told):
            self.doubt(at)
        if at_once:
            self._before |= {name: change.values[name] for name in names}
        else:
            self._before = {name: self._parameters.values[name] for name in change.values} | self._before
            self._put(change)
        self._told_at |= dict.fromkeys(change.values.keys() & self._before.keys(), at)
        self._settle(names if less else ())

    def _put(self, change: Coming) -> None:
        place = bisect_left(self._coming, change.at_sample, key=_sample)
        if place < len(self._coming) and self._coming[place].at_sample == change.at_sample:
            self._coming[place].join(change)
        else:
            self._coming.insert(place, change)
        if change.told:
            prompts = () if change.told.keys().isdisjoint({"prompt", "prompts"}) else PROMPT_NAMES
            self._coming[place].beside |= self._in_force(change.at_sample, (*change.names, *prompts))

    def _in_force(self, sample: int, names: Iterable[str]) -> dict[str, Value]:
        values = self.at(sample)
        return {name: values[name] for name in names}

    # -- as it comes near -----------------------------------------------------------------------------------------

    def due(self, first: int, last: int) -> list[Coming]:
        """Return what the stream must be told anew of what comes between two samples, in order."""
        near = [one for one in self._coming if first <= one.at_sample <= last and one.told]
        known = (one.beside == self._in_force(one.at_sample, one.beside) for one in near)
        return [one for one, same in zip(near, known, strict=True) if not same or (one.music and not one.sure)]

    def tell(self, one: Coming) -> None:
        """Note that the stream was told it anew."""
        one.sure, one.beside = True, self._in_force(one.at_sample, one.beside)
        if one.music:
            self.doubt(one.at_sample)

    def doubt(self, sample: int) -> None:
        """Have told anew what lies behind a sample from which other music was told: it was told without that."""
        for one in self._coming:
            if one.at_sample > sample and not MUSIC_NAMES.isdisjoint(one.values):
                one.sure = False

    def landed(self, sample: int) -> Iterator[Changed]:
        """Take out what has come where all before a sample is final; yield what doors must be told again."""
        values = self._parameters.values
        while self._coming and self._coming[0].at_sample <= sample:
            one = self._coming.pop(0)
            sooner = (name for name in one.values if self._told_at[name] < one.at_sample)
            news = {name: one.values[name] for name in sooner if values[name] != one.values[name]}
            self._before |= one.values
            self._told_at |= dict.fromkeys(news, one.at_sample)
            self._settle(one.values)
            values.update(news)
            if news:
                yield Changed(news, one.by, one.at_sample)

    def forget(self, names: Collection[str]) -> set[str]:
        """Let nothing more come of some names: what was told last is in force. Returns those of which something did."""
        gone = self._before.keys() & names
        for one in self._coming:
            one.drop(names)
            one.names.difference_update(names)
        self._settle(gone)
        return gone

    def _settle(self, names: Collection[str]) -> None:
        """Keep what is still needed, where something of some names has come, or comes no more."""
        if names:
            self._coming = [one for one in self._coming if one.values or one.names]
        for name in names:
            if not any(name in one.values for one in self._coming):
                del self._before[name], self._told_at[name]

    # -- tempi ----------------------------------------------------------------------------------------------------

    def set_tempo(self, bpm: float, at: int) -> None:
        """Let the beats have a tempo from a sample on, then those that come behind it; and the rack what comes."""
        tempi = [one for one in self._coming if "tempo" in one.values]
        self._metronome.set_tempo(bpm, at)
        for one in tempi:
            if one.at_sample > at and "tempo" not in one.loose:  # the beats have that already
                self._metronome.set_tempo(float(one.values["tempo"]), one.at_sample)
        self._output.forget({"tempo"})  # some of it may have come to nothing
        for one in tempi:
            self._output.set({"tempo": one.values["tempo"]}, one.at_sample)

    def hurry(self, at: int) -> None:
        """Let what comes to the stream come to nothing: a fresh one has begun at a sample, with what was told last."""
        if "tempo" in self.forget(STREAM_NAMES):
            tempo = self._parameters.values["tempo"]
            self._output.set({"tempo": tempo})
            self.set_tempo(float(tempo), at)


def _sample(change: Coming) -> int:
    return change.at_sample
