"""The music of one session, made ahead: one stream after another, and what of them is not committed yet.

Rules: the engine's thread; knows no timeline and no listener. Positions count the model's samples from the session's
beginning, whichever stream they come from.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridge.session.lookahead import Lookahead, Loudness, Pace, Piece
from streamgen.errors import CapacityError

if TYPE_CHECKING:
    from streamgen import Model, Stream, StreamMark

__all__ = ["BLOCK_FRAMES", "Generator"]

_log = logging.getLogger("bridge.generator")
BLOCK_FRAMES = 5  # made at once: the codec is cheaper on several frames than on one
_REWIND_SECONDS = 13.0  # the longest lead and the longest rack, the block beyond it and the codec's look-ahead
_TRY_AGAIN_SECONDS = 2.0  # about three times what trying openings takes


@dataclass(frozen=True)
class _BlockStart:
    """Where a block begins: the stream's mark, the session's sample, steps and mends so far, and when."""

    mark: StreamMark
    start: int
    steps: int
    mends: int
    began: float


class Generator:
    """A stream of a model, and the audio ahead.

    Args:
        model: what plays.
        options: of the first stream; see `Model.open_stream`.
        now: a monotonic clock in seconds.
        step_seconds: where the wall seconds of every step of the language model are noted.

    Attributes:
        hop_samples, frame_rate_hz: of the model.
        block_samples, block_seconds: made at once.
        taken: samples handed out so far.
        pace: how fast blocks are made.
        loudness: of what was handed out last, and of what may begin right behind it.
    """

    def __init__(
        self, model: Model, options: dict[str, Any], now: Callable[[], float], step_seconds: deque[float] | None
    ) -> None:
        self._model, self._now, self._step_seconds = model, now, step_seconds
        self.hop_samples, self.frame_rate_hz = model.hop_samples, model.frame_rate_hz
        self.block_samples = BLOCK_FRAMES * self.hop_samples
        self.block_seconds = BLOCK_FRAMES / model.frame_rate_hz
        self.taken = self._offset = 0
        self.pace, self._lookahead, self.loudness = Pace(), Lookahead(), Loudness()
        self._tried_at = -math.inf
        self._kept_from: StreamMark | None = None  # what lies before is given back
        self._stream = self._open(options)

    def _open(self, options: dict[str, Any]) -> Stream:
        return self._model.open_stream(**options, rewind_seconds=_REWIND_SECONDS)

    @property
    def ahead_samples(self) -> int:
        """Audio that is made and not handed out."""
        return self._lookahead.samples

    @property
    def ahead_seconds(self) -> float:
        """The same in seconds."""
        return self._lookahead.samples / self._model.sample_rate_hz

    @property
    def drawn(self) -> int:
        """First sample that is not drawn yet."""
        return self._offset + self._stream.next_sample

    @property
    def window_position(self) -> int:
        """Position in the model's present window."""
        return self._stream.metrics.window_position

    @property
    def candidate(self) -> int:
        """Which opening of an audition plays where drawn last, from 1; 0 where none was held."""
        return self._stream.controls.candidate

    @property
    def windows(self) -> int:
        """How many windows of the model the present stream has led with."""
        return self._stream.metrics.rollovers + 1

    def bars(self) -> tuple[int, int] | None:
        """The downbeat that the music drawn last began with, and the length of a bar; None where nobody knows."""
        bars = self._stream.bars()
        return None if bars is None else (self._offset + bars[0], bars[1])

    def bar_line(self) -> int | None:
        """The first bar line that is not drawn yet; None where nobody knows the bars."""
        line = self._stream.bar_line()
        return None if line is None else self._offset + line

    @staticmethod
    def make_together(
        generators: Sequence[Generator], between_steps: Callable[[], None] | None = None
    ) -> list[list[tuple[str, int]]]:
        """Make one block ahead for each of some generators of one model, in common passes over its weights.

        Args:
            generators: whose.
            between_steps: may take what is ahead already, and do nothing else here.

        Returns:
            For each, what its guard found meanwhile, and the sample from which the music begins anew for it.

        Raises:
            StreamgenError: one of them cannot go on; none has a block more, and what the others drew is in their next.
        """
        marked = [one._mark() for one in generators]
        wanted = {one._stream: one.block_samples for one in generators}
        chunks = generators[0]._model.read_together(wanted, between_steps)
        return [one._add(chunks[one._stream].samples, place) for one, place in zip(generators, marked, strict=True)]

    def _mark(self) -> _BlockStart:
        stream = self._stream
        metrics = stream.metrics
        start = self._offset + stream.position_samples
        return _BlockStart(stream.mark(), start, metrics.steps, metrics.mends, self._now())

    def _add(self, samples: NDArray[np.float32], place: _BlockStart) -> list[tuple[str, int]]:
        lands = self._offset + place.mark.next_sample
        self._lookahead.add(Piece(samples, place.start, place.mark, lands, self._loudness(lands)))
        self._note_steps(place.steps)
        self.pace.note(samples.shape[1] / self._model.sample_rate_hz, self._now() - place.began)
        count = self._stream.metrics.mends - place.mends
        return [(one.fault, self._offset + one.at_sample) for one in self._stream.mended[-count:]] if count else []

    def _loudness(self, lands: int) -> Loudness:
        """How loud what was drawn last is, from a downbeat on, or from where a change of its block could land."""
        bars, heard = self.bars(), self._model.heard(self._stream.controls.mix.dominant)
        begins = lands if bars is None else max(bars[0], lands)  # music that went on from another's has no new downbeat
        return Loudness(begins, 0.0 if heard is None else heard.loudness_db)

    def _note_steps(self, before: int) -> None:
        metrics = self._stream.metrics
        if self._step_seconds is not None:
            newest = islice(reversed(metrics.step_seconds), metrics.steps - before)
            self._step_seconds.extend(newest)

    def take(self, most: int) -> NDArray[np.float32] | None:
        """Hand out at most so many samples, float32 [2, n]; they are final. None if there are none."""
        piece = self._lookahead.take(most)
        if piece is None:
            return None
        self.taken, self.loudness = self.taken + piece.samples.shape[1], piece.loudness
        mark = self._lookahead.oldest_mark
        if mark is not None and mark is not self._kept_from:
            self._stream.forget_before(mark)
            self._kept_from = mark
        return piece.samples

    def auditioned(
        self, controls: dict[str, Any], between_steps: Callable[[], None], *, paced: bool = False
    ) -> dict[str, Any]:
        """Return controls with the best of some openings, where they begin the music anew.

        That takes a second, which plays from what is ahead; a machine that would not catch up takes the first one, and
        so does who changes the music again at once: a storm of prompts would leave no time for anything else. `paced`
        are changes that come no closer than a bar, such as the parts of a scene: each of them is tried. Where there is
        no room beside the other sessions, the first one plays too: a part must not end the music.
        """
        again = not paced and self._now() - self._tried_at < _TRY_AGAIN_SECONDS
        try:
            found = self._stream.auditioned(controls, between_steps, hold=self.pace.quick and not again)
        except CapacityError as error:
            _log.info("no openings are tried: %s", error)
            found = self._stream.auditioned(controls, hold=False)
        if found.get("candidate") and not paced:
            self._tried_at = self._now()
        return found

    def check(self, controls: dict[str, Any]) -> None:
        """Check what the stream will be told later, and encode its prompts meanwhile.

        Raises:
            StreamgenError: it cannot be played.
        """
        self._stream.check(**controls)

    def revoke(self, from_sample: int) -> None:
        """Take back what lies ahead, until a change can land at a sample."""
        if self.drawn > from_sample and (mark := self._lookahead.revoke(from_sample)) is not None:
            self._stream.rewind(mark)

    def set(self, controls: dict[str, Any], at_sample: int | None) -> int:
        """Change the stream, from the next frame on or at a sample; returns the sample from which it is heard."""
        relative = None if at_sample is None else at_sample - self._offset
        return self._offset + self._stream.set(at_sample=relative, **controls)

    def begin_anew(self, options: dict[str, Any], between: Callable[[], None]) -> None:
        """Open a fresh stream in the place of this one; `between` ends what is heard, once the fresh one is open."""
        fresh = self._open(options)
        between()
        self._lookahead.clear()
        self._stream.close()
        self._stream, self._offset = fresh, self.taken

    def close(self) -> None:
        """Give the stream's memory back."""
        self._stream.close()
