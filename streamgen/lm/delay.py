"""The delay pattern in closed form: which frame of which codebook stands in which column; a stream's codes.

Mono, 4 codebooks (rows), frames numbered from 0, `P` is the padding code:

    column   0  1  2  3  4  5         column 0 starts every window
    k = 0    P  0  1  2  3  4  …
    k = 1    P  P  0  1  2  3  …      codebook k of frame f stands in column f + 1 + delay[k]
    k = 2    P  P  P  0  1  2  …
    k = 3    P  P  P  P  0  1  …

Stereo interleaves left and right, so the delays are 0,0,1,1,2,2,3,3. A frame is complete once its last codebook is
sampled, `max(delays)` columns after its first. With a known end (`total_frames`), places past the last frame hold
padding too, as transformers' `build_delay_pattern_mask` has it.

Codes are kept as the pattern's columns, as many as a re-read can ask for: a step reads and writes whole columns, frames
are gathered when many are due.

    ring[h mod n, k]     code of codebook k in the column of head h: frame h − delay[k]; n columns are remembered

Rules: arithmetic on (column, codebook), and codes; knows no model, no window. `head` is the frame of the codebooks
without delay in a column, i.e. column − 1, counted in frames of the stream.
Source: MusicGen, arXiv:2306.05284, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CodeRing", "DelayPattern"]


@dataclass(frozen=True)
class DelayPattern:
    """Delays of every codebook, in frames.

    Attributes:
        delays: delay of codebook k, ascending from 0.
        pad: the code that fills places without a frame.
    """

    delays: tuple[int, ...]
    pad: int

    @classmethod
    def of(cls, num_codebooks: int, audio_channels: int, pad: int) -> DelayPattern:
        """Build MusicGen's pattern: each codebook one frame later, channels interleaved."""
        return cls(tuple(k // audio_channels for k in range(num_codebooks)), pad)

    @property
    def max_delay(self) -> int:
        """Columns between the first and the last codebook of a frame."""
        return self.delays[-1]

    def offsets(self) -> Tensor:
        """Return the delays as int64 [K]."""
        return torch.tensor(self.delays)

    def valid(self, head: int, start_frame: int = 0, total_frames: int | None = None) -> Tensor:
        """Tell which codebooks hold a real frame in the column whose undelayed frame is `head`.

        Returns:
            bool [K].
        """
        frames = head - self.offsets()
        valid = frames >= start_frame
        return valid if total_frames is None else valid & (frames < total_frames)


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
        self._frames, self._max_delay = frames, pattern.max_delay  # asked for in every step: a tensor tells it slowly

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self._offsets)

    def column(self, head: int, start_frame: int = 0) -> Tensor:
        """Return the codes of a column that is still remembered, int64 [K]; padding before `start_frame`."""
        codes = self._columns[head % self._frames]
        if head - self._max_delay >= start_frame and (self._total_frames is None or head < self._total_frames):
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
        row = self._columns[head % self._frames]
        if head - self._max_delay < first_frame:
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
            last = self._columns[(start - 1 + delay) % self._frames, codebook].clone()
            rows = torch.arange(start, max(start, stop)) + delay
            self._columns[rows % self._frames, codebook] = last

    def give(self, codes: Tensor) -> None:
        """Write frames 0 … F − 1, int64 [K, F]."""
        self._columns[self._rows(0, codes.shape[1]), self._codebooks[:, None]] = codes

    def frames(self, start: int, stop: int) -> Tensor:
        """Return frames that are still remembered, int64 [K, stop − start]."""
        return self._columns[self._rows(start, stop), self._codebooks[:, None]]

    def _rows(self, start: int, stop: int) -> Tensor:
        """Where each codebook of some frames lies, int64 [K, stop − start]."""
        return (torch.arange(start, stop) + self._offsets[:, None]) % self._frames

    def snapshot(self) -> Tensor:
        """Clone the codes."""
        return self._columns.clone()

    def restore(self, codes: Tensor) -> None:
        """Go back to a snapshot, which stays as it is."""
        self._columns.copy_(codes)

    def check(self, codes: Tensor) -> None:
        """Refuse codes that are none of this ring's.

        Raises:
            ValueError: of another shape, or beyond the padding's.
        """
        if codes.shape != self._columns.shape or codes.dtype != self._columns.dtype:
            raise ValueError(f"the codes are {codes.dtype} {[*codes.shape]}, here they are {[*self._columns.shape]}")
        if not 0 <= int(codes.min()) <= int(codes.max()) <= self._pattern.pad:
            raise ValueError(f"there are codes outside 0 … {self._pattern.pad}")
