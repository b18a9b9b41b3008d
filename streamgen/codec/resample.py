"""Sample-rate conversion of a whole piece of audio: a windowed-sinc filter in polyphase form.

Rules: numpy in, numpy out; any two whole rates; no stream, no state. Nothing but torch and numpy is needed.

Output j lies at input time j·M/L, where L/M is the ratio of the rates in lowest terms. Outputs j = q·L + r of one
phase r share the same filter, moved by M inputs for each q: one phase is one row of a strided convolution.

    inputs     0     1     2     3     4     5     6     7        L = 3, M = 4: 48 kHz to 36 kHz
    outputs    0       1       2       3       4       5
    phase r    0       1       2       0       1       2

Rates with little in common (47,999 Hz) have a phase for nearly every output: then filters come from a table, so that
the cost hardly depends on the ratio. A file of a few kB may say any rate in its header.

Quality, as the tests hold it against soxr HQ (44.1, 48, 22.05, 96 kHz to 32 kHz and back):
    passband   flat within 0.001 dB up to 0.92 of the lower Nyquist frequency
    aliases    below -120 dB from the lower Nyquist frequency on
    delay      none: a sample stays at its time; beyond both ends there is silence
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from streamgen.errors import PromptError

__all__ = ["resample"]

_PASSBAND = 0.92  # of the lower Nyquist frequency
_STOPBAND_DB = 125.0
# Kaiser's formulas, Oppenheim & Schafer, section 7.5.3.
_BETA = 0.1102 * (_STOPBAND_DB - 8.7)
_HALF_WIDTH = (_STOPBAND_DB - 7.95) / (2.285 * (1 - _PASSBAND) * np.pi) / 2  # samples of the lower rate
_CENTRE = (1 + _PASSBAND) / 2
# Phases filtered together: neighbours share most inputs, and one call does them all.
_PHASES = 32
_MOST_PHASES = 640  # with filters of their own: 44.1 kHz has 320, film's pull-down rates thousands
_TABLE = 2048  # filters between two inputs; halfway between two of them, a line is off by -130 dB


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Convert audio to another sample rate.

    Args:
        samples: float32 [channels, n].
        from_hz: rate of `samples`.
        to_hz: rate wanted.

    Returns:
        float32 [channels, ceil(n · to_hz / from_hz)]; `samples` itself if the rates are equal.

    Raises:
        PromptError: a rate below 1 Hz.
    """
    if from_hz < 1 or to_hz < 1:
        raise PromptError(f"sample rates are {from_hz} and {to_hz} Hz; both must be at least 1 Hz")
    if from_hz == to_hz:
        return samples
    common = math.gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    length = -(-samples.shape[1] * up // down)
    convert = _many_phases if up > _MOST_PHASES else _polyphase
    return convert(torch.from_numpy(np.ascontiguousarray(samples)), up, down, length).numpy()


@torch.no_grad()
def _polyphase(samples: torch.Tensor, up: int, down: int, length: int) -> torch.Tensor:
    """All outputs, `_PHASES` phases at a time: float32 [channels, length]."""
    reach = math.ceil(_HALF_WIDTH * max(1.0, down / up))
    rounds = -(-length // up)
    padded = F.pad(samples, (reach - 1, rounds * down + reach + 1 - samples.shape[1]))[:, None]
    out = samples.new_empty(samples.shape[0], min(up, length), rounds)
    for first in range(0, out.shape[1], _PHASES):
        phases = np.arange(first, min(first + _PHASES, out.shape[1]))
        bank = torch.from_numpy(_filters(phases, up, down, reach))[:, None]
        start = first * down // up
        stop = start + (rounds - 1) * down + bank.shape[2]
        out[:, first : first + len(phases)] = F.conv1d(padded[..., start:stop], bank, stride=down)
    return out.transpose(1, 2).reshape(samples.shape[0], -1)[:, :length].contiguous()


def _filters(phases: NDArray[np.int64], up: int, down: int, reach: int) -> NDArray[np.float32]:
    """The filters of neighbouring phases over the inputs they see together: float32 [phases, taps].

    Each sums to 1, so that a constant stays one.
    """
    first = phases[0] * down // up
    taps = phases[-1] * down // up - first + 2 * reach
    inputs = first - reach + 1 + np.arange(taps)
    return _kernel(phases[:, None] * (down / up) - inputs[None], up, down)


def _kernel(time: NDArray[np.float64], up: int, down: int) -> NDArray[np.float32]:
    """The filter at so many inputs before each output, every row of it with the sum 1."""
    rate = min(1.0, up / down)
    width = _HALF_WIDTH / rate
    inside = np.abs(time) < width
    window = np.i0(_BETA * np.sqrt(np.where(inside, 1 - (time / width) ** 2, 0)))
    bank: NDArray[np.float64] = np.where(inside, np.sinc(_CENTRE * rate * time) * window, 0)
    gain: NDArray[np.float64] = bank.sum(1, keepdims=True)
    return (bank / gain).astype(np.float32)


@torch.no_grad()
def _many_phases(samples: torch.Tensor, up: int, down: int, length: int) -> torch.Tensor:
    """What `_polyphase` gives, where filters are nearly as many as outputs: interpolated between those of a table.

    On this thread alone: a thousand products of microseconds each, for which two threads would only wait.
    """
    reach = math.ceil(_HALF_WIDTH * max(1.0, down / up))
    rounds, taps, group = -(-length // up), 2 * reach, _PHASES * 2
    width = taps + -(-group * down // up)
    behind = np.arange(_TABLE + 1)[:, None] / _TABLE  # an input: where the output of each filter lies
    table = torch.from_numpy(_kernel(behind + reach - 1 - np.arange(taps)[None], up, down))
    padded = F.pad(samples, (reach - 1, rounds * down + width - samples.shape[1]))
    channels, columns = padded.shape
    out = samples.new_empty(channels, rounds, min(up, length))
    with _one_thread():
        for first in range(0, out.shape[2], group):
            phases = torch.arange(first, min(first + group, out.shape[2]))
            starts, places = phases * down // up, (phases * down % up) * (_TABLE / up)
            below, part = places.long(), (places % 1.0).float()[:, None]
            rows = table[below].lerp(table[below + 1], part)
            bank = rows.new_zeros(len(phases), width)
            bank.scatter_(1, (starts - starts[0])[:, None] + torch.arange(taps), rows)
            seen = padded.as_strided((channels, rounds, width), (columns, down, 1), int(starts[0]))
            out[:, :, first : first + len(phases)] = seen @ bank.T
    return out.reshape(channels, -1)[:, :length].contiguous()


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
