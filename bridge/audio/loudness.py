"""How loud it is: to people, by ITU-R BS.1770-5, gated, in LUFS, with a slow gain towards that; and peaks, for a meter.

    samples ─► K-weighting ─► power of every 100 ms ─► blocks of 400 ms, each 100 ms ─► those above −70 LUFS
                                                                                     ─► those above their mean − 10 LU
Peaks rise at once and fall by 20 dB in 1.7 s, as on a broadcaster's meter (IEC 60268-10, type I).

Rules: numpy only, no I/O, no thread; any chunking gives the same.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from bridge.audio.effect import Pcm
from bridge.audio.filters import Sections
from bridge.audio.loops import loops, place

__all__ = ["FLOOR_DB", "HOP_SECONDS", "LoudnessMeter", "PeakMeter", "SlowGain", "gated_lufs", "k_weighting"]

HOP_SECONDS = 0.1
FLOOR_DB = -120.0
FALL_DB_A_SECOND = 20 / 1.7
_BLOCK_HOPS = 4
_OFFSET = -0.691  # so that a sine of 997 Hz at 0 dBFS in one channel is −3.01 LUFS
_SILENCE_LUFS, _RELATIVE_LU = -70.0, -10.0


def k_weighting(rate_hz: int) -> NDArray[np.float64]:
    """Return the two filters of annex 1, [2, 5], for any rate: a shelf for the head, a high-pass for the ear.

    The recommendation tabulates 48 kHz; these are the analogue filters behind its tables.
    """
    k, q, high = math.tan(math.pi * 1_681.974450955533 / rate_hz), 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    shelf = [
        (high + band * k / q + k * k) / a0,
        2 * (k * k - high) / a0,
        (high - band * k / q + k * k) / a0,
        2 * (k * k - 1) / a0,
        (1 - k / q + k * k) / a0,
    ]
    k, q = math.tan(math.pi * 38.13547087602444 / rate_hz), 0.5003270373238773
    a0 = 1 + k / q + k * k
    return np.array([shelf, [1.0, -2.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]])


def gated_lufs(powers: NDArray[np.float64]) -> float:
    """Return the loudness of hops' powers, gated twice; −inf for silence."""
    if len(powers) < _BLOCK_HOPS:
        return -math.inf
    blocks = np.convolve(powers, np.full(_BLOCK_HOPS, 1 / _BLOCK_HOPS), "valid")
    loud = blocks[blocks > _power(_SILENCE_LUFS)]
    if not loud.size:
        return -math.inf
    gated = loud[loud > _power(_lufs(float(loud.mean())) + _RELATIVE_LU)]
    return _lufs(float(gated.mean()))


def _lufs(power: float) -> float:
    return _OFFSET + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))


class LoudnessMeter:
    """Powers of hops, and the loudness of the newest of them.

    Args:
        rate_hz: samples a second.
        seconds: how far back it remembers; None is for ever.
    """

    def __init__(self, rate_hz: int, seconds: float | None = None) -> None:
        self._filter = Sections(k_weighting(rate_hz), 2)
        self._loops = loops()
        self.hop_samples = round(HOP_SECONDS * rate_hz)
        self._sum, self._count = 0.0, 0
        self._powers: deque[float] = deque(maxlen=None if seconds is None else round(seconds / HOP_SECONDS))

    def until_hop(self) -> int:
        """Return how many samples the present hop lacks."""
        return self.hop_samples - self._count

    def add(self, block: Pcm) -> bool:
        """Take the next float32 [2, n], no more than the hop lacks; tells whether that completed it."""
        weighted = self._filter.process(block)
        if self._loops is None:
            self._sum += float(np.square(weighted).sum())
        else:
            self._sum = self._loops.power(place(weighted), *weighted.shape, self._sum)
        self._count += block.shape[1]
        if self._count < self.hop_samples:
            return False
        self._powers.append(self._sum / self.hop_samples)
        self._sum, self._count = 0.0, 0
        return True

    def process(self, block: Pcm) -> None:
        """Take any number of samples."""
        while block.shape[1]:
            count = self.until_hop()
            self.add(block[:, :count])
            block = block[:, count:]

    @property
    def lufs(self) -> float:
        """The loudness of what it remembers; −inf for silence."""
        return gated_lufs(np.array(self._powers))

    @property
    def lufs_so_far(self) -> float:
        """The same, and before there is a whole block that of the hops there are."""
        if not 0 < len(self._powers) < _BLOCK_HOPS:
            return self.lufs
        power = sum(self._powers) / len(self._powers)
        return _lufs(power) if power > _power(_SILENCE_LUFS) else -math.inf


