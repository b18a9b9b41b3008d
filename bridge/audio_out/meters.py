"""How loud it is: peaks for a level meter, and momentary loudness in LUFS.

Rules: numpy only, no I/O, no thread; any chunking gives the same reading.

Peaks rise at once and fall by 20 dB in 1.7 s, as on a broadcaster's meter (IEC 60268-10, type I). Loudness is ITU-R
BS.1770-5: a shelf and a high-pass ("K"), then the mean square of the last 400 ms. The filters are recursive; numpy has
no such filter, so 10 ms are computed at once from the samples and the four numbers the recursion carries along:

    output = response · samples + carried · state        state = turned · state + entered · samples
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from bridge.commands import Meter

__all__ = ["FLOOR_DB", "Loudness", "PeakMeter"]

FLOOR_DB = -120.0
FALL_DB_A_SECOND = 20 / 1.7
_HOPS = 40  # of 10 ms in 400 ms

Pcm = NDArray[np.float32]
Floats = NDArray[np.float64]


class PeakMeter:
    """Highest sample of each channel, falling slowly."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._fall = FALL_DB_A_SECOND / sample_rate_hz * math.log(10) / 20
        self._level = np.zeros(2)

    def process(self, samples: Pcm) -> Meter:
        """Take the next float32 [2, n]; returns the reading after them."""
        count = samples.shape[1]
        if count:
            since = np.exp(-self._fall * np.arange(count - 1, -1, -1))
            held = self._level * math.exp(-self._fall * count)
            self._level = np.maximum(held, (np.abs(samples) * since).max(axis=1))
        left, right = (max(FLOOR_DB, 20 * math.log10(max(level, 1e-9))) for level in self._level)
        return Meter(left, right)


class Loudness:
    """Momentary loudness of a stereo stream.

    Attributes:
        lufs: of the last 400 ms that are complete to 10 ms; FLOOR_DB before and in silence.
    """

    def __init__(self, sample_rate_hz: int, channels: int = 2) -> None:
        self.lufs = FLOOR_DB
        self._hop = round(sample_rate_hz / 100)
        self._response, self._carried, self._turned, self._entered = _block_filter(sample_rate_hz, self._hop)
        self._state = np.zeros((channels, len(self._turned)))
        self._rest = np.zeros((channels, 0), np.float32)
        self._energy: deque[float] = deque([0.0] * _HOPS, maxlen=_HOPS)

    def process(self, samples: Pcm) -> float:
        """Take the next float32 [channels, n]; returns `lufs`."""
        audio = np.concatenate((self._rest, samples), axis=1)
        whole = audio.shape[1] // self._hop * self._hop
        self._rest = audio[:, whole:]
        for start in range(0, whole, self._hop):
            self._take(audio[:, start : start + self._hop].astype(np.float64))
        return self.lufs

    def _take(self, samples: Floats) -> None:
        weighted = samples @ self._response + self._state @ self._carried
        self._state = self._state @ self._turned + samples @ self._entered
        self._energy.append(float((weighted**2).sum()) / self._hop)
        mean = sum(self._energy) / _HOPS
        self.lufs = max(FLOOR_DB, -0.691 + 10 * math.log10(max(mean, 1e-13)))


def _k_weighting(rate_hz: int) -> tuple[Floats, Floats]:
    """Numerator and denominator of shelf times high-pass, [5] each, for any rate (the standard lists 48 kHz only).

    The analogue prototypes behind the standard's coefficients: a shelf of 4 dB at 1682 Hz, a high-pass at 38 Hz (as in
    libebur128).
    """
    gain, shelf_q = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    k, half = math.tan(math.pi * 1681.974450955533 / rate_hz), gain**0.4996667741545416
    shelf_b = np.array([gain + half * k / shelf_q + k * k, 2 * (k * k - gain), gain - half * k / shelf_q + k * k])
    shelf_a = np.array([1 + k / shelf_q + k * k, 2 * (k * k - 1), 1 - k / shelf_q + k * k])
    k, q = math.tan(math.pi * 38.13547087602444 / rate_hz), 0.5003270373238773
    pass_a = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    pass_b = np.array([1.0, -2.0, 1.0])
    return np.convolve(shelf_b / shelf_a[0], pass_b), np.convolve(shelf_a / shelf_a[0], pass_a / pass_a[0])


def _block_filter(rate_hz: int, count: int) -> tuple[Floats, Floats, Floats, Floats]:
    """The recursion over `count` samples at once, for row vectors: response, carried, turned, entered."""
    b, a = _k_weighting(rate_hz)
    order = len(a) - 1
    step = np.eye(order, k=1)  # transposed direct form II: state' = step · state + enter · x, y = state[0] + b[0] · x
    step[:, 0] = -a[1:]
    enter = b[1:] - a[1:] * b[0]
    powers = [np.eye(order)]
    for _ in range(count):
        powers.append(step @ powers[-1])
    echo = np.array([b[0], *(power[0] @ enter for power in powers[: count - 1])])
    lag = np.arange(count)[None, :] - np.arange(count)[:, None]
    response = np.where(lag >= 0, echo[lag], 0.0)
    carried = np.stack([power[0] for power in powers[:count]], axis=1)
    entered = np.stack([power @ enter for power in powers[count - 1 :: -1]])
    return response, carried, powers[count].T, entered
