"""What doors show of the music, when it sounds rather than when it is made: levels, bands, onsets. Sans-I/O.

    blocks, 0.2 s before they are due ─┬─► peaks of 50 ms ─► levels: those that are due
                                       └─► spectra ─► bands: those that are due        onsets: each with its time

Rules: the event loop. Knows no socket; nothing is computed for nobody, for whoever has nobody to show to adds no block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from bridge.audio.spectra import BANDS_HZ, FLOOR_DB, Onsets, Spectra
from bridge.session.events import Block

__all__ = ["METER_SECONDS", "SILENCE_DB", "SILENT_BANDS", "Levels", "Visuals"]

METER_SECONDS = 1 / 20
SILENCE_DB = FLOOR_DB
SILENT_BANDS = (FLOOR_DB,) * len(BANDS_HZ)
_KEPT_SECONDS = 12.0  # more than any session is ahead


class Levels:
    """Peaks of 50 ms.

    Args:
        rate_hz: of the blocks.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._peaks: deque[tuple[float, float, float]] = deque()

    def add(self, block: Block) -> None:
        """Take a block's peaks."""
        length = round(METER_SECONDS * self._rate_hz)
        for start in range(0, block.samples.shape[1], length):
            left, right = np.abs(block.samples[:, start : start + length]).max(axis=1)
            due = block.time_us / 1e6 + start / self._rate_hz
            self._peaks.append((due, float(left), float(right)))
        while self._peaks and self._peaks[-1][0] - self._peaks[0][0] > _KEPT_SECONDS:
            self._peaks.popleft()

    def due(self, now: float) -> tuple[float, float] | None:
        """Return the levels in dBFS that sound since the last call; Unix seconds. None: nothing does."""
        left = right = -1.0
        while self._peaks and self._peaks[0][0] <= now:
            _, one, two = self._peaks.popleft()
            left, right = max(left, one), max(right, two)
        return None if left < 0 else (_db(left), _db(right))


def _db(peak: float) -> float:
    return max(SILENCE_DB, 20 * float(np.log10(max(peak, 1e-6))))


class Visuals:
    """Bands and onsets of one session.

    Args:
        rate_hz: of the blocks.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._spectra = Spectra(rate_hz)
        self._onsets = Onsets(self._spectra.seen_after)
        self._bands: deque[tuple[float, tuple[float, ...]]] = deque()

    def add(self, block: Block) -> Iterator[tuple[float, float]]:
        """Take a block; yields the onsets that are sure now: when each is due, Unix seconds, and how strong, 0 … 1."""
        look = self._spectra.add(block.samples, block.start_sample)
        due = block.time_us / 1e6 - block.start_sample / self._rate_hz
        for end, bands in zip(look.ends.tolist(), look.bands.tolist(), strict=True):
            self._bands.append((due + end / self._rate_hz, tuple(bands)))
        while self._bands and self._bands[-1][0] - self._bands[0][0] > _KEPT_SECONDS:
            self._bands.popleft()
        for sample, strength in self._onsets.add(look):
            yield due + sample / self._rate_hz, strength

    def due(self, now: float) -> tuple[float, ...] | None:
        """Return the bands in dBFS, the highest of each since the last call; Unix seconds. None: nothing sounds."""
        heard = []
        while self._bands and self._bands[0][0] <= now:
            heard.append(self._bands.popleft()[1])
        return tuple(map(max, zip(*heard, strict=True))) if heard else None