class SlowGain:
    """A gain that follows the loudness so slowly that it is not heard, and stands still in silence.

    Args:
        rate_hz: samples a second.
        target_lufs: what it makes for.
        first_db: the gain before anything is heard.
    """

    REMEMBERED_SECONDS = 30.0
    MOST_DB = 15.0  # either way
    # dB a second until so many seconds of music: by then nobody has got used to a level
    _FIRST = ((1.0, 20.0), (6.0, 4.0))
    _DB_A_SECOND = 0.5

    def __init__(self, rate_hz: int, target_lufs: float, first_db: float = 0.0) -> None:
        self._meter = LoudnessMeter(rate_hz, self.REMEMBERED_SECONDS)
        self._target = target_lufs
        self._from_db = self._to_db = first_db
        self._heard_seconds = 0.0
        self._loops = loops()

    def process(self, block: Pcm) -> Pcm:
        """Take the next float32 [2, n]; returns it with the gain."""
        block = np.ascontiguousarray(block)
        out, start = np.empty(block.shape, np.float32), 0
        while start < block.shape[1]:
            end = min(start + self._meter.until_hop(), block.shape[1])
            self._turn(block, out, start, end)
            if self._meter.add(block[:, start:end]):
                self._aim()
            start = end
        return out

    def _turn(self, block: Pcm, out: Pcm, start: int, end: int) -> None:
        """Write a part of a block with its gain, which goes evenly in dB from one end of a hop to the other."""
        step_db = (self._to_db - self._from_db) / self._meter.hop_samples
        done = self._meter.hop_samples - self._meter.until_hop()
        if self._loops is not None:
            rows, stride = block.shape
            inside, outside = place(block, 4 * start), place(out, 4 * start)
            self._loops.ramp(inside, stride, rows, self._from_db, step_db, done, outside, end - start)
            return
        level_db = self._from_db + step_db * np.arange(done + 1, done + end - start + 1)
        out[:, start:end] = block[:, start:end] * np.exp(level_db * (math.log(10) / 20)).astype(np.float32)

    def _aim(self) -> None:
        """After a hop: where the gain shall be after the next one."""
        self._from_db, loudness = self._to_db, self._meter.lufs_so_far
        if loudness == -math.inf:
            return
        self._heard_seconds += HOP_SECONDS
        most = HOP_SECONDS * next(
            (rate for until, rate in self._FIRST if self._heard_seconds < until), self._DB_A_SECOND
        )
        wanted = min(max(self._target - loudness, -self.MOST_DB), self.MOST_DB)
        self._to_db += min(max(wanted - self._to_db, -most), most)


class PeakMeter:
    """Highest sample of each channel, falling slowly."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._fall = FALL_DB_A_SECOND / sample_rate_hz * math.log(10) / 20
        self._level = np.zeros(2)
        self._since = np.zeros(0, np.float32)  # what is left of each sample at the end: blocks are mostly of one length

    def process(self, samples: Pcm) -> tuple[float, float]:
        """Take the next float32 [2, n]; returns the reading after them, left and right in dBFS."""
        count = samples.shape[1]
        if count:
            if count != len(self._since):
                self._since = np.exp(-self._fall * np.arange(count - 1, -1, -1)).astype(np.float32)
            held = self._level * math.exp(-self._fall * count)
            self._level = np.maximum(held, (np.abs(samples) * self._since).max(axis=1))
        left, right = (max(FLOOR_DB, 20 * math.log10(max(level, 1e-9))) for level in self._level)
        return left, right
