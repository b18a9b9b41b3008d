"""What every sink hears: width, gain, mute and the limiter, in this order, at a constant latency.

Rules: numpy only, no I/O, no thread; used by the engine's thread, on what is final: nothing here is ever taken back.
Any chunking gives the same bits. With width 0, gain 0 dB, unmuted and below the ceiling the output is the input,
delayed.

    samples ──► width ──► gain ──► mute ──► limiter ──► every door and the recording

Width: a side signal is made from the mono one m, added on the left and taken away on the right, so that left + right
stays 2 m and nothing is lost where both are summed. It is m without its bass (which belongs in the middle), through a
velvet-noise decorrelator: a few pulses of falling size and either sign within 30 ms (Alary, Politis and Välimäki,
"Velvet-noise decorrelator", DAFx 2017). Real stereo is left as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.limiter import Limiter, LimiterState

__all__ = ["OutputChain", "OutputState", "Smoothed"]

Pcm = NDArray[np.float32]

SMOOTHING_SECONDS = 0.02
"""A step of gain, mute or width is 99 % done after this."""

_STEP_CONSTANTS = 6.64  # time constants until a critically damped step is 99 % done
_SETTLED_CONSTANTS = 40  # … until what is left is below 1e-15
_VELVET_PULSES = 20
_VELVET_SECONDS = (0.001, 0.030)
_VELVET_FALL_DB = 12.0
_BASS_SECONDS = 0.004  # what varies slower than this average stays in the middle: −3 dB near 110 Hz
_SIDE_LEVEL = 0.8  # of the middle at width 1: the channels then correlate by 0.2


@dataclass
class Smoothed:
    """A number that follows its target without a corner: critically damped, in closed form, so exact in any chunking.

    Attributes:
        target: where it goes.
        offset, slope: distance from the target and its growth a sample, scaled by the decay, when it was set.
        age_samples: samples since then.
    """

    target: float
    offset: float = 0.0
    slope: float = 0.0
    age_samples: int = 0

    def aim(self, target: float, time_constant_samples: float) -> None:
        """Go to another target, from here and with the speed of now."""
        if target == self.target:
            return
        age, rate = self.age_samples, 1.0 / time_constant_samples
        decay = math.exp(-age * rate)
        distance = (self.offset + self.slope * age) * decay
        speed = self.slope * decay - rate * distance
        offset = self.target + distance - target
        self.target, self.offset, self.slope, self.age_samples = target, offset, speed + rate * offset, 0

    def next(self, count: int, time_constant_samples: float) -> float | NDArray[np.float64]:
        """Give the next samples' values: one number once it has arrived."""
        settled = _SETTLED_CONSTANTS * time_constant_samples
        if self.age_samples >= settled or not (self.offset or self.slope):
            return self.target
        age = np.arange(self.age_samples + 1, self.age_samples + count + 1)
        self.age_samples += count
        distance = (self.offset + self.slope * age) * np.exp(-age / time_constant_samples)
        return np.where(age < settled, self.target + distance, self.target)


@dataclass
class OutputState:
    """What an output chain remembers of its stream.

    Attributes:
        gain: as a factor; muted: 1 = heard, 0 = silent; width: 0 … 1.
        mono: float32 [m], the newest mono samples, context of the side signal.
        limiter: its own state.
    """

    gain: Smoothed
    heard: Smoothed
    width: Smoothed
    mono: Pcm
    limiter: LimiterState


