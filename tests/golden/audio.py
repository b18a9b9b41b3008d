"""The audio that audiocraft was given when its tokens were recorded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE_HZ", "seeded_tune"]

RATE_HZ = 32_000


def seeded_tune(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Return a tune of half-second notes over a little noise, float32 [samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    hertz = rng.integers(200, 900, 64)[(time * 2).astype(int) % 64]
    tune = 0.2 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE_HZ) + 0.02 * rng.standard_normal(len(time))
    found: NDArray[np.float32] = tune.astype(np.float32)
    return found
