"""The delay pattern in closed form: which frame of which codebook stands in which column. No total length.

Mono, 4 codebooks (rows), frames numbered from 0, `P` is the padding code:

    column   0  1  2  3  4  5         column 0 starts every window
    k = 0    P  0  1  2  3  4  …
    k = 1    P  P  0  1  2  3  …      codebook k of frame f stands in column f + 1 + delay[k]
    k = 2    P  P  P  0  1  2  …
    k = 3    P  P  P  P  0  1  …

Stereo interleaves left and right, so the delays are 0,0,1,1,2,2,3,3. A frame is complete once its last codebook is
sampled, `max(delays)` columns after its first. With a known end (`total_frames`), places past the last frame hold
padding too, as transformers' `build_delay_pattern_mask` has it.

Rules: arithmetic on (column, codebook) only; knows no model, no window. `head` is the frame of the codebooks without
delay in a column, i.e. column − 1, counted in frames of the stream.
Source: MusicGen, arXiv:2306.05284, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DelayPattern"]


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
