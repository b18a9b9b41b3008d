"""Samples of 16 bits and back, as every door that sends them has them. No I/O.

Rules: float32, nominally within ±1, on one side; any shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_s16", "to_s16"]

Pcm = NDArray[np.float32]


def to_s16(samples: Pcm) -> NDArray[np.int16]:
    """Round float32 to 16 bits: full scale is 32,768, beyond it is clipped, NaN is silence. Same shape."""
    finite = samples if np.isfinite(samples).all() else np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    scaled = np.rint(finite * np.float32(32_768.0))
    clipped: NDArray[np.int16] = np.clip(scaled, -32_768, 32_767).astype(np.int16)
    return clipped


def from_s16(samples: NDArray[np.int16]) -> Pcm:
    """Undo `to_s16`, to within half a step."""
    return samples.astype(np.float32) / np.float32(32_768.0)
