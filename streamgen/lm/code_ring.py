"""The newest codes of one stream, as many as a re-read can ask for, read and written as columns of the delay pattern.

    ring[k, f mod n]     code of codebook k in frame f; n frames are remembered

Rules: codes and frames only; knows no window, no model. Heads, frames and columns as in `delay`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamgen.lm.delay import DelayPattern

__all__ = ["CodeRing"]


class CodeRing:
    """Codes by frame, the oldest overwritten.

    Args:
        pattern: delays.
        frames: n, how many to remember.
        total_frames: a known end, or None for endless.
    """

    def __init__(self, pattern: DelayPattern, frames: int, total_frames: int | None = None) -> None:
        self._pattern, self._total_frames = pattern, total_frames
        self._offsets = pattern.offsets()
        self._codebooks = torch.arange(len(self._offsets))
        self._codes = torch.full((len(self._offsets), frames), pattern.pad)

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self._offsets)

    def column(self, head: int, start_frame: int = 0) -> Tensor:
        """Return the codes of a column that is still remembered, int64 [K]; padding before `start_frame`."""
        codes = self._codes[self._codebooks, (head - self._offsets) % self._codes.shape[1]]
        return torch.where(self._pattern.valid(head, start_frame, self._total_frames), codes, self._pattern.pad)

    def columns(self, start: int, stop: int, start_frame: int) -> Tensor:
        """Return the columns of heads `start` … `stop` − 1, int64 [n, K]."""
        columns = [self.column(head, start_frame) for head in range(start, stop)]
        return torch.stack(columns) if columns else torch.empty(0, self.codebooks, dtype=torch.int64)

    def write(self, head: int, codes: Tensor, first_frame: int = 0) -> None:
        """Write a drawn column.

        Args:
            head: its undelayed frame.
            codes: int64 [K].
            first_frame: codes of frames before it are given or held, not drawn: left as they are.
        """
        frames = head - self._offsets
        fresh = frames >= first_frame
        self._codes[self._codebooks[fresh], frames[fresh] % self._codes.shape[1]] = codes[fresh]

    def hold(self, head: int, first_frame: int, stop: int) -> None:
        """Fill what is not drawn yet of frames before `stop` with each codebook's last code.

        Args:
            head: of the newest column drawn, at least `max_delay` unless frames are given.
            first_frame: codes of frames before it are given or held already.
            stop: past the last frame to fill.
        """
        for codebook, delay in enumerate(self._pattern.delays):
            start = max(head + 1 - delay, first_frame)
            assert start > 0, "there is a frame to hold"
            last = self._codes[codebook, (start - 1) % self._codes.shape[1]].clone()
            self._codes[codebook, torch.arange(start, max(start, stop)) % self._codes.shape[1]] = last

    def give(self, codes: Tensor) -> None:
        """Write frames 0 … F − 1, int64 [K, F]."""
        self._codes[:, : codes.shape[1]] = codes

    def frames(self, start: int, stop: int) -> Tensor:
        """Return frames that are still remembered, int64 [K, stop − start]."""
        return self._codes[:, torch.arange(start, stop) % self._codes.shape[1]]

    def snapshot(self) -> Tensor:
        """Clone the codes."""
        return self._codes.clone()

    def restore(self, codes: Tensor) -> None:
        """Go back to a snapshot, which stays as it is."""
        self._codes = codes.clone()
