"""From samples that are final to blocks that are told: through the effects, labelled, timed, measured.

Rules: the engine's thread; what it is given is never taken back. Takes the model's samples, tells the session's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bridge.audio.loudness import PeakMeter
from bridge.audio.output import OutputPath
from bridge.session.beat_tracker import BeatTracker
from bridge.session.events import Block, Event, Meter
from bridge.session.timeline import Timeline

if TYPE_CHECKING:
    from streamgen import Model

__all__ = ["Committer"]


class Committer:
    """The way from one session's player to its listeners.

    Args:
        model: whose samples come in.
        timeline: when they are due, at which rate.
        publish: takes every block and the level after it.
        max_block: the most samples that come in at once.

    Attributes:
        output: the effects, and where in the session the next sample comes out.
        tracker: of the beats in what comes out.
        tracks: whether it is listened to: not where the checkpoint tells its bars.
    """

    def __init__(
        self, model: Model, timeline: Timeline, publish: Callable[[Block | Event], None], max_block: int
    ) -> None:
        self._timeline, self._publish = timeline, publish
        self.output = OutputPath(model.sample_rate_hz, timeline.rate_hz, model.channels, max_block)
        self._meter = PeakMeter(timeline.rate_hz)
        self.tracker, self.tracks = BeatTracker(timeline.rate_hz), False
        self._fade_in, self._jumped = True, False
        self._prompts_turn: set[int] = set()  # session samples ahead from which other prompts play

    def expect_prompts(self, at_sample: int) -> None:
        """Note that other prompts play from a session sample on."""
        self._prompts_turn.add(at_sample)

    def commit(self, pieces: Iterable[NDArray[np.float32]]) -> None:
        """Tell the next samples, float32 [2, n] each, as one block; the first after an end fades in.

        The next piece is asked for when the one before has been processed.
        """
        out = []
        for samples in pieces:
            out.append(self.output.process(samples, fade_in=self._fade_in))
            self._fade_in = False
        if out:
            self._tell(np.concatenate(out, axis=1))

    def end(self, last: NDArray[np.float32] | None) -> None:
        """Fade out over the last samples, and tell them and what the effects held back."""
        self._tell(self.output.finish(np.zeros((2, 0), np.float32) if last is None else last))
        self._fade_in = True

    def jump(self) -> None:
        """Note that other music follows, which plays at once what was yet to come."""
        self._prompts_turn = {self.output.position} if self._prompts_turn else set()
        self._jumped = True

    def _tell(self, samples: NDArray[np.float32]) -> None:
        end, count = self.output.position, samples.shape[1]
        if not count:
            return
        turned = any(at < end for at in self._prompts_turn)
        self._prompts_turn = {at for at in self._prompts_turn if at >= end}
        due_us = round(self._timeline.unix_seconds(end - count) * 1e6)
        self._publish(Block(samples, end - count, self._jumped, turned, due_us))
        self._jumped = False
        self._publish(Meter(*self._meter.process(samples)))
        if self.tracks:
            self.tracker.take(samples, end - count)
