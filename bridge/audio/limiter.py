"""The last thing before every sink: no true peak above −1 dBFS.

Rules: see effect.py. Any chunking gives the same audio: the envelope is counted in whole numbers. By the loops
(loops.py) the same bits; elsewhere the interpolation's last bit (BLAS) may differ, 1e-7.

Peaks between samples are read at four times the rate (ITU-R BS.1770-5, annex 2), twice: as the samples stand, and as a
converter's or resampler's filter leaves them, for what that takes off the top can raise a peak. A parabola through the
three highest points finds the top: four times alone reads up to 0.7 dB low near half the rate. Both channels share one
gain, so that the image stands still. In time, for one peak P:

    needed reduction          │P
    released                  │P▔▔▔╲___ ___            falls by a factor e every RELEASE_SECONDS, at once upwards
    held                ▔▔▔▔▔▔▔▔▔▔▔▔╲___ ___           highest of the look-ahead
    smoothed            ╱▔▔▔▔▔▔▔▔▔▔▔╲╲__ ___           two moving averages, together as long as the look-ahead
    delayed audio                  P                   so the reduction is complete when the peak comes out

Below the ceiling the reduction is the whole number 0, the gain exactly 1.0 and the audio its own delayed copy.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.loops import EnvelopeState, loops, place
from streamgen.config import ControlSpec

__all__ = ["CEILING_DBFS", "Limiter"]

CEILING_DBFS = -1.0
LOOK_AHEAD_SECONDS = 0.004
RELEASE_SECONDS = 0.12
HALF_TAPS = 32  # samples on either side that a peak's interpolation looks at

# for what the interpolation below misses of white noise (docs/measurements.md, "True peaks")
_MARGIN_DB = 0.15
_KAISER_BETA = 3.5
_CUTOFF = 0.96  # of half the rate: where resamplers of high quality end
_NEAR = 0.9  # of the ceiling: lower points at four times the rate are no peak above it
_PIECE = 1024  # samples at once: small enough that BLAS wakes no threads for it
_LOG_UNIT = 1 << 24  # one octave of reduction, as the release counts it
_UNIT = 1 << 30  # a reduction of one, that is silence, as the averages count it
_NOTHING = -30 * _LOG_UNIT  # log2 of a reduction that counts as none

Ints = NDArray[np.int64]


@dataclass
class _LimiterState:
    """What a limiter remembers of its stream.

    Attributes:
        audio: float32 [2, m], the newest input: delay line and interpolation context.
        released_log: the release's last value.
        released, held, averaged: int64, the newest values before each stage of smoothing.
    """

    audio: Pcm
    released: Ints
    held: Ints
    averaged: Ints
    released_log: int = _NOTHING

    def resting(self) -> bool:
        """Whether nothing is being taken away, and nothing is about to be."""
        return self.released_log == _NOTHING and not (self.released.any() or self.held.any() or self.averaged.any())


class Limiter:
    """An effect without parameters: a true-peak limiter.

    Args:
        ceiling_dbfs: no peak above it.
    """

    parameters: ClassVar[Mapping[str, ControlSpec]] = {}
    latency_samples: int

    def __init__(self, ceiling_dbfs: float = CEILING_DBFS) -> None:
        self._ceiling = np.float32(10 ** ((ceiling_dbfs - _MARGIN_DB) / 20))
        self._taps = _taps()
        # Below this no combination of samples can interpolate to the ceiling.
        self._harmless = self._ceiling / np.float32(1.05 * np.abs(self._taps).sum(axis=0).max())

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - both rows share one gain
        """See `Effect.prepare`."""
        self._average_samples = max(1, round(LOOK_AHEAD_SECONDS * rate_hz / 2))
        look_ahead = 2 * self._average_samples - 1
        self._hold_samples = look_ahead + 2  # and one on either side: a peak between two samples is both's
        self._release = max(1, round(_LOG_UNIT * math.log2(math.e) / (RELEASE_SECONDS * rate_hz)))
        self.latency_samples = HALF_TAPS + 1 + look_ahead
        self._loops = loops()
        self.reset()

    def reset(self) -> None:
        """See `Effect.reset`."""
        context = max(self.latency_samples, 2 * HALF_TAPS + 2)
        zeros = np.zeros(self._hold_samples - 1, np.int64), np.zeros(self._average_samples - 1, np.int64)
        state = self._state = _LimiterState(np.zeros((2, context), np.float32), *zeros, zeros[1].copy())
        updated = (values.ctypes.data for values in (state.released, state.held, state.averaged))
        self._envelope = EnvelopeState(*updated, _NOTHING, self._release, self._hold_samples, self._average_samples)
        self._rests = True

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:  # noqa: ARG002 - it has none
        """See `Effect.process`."""
        count, state = block.shape[1], self._state
        if not count:
            return block
        audio = np.concatenate((state.audio, block), axis=1)
        state.audio = audio[:, count:].copy()
        start = state.audio.shape[1] - self.latency_samples
        delayed = audio[:, start : start + count]
        gain = self._gain(audio, count, state) if self._loops is None else self._looped(audio, count)
        return delayed.copy() if gain is None else delayed * gain

    def _looped(self, audio: Pcm, count: int) -> Pcm | None:
        """`_gain`, by the loops."""
        peaks, gain = np.empty(count, np.float32), np.empty(count, np.float32)
        start = audio.shape[1] - (count + 2 * HALF_TAPS + 1)
        near = np.float32(_NEAR) * self._ceiling
        loud = self._loops.true_peaks(
            place(audio, 4 * start), audio.shape[1], len(audio), count, place(self._taps),
            self._harmless * near / self._ceiling, near, place(peaks),
        )  # fmt: skip
        if loud or not self._rests:
            envelope = ctypes.byref(self._envelope)
            self._rests = self._loops.envelope(envelope, place(peaks), float(self._ceiling), place(gain), count)
            return gain
        return None

    def _gain(self, audio: Pcm, count: int, state: _LimiterState) -> Pcm | None:
        """What is left of each sample that comes out now, 0 … 1; None for all of all of them."""
        reduction = self._reduction(self._needed(audio, count), count, state)
        return None if reduction is None else (1.0 - reduction).astype(np.float32)

    def _needed(self, audio: Pcm, count: int) -> Ints | None:
        """Reduction that each of the newest complete places needs, as log2; None if none does."""
        recent = audio[:, -(count + 2 * HALF_TAPS + 1) :]
        if max(float(recent.max()), -float(recent.min())) < self._harmless:
            return None
        peaks = np.maximum(self._true_peaks(recent), self._ceiling).astype(np.float64)
        excess = 1.0 - float(self._ceiling) / peaks
        loud = np.flatnonzero(excess)
        if not loud.size:
            return None
        needed = np.full(count, _NOTHING, np.int64)
        needed[loud] = np.maximum(np.ceil(np.log2(excess[loud]) * _LOG_UNIT), _NOTHING).astype(np.int64)
        return needed

    def _true_peaks(self, audio: Pcm) -> Pcm:
        """Highest level of any channel around each sample; [n] of audio [channels, n + 2 · HALF_TAPS + 1].

        Place i is sample i + HALF_TAPS with the quarters from half an interval before it to a quarter after.
        """
        count = audio.shape[1] - 2 * HALF_TAPS  # intervals, one more than places
        quarters = np.empty((len(audio), count, 8), np.float32)
        quarters[:, :, 0] = audio[:, HALF_TAPS - 1 : HALF_TAPS - 1 + count]
        windows = sliding_window_view(audio, 2 * HALF_TAPS, axis=1)[:, :count]
        for start in range(0, count, _PIECE):
            piece = slice(start, start + _PIECE)
            np.matmul(np.ascontiguousarray(windows[:, piece]), self._taps, out=quarters[:, piece, 1:])
        np.abs(quarters, out=quarters)
        if float(quarters.max()) < _NEAR * self._ceiling:
            return np.zeros(count - 1, np.float32)
        rows = quarters.reshape(len(audio), count, 2, 4).swapaxes(1, 2)
        return self._refined(rows.reshape(2 * len(audio), 4 * count))

    def _refined(self, quarters: Pcm) -> Pcm:
        """Highest of each place, with a parabola through tops near the ceiling: [n] of [rows, 4 · (n + 1)]."""
        flat = quarters.reshape(-1)
        near = np.flatnonzero(flat[1:-1] > _NEAR * self._ceiling) + 1
        low, top, right = flat[near - 1], flat[near], flat[near + 1]  # where two rows meet no place looks
        rise = (right - low) ** 2 / (8 * np.maximum(2 * top - low - right, np.float32(1e-12)))
        flat[near] = np.where((top >= low) & (top >= right), top + np.minimum(rise, top), top)
        highest = quarters.max(axis=0)
        return np.asarray(highest[2:-2].reshape(-1, 4).max(axis=1))

    def _reduction(self, needed: Ints | None, count: int, state: _LimiterState) -> NDArray[np.float64] | None:
        """Part of the level to take away from each sample that comes out now, 0 … 1; None for nothing at all."""
        if needed is None and state.resting():
            return None
        width = self._average_samples
        released = np.concatenate((state.released, self._released(needed, count, state)))
        held = np.concatenate((state.held, _sliding_max(released, self._hold_samples)))
        averaged = np.concatenate((state.averaged, _sliding_sum(held, width)))
        state.released, state.held, state.averaged = released[count:], held[count:], averaged[count:]
        return _sliding_sum(averaged, width) / float(_UNIT * width * width)

    def _released(self, needed: Ints | None, count: int, state: _LimiterState) -> Ints:
        """Let the reduction fall slowly: q[n] = max(needed[n], q[n − 1] − release), as a running maximum on a slope."""
        slope = self._release * np.arange(1, count + 1)
        first = np.full(1, state.released_log)
        wanted = np.full(count, _NOTHING) if needed is None else needed
        logs = np.maximum.accumulate(np.concatenate((first, wanted + slope)))[1:] - slope
        logs = np.maximum(logs, _NOTHING)
        state.released_log = int(logs[-1])
        return np.where(logs > _NOTHING, np.ceil(np.exp2(logs / _LOG_UNIT) * _UNIT), 0).astype(np.int64)


def _sliding_max(values: Ints, width: int) -> Ints:
    """Highest of each `width` neighbours: [n − width + 1]; spans double, so the cost is its logarithm."""
    span = 1
    while 2 * span <= width:
        values = np.maximum(values[:-span], values[span:])
        span *= 2
    rest = width - span
    return np.maximum(values[:-rest], values[rest:]) if rest else values


def _sliding_sum(values: Ints, width: int) -> Ints:
    """Sum of each `width` neighbours: [n − width + 1]."""
    total = np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))
    return total[width:] - total[:-width]


def _kernel(distance: NDArray[np.float64], cutoff: float) -> NDArray[np.float64]:
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0, 1 - (distance / HALF_TAPS) ** 2)))
    taps = np.sinc(cutoff * distance) * window
    return np.asarray(taps / taps.sum(axis=0))


def _taps() -> Pcm:
    """What reads the middle interval of 2 · HALF_TAPS samples: [2 · HALF_TAPS, 7].

    Columns: ¼, ½, ¾ with everything up to half the rate; then 0, ¼, ½, ¾ as a converter's filter leaves it.
    """
    places = np.arange(-HALF_TAPS + 1, HALF_TAPS + 1)[:, None] - np.array([0, 0.25, 0.5, 0.75])
    return np.concatenate((_kernel(places, 1.0)[:, 1:], _kernel(places, _CUTOFF)), axis=1).astype(np.float32)
