"""Saturation: a soft limit that adds harmonics, computed at eight times the rate so that they do not fold back.

    samples ─► eight times as many ─► tanh(drive · x) / drive ─► an eighth of them ─► out
               └ a filter of 2 · HALF taps a phase                └ the same filter: together HALF + HALF samples late

Rules: see effect.py. What is quiet stays as loud as it was: drive bends the peaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bridge.audio.effect import ParameterChange, Pcm, Smoothed, processed_in_pieces
from bridge.audio.gain import linear
from streamgen.config import ControlSpec, number

__all__ = ["Saturation"]

_TIMES = 8
_HALF = 16  # samples on either side that the filters look at
_PIECE = 32  # samples that one row of the matrices makes
_KAISER_BETA = 8.0
_CUTOFF = 0.97  # of half the rate


class Saturation:
    """An effect: drive, level."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "drive_db": number(0, 24, 6, "dB", "how far into the bend"),
        "level_db": number(-24, 24, 0, "dB", "level behind it"),
    }
    latency_samples = 2 * _HALF

    def __init__(self) -> None:
        taps = _taps()
        self._up, self._down = _up_matrix(taps), _down_matrix(taps)

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - any block will do
        """See `Effect.prepare`."""
        self._levels = {
            name: Smoothed.at(linear(spec.default), rate_hz * (_TIMES if name == "drive_db" else 1))
            for name, spec in self.parameters.items()
        }
        self.reset()

    def reset(self) -> None:
        """See `Effect.reset`."""
        for level in self._levels.values():
            level.settle()
        self._before = np.zeros((2, 2 * _HALF - 1), np.float32)
        self._bent_before = np.zeros((2, 2 * _HALF * _TIMES), np.float32)

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`."""
        return processed_in_pieces(block, start_sample, changes, self._aim, self._run)

    def _aim(self, change: ParameterChange) -> None:
        self._levels[change.name].aim(linear(change.value))

    def _run(self, piece: Pcm) -> Pcm:
        count = piece.shape[1]
        if not count:
            return piece
        audio = np.concatenate((self._before, piece), axis=1)
        self._before = audio[:, count:]
        more = _rows(audio, count, 1, self._up)[:, : count * _TIMES]
        drive = np.asarray(self._levels["drive_db"].next(count * _TIMES), np.float32)
        bent = np.tanh(more * drive) / drive
        bent = np.concatenate((self._bent_before, bent), axis=1)
        self._bent_before = bent[:, count * _TIMES :]
        out = _rows(bent, count, _TIMES, self._down)[:, :count]
        return self._levels["level_db"].scaled(out)


def _rows(audio: Pcm, count: int, times: int, matrix: Pcm) -> Pcm:
    """Make `count` samples: rows that overlap, each PIECE · `times` samples behind the last, through a matrix."""
    width, rows = matrix.shape[0], -(-count // _PIECE)
    missing = (rows - 1) * _PIECE * times + width - audio.shape[1]
    padded = np.pad(audio, ((0, 0), (0, max(missing, 0))))
    windows = sliding_window_view(padded, width, axis=1)[:, :: _PIECE * times][:, :rows]
    return np.asarray((np.ascontiguousarray(windows) @ matrix).reshape(2, -1))


def _taps() -> Pcm:
    """A low-pass at `_TIMES` the rate: [2 · HALF · TIMES], its sum `_TIMES`."""
    size = 2 * _HALF * _TIMES
    distance = (np.arange(size) - size / 2) / _TIMES  # a whole number of samples late, in both directions
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0, 1 - (distance / _HALF) ** 2)))
    taps = np.sinc(_CUTOFF * distance) * window
    return np.asarray(_TIMES * taps / taps.sum(), np.float32)


def _up_matrix(taps: Pcm) -> Pcm:
    """What makes PIECE · TIMES samples of PIECE + 2 · HALF − 1: sample n, phase p is Σ x[n − k] · taps[TIMES k + p]."""
    phases = taps.reshape(2 * _HALF, _TIMES)
    matrix = np.zeros((_PIECE + 2 * _HALF - 1, _PIECE, _TIMES), np.float32)
    for sample in range(_PIECE):
        matrix[sample : sample + 2 * _HALF, sample] = phases[::-1]
    return matrix.reshape(len(matrix), -1)


def _down_matrix(taps: Pcm) -> Pcm:
    """What makes PIECE samples of (PIECE + 2 · HALF) · TIMES: sample n is Σ y[TIMES n − j] · taps[j] / TIMES."""
    matrix = np.zeros(((_PIECE + 2 * _HALF) * _TIMES, _PIECE), np.float32)
    for sample in range(_PIECE):
        newest = (sample + 2 * _HALF) * _TIMES  # where sample n's own first phase lies
        matrix[newest - len(taps) + 1 : newest + 1, sample] = taps[::-1] / _TIMES
    return matrix
