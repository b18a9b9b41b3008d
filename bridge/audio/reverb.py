"""A stereo reverb: eight delay lines that feed each other, in true stereo.

    left  ─► pre-delay ─► low cut ─► early pulses ─► lines 1 … 4 ─┐        every line's end, damped and weakened so that
    right ─► pre-delay ─► low cut ─► early pulses ─► lines 5 … 8 ─┤        the sound falls by 60 dB in the decay's time,
                                                                  ▼        goes through one rotation to the beginning
    out ◄─ two mixtures of the lines that have nothing in common ─┴─►      of all lines

The lines are longer than a piece of audio, so what comes out of them is known before what goes in: no loop over samples
(Jot and Chaigne, "Digital delay networks for designing artificial reverberators", AES 1991).

Rules: see effect.py. Its output is reverb alone: the slot's `wet` mixes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bridge.audio.effect import ParameterChange, Pcm, Smoothed, processed_in_pieces
from bridge.audio.filters import TurningFilter, high_pass, smoothstep
from bridge.audio.loops import loops, place, pulsed
from bridge.audio.slot_mix import MIX
from streamgen.config import ControlSpec, Value, number

__all__ = ["Reverb"]

_LINES_SECONDS = (0.0301, 0.0327, 0.0359, 0.0391, 0.0413, 0.0451, 0.0487, 0.0523)
_PULSES = 12  # of the early part, each channel's own
_EARLY_SECONDS = 0.025
_MOST_PRE_DELAY_MS = 200
_TURN_SECONDS = 0.05
_LEVEL = 0.9  # makes the reverb of noise about as loud as the noise at the default decay


class Reverb:
    """An effect: decay, damping, pre-delay, low cut."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "decay_seconds": number(0.1, 20, 1.8, "s", "until it has fallen by 60 dB"),
        "damping": number(0, 1, 0.4, "", "how much sooner the treble falls"),
        "pre_delay_ms": number(0, _MOST_PRE_DELAY_MS, 10, "ms", "before it begins"),
        "low_cut_hz": number(20, 1_000, 150, "Hz", "what lies below does not resound"),
    }
    mix: ClassVar[Mapping[str, ControlSpec]] = {**MIX, "wet": replace(MIX["wet"], default=0.25)}
    latency_samples = 0

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - any block will do
        """See `Effect.prepare`."""
        self._rate_hz = rate_hz
        default = {name: spec.default for name, spec in self.parameters.items()}
        self._lines = np.array([_prime(round(seconds * rate_hz)) for seconds in _LINES_SECONDS], np.int64)
        self._decay = Smoothed.at(math.log(float(default["decay_seconds"])), rate_hz)
        self._damping = Smoothed.at(float(default["damping"]) / 2, rate_hz)
        self._pre_delay = _PreDelay(rate_hz, float(default["pre_delay_ms"]))
        self._low_cut = TurningFilter(self._designed, {"low_cut_hz": default["low_cut_hz"]}, rate_hz)
        self._early = _Early(rate_hz)
        self._loops = loops()
        self._rests_at = math.nan  # the decay for which the lines' losses are known
        self._resting_gains: NDArray[np.float32]
        self.reset()

    def _designed(self, values: Mapping[str, Value]) -> NDArray[np.float64]:
        return np.array([high_pass(float(values["low_cut_hz"]), self._rate_hz)])

    def reset(self) -> None:
        """See `Effect.reset`."""
        self._decay.settle()
        self._damping.settle()
        self._low_cut.reset()
        self._pre_delay.reset()
        self._early.reset()
        self._held = np.zeros((8, int(self._lines[-1]) + 1), np.float32)  # what went into the lines, newest last

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`."""
        return processed_in_pieces(block, start_sample, changes, self._aim, self._run)

    def _aim(self, change: ParameterChange) -> None:
        if change.name == "decay_seconds":
            self._decay.aim(math.log(float(change.value)))
        elif change.name == "damping":
            self._damping.aim(float(change.value) / 2)
        elif change.name == "pre_delay_ms":
            self._pre_delay.aim(float(change.value))
        else:
            self._low_cut.aim(change.name, change.value)

    def _run(self, piece: Pcm) -> Pcm:
        if not piece.shape[1]:
            return piece
        early = self._early.process(
            self._low_cut.process(self._pre_delay.process(piece)).astype(np.float32, copy=False)
        )
        count, most = early.shape[1], int(self._lines[0])
        damping, gains = self._damping.next(count), self._gains(count)
        if self._loops is not None and isinstance(damping, float) and gains.shape[1] == 1:
            return self._looped(early, damping, gains)
        weak, fall = np.broadcast_to(np.asarray(damping, np.float32), count), np.broadcast_to(gains, (8, count))
        parts = [slice(at, at + most) for at in range(0, count, most)]
        return np.concatenate([self._network(early[:, part], weak[part], fall[:, part]) for part in parts], axis=1)

    def _network(self, early: Pcm, damping: NDArray[np.float32], gains: NDArray[np.float32]) -> Pcm:
        """Run the lines over no more samples than the shortest holds."""
        count, size = early.shape[1], self._held.shape[1]
        ends = np.stack(
            [row[size - line - 1 : size - line + count] for row, line in zip(self._held, self._lines, strict=True)]
        )
        ends = ends[:, 1:] - (ends[:, 1:] - ends[:, :-1]) * damping
        ends *= gains
        back = _ROTATION @ ends
        back[:4] += early[0]
        back[4:] += early[1]
        self._held = np.concatenate((self._held[:, count:], back), axis=1)
        return np.asarray(_OUT @ ends)

    def _looped(self, early: Pcm, damping: float, gains: NDArray[np.float32]) -> Pcm:
        """Run the lines over any number of samples, while nothing is being turned."""
        out, count, size = np.empty(early.shape, np.float32), early.shape[1], self._held.shape[1]
        held, lines = place(self._held), place(self._lines)
        self._loops.network(held, size, lines, place(gains), damping, place(early), place(out), count)
        return out

    def _gains(self, count: int) -> NDArray[np.float32]:
        """Each line's loss, [8, n or 1]: so that all fall by 60 dB in the same time."""
        decay = self._decay.next(count)
        if isinstance(decay, float) and decay == self._rests_at:
            return self._resting_gains
        seconds = np.exp(np.atleast_1d(np.asarray(decay)))
        gains = np.asarray(np.exp(-math.log(1e3) * self._lines[:, None] / self._rate_hz / seconds), np.float32)
        if isinstance(decay, float):
            self._rests_at, self._resting_gains = decay, gains
        return gains


class _PreDelay:
    """A delay whose length turns: the sound fades from one place of the past to another."""

    def __init__(self, rate_hz: int, milliseconds: float) -> None:
        self._rate_hz = rate_hz
        self._turn_samples = round(_TURN_SECONDS * rate_hz)
        self._most = self._samples(_MOST_PRE_DELAY_MS)
        self._now = self._next = self._old = self._samples(milliseconds)
        self._turned = self._turn_samples
        self.reset()

    def _samples(self, milliseconds: float) -> int:
        return round(milliseconds / 1e3 * self._rate_hz)

    def aim(self, milliseconds: float) -> None:
        self._next = self._samples(milliseconds)
        self._turn()

    def _turn(self) -> None:
        if self._now != self._next and self._turned >= self._turn_samples:
            self._old, self._now, self._turned = self._now, self._next, 0

    def reset(self) -> None:
        self._old = self._now = self._next
        self._turned = self._turn_samples
        self._held = np.zeros((2, self._most), np.float32)

    def process(self, piece: Pcm) -> Pcm:
        audio = np.concatenate((self._held, piece), axis=1)
        self._held = audio[:, audio.shape[1] - self._most :]
        return self._read(audio, self._most, piece.shape[1])

    def _read(self, audio: Pcm, start: int, count: int) -> Pcm:
        now = audio[:, start - self._now : start - self._now + count]
        turning = min(self._turn_samples - self._turned, count)
        if not turning:
            return now
        old = audio[:, start - self._old : start - self._old + turning]
        share = smoothstep((self._turned + 0.5 + np.arange(turning)) / self._turn_samples).astype(np.float32)
        head = old + (now[:, :turning] - old) * share
        self._turned += turning
        self._turn()
        rest = count - turning
        return np.concatenate((head, self._read(audio, start + turning, rest)), axis=1) if rest else head


class _Early:
    """A few pulses of either sign, each channel's own: what a wall throws back first, and the density of the rest."""

    def __init__(self, rate_hz: int) -> None:
        rng = np.random.default_rng(8)  # any seed: everybody's reverb is the same
        edges = np.linspace(0, _EARLY_SECONDS * rate_hz, _PULSES + 1)
        self._delays = np.floor(edges[:-1] + rng.random((2, _PULSES)) * np.diff(edges)).astype(np.int64)
        sizes = rng.choice([-1.0, 1.0], (2, _PULSES)) * 10 ** (-6 / 20 * np.arange(_PULSES) / _PULSES)
        self._sizes = (sizes * _LEVEL / np.sqrt((sizes**2).sum(axis=1, keepdims=True))).astype(np.float32)
        self._most = int(self._delays.max())
        self.reset()

    def reset(self) -> None:
        self._held = np.zeros((2, self._most), np.float32)

    def process(self, piece: Pcm) -> Pcm:
        audio, count = np.concatenate((self._held, piece), axis=1), piece.shape[1]
        self._held = audio[:, count:]
        return pulsed(audio, self._delays, self._sizes, count)


def _prime(count: int) -> int:
    """The next prime: lines whose lengths share no factor do not ring together."""
    while any(count % factor == 0 for factor in range(2, math.isqrt(count) + 1)):
        count += 1
    return count


def _rotation() -> NDArray[np.float32]:
    """Hadamard's matrix of eight: every line feeds all, and nothing is lost."""
    two = np.array([[1.0, 1.0], [1.0, -1.0]])
    return (np.kron(two, np.kron(two, two)) / math.sqrt(8)).astype(np.float32)


_ROTATION = _rotation()
_OUT = np.array([[1, -1, 1, -1, 1, 1, -1, -1], [1, 1, -1, -1, -1, 1, 1, -1]], np.float32) / np.float32(math.sqrt(8))
