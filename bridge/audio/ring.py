"""The buffer between the engine's thread and the sound card's callback.

Rules: one writer thread, one reader (the callback); no lock, no I/O, nothing but a copy while audio is there. Each
side writes only its own counter, and assigning an int is atomic in Python. Frames are interleaved, float32
[frames, channels].

      read_frames              written_frames
          ▼                         ▼
    ──────┬─────────────────────────┬───────────────
     free │ audio, not yet due      │ free
    ──────┴─────────────────────────┴───────────────
           ◄───── filled ──────────►

When the reader finds too little: the last value sinks to zero over FADE_FRAMES (no click), silence follows until
`resume_frames` are there again (one gap instead of many), and the music fades in. What was missing is counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["FADE_FRAMES", "Ring"]

FADE_FRAMES = 256
_RAMP = np.linspace(1.0, 0.0, FADE_FRAMES, endpoint=False, dtype=np.float32)[:, None]

Frames = NDArray[np.float32]


class Ring:
    """A first-in first-out buffer of a fixed size.

    Attributes:
        starved_frames: frames of silence played because nothing was there.
        starvations: how many times that began.
    """

    def __init__(self, capacity_frames: int, channels: int, resume_frames: int = 1) -> None:
        assert 1 <= resume_frames <= capacity_frames, (resume_frames, capacity_frames)
        self.capacity_frames = capacity_frames
        self.resume_frames = resume_frames
        self.starved_frames = 0
        self.starvations = 0
        self._buffer = np.zeros((capacity_frames, channels), np.float32)
        self._written = 0
        self._read = 0
        self._ended = False
        self._starving = False
        self._sinking = FADE_FRAMES  # position in the fade to zero; FADE_FRAMES: it is over
        self._rising = FADE_FRAMES  # position in the fade from zero, likewise
        self._last = np.zeros((1, channels), np.float32)

    @property
    def filled_frames(self) -> int:
        """Frames waiting to be read."""
        return self._written - self._read

    @property
    def room_frames(self) -> int:
        """Frames that can be written now."""
        return self.capacity_frames - self.filled_frames

    def write(self, frames: Frames) -> int:
        """Append what fits of float32 [n, channels]; returns how many frames that was. Writer's thread."""
        count = min(len(frames), self.room_frames)
        start = self._written % self.capacity_frames
        first = min(count, self.capacity_frames - start)
        self._buffer[start : start + first] = frames[:first]
        self._buffer[: count - first] = frames[first:count]
        self._written += count
        return count

    def end(self) -> None:
        """Say that nothing more will come, so that running empty is no starvation. Writer's thread."""
        self._ended = True

    def read_into(self, out: Frames) -> None:
        """Fill float32 [n, channels], with silence where nothing is there. Reader's thread."""
        wanted = len(out)
        count = 0 if self._waiting() else min(wanted, self.filled_frames)
        if count:
            self._copy(out[:count])
        if count < wanted:
            self._starve(out[count:])

    def _waiting(self) -> bool:
        return self._starving and not self._ended and self.filled_frames < self.resume_frames

    def _copy(self, out: Frames) -> None:
        start = self._read % self.capacity_frames
        first = min(len(out), self.capacity_frames - start)
        out[:first] = self._buffer[start : start + first]
        out[first:] = self._buffer[: len(out) - first]
        self._read += len(out)
        if self._starving:
            self._starving, self._rising = False, 0
        if self._rising < FADE_FRAMES:
            self._rise(out)
        self._last[:] = out[-1:]

    def _rise(self, out: Frames) -> None:
        count = min(len(out), FADE_FRAMES - self._rising)
        out[:count] *= 1.0 - _RAMP[self._rising : self._rising + count]
        self._rising += count

    def _starve(self, out: Frames) -> None:
        if not self._starving:
            self._starving, self._sinking = True, 0
            self.starvations += not self._ended
        self.starved_frames += 0 if self._ended else len(out)
        count = min(len(out), FADE_FRAMES - self._sinking)
        out[:count] = self._last * _RAMP[self._sinking : self._sinking + count]
        out[count:] = 0.0
        self._sinking += count
