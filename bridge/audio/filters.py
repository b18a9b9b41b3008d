"""Recursive filters, and filters that turn without zipper noise.

Where the loops were built (loops.py) they run sample by sample. Elsewhere, and as what those are held against, without
a loop: a cascade of second-order sections is one linear system. What comes out of a piece is a matrix times what goes
in, plus a matrix times the state before it. Pieces of `_PIECE` samples make both matrices small, and only the state
runs from piece to piece:

    y = H x + O s          H [m, m] impulse response, lower triangular      s' = Pₘ s + R x
                           O [m, S] what the state rings with               R  what each sample leaves behind

The state holds the newest two samples of every section's input and output: it means the same whatever the coefficients
are, so a filter that is turned goes on where it was.

Rules: double precision inside; any chunking gives the same output to within its rounding, by the loops to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from bridge.audio.effect import Pcm
from bridge.audio.loops import loops, place
from streamgen.config import Value

__all__ = [
    "Sections",
    "TurningFilter",
    "bell",
    "first_order",
    "high_pass",
    "high_shelf",
    "low_shelf",
    "smoothstep",
    "tilt",
]

Array = NDArray[np.float64]

_PIECE = 128
_TURN_SECONDS = 0.02


class Sections:
    """A cascade of second-order sections for rows of samples.

    Args:
        coefficients: [K, 5]: b0, b1, b2, a1, a2 of each, a0 being 1.
        rows: how many signals run through it side by side.
        state: to begin with, of a cascade of as many sections; None is silence.

    Attributes:
        coefficients: as given.
        state: [rows, 2 K + 2].
        flat: whether it gives back what it gets.
    """

    def __init__(self, coefficients: Array, rows: int, state: Array | None = None) -> None:
        self.coefficients = np.ascontiguousarray(coefficients, np.float64)
        self.flat = bool((coefficients == (1, 0, 0, 0, 0)).all())
        self._loops = loops()
        size = 2 * len(coefficients) + 2
        self.state = np.zeros((rows, size)) if state is None else state.copy()
        self._places = self.coefficients.ctypes.data, self.state.ctypes.data
        if self._loops is None and not self.flat:
            self._powers, self._ring, self._left, self._response = _matrices(coefficients)

    def process(self, block: NDArray[np.float32] | Array) -> Array:
        """Filter the next [rows, n] samples."""
        if self._loops is not None and not self.flat:
            return self._looped(block)
        samples = np.asarray(block, np.float64)
        if self.flat:
            self._remember(samples)
            return samples
        whole = samples.shape[1] // _PIECE * _PIECE
        if not whole:
            return self._rest(samples)
        head = self._pieces(samples[:, :whole])
        return head if whole == samples.shape[1] else np.concatenate((head, self._rest(samples[:, whole:])), axis=1)

    def _looped(self, block: NDArray[np.float32] | Array) -> Array:
        out = np.array(block, np.float64, order="C")
        rows, count = out.shape
        given, state = self._places
        self._loops.sections(given, len(self.coefficients), state, rows, place(out), count)
        return out

    def _pieces(self, samples: Array) -> Array:
        rows, count = samples.shape[0], samples.shape[1] // _PIECE
        pieces = samples.reshape(rows, count, _PIECE)
        left = pieces @ self._left
        states = np.empty((rows, count, self.state.shape[1]))
        state, power = self.state, self._powers[_PIECE].T
        for piece in range(count):
            states[:, piece] = state
            state = state @ power + left[:, piece]
        self.state = state
        return np.asarray(pieces @ self._response + states @ self._ring).reshape(rows, -1)

    def _rest(self, samples: Array) -> Array:
        """Filter less than a piece."""
        count, state = samples.shape[1], self.state
        if not count:
            return samples
        self.state = state @ self._powers[count].T + samples @ self._left[_PIECE - count :]
        return np.asarray(samples @ self._response[:count, :count] + state @ self._ring[:, :count])

    def _remember(self, samples: Array) -> None:
        newest = np.concatenate((self.state[:, 1::-1], samples), axis=1)[:, :-3:-1]
        self.state[:] = np.tile(newest, len(self.coefficients) + 1)


def _matrices(coefficients: Array) -> tuple[Array, Array, Array, Array]:
    """Return P [PIECE + 1, S, S] powers of a step, O [S, PIECE], R [PIECE, S] and H [PIECE, PIECE], transposed."""
    step, enter, see, direct = _one_step(coefficients)
    powers = np.empty((_PIECE + 1, *step.shape))
    powers[0] = np.eye(len(step))
    have, reach = 1, step
    while have <= _PIECE:
        more = min(have, _PIECE + 1 - have)
        powers[have : have + more] = powers[:more] @ reach
        have, reach = have + more, reach @ reach
    ring = (see @ powers[:_PIECE]).T
    left = (powers[:_PIECE] @ enter)[::-1]
    impulse = np.concatenate(([direct], (powers[: _PIECE - 1] @ enter) @ see))
    lag = np.arange(_PIECE)[None, :] - np.arange(_PIECE)[:, None]
    return powers, np.ascontiguousarray(ring), np.ascontiguousarray(left), np.where(lag >= 0, impulse[lag], 0.0)


def _one_step(coefficients: Array) -> tuple[Array, Array, Array, float]:
    """How one sample x changes the state s and what comes out: s' = A s + B x, y = C s + D x."""
    size = 2 * len(coefficients) + 2
    newest = np.zeros((size // 2, size + 1))  # of every section's input, and the output: in terms of (s, x)
    newest[0, -1] = 1.0
    for number, (b0, b1, b2, a1, a2) in enumerate(coefficients):
        row = b0 * newest[number]
        row[2 * number : 2 * number + 4] += (b1, b2, -a1, -a2)
        newest[number + 1] = row
    step = np.zeros((size, size + 1))
    step[0::2] = newest
    step[1::2, 0:-1:2] = np.eye(size // 2)
    return step[:, :-1], step[:, -1], newest[-1, :-1], float(newest[-1, -1])


class TurningFilter:
    """A filter whose parameters turn: the old and the new one run side by side while the sound fades over.

    What is turned during a fade waits for its end, at most 20 ms, so a knob in motion is followed in steps that fade
    into each other, which is not heard as steps.

    Args:
        design: coefficients [K, 5] for the parameters' values; K stays the same.
        values: to begin with.
        rate_hz: samples a second.
        rows: signals side by side.
    """

    def __init__(
        self, design: Callable[[Mapping[str, Value]], Array], values: Mapping[str, Value], rate_hz: int, rows: int = 2
    ) -> None:
        self._design, self._rows = design, rows
        self._values = dict(values)
        self._now = Sections(design(self._values), rows)
        self._old: Sections | None = None
        self._turn_samples = round(_TURN_SECONDS * rate_hz)
        self._turned = 0
        self._behind = False

    def aim(self, name: str, value: Value) -> None:
        """Turn a parameter."""
        if self._values[name] != value:
            self._values[name] = value
            self._behind = True
            if self._old is None:
                self._turn()

    def _turn(self) -> None:
        self._old, self._turned, self._behind = self._now, 0, False
        self._now = Sections(self._design(self._values), self._rows, self._old.state)

    def process(self, block: Pcm) -> Pcm:
        """Filter the next float32 [rows, n] samples."""
        if self._old is None:
            made = self._now.process(block)
            return block if self._now.flat else made.astype(np.float32)
        count = min(self._turn_samples - self._turned, block.shape[1])
        head, rest = block[:, :count], block[:, count:]
        share = smoothstep((self._turned + 0.5 + np.arange(count)) / self._turn_samples)
        made = self._old.process(head) * (1 - share) + self._now.process(head) * share
        self._turned += count
        if self._turned == self._turn_samples:
            self._old = None
            if self._behind:
                self._turn()
        turned = made.astype(np.float32)
        return np.concatenate((turned, self.process(rest)), axis=1) if rest.shape[1] else turned

    def reset(self) -> None:
        """Forget the audio so far; be where the parameters are."""
        self._old, self._behind = None, False
        self._now = Sections(self._design(self._values), self._rows)


def smoothstep(share: Array) -> Array:
    """Turn 0 … 1 into 0 … 1 without a corner at either end."""
    return np.asarray(share * share * (3 - 2 * share))


# -- designs: Robert Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients" ---------------


def _normal(b: tuple[float, float, float], a: tuple[float, float, float]) -> list[float]:
    return [b[0] / a[0], b[1] / a[0], b[2] / a[0], a[1] / a[0], a[2] / a[0]]


def _angle(hz: float, rate_hz: int) -> float:
    return 2 * math.pi * min(hz, 0.49 * rate_hz) / rate_hz


FLAT = [1.0, 0.0, 0.0, 0.0, 0.0]


def high_pass(hz: float, rate_hz: int, q: float = math.sqrt(0.5)) -> list[float]:
    """Return what takes away below a frequency, 12 dB an octave."""
    w = _angle(hz, rate_hz)
    alpha, c = math.sin(w) / (2 * q), math.cos(w)
    return _normal(((1 + c) / 2, -(1 + c), (1 + c) / 2), (1 + alpha, -2 * c, 1 - alpha))


def bell(hz: float, gain_db: float, q: float, rate_hz: int) -> list[float]:
    """Return what lifts or lowers around a frequency."""
    if not gain_db:
        return FLAT
    w, a = _angle(hz, rate_hz), 10 ** (gain_db / 40)
    alpha, c = math.sin(w) / (2 * q), math.cos(w)
    return _normal((1 + alpha * a, -2 * c, 1 - alpha * a), (1 + alpha / a, -2 * c, 1 - alpha / a))


def low_shelf(hz: float, gain_db: float, rate_hz: int, q: float = math.sqrt(0.5)) -> list[float]:
    """Return what lifts or lowers below a frequency."""
    return _shelf(hz, gain_db, rate_hz, q, 1)


def high_shelf(hz: float, gain_db: float, rate_hz: int, q: float = math.sqrt(0.5)) -> list[float]:
    """Return what lifts or lowers above a frequency."""
    return _shelf(hz, gain_db, rate_hz, q, -1)


def _shelf(hz: float, gain_db: float, rate_hz: int, q: float, side: int) -> list[float]:
    if not gain_db:
        return FLAT
    w, a = _angle(hz, rate_hz), 10 ** (gain_db / 40)
    c, slope = side * math.cos(w), math.sqrt(a) * math.sin(w) / q
    up, down = a + 1, a - 1
    return _normal(
        (a * (up - down * c + slope), side * 2 * a * (down - up * c), a * (up - down * c - slope)),
        (up + down * c + slope, side * -2 * (down + up * c), up + down * c - slope),
    )


def tilt(hz: float, gain_db: float, rate_hz: int) -> list[float]:
    """Return what lifts above a frequency by as much as it lowers below it: (g s + 1) / (s + g) in s / ω."""
    if not gain_db:
        return FLAT
    g, k = 10 ** (gain_db / 20), 1 / math.tan(_angle(hz, rate_hz) / 2)
    return _normal((g * k + 1, 1 - g * k, 0.0), (k + g, g - k, 0.0))


def first_order(seconds: float, rate_hz: int) -> list[float]:
    """Return what follows its input with a time constant."""
    decay = math.exp(-1 / (max(seconds, 1e-9) * rate_hz))
    return [1 - decay, 0.0, 0.0, -decay, 0.0]
