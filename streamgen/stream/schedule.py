"""Changes that wait for their frame, and fades of prompts that are on their way.

    ask(values, frame) ─► pending, by frame ─► due(frame)          rewind: audio is revoked, what was asked for is not

Rules: plain values and frames; knows no tensor, no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamgen.conditioning.prompt_mix import PromptMix, glide
from streamgen.errors import CapacityError

__all__ = ["PENDING_LIMIT", "Change", "ChangeQueue", "Glide"]

PENDING_LIMIT = 1_000


@dataclass(frozen=True)
class Change:
    """Values that come into force at a frame of the stream.

    Attributes:
        frame: when.
        values: what.
        serial: how many changes were asked for before it.
        scheduled: True if its sample was named, False for "at once".
        asked_head: where the stream was when it was asked for.
    """

    frame: int
    values: Mapping[str, Any]
    serial: int
    scheduled: bool
    asked_head: int


@dataclass(frozen=True)
class Glide:
    """A fade of prompts on its way.

    Attributes:
        old: the mix it comes from.
        start_frame: where it began.
        frames: how long it takes.
    """

    old: PromptMix
    start_frame: int
    frames: int

    def mix(self, new: PromptMix, frame: int) -> PromptMix:
        """Return the mix at a frame, on the way to `new`."""
        return glide(self.old, new, min((frame - self.start_frame) / self.frames, 1.0))


class ChangeQueue:
    """What was asked for and is not in force yet.

    Attributes:
        serial: how many changes were asked for so far.
        pending: those that wait, by frame.
    """

    def __init__(self) -> None:
        self.serial = 0
        self.pending: tuple[Change, ...] = ()
        self._lately: list[Change] = []  # as far back as a rewind reaches

    def ask(self, values: Mapping[str, Any], frame: int, *, head: int, scheduled: bool, keep_frames: int) -> None:
        """Queue a change for a frame.

        Raises:
            CapacityError: too many are waiting.
        """
        if len(self.pending) >= PENDING_LIMIT:
            raise CapacityError(f"{PENDING_LIMIT} changes are waiting already; let some of them pass first")
        change = Change(frame, dict(values), self.serial, scheduled, head)
        self.serial += 1
        self._lately = [c for c in [*self._lately, change] if c.asked_head >= head - keep_frames]
        self._queue([change])

    def _queue(self, changes: list[Change]) -> None:
        # stable: of two at one frame, the one asked for later wins
        self.pending = tuple(sorted([*self.pending, *changes], key=lambda change: change.frame))

    def due(self, frame: int) -> list[Change]:
        """Take out what comes into force by a frame, in order."""
        count = sum(change.frame <= frame for change in self.pending)
        taken, self.pending = self.pending[:count], self.pending[count:]
        return list(taken)

    def rewind(self, pending: tuple[Change, ...], serial: int, frame: int) -> None:
        """Go back to what waited at a mark, and ask again for all that was asked for since.

        Args:
            pending: what waited then.
            serial: how many had been asked for then.
            frame: the mark's; changes "at once" come there now.
        """
        self.pending = pending
        since = [change for change in self._lately if change.serial >= serial]
        self._queue([change if change.scheduled else replace(change, frame=frame) for change in since])
