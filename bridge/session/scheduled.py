"""What was asked for at samples that have not come yet, and what is in force until then.

    asked for, in this order      A at 10 s      B at once
    in force                ───── B ─────────────│ 10 s │── A ─────
    told                    A, at 10 s; B        │ A again, for it came after B

What is scheduled happens at its moment, whatever is asked for meanwhile: samples are in order of time, as the lanes of
a mixing desk. `Parameters.values` are what was asked for last until something else of that name comes into force.

What is asked for at once may land a little behind something that was scheduled before: the stream leaves some of its
lead alone. The scheduled one is void then, and remembered until its sample: a further change may take the music back to
before it, where it would still come.

Rules: the engine's thread; plain values and samples of the session. Carries nothing out.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from bridge.session.parameters import PROMPT_NAMES, QUANTIZED, STREAM_NAMES, Parameters
from bridge.session.timeline import Moment
from streamgen.config import Value

__all__ = ["Coming", "Scheduled"]

_MUSIC = frozenset(
    {*PROMPT_NAMES, "take"}
)  # what waits for beats by itself, and is told again where it comes to nothing


@dataclass(frozen=True)
class Coming:
    """Values that come into force at a sample.

    Attributes:
        at_sample: of the session.
        values: by name.
        by: who asked.
        candidate: the opening that was tried for it; None where no music begins with it.
        named: whether it was to land there; else it is in force as soon as can be, before whatever lies behind.
        void: names of what came to nothing: something else was asked for in its place.
        moment: that it was asked for.
    """

    at_sample: int
    values: Mapping[str, Value]
    by: str
    candidate: int | None = None
    named: bool = True
    void: frozenset[str] = frozenset()
    moment: Moment | None = None

    def without(self, names: Collection[str], void: Collection[str] = ()) -> Coming:
        """Return it less some names."""
        left = {name: value for name, value in self.values.items() if name not in names}
        return replace(self, values=left, void=self.void.union(void))

    def gives_way(self, later: Coming) -> Collection[str]:
        """Return names whose values come to nothing beside a change that was asked for later, wherever that lands.

        The sample of a beat moves with the tempo: of two for one beat the later one counts. A tempo that waits for the
        next bar, say, is in the session's beats already, and gives way to another: only its words wait.
        """
        ours, theirs, names = self.moment, later.moment, frozenset[str]()
        if ours is None or ours.beat is None:
            return names
        another = later.at_sample <= self.at_sample or (theirs is not None and theirs.every > 0)
        if theirs is not None and theirs.beat == ours.beat:
            names = _MUSIC
        elif ours.every and another and QUANTIZED.isdisjoint(self.values):
            names = frozenset({"tempo"})
        return names & self.values.keys() & later.values.keys()


class Scheduled:
    """What is still to come in one player.

    Args:
        parameters: whose values are told.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._coming: list[Coming] = []
        self._before: dict[str, Value] = {}  # in force, of every name that comes

    def set(self, change: Coming, others_at: int) -> None:
        """Note a change that was carried out; its values are the newest.

        Args:
            change: with the sample at which the stream's part of it lands.
            others_at: at which the rest does.
        """
        for at, ours in ((change.at_sample, True), (others_at, False)):
            part = {name: value for name, value in change.values.items() if (name in STREAM_NAMES) is ours}
            if part:
                self._set(replace(change, at_sample=at, values=part))
        self._parameters.values.update(change.values)

    def _set(self, change: Coming) -> None:
        at, now, names = change.at_sample, self.at(-math.inf), change.values.keys()
        kept = self._coming
        if not _MUSIC.isdisjoint(names):  # a knob of another kind asks nobody: a curve of thousands may wait
            kept = [one.without(gone, gone) if (gone := one.gives_way(change)) else one for one in kept]
        if change.named:
            self._keep(one.without(names) if one.at_sample == at else one for one in kept)
            self._before |= {name: now[name] for name in names}
            self._coming.insert(bisect_right(self._coming, at, key=_sample), change)
        else:
            self._keep(one.without(names, names & one.values.keys()) if one.at_sample <= at else one for one in kept)
            self._before |= {name: value for name, value in change.values.items() if name in self._before}

    def at(self, sample: float) -> dict[str, Value]:
        """Return every parameter's value at a sample that is not final."""
        values = {**self._parameters.values, **self._before}
        for change in self._coming[: bisect_right(self._coming, sample, key=_sample)]:
            values |= change.values
        return {name: values[name] for name in self._parameters.values}

    def walk(self, sample: float) -> Iterator[tuple[Coming, dict[str, Value], dict[str, Value]]]:
        """Yield what comes to a stream behind a sample, in order, each with the values before it and from it on.

        Those of the effects' parameters may be older.
        """
        values, last = self.at(sample), -math.inf
        before = values
        for one in self.behind(sample):
            if not one.void and STREAM_NAMES.isdisjoint(one.values):
                continue
            if one.at_sample > last:
                before, last = values, one.at_sample
            values = {**values, **one.values}
            yield one, before, values

    def behind(self, sample: float) -> list[Coming]:
        """Return what comes behind a sample, in order."""
        return self._coming[bisect_right(self._coming, sample, key=_sample) :]

    def tempi(self, sample: float) -> list[tuple[float, int]]:
        """Return the tempi that come behind a sample, and where."""
        return [(float(one.values["tempo"]), one.at_sample) for one in self.behind(sample) if "tempo" in one.values]

    def landed(self, sample: int) -> Iterator[tuple[Coming, dict[str, Value]]]:
        """Take out what has come where all before a sample is final, each with the values that are news by now."""
        values = self._parameters.values
        while self._coming and self._coming[0].at_sample <= sample:
            change = self._coming.pop(0)
            left = {name: value for name, value in change.values.items() if name in values}  # a slot may be gone
            self._before |= left
            self._settle()
            news = {name: value for name, value in left.items() if values[name] != value}
            values.update(news)
            yield change, news

    def forget(self, names: Collection[str]) -> list[Coming]:
        """Forget what comes of some names; returns what did."""
        gone = [one for one in self._coming if not one.values.keys().isdisjoint(names)]
        self._keep(replace(one.without(names), void=one.void.difference(names)) for one in self._coming)
        return gone

    def _keep(self, changes: Iterable[Coming]) -> None:
        """Keep what something still comes of."""
        self._coming = [one for one in changes if one.values or one.void]
        self._settle()

    def _settle(self) -> None:
        """Keep what is in force of what comes alone: of the rest the newest values are."""
        names = {name for one in self._coming for name in one.values}
        self._before = {name: value for name, value in self._before.items() if name in names}


def _sample(change: Coming) -> int:
    return change.at_sample
