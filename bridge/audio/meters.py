"""How loud it is: peaks for a level meter.

Rules: numpy only, no I/O, no thread; any chunking gives the same reading.

Peaks rise at once and fall by 20 dB in 1.7 s, as on a broadcaster's meter (IEC 60268-10, type I).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOOR_DB", "PeakMeter"]

FLOOR_DB = -120.0
FALL_DB_A_SECOND = 20 / 1.7

Pcm = NDArray[np.float32]


class PeakMeter:
    """Highest sample of each channel, falling slowly."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._fall = FALL_DB_A_SECOND / sample_rate_hz * math.log(10) / 20
        self._level = np.zeros(2)

    def process(self, samples: Pcm) -> tuple[float, float]:
        """Take the next float32 [2, n]; returns the reading after them, left and right in dBFS."""
        count = samples.shape[1]
        if count:
            since = np.exp(-self._fall * np.arange(count - 1, -1, -1))
            held = self._level * math.exp(-self._fall * count)
            self._level = np.maximum(held, (np.abs(samples) * since).max(axis=1))
        left, right = (max(FLOOR_DB, 20 * math.log10(max(level, 1e-9))) for level in self._level)
        return left, right
