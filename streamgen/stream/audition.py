"""Several openings of the same prompt, drawn in one batch: the best one is what a stream begins with.

    prompts, seed ─► candidates, N of them ─ one batch, a bar and a bit ─► heard ─► the best candidate's number

A small model's first bar is copied for minutes, and one in five is tight on its grid: of eight the best nearly always
is. A candidate is a seed of its own, counted from where the music begins: the stream draws again what was heard here.
Where a checkpoint takes two texts for one prompt ("haunted castle", "christmas song"), each has candidates of its own.

Rules: plays nothing and changes no stream; draws through `Batch`, as the stream would. The grid and the key are known
where the checkpoint tells them of its prompts; elsewhere an opening only has to sound and to move. The grid is that of
drums: where none are asked for, the openings with the sharpest onsets are those with something in them like drums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamgen.checkpoint import Heard
from streamgen.checkpoint.tempo_and_key import SEMITONES
from streamgen.runtime import Runtime
from streamgen.stream.batch import Batch
from streamgen.stream.controls import MOST_OPENINGS, Controls
from streamgen.stream.guard import movement

__all__ = ["best_candidate", "score"]

Audio = NDArray[np.float32]

_USUAL_FRAMES, _MORE_THAN_A_BAR = 100, 1.1
_PIECE_FRAMES = 5  # of eight openings: tens of milliseconds, where a session commits a fifth of a second ahead
_STEPS_A_BAR = 16
_NEAR_SECONDS = 0.012  # of the grid: less is not heard as loose
_FEW_ONSETS = 6  # fewer say little of a grid
_KEY_WEIGHT, _SOUND_WEIGHT, _LIFE_WEIGHT = 0.5, 1.0, 1.0
_LIVELY_CHANGE = 0.2  # from one quarter second to the next: music with drums has more; what has a third stays a drone
_CALM_CHANGE = 0.08  # enough without drums: the liveliest orchestra of eight sounds like another style
_QUIET_DBFS = -40.0
_HOP = 64  # of the onsets' spectra, 2 ms at 32 kHz
_LONGER_THAN_A_DRUM = 5  # windows of 8,192 samples, a quarter apart
_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)


def best_candidate(
    runtime: Runtime, controls: Controls, count: int, between_steps: Callable[[], None] | None = None
) -> int:
    """Draw the openings that a stream would play under these controls, and return the number of the best.

    Args:
        runtime: of the model.
        controls: of the stream; what begins anew with them is tried.
        count: how many.
        between_steps: called after each step of the batch, and as often while it is decoded and heard, on this thread.
    """
    heard = runtime.prompts.heard(controls.mix.dominant)
    frames = _USUAL_FRAMES if heard is None else math.ceil(_MORE_THAN_A_BAR * heard.bar_frames)
    first = 1 + (0 if heard is None else MOST_OPENINGS * heard.wording)
    values: list[Mapping[str, Any]] = [
        {
            **controls.numbers,
            "prompts": controls.mix.prompts,
            "negative_prompt": controls.mix.negative,
            "candidate": number,
        }
        for number in range(first, first + count)
    ]
    breathe = between_steps or _nothing
    codes = Batch.of_values(runtime, values, frames).codes(lambda _done, _total: breathe())
    bar_seconds = (frames if heard is None else heard.bar_frames) / runtime.frame_rate_hz
    scores = []
    for audio in _decoded(runtime, torch.stack(codes), breathe):
        scores.append(score(audio, runtime.codec.sample_rate_hz, bar_seconds, heard))
        breathe()
    return first + int(np.argmax(scores))


def _nothing() -> None:
    """There is nobody to serve."""


def _decoded(runtime: Runtime, codes: Tensor, breathe: Callable[[], None]) -> Audio:
    """Decode int64 [B, K, T] to float32 [B, n], both channels' mean, in pieces that hold nobody up."""
    codec, pieces = runtime.codec, []
    with runtime.computing():
        state = codec.new_state(len(codes))
    for piece in codes.split(_PIECE_FRAMES, dim=2):
        with runtime.computing():
            pieces.append(codec.decode(piece.to(runtime.device), state).mean(1).cpu())
        breathe()
    with runtime.computing():
        pieces.append(codec.finish(state).mean(1).cpu())
    return np.asarray(torch.cat(pieces, dim=1).numpy())


