"""Reading some streams at once: so many samples of each, made in common passes.

    goals ─ advance ─► frames complete ─ decode ─► samples, or further goals ─ … ─ take

A goal is so many frames as lack now. A codec that looks ahead may want more then, so a stream that has reached its goal
gets another, while those beside it go on: each is decoded in the pieces in which it would be alone.

Rules: says which stream goes how far; making steps is the scheduler's, sound the streams' own. Other threads may use
the same streams between two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from streamgen.audio import AudioChunk
from streamgen.errors import ConfigError, StreamgenError
from streamgen.lm.step import Step
from streamgen.runtime import Runtime
from streamgen.scheduler import Steppable

__all__ = ["Readable", "ReadableTokens", "read_together", "read_tokens"]

_TOKEN_FRAMES = 25  # at a time: a stream remembers a window of them, and more may be asked for


class Readable(Steppable[Step, Tensor], Protocol):
    """A stream whose samples can be read."""

    @property
    def runtime(self) -> Runtime:
        """What it shares with other streams."""
        ...

    def missing_frames(self, samples: int) -> int:
        """Return how many frames to go on by before samples can be taken."""
        ...

    @staticmethod
    def decode_together(frames: Mapping[Any, int]) -> Mapping[Any, StreamgenError]:
        """Decode complete frames before one of each of some streams; return whose sound is no numbers, and why."""
        ...

    def take(self, samples: int) -> AudioChunk:
        """Take samples that are decoded."""
        ...


ReadableStream = TypeVar("ReadableStream", bound=Readable)


def read_together(
    wanted: Mapping[ReadableStream, int], between_steps: Callable[[], None] | None = None
) -> dict[ReadableStream, AudioChunk]:
    """Generate and take the next samples of some streams of one model. See `Model.read_together`.

    Raises:
        ConfigError: fewer than one sample, or no whole number.
        CapacityError, SessionClosed: a stream cannot go on.
    """
    for samples in wanted.values():
        if not _whole(samples) or samples < 1:
            raise ConfigError(f"samples is {samples!r}, must be a whole number, at least 1")
    if not wanted:
        return {}
    runtime = next(iter(wanted)).runtime
    assert all(stream.runtime is runtime for stream in wanted), "streams of one model"
    reading = _Reading(runtime, wanted)
    while (chunks := reading.take()) is None:
        refused = runtime.scheduler.advance(reading.goals, lambda: reading.go_on(between_steps))
        for error in refused.values():
            raise error
    return chunks


class ReadableTokens(Steppable[Step, Tensor], Protocol):
    """A stream whose tokens can be read."""

    @property
    def runtime(self) -> Runtime:
        """What it shares with other streams."""
        ...

    def take_tokens(self, most: int) -> Tensor | int:
        """Take complete frames, or return how many to go to."""
        ...


def read_tokens(stream: ReadableTokens, frames: int) -> Tensor:
    """Generate and take the codes of a stream's next frames, int64 [K, frames]. See `Stream.tokens`.

    Raises:
        ConfigError: fewer than one frame, or no whole number.
        CapacityError, SessionClosed: the stream cannot go on.
    """
    if not _whole(frames) or frames < 1:
        raise ConfigError(f"frames is {frames!r}, must be a whole number, at least 1")
    pieces: list[Tensor] = []
    while missing := frames - sum(piece.shape[1] for piece in pieces):
        with stream.runtime.alone():
            found = stream.take_tokens(min(missing, _TOKEN_FRAMES))
        if isinstance(found, Tensor):
            pieces.append(found)
            continue
        for error in stream.runtime.scheduler.advance({stream: found}).values():
            raise error
    return torch.cat(pieces, dim=1)


class _Reading(Generic[ReadableStream]):
    """Some streams on their way to the samples that are wanted of them.

    Attributes:
        goals: complete frames that each stream is to have; streams that have their samples are gone.
    """

    def __init__(self, runtime: Runtime, wanted: Mapping[ReadableStream, int]) -> None:
        self._runtime, self._wanted = runtime, wanted
        self.goals: dict[ReadableStream, int] = {}

    def take(self) -> dict[ReadableStream, AudioChunk] | None:
        """Return the samples if they are all there; if not, set the goals."""
        with self._runtime.alone():  # asked and taken at once: another thread may read the same streams
            self.goals = {stream: goal for stream in self._wanted if (goal := self._goal(stream)) is not None}
            if self.goals:
                return None
            return {stream: stream.take(samples) for stream, samples in self._wanted.items()}

    def _goal(self, stream: ReadableStream) -> int | None:
        missing = stream.missing_frames(self._wanted[stream])
        return stream.frames_done + missing if missing else None

    def go_on(self, between_steps: Callable[[], None] | None) -> None:
        """Decode what streams have reached their goals with, and move those on that lack more."""
        reached = [stream for stream, goal in self.goals.items() if stream.frames_done >= goal]
        if reached:
            with self._runtime.alone():
                self._move_on(reached)
        if between_steps is not None:
            between_steps()

    def _move_on(self, reached: Sequence[ReadableStream]) -> None:
        # fewer frames where a stream was rewound meanwhile
        until = {stream: min(self.goals.pop(stream), stream.frames_done) for stream in reached}
        for error in reached[0].decode_together(until).values():
            raise error
        for stream in reached:
            goal = self._goal(stream)
            if goal is not None:
                self.goals[stream] = goal


def _whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
