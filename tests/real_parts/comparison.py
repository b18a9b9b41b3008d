"""A recording against what should be heard: found, and compared piece by piece."""

from __future__ import annotations

import numpy as np
import soxr


def resampled(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Convert [frames, 2] at once, as the sound door does block by block."""
    return soxr.resample(samples, from_hz, to_hz, quality="HQ")


def found(piece: np.ndarray, whole: np.ndarray) -> int:
    """Where in the whole, [frames, 2], a piece of it begins."""
    size = len(whole) + len(piece)
    spectrum = np.fft.rfft(whole[:, 0], size) * np.conj(np.fft.rfft(piece[:, 0], size))
    return int(np.argmax(np.fft.irfft(spectrum, size)[: len(whole)]))


def snr_db(heard: np.ndarray, expected: np.ndarray) -> float:
    """Signal over difference; of equal length."""
    return float(10 * np.log10((expected**2).mean() / (((heard - expected) ** 2).mean() + 1e-16)))


def snrs_db(heard: np.ndarray, expected: np.ndarray, window: int) -> list[float]:
    """Compare window by window, from the first frames of both."""
    count = min(len(heard), len(expected)) // window
    return [snr_db(*(each[n * window : (n + 1) * window] for each in (heard, expected))) for n in range(count)]
