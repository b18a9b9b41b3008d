"""Two clocks that disagree: the session's and the sound card's, some 20 to 200 millionths apart.

Rules: numpy only, no I/O, no clock; frames are float32 [n, channels].

The remedy is a block played a frame longer or shorter, stretched over the whole block by band-limited interpolation:
a pitch 0.02 % off (a third of a cent) for a tenth of a second, where a dropped frame would click and a cross-faded one
would dull the treble for that moment. Between two such blocks, and always while the clocks agree to within 5 ms, frames
pass untouched. (soxr's variable-rate mode does the same, far less exactly: docs/measurements.md, "Drifting clocks".)

    error = when the next frame will be heard − when it should be: the mean of the last 50 blocks without the outer
            fifths, for a thread that had to wait measures nonsense; less what it was at first, which is how
            exactly the first block was placed; early by more than 20 ms takes from the margin and is
            corrected, and late by more than 30 ms is a device that stood still
                 ┌ 0                         until |error| > 5 ms: the noise of callbacks, not of clocks
    correction = ┤ 100 ppm for each ms       from then on, until |error| < 1 ms; 300 ppm at least
                 └ 2,000 ppm (3.5 cents) at most
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

__all__ = ["DriftControl", "Stretcher"]

Frames = NDArray[np.float32]

TOLERATED_SECONDS, _SETTLED_SECONDS = 0.005, 0.001
_EARLIEST_SECONDS, _LATEST_SECONDS = -0.02, 0.03
MAX_CORRECTION, _MIN_CORRECTION = 2000e-6, 300e-6  # the least outruns two clocks 200 ppm apart
_GAIN = 0.1  # of the error, a second
_MEASUREMENTS = 50
_OUTER = _MEASUREMENTS // 5
_AGREEING, _AGREED_SECONDS = 10, 0.05  # so many measurements, so close together: the device runs again
_STOOD_STILL_SECONDS = 0.1  # more than any bunch explains; JUMP_SECONDS of feeder.py is less

_HALF_TAPS = 8
_STEPS = 256  # of the kernel's table a frame; between them it is linear: 94 dB


@dataclass
class DriftControl:
    """Decides how many frames a block is to lose (or, negative, gain).

    Attributes:
        error_seconds: trimmed mean of the newest measurements, less the reference; positive = heard too late.
        reference_seconds: that mean when the first were complete, as far as it is left as it is; None until then.
        correction: share of frames being dropped, as of the last block.
        owed_frames: what is still to be dropped, less than one.
    """

    error_seconds: float = 0.0
    reference_seconds: float | None = None
    correction: float = 0.0
    owed_frames: float = 0.0
    measured: deque[float] = field(default_factory=lambda: deque(maxlen=_MEASUREMENTS))

    def begin(self) -> None:
        """Forget what was measured: audio was aligned anew."""
        self.error_seconds = self.correction = self.owed_frames = 0.0
        self.reference_seconds = None
        self.measured.clear()

    def update(self, error_seconds: float, frames: int) -> int:
        """Take a measurement made at a block of so many frames; returns how many of them to drop."""
        self.measured.append(error_seconds)
        if len(self.measured) < _MEASUREMENTS:
            return 0
        middle = fmean(sorted(self.measured)[_OUTER:-_OUTER])
        if self.reference_seconds is None:
            self.reference_seconds = max(_EARLIEST_SECONDS, min(_LATEST_SECONDS, middle))
        self.error_seconds = middle - self.reference_seconds
        return self._correct(frames)

    @property
    def stood_still_seconds(self) -> float:
        """How late all is since the device stood still, as soon as the newest measurements agree on it; 0 else."""
        newest = list(self.measured)[-_AGREEING:]
        if len(newest) < _AGREEING or min(newest) < _STOOD_STILL_SECONDS or max(newest) - min(newest) > _AGREED_SECONDS:
            return 0.0
        return fmean(newest)

    def _correct(self, frames: int) -> int:
        size = abs(self.error_seconds)
        if size < (_SETTLED_SECONDS if self.correction else TOLERATED_SECONDS):
            self.correction = self.owed_frames = 0.0
            return 0
        share = max(_MIN_CORRECTION, min(MAX_CORRECTION, _GAIN * size))
        self.correction = math.copysign(share, self.error_seconds)
        self.owed_frames += self.correction * frames
        drop = int(self.owed_frames)
        self.owed_frames -= drop
        return drop


class Stretcher:
    """Passes frames, LATENCY_FRAMES late, and now and then makes a block a frame shorter or longer."""

    LATENCY_FRAMES = _HALF_TAPS

    def __init__(self, channels: int) -> None:
        self._context = np.zeros((2 * _HALF_TAPS, channels), np.float32)

    def process(self, frames: Frames, drop: int = 0) -> Frames:
        """Give n − drop frames for n; 0 gives the frames themselves. A block bears a frame for each 16 of its own."""
        count = len(frames)
        drop = max(-count // 16, min(count // 16, drop))
        audio = np.concatenate((self._context, frames))
        self._context = audio[count:].copy()
        return _stretched(audio, count, drop) if drop else audio[_HALF_TAPS : _HALF_TAPS + count]


def _kernel() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    distance = np.arange(-_HALF_TAPS * _STEPS, _HALF_TAPS * _STEPS + 1) / _STEPS
    return distance, np.sinc(distance) * np.cos(np.pi * distance / (2 * _HALF_TAPS)) ** 2


_DISTANCE, _KERNEL = _kernel()


def _stretched(audio: Frames, count: int, drop: int) -> Frames:
    """Read `count` frames in `count − drop` steps: the reading place runs ahead by `drop`, slowly first and last."""
    wanted = count - drop
    ahead = drop * (0.5 - 0.5 * np.cos(np.pi * np.arange(wanted) / wanted))
    out = np.zeros((wanted, audio.shape[1]), np.float32)
    first, last = min(0, drop) - _HALF_TAPS + 1, max(0, drop) + _HALF_TAPS
    for tap in range(first, last):
        start = _HALF_TAPS + tap
        low, high = max(0, -start), min(wanted, len(audio) - start)  # beyond, the kernel is zero
        weight = np.interp(tap - ahead[low:high], _DISTANCE, _KERNEL, left=0.0, right=0.0).astype(np.float32)
        out[low:high] += weight[:, None] * audio[start + low : start + high]
    return out
