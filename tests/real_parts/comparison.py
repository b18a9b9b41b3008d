"""A recording against what should be heard: found, and compared piece by piece."""

from __future__ import annotations

import numpy as np
import soxr


def resampled(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Convert [frames, 2] at once, as the sound door does block by block."""
    return soxr.resample(samples, from_hz, to_hz, quality="HQ")


def found(piece: np.ndarray, whole: np.ndarray) -> int:
    """Where in the whole, [frames, 2], a piece of it begins."""
    size = 1 << (len(whole) + len(piece) - 1).bit_length()  # another length may take ten times as long
    spectrum = np.fft.rfft(whole[:, 0], size) * np.conj(np.fft.rfft(piece[:, 0], size))
    return int(np.argmax(np.fft.irfft(spectrum, size)[: len(whole)]))


def snr_db(heard: np.ndarray, expected: np.ndarray) -> float:
    """Signal over difference; of equal length."""
    return float(10 * np.log10((expected**2).mean() / (((heard - expected) ** 2).mean() + 1e-16)))


def snrs_db(heard: np.ndarray, expected: np.ndarray, window: int) -> list[float]:
    """Compare window by window, from the first frames of both."""
    count = min(len(heard), len(expected)) // window
    return [snr_db(*(each[n * window : (n + 1) * window] for each in (heard, expected))) for n in range(count)]


def followed_snrs_db(heard: np.ndarray, expected: np.ndarray, window: int, reach: int) -> list[tuple[int, float]]:
    """Compare window by window, each at most `reach` frames from where the last one was found.

    A device's clock is not the system's: now and then a player stretches its sound by a thousandth.

    Returns:
        For each window, how many frames later than at the beginning it lies, and how well it fits there.
    """
    found_, shift = [], 0
    padded = np.pad(expected, ((reach, reach), (0, 0)))
    for start in range(0, min(len(heard), len(expected)) - window + 1, window):
        piece, near = heard[start : start + window], padded[start + shift : start + shift + window + 2 * reach]
        if len(near) < window + 2 * reach:
            break
        a, b = piece.sum(axis=1, dtype=np.float64), near.sum(axis=1, dtype=np.float64)
        size = len(a) + len(b)
        product = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)[: 2 * reach + 1]
        sums = np.concatenate([[0.0], np.cumsum(b**2)])
        power = sums[window:] - sums[:-window]
        place = int(np.argmin(power - 2 * product))
        found_.append((shift + place - reach, snr_db(piece, near[place : place + window])))
        shift += place - reach
    return found_