def score(audio: Audio, rate_hz: int, bar_seconds: float, heard: Heard | None) -> float:
    """How good an opening is: sounding, moving, on the sixteenths of its bar, in the key.

    Args:
        audio: float32 [n].
        rate_hz: its samples a second.
        bar_seconds: length of a bar.
        heard: what is known of the prompt.
    """
    calm = heard is not None and "drums" not in heard.instruments
    life = _liveliness(audio, rate_hz, _CALM_CHANGE if calm else _LIVELY_CHANGE)
    living = _SOUND_WEIGHT * _sounding_share(audio, rate_hz) + _LIFE_WEIGHT * life
    if heard is None:
        return living
    grid = 0.0 if calm else _on_grid(audio, rate_hz, bar_seconds / _STEPS_A_BAR)
    return living + grid + _KEY_WEIGHT * _in_key(audio, rate_hz, heard)


def _liveliness(audio: Audio, rate_hz: int, enough: float) -> float:
    """How much of the movement that is enough there is, 0 … 1: an opening that hardly moves is held for minutes."""
    return min(1.0, movement(audio, rate_hz) / enough)


def _sounding_share(audio: Audio, rate_hz: int) -> float:
    """Share of quarter seconds that are not quiet."""
    size = rate_hz // 4
    power = (audio[: len(audio) // size * size].astype(np.float64).reshape(-1, size) ** 2).mean(axis=1)
    return float((10 * np.log10(power + 1e-12) > _QUIET_DBFS).mean()) if len(power) else 0.0


def _on_grid(audio: Audio, rate_hz: int, step_seconds: float) -> float:
    """Share of the onsets, by strength, near the grid that fits them best; half of it where there are few."""
    times, strengths = _onsets(audio, rate_hz)
    if not len(times):
        return 0.0
    turns = np.exp(2j * np.pi * times / step_seconds)
    off = np.angle(turns * np.conj((turns * strengths).sum())) / (2 * np.pi) * step_seconds
    near = float((np.abs(off) <= _NEAR_SECONDS).mean())
    return near * min(1.0, 0.5 + 0.5 * len(times) / _FEW_ONSETS)


def _onsets(audio: Audio, rate_hz: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times in seconds and strengths of the peaks of the spectral flux."""
    size = 8 * _HOP
    if len(audio) < 4 * size:
        return np.zeros(0), np.zeros(0)
    windows = np.lib.stride_tricks.sliding_window_view(audio, size)[::_HOP] * np.hanning(size + 1)[:-1]
    level = np.log10(np.maximum(np.abs(np.fft.rfft(windows)) * 4 / size, 10**-3.5))
    flux = np.maximum(level[4:] - level[:-4], 0).mean(axis=1)
    reach = 15
    highest = np.lib.stride_tricks.sliding_window_view(np.pad(flux, reach), 2 * reach + 1).max(axis=1)
    peaks = np.flatnonzero((flux == highest) & (flux > 0.5 * np.quantile(flux, 0.99)))
    return (peaks + 2) * _HOP / rate_hz, flux[peaks]


def _in_key(audio: Audio, rate_hz: int, heard: Heard) -> float:
    """Correlation of the energies of the twelve pitch classes with those of the key."""
    tonic, mode = heard.key.split()
    scale = _MINOR if mode == "minor" else _MAJOR
    profile = np.zeros(12)
    profile[list(scale)] = 1.0
    profile[[0, scale[2], 7]] += (1.0, 0.5, 0.5)
    size = min(8192, len(audio))
    windows = np.lib.stride_tricks.sliding_window_view(audio, size)[:: max(size // 4, 1)] * np.hanning(size)
    level = np.abs(np.fft.rfft(windows))
    if len(level) >= _LONGER_THAN_A_DRUM:
        level = np.median(np.lib.stride_tricks.sliding_window_view(level, _LONGER_THAN_A_DRUM, axis=0), axis=-1)
    power = (level**2).mean(axis=0)
    hertz = np.arange(len(power)) * rate_hz / size
    inside = (hertz > 60) & (hertz < 1000)  # where fundamentals lie
    pitch = np.round(12 * np.log2(hertz[inside] / 440) + 69).astype(int) % 12
    energy = np.bincount(pitch, power[inside], minlength=12)
    if not energy.std():
        return 0.0
    return float(np.corrcoef(np.roll(profile, SEMITONES[tonic.lower()]), energy)[0, 1])
