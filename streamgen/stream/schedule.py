"""Changes that wait for their frame, and fades of prompts that are on their way.

    queued(pending, changes) ─► pending, by frame ─► due(pending, frame)      rewind revokes audio, not requests

Rules: plain values and frames; knows no tensor, no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamgen.conditioning.prompt_mix import PromptMix, glide
from streamgen.config import BEGIN_ANEW
from streamgen.errors import CapacityError

__all__ = ["PENDING_LIMIT", "Change", "ChangeHistory", "Glide", "Pending", "due", "queued"]

PENDING_LIMIT = 1_000
_PROMPTS = {"prompt", "prompts"}


@dataclass(frozen=True)
class Change:
    """Values that come into force at a frame of the stream.

    Attributes:
        frame: when.
        values: what.
        serial: how many changes were asked for before it.
        scheduled: True if its sample was named, False for "at once".
        asked_frame: where the stream was when it was asked for.
        on_bar: True if nobody named its sample: it waits for the bar line.
    """

    frame: int
    values: Mapping[str, Any]
    serial: int
    scheduled: bool
    asked_frame: int
    on_bar: bool = False


Pending = tuple[Change, ...]


def queued(pending: Pending, changes: Iterable[Change]) -> Pending:
    """Return what waits with some changes more, by frame; of two at one frame the one asked for later comes last.

    Other music that was asked for later and comes sooner is not undone by what waits for the bar line:

        asked for   prompt A ─ waits ──────────┐
                           prompt B, at once   │  nothing: B plays on
        frames      ───────┴───────────────────┴─────►
    """
    waiting = list(pending)
    for change in changes:
        kept = [_overtaken(one, change) for one in waiting]
        tried = [
            one.values["candidate"]
            for one, left in zip(waiting, kept, strict=True)
            if "candidate" in one.values and "candidate" not in left.values
        ]
        # the same music sooner begins as it would have begun
        sooner = replace(change, values={"candidate": tried[-1], **change.values}) if tried else change
        waiting = sorted([*(one for one in kept if one.values), sooner], key=lambda one: one.frame)
    return tuple(waiting)


def _overtaken(waiting: Change, later: Change) -> Change:
    """Return a change that waits without what another one, asked for later, says sooner."""
    said = BEGIN_ANEW.intersection(later.values)
    if not (waiting.on_bar and later.frame < waiting.frame and said):
        return waiting
    said |= _PROMPTS if said & _PROMPTS else set()
    left = {name: value for name, value in waiting.values.items() if name not in said}
    if BEGIN_ANEW.isdisjoint(left):
        left.pop("candidate", None)  # the opening of music that does not begin
    return replace(waiting, values=left)


def due(pending: Pending, frame: int) -> Pending:
    """Return what comes into force by a frame, in order: the first of what waits."""
    return pending[: sum(change.frame <= frame for change in pending)]


class ChangeHistory:
    """What was asked for, as far back as a rewind reaches, whether it is in force yet or not.

    Args:
        keep_frames: how far that is.

    Attributes:
        serial: how many changes were asked for so far.
    """

    def __init__(self, keep_frames: int) -> None:
        self._keep_frames = keep_frames
        self.serial = 0
        self._lately: list[Change] = []

    def check(self, pending: Pending) -> None:
        """Check that one more change can wait.

        Raises:
            CapacityError: too many do.
        """
        if len(pending) >= PENDING_LIMIT:
            raise CapacityError(f"{PENDING_LIMIT} changes are waiting already; let some of them pass first")

    def add(self, change: Change) -> None:
        """Note a change."""
        self.serial += 1
        oldest = change.asked_frame - self._keep_frames
        self._lately = [c for c in [*self._lately, change] if c.asked_frame >= oldest]

    def since(self, serial: int, frame: int) -> list[Change]:
        """Return what was asked for since a mark, to be asked for again.

        Args:
            serial: how many had been asked for then.
            frame: the mark's; changes "at once" come there now.
        """
        again = [change for change in self._lately if change.serial >= serial]
        return [change if change.scheduled else replace(change, frame=frame) for change in again]


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
