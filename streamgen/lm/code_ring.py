"""The newest codes of one stream, as many as a re-read can ask for, kept as the columns of the delay pattern.

    ring[h mod n, k]     code of codebook k in the column of head h: frame h − delay[k]; n columns are remembered

A step reads and writes whole columns; frames are gathered when many are due.

Rules: codes and frames only; knows no window, no model. Heads, frames and columns as in `delay`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamgen.lm.delay import DelayPattern

__all__ = ["CodeRing"]


class CodeRing:
    """Codes by column, the oldest overwritten.

    Args:
        pattern: delays.
        frames: n, how many to remember of each codebook.
        total_frames: a known end, or None for endless.
    """

    def __init__(self, pattern: DelayPattern, frames: int, total_frames: int | None = None) -> None:
        self._pattern, self._total_frames = pattern, total_frames
        self._offsets = pattern.offsets()
        self._codebooks = torch.arange(len(self._offsets))
        with torch.inference_mode(False):  # written inside it and out
            self._columns = torch.full((frames, len(self._offsets)), pattern.pad)

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self._offsets)

    def column(self, head: int, start_frame: int = 0) -> Tensor:
        """Return the codes of a column that is still remembered, int64 [K]; padding before `start_frame`."""
        codes = self._columns[head % len(self._columns)]
        if head - self._pattern.max_delay >= start_frame and (self._total_frames is None or head < self._total_frames):
            return codes
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
        row = self._columns[head % len(self._columns)]
        if head - self._pattern.max_delay < first_frame:
            codes = torch.where(self._pattern.valid(head, first_frame), codes, row)
        row.copy_(codes)

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
            last = self._columns[(start - 1 + delay) % len(self._columns), codebook].clone()
            rows = torch.arange(start, max(start, stop)) + delay
            self._columns[rows % len(self._columns), codebook] = last

    def give(self, codes: Tensor) -> None:
        """Write frames 0 … F − 1, int64 [K, F]."""
        self._columns[self._rows(0, codes.shape[1]), self._codebooks[:, None]] = codes

    def frames(self, start: int, stop: int) -> Tensor:
        """Return frames that are still remembered, int64 [K, stop − start]."""
        return self._columns[self._rows(start, stop), self._codebooks[:, None]]

    def _rows(self, start: int, stop: int) -> Tensor:
        """Where each codebook of some frames lies, int64 [K, stop − start]."""
        return (torch.arange(start, stop) + self._offsets[:, None]) % len(self._columns)

    def snapshot(self) -> Tensor:
        """Clone the codes."""
        return self._columns.clone()

    def restore(self, codes: Tensor) -> None:
        """Go back to a snapshot, which stays as it is."""
        self._columns.copy_(codes)
