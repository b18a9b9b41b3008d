"""A stream's audio at another rate, without a click where chunks meet.

Rules: no I/O; float32 [channels, samples] in and out; one Resampler per stream.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

__all__ = ["Resampler", "resampler"]

Pcm = NDArray[np.float32]


class Resampler(Protocol):
    """Takes chunks at one rate, gives chunks at another."""

    def process(self, samples: Pcm, last: bool = False) -> Pcm:
        """Convert float32 [channels, n]; `last` also gives what was held back."""


class _Same:
    def process(self, samples: Pcm, last: bool = False) -> Pcm:  # noqa: ARG002 - nothing is ever held back
        return samples


class _Soxr:
    """soxr in its HQ setting: it holds back 12 ms, which `last` gives out."""

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        self._stream: Any = soxr.ResampleStream(from_hz, to_hz, channels, dtype="float32", quality="HQ")

    def process(self, samples: Pcm, last: bool = False) -> Pcm:
        interleaved = self._stream.resample_chunk(np.ascontiguousarray(samples.T), last=last)
        return np.ascontiguousarray(interleaved.T)


def resampler(from_hz: int, to_hz: int, channels: int = 2) -> Resampler:
    """Make the converter between two rates, in samples a second; equal rates pass through untouched."""
    return _Same() if from_hz == to_hz else _Soxr(from_hz, to_hz, channels)
