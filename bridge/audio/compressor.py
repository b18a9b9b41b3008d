"""A compressor: what is louder than a threshold is turned down, both channels by as much.

    level in dB ─► reduction by threshold, ratio, knee ─► falls by a factor e every release ─► follows within the attack
                                                              at once upwards                        │
    audio ──────────────────────────────────────────────────────────────────────────────────────── × ┴─► makeup ─► out

The release is a running maximum on a slope, in the reduction's logarithm; the attack a filter of first order. Neither
needs a loop over samples, and both give the same in any chunking. Where the loops were built (loops.py) and nothing is
being turned, one of them does the same sample by sample.

Rules: see effect.py. Below the threshold, without makeup, the output is the input.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bridge.audio.effect import ParameterChange, Pcm, Smoothed, processed_in_pieces
from bridge.audio.filters import Array, Sections, first_order
from bridge.audio.loops import CompressorState, loops, place
from streamgen.config import ControlSpec, number

__all__ = ["Compressor"]

_NOTHING_DB = 1e-6  # a reduction that counts as none
_FAINT_DB = 1e-12  # … and one that changes no sample, wherever a piece ends
_FLOOR = np.float32(1e-6)  # −120 dBFS


class Compressor:
    """An effect: threshold, ratio, knee, attack, release, makeup."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "threshold_db": number(-60, 0, -18, "dB", "what is louder is turned down"),
        "ratio": number(1, 20, 2, "", "so many dB above the threshold become one"),
        "knee_db": number(0, 24, 6, "dB", "over which the ratio sets in"),
        "attack_ms": number(0.1, 200, 10, "ms", "how fast it turns down"),
        "release_ms": number(10, 2_000, 150, "ms", "how fast it lets go"),
        "makeup_db": number(0, 24, 0, "dB", "level behind it"),
    }
    latency_samples = 0

    def __init__(self, **values: float) -> None:
        self._begin = {name: float(values.get(name, spec.default)) for name, spec in self.parameters.items()}

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - any block will do
        """See `Effect.prepare`."""
        self._rate_hz = rate_hz
        smooth = ("threshold_db", "ratio", "knee_db", "makeup_db")
        self._smooth = {name: Smoothed.at(self._begin[name], rate_hz) for name in smooth}
        self._attack_ms = self._begin["attack_ms"]
        self._release = self._slope(self._begin["release_ms"])
        self._loops = loops()
        self.reset()

    def reset(self) -> None:
        """See `Effect.reset`."""
        for level in self._smooth.values():
            level.settle()
        self._held_db = 0.0
        self._attack = Sections(np.array([first_order(self._attack_ms / 1e3, self._rate_hz)]), 1)
        self._resting = True

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`."""
        return processed_in_pieces(block, start_sample, changes, self._aim, self._run)

    def _aim(self, change: ParameterChange) -> None:
        value = float(change.value)
        if change.name == "attack_ms":
            self._attack_ms = value
            coefficients = np.array([first_order(value / 1e3, self._rate_hz)])
            self._attack = Sections(coefficients, 1, self._attack.state)
        elif change.name == "release_ms":
            self._release = self._slope(value)
        else:
            self._smooth[change.name].aim(value)

    def _slope(self, release_ms: float) -> float:
        """By how much the reduction's logarithm falls a sample."""
        return 1e3 / (release_ms * self._rate_hz)

    def _run(self, piece: Pcm) -> Pcm:
        count = piece.shape[1]
        if not count:
            return piece
        makeup = self._smooth["makeup_db"].next(count)
        threshold, ratio, knee = (self._smooth[name].next(count) for name in ("threshold_db", "ratio", "knee_db"))
        peaks = np.abs(piece)
        still = all(isinstance(one, float) for one in (makeup, threshold, ratio, knee))
        lowest = threshold - knee / 2 if still else np.min(threshold) - np.max(knee) / 2
        below = bool(float(peaks.max()) < 10 ** (lowest / 20))
        if below and self._resting:
            return piece if isinstance(makeup, float) and not makeup else piece * _factor(makeup)
        if self._loops is not None and still:
            out, reduced = self._looped(piece, CompressorState(threshold, ratio, knee, makeup))
        else:
            wanted = None if below else _wanted(peaks.max(axis=0), threshold, ratio, knee)
            reduction = self._attack.process(self._held(wanted, count)[None])[0]
            out, reduced = piece * _factor(makeup - reduction), float(reduction.max()) >= _NOTHING_DB
        self._resting = below and not reduced
        if self._resting:
            self._attack.state[:] = 0.0
            return piece * _factor(makeup)
        return out

    def _looped(self, piece: Pcm, state: CompressorState) -> tuple[Pcm, bool]:
        """The way of a piece through the loop, and whether that did anything."""
        piece, out, memory = np.ascontiguousarray(piece), np.empty(piece.shape, np.float32), self._attack.state[0]
        state.attack, state.release = -self._attack.coefficients[0, 3], math.exp(-self._release)
        state.held_db, state.reduction_db = self._held_db, memory[2]
        highest = self._loops.compress(ctypes.byref(state), place(piece), place(out), piece.shape[1])
        self._held_db, memory[2] = state.held_db, state.reduction_db
        return out, highest >= _FAINT_DB

    def _held(self, wanted: Array | None, count: int) -> Array:
        """Let the reduction fall slowly: h[n] = max(wanted[n], h[n − 1] · e^−release)."""
        slope = self._release * np.arange(1, count + 1)
        nothing = math.log(_NOTHING_DB)
        logs = np.full(count, nothing) if wanted is None else np.log(np.maximum(wanted, _NOTHING_DB))
        before = math.log(max(self._held_db, _NOTHING_DB))
        highest = np.maximum(np.maximum.accumulate(logs + slope), before) - slope
        held = np.where(highest > nothing, np.exp(highest), 0.0)
        self._held_db = float(held[-1])
        return held


def _wanted(peaks: Pcm, threshold: float | Array, ratio: float | Array, knee: float | Array) -> Array:
    """Reduction that each sample's level asks for, dB."""
    over = 20 * np.log10(np.maximum(peaks, _FLOOR).astype(np.float64)) - threshold
    width = np.maximum(knee, 1e-3)
    bent = np.clip(over + width / 2, 0, width)
    return np.asarray((1 - 1 / ratio) * (bent * bent / (2 * width) + np.maximum(over - width / 2, 0)))


def _factor(level_db: float | Array) -> NDArray[np.float32]:
    return np.exp(np.asarray(level_db) * (math.log(10) / 20)).astype(np.float32)
