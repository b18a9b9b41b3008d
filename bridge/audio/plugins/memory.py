"""The block that parent and child both see: a file in memory, mapped by both.

    header │ turns │ what goes in, float32 [2, MAX_BLOCK] │ what comes out, the same │ parameters │ two lines of text

One byte on a socket says whose turn it is, so nothing here needs a lock; `saved`, `unsaved` and `latency_samples` are
written by the child alone.

Rules: numpy and the standard library only.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge.audio.plugins.engine import Pcm, Turn

__all__ = ["MAX_BLOCK", "MAX_PARAMETERS", "MAX_TURNS", "BlockMemory"]

MAX_BLOCK = 2_048  # samples at once
MAX_TURNS = 4_096  # of parameters in one block
MAX_PARAMETERS = 1_024
_TEXT_BYTES = 1_024
_HEADER = np.dtype(
    [
        ("count", "i8"),
        ("start_sample", "i8"),
        ("turns", "i8"),
        ("tempo_bpm", "f8"),
        ("latency_samples", "i8"),
        ("saving", "i8"),
        ("saved", "i8"),
        ("unsaved", "i8"),
    ]
)
_TURN = np.dtype([("sample", "i4"), ("index", "i4"), ("value", "f8")])
_LAYOUT = np.dtype(
    [
        ("header", _HEADER),
        ("turns", _TURN, MAX_TURNS),
        ("given", "f4", (2, MAX_BLOCK)),
        ("made", "f4", (2, MAX_BLOCK)),
        ("values", "f8", MAX_PARAMETERS),
        ("text", f"S{_TEXT_BYTES}"),
        ("unsaved_text", f"S{_TEXT_BYTES}"),
    ]
)


class BlockMemory:
    """A block in shared memory.

    Args:
        path: of the file; `create` makes one.

    Attributes:
        path: as given. It may be removed once both have it.
        given, made: float32 [2, MAX_BLOCK], what goes into the plugin and what comes out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.itemsize)
        self._all = np.frombuffer(self._map, _LAYOUT, 1)
        self._header = self._all["header"][:1]
        self._turns = self._all["turns"][0]
        self.given: Pcm = self._all["given"][0]
        self.made: Pcm = self._all["made"][0]

    @classmethod
    def create(cls) -> BlockMemory:
        """Make one, empty: in memory where the system has a place for that."""
        folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        handle, name = tempfile.mkstemp(prefix="streamgen-plugin-", dir=folder)
        os.truncate(handle, _LAYOUT.itemsize)
        os.close(handle)
        return cls(Path(name))

    def forget_name(self) -> None:
        """Remove the file; what is mapped stays. Windows removes none that is in use: there it is left."""
        with contextlib.suppress(PermissionError):
            self.path.unlink()

    def _number(self, name: str) -> int:
        return int(self._header[name][0])

    # -- parent -> child ------------------------------------------------------------------------------------------

    def give(self, block: Pcm, start_sample: int, tempo_bpm: float, turns: Sequence[Turn]) -> None:
        """Write a block, float32 [2, n], for the child."""
        count = block.shape[1]
        self.given[:, :count] = block
        self._header["count"], self._header["start_sample"] = count, start_sample
        self._header["tempo_bpm"], self._header["turns"] = tempo_bpm, len(turns)
        if turns:
            self._turns[: len(turns)] = turns

    def taken(self) -> tuple[int, int, float, list[Turn]]:
        """Read what was given: samples, position, tempo, turns."""
        turns = [(int(at), int(index), float(value)) for at, index, value in self._turns[: self._number("turns")]]
        return self._number("count"), self._number("start_sample"), float(self._header["tempo_bpm"][0]), turns

    # -- child -> parent ------------------------------------------------------------------------------------------

    @property
    def latency_samples(self) -> int:
        """Of the plugin, as it is now."""
        return self._number("latency_samples")

    @latency_samples.setter
    def latency_samples(self, samples: int) -> None:
        self._header["latency_samples"] = samples

    @property
    def saving(self) -> bool:
        """Whether the child is busy with its plugin's state."""
        return bool(self._number("saving"))

    @saving.setter
    def saving(self, busy: bool) -> None:
        self._header["saving"] = busy

    @property
    def saved(self) -> int:
        """How often the state was written."""
        return self._number("saved")

    @property
    def unsaved(self) -> int:
        """How often it was asked for in vain."""
        return self._number("unsaved")

    def note_saved(self, values: Sequence[float]) -> None:
        """Note that the state was written once more, and what the parameters were then."""
        self._all["values"][0][: len(values)] = values
        self._header["saved"] += 1

    def note_unsaved(self, why: str) -> None:
        """Note that the state could not be had or not be written."""
        self._all["unsaved_text"][0] = _cut(why)
        self._header["unsaved"] += 1

    def values(self, count: int) -> list[float]:
        """Return the parameters, 0 … 1, as of the newest state."""
        return [float(value) for value in np.clip(np.nan_to_num(self._all["values"][0][:count]), 0, 1)]

    @property
    def text(self) -> str:
        """What the child says went wrong."""
        return bytes(self._all["text"][0]).decode(errors="replace")

    @text.setter
    def text(self, text: str) -> None:
        self._all["text"][0] = _cut(text)

    @property
    def unsaved_text(self) -> str:
        """Why the state could not be saved, when it could not last."""
        return bytes(self._all["unsaved_text"][0]).decode(errors="replace")


def _cut(text: str) -> bytes:
    return text.encode(errors="replace")[:_TEXT_BYTES]
