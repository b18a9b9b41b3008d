"""Width for mono checkpoints, that nothing is lost of where both channels are summed.

A side signal is made from the mono one m, added on the left and taken away on the right, so that left + right stays
2 m. It is m without its bass (which belongs in the middle), through a velvet-noise decorrelator: a few pulses of
falling size and either sign within 30 ms (Alary, Politis and Välimäki, "Velvet-noise decorrelator", DAFx 2017).

Rules: see effect.py. Real stereo is left as it is; at width 0 the output is the input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bridge.audio.effect import ParameterChange, Pcm, Smoothed, processed_in_pieces
from bridge.audio.loops import loops, place, pulsed
from streamgen.config import ControlSpec, number

__all__ = ["SideMaker", "Width"]

_VELVET_PULSES = 20
_VELVET_SECONDS = (0.001, 0.030)
_VELVET_FALL_DB = 12.0
_BASS_SECONDS = 0.004  # what varies slower than this average stays in the middle: −3 dB near 110 Hz
_SIDE_LEVEL = 0.8  # of the middle at width 1: the channels then correlate by 0.2


class Width:
    """An effect: width, of a source with one channel."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "width": number(0, 1, 0, "", "widens mono checkpoints; the sum of both channels stays mono")
    }
    latency_samples = 0

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - any block will do
        """See `Effect.prepare`."""
        self._mono = channels == 1
        self._before: Pcm
        self._side = SideMaker(rate_hz)
        self._width = Smoothed.at(0.0, rate_hz)
        self.reset()

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`."""
        if not self._mono:
            return block
        return processed_in_pieces(block, start_sample, changes, self._aim, self._run)

    def _aim(self, change: ParameterChange) -> None:
        self._width.aim(float(change.value))

    def _run(self, piece: Pcm) -> Pcm:
        count = piece.shape[1]
        mono = np.concatenate((self._before, piece[0]))
        self._before = mono[count:].copy()
        width = self._width.next(count)
        if not count or (isinstance(width, float) and width == 0.0):
            return piece
        side = self._side.of(mono) * np.asarray(width, np.float32)
        return np.stack((piece[0] + side, piece[0] - side))

    def reset(self) -> None:
        """See `Effect.reset`."""
        self._before = np.zeros(self._side.context_samples, np.float32)
        self._width.settle()


class SideMaker:
    """Makes a side signal from a mono one: no bass, and no likeness to what it was made from.

    Attributes:
        context_samples: how many samples before the wanted ones it looks at.
    """

    def __init__(self, rate_hz: int) -> None:
        self._bass_steps = round(math.log2(_BASS_SECONDS * rate_hz))
        self._bass_samples = 2**self._bass_steps
        self._delays, self._pulses = _velvet(rate_hz)
        self.context_samples = int(self._delays[-1]) + self._bass_samples - 1

    def of(self, mono: Pcm) -> Pcm:
        """Side of all samples but the context: float32 [n] of [context + n]."""
        count = len(mono) - self.context_samples
        side: Pcm = pulsed(self._without_bass(mono)[None], self._delays[None], self._pulses[None], count)[0]
        return side

    def _without_bass(self, mono: Pcm) -> Pcm:
        found = loops()
        if found is not None:
            high = np.empty(len(mono) - self._bass_samples + 1, np.float32)
            found.without_bass(place(mono), len(mono), self._bass_steps, place(high))
            return high
        average = mono
        for step in range(self._bass_steps):  # a sum over 2, 4, 8 … samples: the same bits in any chunking
            average = average[: -(2**step)] + average[2**step :]
        middle = self._bass_samples // 2
        return mono[middle : middle + len(average)] - average / np.float32(self._bass_samples)


def _velvet(rate_hz: int) -> tuple[NDArray[np.int64], Pcm]:
    """Delays in samples, rising, and sizes of the pulses; together `_SIDE_LEVEL` loud for noise."""
    rng = np.random.default_rng(1)  # any seed; this one is everybody's, so that every session is wide in the same way
    edges = np.linspace(*_VELVET_SECONDS, _VELVET_PULSES + 1) * rate_hz
    delays = np.floor(edges[:-1] + rng.random(_VELVET_PULSES) * np.diff(edges)).astype(np.int64)
    signs = rng.permutation(np.resize([1.0, -1.0], _VELVET_PULSES))
    sizes = signs * 10 ** (-_VELVET_FALL_DB / 20 * np.arange(_VELVET_PULSES) / _VELVET_PULSES)
    sizes *= _SIDE_LEVEL / np.sqrt((sizes**2).sum())
    return delays, sizes.astype(np.float32)