class OutputChain:
    """The end of one session's signal path.

    Attributes:
        mono: whether the stream is one channel doubled, so that `width` does something.
        latency_samples: how much later audio comes out, constant.
        state: its memory.
    """

    def __init__(self, sample_rate_hz: int, mono: bool) -> None:
        self.mono = mono
        self._time_constant = SMOOTHING_SECONDS * sample_rate_hz / _STEP_CONSTANTS
        self._limiter = Limiter(sample_rate_hz)
        self._side = _Side(sample_rate_hz)
        self.latency_samples = self._limiter.latency_samples
        mono_context = np.zeros(self._side.context_samples, np.float32)
        self.state = OutputState(Smoothed(1.0), Smoothed(1.0), Smoothed(0.0), mono_context, self._limiter.new_state())

    def set(self, *, gain_db: float | None = None, mute: bool | None = None, width: float | None = None) -> None:
        """Aim at new values, reached within about 20 ms from the next sample on; None leaves one as it is."""
        if gain_db is not None:
            self.state.gain.aim(10 ** (gain_db / 20), self._time_constant)
        if mute is not None:
            self.state.heard.aim(0.0 if mute else 1.0, self._time_constant)
        if width is not None:
            self.state.width.aim(width if self.mono else 0.0, self._time_constant)

    def process(self, samples: Pcm) -> Pcm:
        """Take the next float32 [2, n] and give as many, `latency_samples` late."""
        if not samples.shape[1]:
            return samples
        samples = self._widened(self._finite(samples))
        for level in (self.state.gain, self.state.heard):
            factor = level.next(samples.shape[1], self._time_constant)
            if not (isinstance(factor, float) and factor == 1.0):
                samples = samples * np.asarray(factor, np.float32)
        return self._limiter.process(samples, self.state.limiter)

    @staticmethod
    def _finite(samples: Pcm) -> Pcm:
        """Make silence of what is no finite number."""
        good = np.isfinite(samples)
        return samples if good.all() else np.where(good, samples, np.float32(0))

    def _widened(self, samples: Pcm) -> Pcm:
        if not self.mono:
            return samples
        count = samples.shape[1]
        mono = np.concatenate((self.state.mono, samples[0]))
        self.state.mono = mono[count:].copy()
        width = self.state.width.next(count, self._time_constant)
        if isinstance(width, float) and width == 0.0:
            return samples
        side = self._side.of(mono) * np.asarray(width, np.float32)
        return np.stack((samples[0] + side, samples[0] - side))


class _Side:
    """Makes a side signal from a mono one: no bass, and no likeness to what it was made from."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._bass_steps = round(math.log2(_BASS_SECONDS * sample_rate_hz))
        self._bass_samples = 2**self._bass_steps
        self._delays, self._pulses = _velvet(sample_rate_hz)
        self.context_samples = int(self._delays[-1]) + self._bass_samples - 1

    def of(self, mono: Pcm) -> Pcm:
        """Side of all samples but the context: float32 [n] of [context + n]."""
        average = mono
        for step in range(self._bass_steps):  # a sum over 2, 4, 8 … samples: the same bits in any chunking
            average = average[: -(2**step)] + average[2**step :]
        middle = self._bass_samples // 2
        high = mono[middle : middle + len(average)] - average / np.float32(self._bass_samples)
        count = len(mono) - self.context_samples
        side = np.zeros(count, np.float32)
        for delay, pulse in zip(self._delays, self._pulses, strict=True):
            start = len(high) - count - int(delay)
            side += pulse * high[start : start + count]
        return side


def _velvet(sample_rate_hz: int) -> tuple[NDArray[np.int64], Pcm]:
    """Delays in samples, rising, and sizes of the pulses; together `_SIDE_LEVEL` loud for noise."""
    rng = np.random.default_rng(1)  # any seed; this one is everybody's, so that every session is wide in the same way
    edges = np.linspace(*_VELVET_SECONDS, _VELVET_PULSES + 1) * sample_rate_hz
    delays = np.floor(edges[:-1] + rng.random(_VELVET_PULSES) * np.diff(edges)).astype(np.int64)
    signs = rng.permutation(np.resize([1.0, -1.0], _VELVET_PULSES))
    sizes = signs * 10 ** (-_VELVET_FALL_DB / 20 * np.arange(_VELVET_PULSES) / _VELVET_PULSES)
    sizes *= _SIDE_LEVEL / np.sqrt((sizes**2).sum())
    return delays, sizes.astype(np.float32)
