"""AudioChunk: the only PCM type that crosses a public edge.

    ├─ chunk ───────────┤├─ chunk ─────┤├─ chunk ───────────┤      one's end_sample is the next one's start_sample
    start_sample        end_sample

Rules: numpy float32, `[channels, samples]`, nominally within ±1; a chunk knows where it starts in its stream.
Chunks of any length follow each other without a gap, so any of them may be joined with `numpy.concatenate(…, axis=1)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AudioChunk"]


@dataclass(frozen=True, repr=False, eq=False)
class AudioChunk:
    """A piece of a stream's audio.

    Attributes:
        samples: float32 [2, n]; a mono checkpoint's one channel is in both. They are the holder's own: nothing in this
            package writes into them later.
        start_sample: position of `samples[:, 0]` in the stream, in samples at `sample_rate_hz`.
        sample_rate_hz: samples a second.
    """

    samples: NDArray[np.float32]
    start_sample: int
    sample_rate_hz: int

    def __repr__(self) -> str:
        """Say how much sound it is, where it starts and how loud it gets."""
        channels, samples = self.samples.shape
        peak = float(np.abs(self.samples).max()) if samples else 0.0
        shape = f"{channels} × {samples:,} samples at {self.sample_rate_hz} Hz"
        return f"<AudioChunk {shape} ({self.seconds:.2f} s) from sample {self.start_sample:,}, peak {peak:.3f}>"

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return int(self.samples.shape[1]) / self.sample_rate_hz

    @property
    def end_sample(self) -> int:
        """Position of the first sample after this chunk."""
        return self.start_sample + int(self.samples.shape[1])
