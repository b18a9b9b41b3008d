"""Which streams step together: schedule → begin → one pass over the weights → finish.

    goals a: 3, b: 1      a ─ begin ┐            ┌ finish      a ─ begin ─ one pass ─ finish      a has 3: done
    (frames, a has 1)     b ─ begin ┴─ one pass ─┴ finish      b has 1: done

The weights are read once for all streams of a pass, which is what a step costs; a stream's result does not depend on
which others are in it. Streams join and leave between steps.

Rules: no torch, no thread; what a stream begins and finishes a step with is between it and the pass. Streams are used
by one thread at a time: `around` sees to that, and is entered anew for each step, so that others have their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from streamgen.errors import StreamgenError

__all__ = ["Scheduler", "Steppable"]

Begun = TypeVar("Begun")
Drawn = TypeVar("Drawn")
Begun_co = TypeVar("Begun_co", covariant=True)
Drawn_contra = TypeVar("Drawn_contra", contravariant=True)


class Steppable(Protocol[Begun_co, Drawn_contra]):
    """A stream that a scheduler can step."""

    @property
    def frames_done(self) -> int:
        """Complete frames so far."""
        ...

    def begin_step(self, beside_others: bool) -> Begun_co | None:
        """Return what the pass needs. Changes nothing that cannot be begun again.

        Args:
            beside_others: whether other streams wait for the same pass.

        Returns:
            None where there is so much to do first that it takes several turns: one of them is done, and the pass is
            made without this stream.

        Raises:
            StreamgenError: it cannot step now.
        """
        ...

    def finish_step(self, drawn: Drawn_contra, seconds: float) -> None:
        """Take what the pass made of it, and how long that took.

        Raises:
            StreamgenError: it is nothing; the stream is where it was.
        """
        ...


AnyStream = TypeVar("AnyStream", bound=Steppable[Any, Any])


class Scheduler(Generic[Begun, Drawn]):
    """Steps the streams of one model.

    Args:
        one_pass: makes one pass for what some streams began, and returns what each draws, in their order.
        around: entered for each step.
        clock: seconds by which passes are timed.
    """

    def __init__(
        self,
        one_pass: Callable[[Sequence[Begun]], Sequence[Drawn]],
        *,
        around: Callable[[], AbstractContextManager[Any]],
        clock: Callable[[], float],
    ) -> None:
        self._one_pass, self._around, self._clock = one_pass, around, clock

    def advance(
        self, goals: Mapping[AnyStream, int], between_steps: Callable[[], None] | None = None
    ) -> dict[AnyStream, StreamgenError]:
        """Step some streams until each has the frames it needs.

        Args:
            goals: complete frames that each is to have, read anew before each step. Who has them is not stepped.
            between_steps: called after each step, on this thread and outside of `around`: what it changes on a stream
                is in the next step, and what it raises ends the advance where it is.

        Returns:
            Streams that could not go on, and why; nothing of theirs is lost, and the others have their frames.
        """
        refused: dict[AnyStream, StreamgenError] = {}
        while running := self.schedule(goals, refused):
            refused |= self.step(running)
            if between_steps is not None:
                between_steps()
        return refused

    def schedule(self, goals: Mapping[AnyStream, int], refused: Container[AnyStream] = ()) -> list[AnyStream]:
        """Return the streams of the next step: all that lack frames and were not refused, in the order given."""
        return [stream for stream, goal in goals.items() if stream.frames_done < goal and stream not in refused]

    def step(self, streams: Sequence[AnyStream]) -> dict[AnyStream, StreamgenError]:
        """Make one step of some streams, in one pass.

        Returns:
            Streams that could not step, and why: the others have, but for those that are not ready yet.
        """
        refused: dict[AnyStream, StreamgenError] = {}
        with self._around():
            stepping, begun = [], []
            for stream in streams:
                try:
                    one = stream.begin_step(len(streams) > 1)
                except StreamgenError as error:
                    refused[stream] = error
                    continue
                if one is not None:
                    begun.append(one)
                    stepping.append(stream)
            began = self._clock()
            results = self._one_pass(begun) if begun else []
            seconds = self._clock() - began
            for stream, drawn in zip(stepping, results, strict=True):
                try:
                    stream.finish_step(drawn, seconds)
                except StreamgenError as error:
                    refused[stream] = error
        return refused
