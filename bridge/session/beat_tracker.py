"""Where the beats of the music lie, heard from its sound: for checkpoints that do not tell their bars.

    the last ten seconds ─┬─► flux ─► autocorrelation, at a beat and its multiples ─► tempo
                          └─► rise of the octaves' strength ─► a comb of that tempo ─► which sample a beat falls on

    rise     │  ▂    ▁    ▂    ▁  │      a comb that finds the strokes no better than chance tells nothing
    comb     │  ╷         ╷       │

A tracker hears beats, and neither bars nor which of two tempi, one twice the other, is meant: so it is offered as a
figure, `phase`, and leads nothing. No library is used: those with a model of beats are under licences that this project
cannot take (madmom, BeatNet: non-commercial weights; essentia: AGPL; aubio: GPL), or hundreds of MB of others'.

Rules: numpy only; the engine's thread, some two milliseconds once a second. Counts the session's samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.audio.spectra import BANDS_HZ, Spectra

__all__ = ["BeatTracker"]

_HEARD_SECONDS, _LEAST_SECONDS, _EVERY_SECONDS = 10.0, 5.0, 1.0
_BPM = (60.0, 200.0)
_USUAL_BPM, _USUAL_OCTAVES = 115.0, 0.9  # where tempi lie, and how far around: of two octaves the likelier one
_LAG = 2  # hops over which strength rises, as the flux
_STEP = 1.002  # between two tempi that are tried
_MULTIPLES = 4
_MEAN_SECONDS = 0.4
_STAYS = 1.15  # by how much another tempo has to be better than the one before
_LEAST_PULSE, _LEAST_CONTRAST = 0.2, 2.0
_LEAST_DB = 1.0  # of flux, which one hop in twenty reaches: less is no stroke

Floats = NDArray[np.float64]


class BeatTracker:
    """The beats of one session's sound.

    Args:
        rate_hz: of the samples.

    Attributes:
        beats: a sample on which a beat falls, and the samples from beat to beat; None where there is no pulse.
    """

    def __init__(self, rate_hz: int) -> None:
        self._spectra = Spectra(rate_hz)
        self._hops_a_second = rate_hz / self._spectra.hop
        self._rises: Floats = np.zeros((0, 2))  # flux, where the quiet counts as the loud, and rise, where it does not
        self._strength: Floats = np.zeros((_LAG, len(BANDS_HZ)))
        self._waiting: list[NDArray[np.float32]] = []  # what follows on and is not looked at yet
        self._start = self._next = 0  # sample that it begins with, and the one behind it
        self.beats: tuple[float, float] | None = None
        count = int(np.log(_BPM[1] / _BPM[0]) / np.log(_STEP))
        self._lags = 60 * self._hops_a_second / (_BPM[0] * _STEP ** np.arange(count))
        octaves = np.log2(60 * self._hops_a_second / self._lags / _USUAL_BPM)
        self._likely = np.exp(-0.5 * (octaves / _USUAL_OCTAVES) ** 2)

    def take(self, samples: NDArray[np.float32], start: int) -> None:
        """Take float32 [2, n] that begins at a sample; what does not follow on begins anew.

        It is looked at when a second has come together: piece by piece that takes twice as long.
        """
        if start != self._next:
            self._rises, self.beats, self._waiting, self._start = np.zeros((0, 2)), None, [], start
        self._waiting.append(samples)
        self._next = start + samples.shape[1]
        if self._next - self._start >= _EVERY_SECONDS * self._hops_a_second * self._spectra.hop:
            self._look(np.concatenate(self._waiting, axis=1))
            self._waiting, self._start = [], self._next

    def _look(self, samples: NDArray[np.float32]) -> None:
        look = self._spectra.add(samples, self._start)
        strength = np.concatenate([self._strength, 10 ** (look.bands / 20)])
        self._strength = strength[-_LAG:]
        rise = np.maximum(strength[_LAG:] - strength[:-_LAG], 0).sum(axis=1)
        rises = np.concatenate([self._rises, np.stack([look.flux, rise], axis=1)])
        self._rises = rises[-round(_HEARD_SECONDS * self._hops_a_second) :]
        self._newest = int(look.ends[-1])
        if len(self._rises) >= _LEAST_SECONDS * self._hops_a_second:
            self.beats = self._found()

    def _found(self) -> tuple[float, float] | None:
        flux, rise = (self._strokes(column) for column in self._rises.T)
        struck = np.percentile(self._rises[:, 0], 95) > _LEAST_DB
        lag = self._tempo(flux, rise) if struck else None
        last = None if lag is None else self._comb(rise, lag)
        if lag is None or last is None:
            return None
        hop = self._spectra.hop
        return self._newest - (len(rise) - 1 - last) * hop - self._spectra.seen_after, lag * hop

    def _strokes(self, rises: Floats) -> Floats:
        """What stands above its mean nearby, a little wider, so that strokes by hand find their comb."""
        width = round(_MEAN_SECONDS * self._hops_a_second)
        sums = np.cumsum(np.concatenate([np.zeros(1), np.pad(rises, width // 2, mode="edge")]))
        mean = (sums[width:] - sums[:-width])[: len(rises)] / width
        return np.convolve(np.maximum(rises - mean, 0), [0.25, 0.5, 0.25], "same")

    def _tempo(self, flux: Floats, rise: Floats) -> float | None:
        """Return the hops from beat to beat."""
        places = np.arange(len(flux))
        same = (_alike(flux) + _alike(rise)) / 2
        pulse = sum(np.interp(self._lags * times, places, same) for times in range(1, _MULTIPLES + 1)) / _MULTIPLES
        score = pulse * self._likely
        best = int(np.argmax(score))
        if self.beats is not None:  # a tempo is left for one that is clearly better
            near = np.abs(np.log2(self._lags * self._spectra.hop / self.beats[1])) < 0.03
            stays = int(np.argmax(np.where(near, score, -np.inf)))
            best = stays if score[best] < _STAYS * score[stays] else best
        return float(self._lags[best]) if pulse[best] > _LEAST_PULSE else None

    def _comb(self, strokes: Floats, lag: float) -> float | None:
        """Return the place of the last beat, in hops."""
        newest = len(strokes) - 1
        teeth = np.arange(int(newest / lag))
        shifts = np.arange(0, lag, 0.25)
        heard = np.interp(newest - shifts[:, None] - teeth[None] * lag, np.arange(len(strokes)), strokes).mean(axis=1)
        best = int(np.argmax(heard))
        if heard[best] < _LEAST_CONTRAST * strokes.mean():
            return None
        return newest - float(shifts[best])


def _alike(strokes: Floats) -> Floats:
    """Return how alike strokes are to themselves so many hops later, from 1 at none."""
    count = len(strokes)
    spectrum = np.fft.rfft(strokes - strokes.mean(), 2 * count)
    alike = np.fft.irfft(np.square(np.abs(spectrum)))[:count] / (count - np.arange(count))
    return np.asarray(alike / max(alike[0], 1e-12))
