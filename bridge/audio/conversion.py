"""Audio in other forms, as doors send it: at another rate, without a click where chunks meet; in 16 bits, and back.

Rules: no I/O; one Resampler per stream.
"""

from __future__ import annotations

import atexit
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np
import soxr
from numpy.typing import NDArray

__all__ = ["Resampler", "from_s16", "resampler", "to_s16"]

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
        _open.add(self)

    def process(self, samples: Pcm, last: bool = False) -> Pcm:
        interleaved = self._stream.resample_chunk(np.ascontiguousarray(samples.T), last=last)
        return np.ascontiguousarray(interleaved.T)


_open: WeakSet[_Soxr] = WeakSet()


@atexit.register
def _release() -> None:
    """Give soxr's memory back: it complains of what is still there when Python has ended."""
    for one in list(_open):
        one._stream = None


def resampler(from_hz: int, to_hz: int, channels: int = 2) -> Resampler:
    """Make the converter between two rates, in samples a second; equal rates pass through untouched."""
    return _Same() if from_hz == to_hz else _Soxr(from_hz, to_hz, channels)


def to_s16(samples: Pcm) -> NDArray[np.int16]:
    """Round float32 to 16 bits: full scale is 32,768, beyond it is clipped, NaN is silence. Any shape."""
    finite = samples if np.isfinite(samples).all() else np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    scaled = np.rint(finite * np.float32(32_768.0))
    clipped: NDArray[np.int16] = np.clip(scaled, -32_768, 32_767).astype(np.int16)
    return clipped


def from_s16(samples: NDArray[np.int16]) -> Pcm:
    """Undo `to_s16`, to within half a step."""
    return samples.astype(np.float32) / np.float32(32_768.0)
