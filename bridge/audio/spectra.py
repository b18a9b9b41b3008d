"""What moves in the music: how loud eight octaves are, and where something is struck.

    samples ─► a spectrum every 10 ms ─┬─► eight octaves, dBFS each           63 Hz … 8 kHz
                                       └─► flux: the mean rise of a third of an octave in 20 ms, dB
    flux ──► where it stands out of the 150 ms around it ─► onsets

Rules: numpy only, no I/O, no clock; any chunking of the same music gives the same. Nothing reaches further back than
200 ms, so that what begins to look in the midst soon sees what all others see.
Source: the flux is Böck's and Widmer's (SuperFlux, DAFx 2013) without its filter for vibrato.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BANDS_HZ", "FLOOR_DB", "HOP_SECONDS", "Look", "Onsets", "Spectra"]

BANDS_HZ = (63, 125, 250, 500, 1_000, 2_000, 4_000, 8_000)
"""Centres of the octaves."""
FLOOR_DB = -120.0
HOP_SECONDS = 0.01
_WINDOW_SECONDS = 0.04
_LAG = 2  # hops over which the flux rises
_QUIET = 1e-7  # of full scale's power: what lies below rises from nothing to nothing
_SEEN_AFTER = (
    0.0117,
    0.15,
)  # s, and of a window: from a stroke to the end of that in which the flux is highest; measured
_BEFORE, _AROUND, _AFTER = 10, 4, 4  # hops: of the mean, of the highest, and of both behind
_STANDS_OUT, _LEAST_DB = 1.6, 1.0
_APART = 6  # hops between two onsets
_FORGETS = 0.5 ** (HOP_SECONDS / 5.0)  # of the strongest flux, in each hop

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """Some spectra that follow on each other.

    Attributes:
        ends: sample after the last of each one's window, [n].
        bands: dBFS of the eight octaves; a sine at full scale is 0. [n, 8].
        flux: dB, [n].
    """

    ends: NDArray[np.int64]
    bands: Floats
    flux: Floats


class Spectra:
    """Spectra of one session's music.

    Args:
        rate_hz: of the samples.

    Attributes:
        hop: samples from one spectrum to the next.
        seen_after: samples from a stroke to the end of the window in which the flux is highest.
    """

    def __init__(self, rate_hz: int) -> None:
        self.hop = round(rate_hz * HOP_SECONDS)
        self._size = 1 << math.ceil(math.log2(_WINDOW_SECONDS * rate_hz))
        self.seen_after = round(_SEEN_AFTER[0] * rate_hz + _SEEN_AFTER[1] * self._size)
        self._window = np.hanning(self._size).astype(np.float32)
        self._scale = 4 / (self._size * float(self._window @ self._window))  # a sine's power becomes its height squared
        bin_hz = rate_hz / self._size
        octaves = np.array([*BANDS_HZ, 2 * BANDS_HZ[-1]]) / math.sqrt(2)
        thirds = octaves[0] * 2 ** (np.arange(3 * len(BANDS_HZ) + 1) / 3)
        self._octaves = np.minimum(np.rint(octaves / bin_hz).astype(int), self._size // 2)
        self._thirds = np.unique(np.minimum(np.rint(thirds / bin_hz).astype(int), self._size // 2))
        self._begin(0)

    def _begin(self, start: int) -> None:
        self._end = start
        self._tail = np.zeros(self._size - 1, np.float32)
        self._before = np.full((_LAG, len(self._thirds) - 1), 10 * math.log10(_QUIET))

    def add(self, samples: NDArray[np.float32], start: int) -> Look:
        """Take float32 [2, n] that begins at a sample; what does not follow on begins behind silence."""
        if start != self._end:
            self._begin(start)
        sound = np.concatenate([self._tail, samples.mean(axis=0)])
        self._end = start + samples.shape[1]
        first = start + -start % self.hop  # ends lie on a grid, whichever way the samples come
        ends = np.arange(first if first > start else first + self.hop, self._end + 1, self.hop)
        self._tail = sound[len(sound) - self._size + 1 :]
        if not len(ends):
            return Look(ends, np.zeros((0, len(BANDS_HZ))), np.zeros(0))
        windows = np.lib.stride_tricks.sliding_window_view(sound, self._size)[ends - start - 1]
        power = np.square(np.abs(np.fft.rfft(windows * self._window))) * self._scale
        heights = 10 * np.log10(np.add.reduceat(power, self._thirds, axis=1)[:, :-1] + _QUIET)
        heights = np.concatenate([self._before, heights])
        self._before = heights[-_LAG:]
        flux = np.maximum(heights[_LAG:] - heights[:-_LAG], 0).mean(axis=1)
        octaves = np.add.reduceat(power, self._octaves, axis=1)[:, :-1]
        return Look(ends, 10 * np.log10(np.maximum(octaves, 10 ** (FLOOR_DB / 10))), flux)


class Onsets:
    """Where something is struck.

    Args:
        seen_after: of the spectra that are looked at.
    """

    def __init__(self, seen_after: int) -> None:
        self._seen_after = seen_after
        self._flux = deque([(0, 0.0)] * _BEFORE, maxlen=_BEFORE + 1 + _AFTER)
        self._since, self._strongest = _APART, 0.0

    def add(self, look: Look) -> Iterator[tuple[int, float]]:
        """Take what follows; yields (sample, how strong against the last seconds, 0 … 1), 40 ms after each."""
        for end, flux in zip(look.ends.tolist(), look.flux.tolist(), strict=True):
            self._flux.append((end, flux))
            self._strongest = max(self._strongest * _FORGETS, flux)
            self._since += 1
            if len(self._flux) == self._flux.maxlen and (found := self._found()) is not None:
                self._since = 0
                yield found

    def _found(self) -> tuple[int, float] | None:
        end, flux = self._flux[_BEFORE]
        if self._since < _APART or flux < _LEAST_DB:
            return None
        values = [one for _, one in self._flux]
        if flux < max(values[_BEFORE - _AROUND :]) or flux < _STANDS_OUT * sum(values) / len(values):
            return None
        return max(end - self._seen_after, 0), min(flux / self._strongest, 1.0)
