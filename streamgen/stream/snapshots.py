"""Places in a stream that it can go back to: snapshots for good, marks for a while.

A snapshot clones everything. A mark clones no cache, for the cache is only ever appended to; so it holds only on the
music that led on from it, and a `Trail` keeps the numbers of those that do:

    mark 1 ── mark 2 ── mark 3          rewind to 2 revokes the music of 3: the trail is 1, 2
                 └───── mark 4          then 1, 2, 4

Rules: plain data, also in a file; knows no model.
"""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamgen.errors import ConfigError
from streamgen.lm.step import StepSettings
from streamgen.lm.token_stream import TokenMark, TokenSnapshot
from streamgen.stream.control_state import ControlMemory
from streamgen.stream.guard import GuardMemory
from streamgen.stream.pcm_buffer import PcmMemory
from streamgen.stream.saved_types import check_types

__all__ = ["StreamMark", "StreamMemory", "StreamSnapshot", "Trail", "new_number"]

_numbers = itertools.count()
# what torch and the records it makes raise for a file that is none; OSError where its own index leads out of it
_NO_SNAPSHOT = (
    RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, OverflowError, MemoryError, OSError,
    pickle.UnpicklingError, ImportError, AssertionError,
)  # fmt: skip
_ARRAYS: list[Any] = [
    np.empty(0).__reduce__()[0],
    bytes,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "fdlqbB"),
]


def new_number() -> int:
    """Return a number that no stream and no mark has."""
    return next(_numbers)


@dataclass(frozen=True)
class StreamMemory:
    """What a stream remembers besides its tokens."""

    controls: ControlMemory
    pcm: PcmMemory
    heard: GuardMemory


@dataclass(frozen=True, repr=False)
class StreamSnapshot:
    """Everything a stream remembers; restoring it replays bit-exactly on the same machine.

    Attributes:
        tokens, memory: its parts.
        stream: number of the stream that made it; None of one that was loaded, which fits any stream of its kind.
        kind: what such a stream must be.
    """

    tokens: TokenSnapshot
    memory: StreamMemory
    stream: int | None
    kind: str

    def save(self, path: str | Path) -> None:
        """Write it to a file, for another day or machine.

        Raises:
            OSError: it cannot be written there.
        """
        with Path(path).open("wb") as file:
            torch.save(self._without_prefixes(), file)

    def _without_prefixes(self) -> StreamSnapshot:
        """Leave out what a melody or style came to: it follows from the controls, and holds the model's own tables."""
        settings = self.memory.controls.settings
        bare = dataclasses.replace(settings, rows=dataclasses.replace(settings.rows, prefixes=None))
        return self.with_settings(bare, stream=None)

    def with_settings(self, settings: StepSettings, stream: int | None) -> StreamSnapshot:
        """Return it with other settings of the last step, for another stream."""
        controls = dataclasses.replace(self.memory.controls, settings=settings)
        return dataclasses.replace(
            self,
            tokens=dataclasses.replace(self.tokens, state=dataclasses.replace(self.tokens.state, settings=settings)),
            memory=dataclasses.replace(self.memory, controls=controls),
            stream=stream,
        )

    @classmethod
    def load(cls, path: str | Path) -> StreamSnapshot:
        """Read what `save` wrote; restore it on a new stream of the same model and precision, on any device.

        Nothing of the file is run: it may come from a stranger.

        Raises:
            ConfigError: it is no such file.
            OSError: it cannot be read.
        """
        with Path(path).open("rb") as file:
            try:
                names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
                file.seek(0)
                with torch.serialization.safe_globals([*_ARRAYS, *filter(None, map(_own_record, names))]):
                    found = torch.load(file, map_location="cpu", weights_only=True)
            except _NO_SNAPSHOT as error:
                raise ConfigError(f"{str(path)!r} is no snapshot of this version of streamgen") from error
        if not isinstance(found, cls):
            raise ConfigError(f"{str(path)!r} holds no snapshot")
        try:
            check_types(found, cls)
        except ValueError as error:
            raise ConfigError(f"{str(path)!r} holds a snapshot that was changed: {error}") from None
        return dataclasses.replace(found, stream=None)

    @property
    def bytes(self) -> int:
        """Memory that it holds, most of it the cache's."""
        copies = [window.copy for window in self.tokens.windows]
        return sum(copy.nbytes for copy in copies)

    def __repr__(self) -> str:
        """Say of which stream and place it is, and what it costs to keep."""
        at = self.memory.pcm.position_samples
        return f"<StreamSnapshot of stream {self.stream} at sample {at:,}, {self.bytes / 1e6:.1f} MB>"


def _own_record(name: str) -> Any:
    """Return the dataclass of this package that a name means; None if it means anything else."""
    module, _, kind = name.rpartition(".")
    found = getattr(import_module(module), kind, None) if module.startswith("streamgen.") else None
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


@dataclass(frozen=True)
class StreamMark:
    """A place a stream can rewind to: cheap, but only good for `rewind_seconds`.

    Attributes:
        next_sample: first sample of the frame that is drawn next from here.
        number: tells it from every other mark.
    """

    tokens: TokenMark
    memory: StreamMemory
    serial: int
    next_sample: int
    number: int


class Trail:
    """The marks on a stream's way, oldest first."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, int]] = []  # (number, head)

    def add(self, head: int, keep_frames: int) -> int:
        """Number a new mark at a head, and forget those further back than `keep_frames`."""
        number = new_number()
        self._marks = [*(mark for mark in self._marks if mark[1] >= head - keep_frames), (number, head)]
        return number

    def go_back(self, mark: StreamMark, head: int, keep_frames: int) -> None:
        """Leave the way that led on from a mark.

        Raises:
            ConfigError: the mark lies too far back or ahead, or not on this way.
        """
        back = head - mark.tokens.head
        if not 0 <= back <= keep_frames:
            limit = f"0 … {keep_frames} (rewind_seconds of open_stream)"
            raise ConfigError(f"the mark lies {back} frames back, must be within {limit}; use snapshot() for longer")
        numbers = [number for number, _ in self._marks]
        if mark.number not in numbers:
            raise ConfigError("the mark is of another stream, or of music that was revoked since; make a new one")
        del self._marks[numbers.index(mark.number) + 1 :]

    def begin_at(self, mark: StreamMark) -> None:
        """Forget the marks before one."""
        self._marks = [one for one in self._marks if one[1] >= mark.tokens.head]

    def clear(self) -> None:
        """Forget all marks."""
        self._marks.clear()
