"""What is kept of a session's sound: the recording from its start on, and the last seconds whenever somebody asks.

    blocks ─┬─► Recorder, the whole time                                  --record FILE
            └─► the last half a minute ─ keep ─► Recorder, once           takes/take-20261129-051203.flac
    changes ──► marks: from which sample on which prompts play, with their seed; each file tells its own

Rules: the event loop; files in threads beside it. Names of files are made here: none comes from the network.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bridge.audio.markers import MOST_TEXT, Mark
from bridge.errors import BridgeError, without_folder
from bridge.session.commands import KEEP_SECONDS
from bridge.session.events import Block, Changed, Event, Notice
from bridge.session.parameters import PROMPT_NAMES, title_of
from bridge.session.state import state_folder
from streamgen.errors import CapacityError, ConfigError

if TYPE_CHECKING:
    from bridge.audio.recorder import Recorder
    from bridge.session.session import Session

__all__ = ["Takes", "takes_folder"]

_log = logging.getLogger("bridge.takes")

_MOST_FILES = 500  # kept from the network: a disk shall not fill up
_MARKING = frozenset({*PROMPT_NAMES, "seed"})


def takes_folder() -> Path:
    """Return where takes are kept, unless the operator says otherwise."""
    return state_folder() / "takes"


class Takes:
    """The recordings of one session.

    Args:
        session: whose; listened to from its first block on, by whoever owns both.
        folder: the operator's, where the last seconds are kept; None keeps none, and holds none ready.
    """

    def __init__(self, session: Session, folder: Path | None) -> None:
        self._session, self._folder = session, folder
        self._last: deque[Block] = deque()
        self._marks: list[Mark] = []  # in order of their samples
        self._told: Mark | None = None  # last
        self._parts: list[Mark] = []  # of these: parts of the scene that are not final, and may not come
        self._recorder: Recorder | None = None
        self._began: int | None = None  # the recording's first sample in the session
        self._one_at_a_time = asyncio.Lock()

    @property
    def recording(self) -> Path | None:
        """The file being written, whose name may differ from the one asked for: none is written over."""
        return None if self._recorder is None else self._recorder.path

    # -- what the session tells -----------------------------------------------------------------------------------

    def take(self, block: Block) -> None:
        """Take the session's next block."""
        if self._recorder is not None:
            if self._began is None:
                self._began = block.start_sample
                self._parts = [mark for mark in self._parts if mark.at_sample > block.start_sample]
                self._mark_recording(self._present(block.start_sample))
            self._recorder.write(block.samples)
        self._mark_parts(block.end_sample)
        if self._folder is None:
            self._forget(block.start_sample)
            return
        if self._last and self._last[-1].end_sample != block.start_sample:
            self._last.clear()
        self._last.append(block)
        gone = block.end_sample - KEEP_SECONDS.limits[1] * self._session.rate_hz
        while self._last[0].end_sample <= gone:
            self._last.popleft()
        self._forget(self._last[0].start_sample)

    def note(self, event: Event) -> None:
        """Mark where other prompts, another seed or another part of the scene begins."""
        if isinstance(event, Changed):
            if event.values.get("arrange") is False:
                self._forget_parts(event.applied_at_sample + 1)
            if not _MARKING.isdisjoint(event.values):
                self._mark(event.applied_at_sample, self._words())
        elif isinstance(event, Notice) and event.topic == "part":
            self._forget_parts(event.applied_at_sample)
            self._mark(event.applied_at_sample, f"{self._words()}: {event.text}", part=True)

    def _words(self) -> str:
        values = self._session.values()
        return f"{title_of(values)} (seed {values['seed']})"

    def _mark(self, at_sample: int, text: str, *, part: bool = False) -> None:
        mark, told = Mark(at_sample, text[:MOST_TEXT]), self._told
        self._told = mark
        if mark in self._marks or (told in self._marks and told is not None and told.text == mark.text):
            return  # what was scheduled is told again where it comes
        # paused, or several at once: the newest is what plays from there on
        self._marks = [one for one in self._marks if one.at_sample != at_sample]
        insort(self._marks, mark)
        if part:
            self._parts.append(mark)
        elif self._began is not None:
            self._mark_recording([mark])

    def _forget_parts(self, from_sample: int) -> None:
        """Drop parts that were told for later, as far ahead as music is made, and do not come."""
        gone = [mark for mark in self._parts if mark.at_sample >= from_sample]
        self._parts = [mark for mark in self._parts if mark not in gone]
        self._marks = [mark for mark in self._marks if mark not in gone]

    def _mark_parts(self, until: float) -> None:
        """Tell the recording of the parts that are final: what is written there stays."""
        final = [mark for mark in self._parts if mark.at_sample < until]
        self._parts = self._parts[len(final) :]
        if self._began is not None:
            self._mark_recording(final)

    def _present(self, sample: int) -> Sequence[Mark]:
        """The mark in force at a sample, and those behind it."""
        before = [mark for mark in self._marks if mark.at_sample <= sample][-1:] or [Mark(sample, self._words())]
        return before + [mark for mark in self._marks if mark.at_sample > sample and mark not in self._parts]

    def _forget(self, sample: int) -> None:
        while len(self._marks) > 1 and self._marks[1].at_sample <= sample:
            self._marks.pop(0)

    def _mark_recording(self, marks: Sequence[Mark]) -> None:
        assert self._recorder is not None, marks
        for mark in marks:
            self._recorder.mark(max(mark.at_sample - (self._began or 0), 0), mark.text)

    # -- the whole time -------------------------------------------------------------------------------------------

    async def record(self, path: Path | None) -> None:
        """Write everything to a file from now on; None ends it.

        Raises:
            FileError: the file cannot be written.
        """
        if self._recorder is not None:
            recorder, self._recorder, self._began = self._recorder, None, None
            await asyncio.to_thread(recorder.close)
        if path is not None:
            self._recorder = await asyncio.to_thread(self._opened, path)

    def _opened(self, path: Path) -> Recorder:
        from bridge.audio.recorder import Recorder

        values, model = self._session.values(), self._session.model
        tags = {"title": title_of(values), "model": model, "seed": str(values["seed"]), "software": "streamgen"}
        return Recorder(path, self._session.rate_hz, tags=tags)

    # -- the last seconds -----------------------------------------------------------------------------------------

    async def keep(self, seconds: float) -> tuple[Path, float]:
        """Write what was heard last into the operator's folder; returns the file and its seconds, fewer at a beginning.

        Raises:
            ConfigError: there is no folder, or nothing was heard.
            CapacityError: the folder is full.
        """
        folder = self._folder
        if folder is None:
            raise ConfigError("takes are kept of the shared session alone: `live`")
        async with self._one_at_a_time:
            pieces, marks = [*self._heard(seconds)], list(self._marks)
            if not pieces:
                raise ConfigError("nothing was heard yet: play first")
            try:
                path = await asyncio.to_thread(self._write, folder, pieces, marks)
            except (BridgeError, OSError) as error:
                raise ConfigError(f"the take could not be written: {without_folder(error, folder)}") from None
        return path, sum(samples.shape[1] for _, samples in pieces) / self._session.rate_hz

    def _heard(self, seconds: float) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the last seconds up to what is due now, each piece with its first sample."""
        newest = self._last[-1].end_sample if self._last else 0
        end = min(round(self._session.timeline.due()), newest)  # an engine that is late has less
        first = end - round(seconds * self._session.rate_hz)
        for block in self._last:
            start, stop = max(first, block.start_sample), min(end, block.end_sample)
            if start < stop:
                yield start, block.samples[:, start - block.start_sample : stop - block.start_sample]

    def _write(self, folder: Path, pieces: Sequence[tuple[int, NDArray[np.float32]]], marks: Sequence[Mark]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.glob("*"))) >= _MOST_FILES:
            raise CapacityError(f"the folder of takes holds {_MOST_FILES}, the limit: move some elsewhere")
        recorder = self._opened(folder / f"take-{time.strftime('%Y%m%d-%H%M%S')}.flac")
        began, end = pieces[0][0], pieces[-1][0] + pieces[-1][1].shape[1]
        before = [Mark(began, mark.text) for mark in marks if mark.at_sample <= began][-1:]
        for mark in [*before, *(mark for mark in marks if began < mark.at_sample < end)]:
            recorder.mark(mark.at_sample - began, mark.text)
        for _, samples in pieces:
            recorder.write(samples)
        recorder.close()
        if recorder.error is not None:
            raise OSError(recorder.error)
        return recorder.path
