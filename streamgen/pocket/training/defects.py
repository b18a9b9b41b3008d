"""What an ear objects to and the other measures are deaf to: a comb, lost harmonics, loose timing, music that dies.

Rules: mono float32 samples at 32 kHz in, numbers out; knows no model. Every limit here was set on held-out songs and on
what the codec makes of them: the real ones pass.
"""

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from streamgen.pocket.training.measures import Audio, Vector
from streamgen.pocket.training.mel import log_mel
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

BANDS_HZ = ((60, 250), (250, 1000), (1000, 2000), (2000, 4000), (4000, 8000))
GRID_TOLERANCE_S = 0.012
SAME_BAR = 0.02  # log10-mel L1; bars whose codes of codebook 0 agree to 95 % differ by less, others by more
DEATH_SECONDS = 4.0
SILENT_DBFS = -50.0
STILL_CHANGE = 0.02  # log10-mel L1 between quarters of a second; a held organ chord moves more
BEND_REACH, FAINT_BEND_DB = 50, -75.0  # frames of 5 ms on both sides; fainter bends are not heard
DRONE_SECONDS, DRONE_CHANGE = 20.0, 0.05  # on average; the calmest of 48 held-out songs moves by 0.077


def comb_lines(audio: Audio, spacing_hz: float = 400.0) -> int:
    """How many multiples of `spacing_hz` between 0.8 and 10 kHz stand out as a line of their own.

    A line counts when the average power spectrum (Hann windows of 1 s, bins of 1 Hz) peaks within 2 Hz of it at 10 dB
    or more over the median of what lies 6 to 30 Hz away on both sides. 400 Hz is the codec's frame rate times its first
    ratio: the pattern that uneven transposed convolutions leave.
    """
    power = _second_spectrum(audio)
    centres = np.arange(math.ceil(800 / spacing_hz), math.floor(10_000 / spacing_hz) + 1) * spacing_hz
    return sum(_stands_out(power, round(centre)) for centre in centres)


def _second_spectrum(audio: Audio) -> Vector:
    window = SAMPLE_RATE_HZ
    frames = np.lib.stride_tricks.sliding_window_view(audio, window)[:: window // 2] * np.hanning(window + 1)[:-1]
    return np.asarray((np.abs(np.fft.rfft(frames)) ** 2).mean(axis=0) + 1e-20, dtype=np.float64)


def _stands_out(power: Vector, hertz: int) -> bool:
    around = np.concatenate([power[hertz - 30 : hertz - 5], power[hertz + 6 : hertz + 31]])
    return bool(power[hertz - 2 : hertz + 3].max() > 10 * np.median(around))


def harmonic_detail(audio: Audio, real: Audio) -> list[float]:
    """Correlation of the fine structure of two spectra, for each of `BANDS_HZ`: 1 the same partials, 0 others.

    Log magnitudes of 128 ms windows less their average over 200 Hz on both sides: the envelope, which a codec keeps, is
    gone, and what is left is which partials sound when.
    """
    length = min(len(audio), len(real))
    one, two = (_fine_structure(samples[:length]) for samples in (audio, real))
    hertz = np.arange(one.shape[0]) * SAMPLE_RATE_HZ / 4096
    bands = [(hertz >= low) & (hertz < high) for low, high in BANDS_HZ]
    return [float(np.corrcoef(one[band].ravel(), two[band].ravel())[0, 1]) for band in bands]


def _fine_structure(audio: Audio) -> npt.NDArray[np.float32]:
    window, around = 4096, round(200 * 4096 / SAMPLE_RATE_HZ)
    samples = torch.from_numpy(np.ascontiguousarray(audio))
    magnitude = torch.stft(samples, window, window // 4, window=torch.hann_window(window), return_complex=True).abs()
    level = (magnitude * 4 / window).clamp(min=1e-5).log10().T[None]
    smooth = F.avg_pool1d(F.pad(level, (around, around), mode="reflect"), 2 * around + 1, 1)
    return np.asarray((level - smooth)[0].T.numpy(), dtype=np.float32)


def onsets(audio: Audio) -> tuple[Vector, Vector]:
    """Times in seconds and strengths of what begins: peaks of the spectral flux, every 2 ms."""
    hop = 64
    samples = torch.from_numpy(np.ascontiguousarray(audio))
    magnitude = torch.stft(samples, 512, hop, window=torch.hann_window(512), return_complex=True).abs()
    level = (magnitude * 4 / 512).clamp(min=10**-3.5).log10()
    flux = (level[:, 4:] - level[:, :-4]).clamp(min=0).mean(0).numpy().astype(np.float64)
    reach = 15  # a peak is the highest within 30 ms
    highest = np.lib.stride_tricks.sliding_window_view(np.pad(flux, reach), 2 * reach + 1).max(axis=1)
    peaks = np.flatnonzero((flux == highest) & (flux > 0.5 * np.quantile(flux, 0.99)))
    return (peaks + 2) * hop / SAMPLE_RATE_HZ, flux[peaks]


def share_on_grid(audio: Audio, step_seconds: float) -> float:
    """Share of the onsets within 12 ms of the grid of that step which fits them best; not a number without onsets."""
    times, strengths = onsets(audio)
    return float(near_grid(times, strengths, step_seconds).mean()) if len(times) else math.nan


def near_grid(times: Vector, strengths: Vector, step_seconds: float) -> npt.NDArray[np.bool_]:
    """Which onsets lie within 12 ms of the grid of that step which fits them best, by their strengths."""
    turns = np.exp(2j * np.pi * times / step_seconds)
    off = np.angle(turns * np.conj((turns * strengths).sum())) / (2 * np.pi) * step_seconds
    return np.asarray(np.abs(off) <= GRID_TOLERANCE_S, dtype=np.bool_)


def sharpest_bend(audio: Audio) -> tuple[float, float]:
    """How far the sharpest bend stands out of what is near it, in dB, and its second: a drum in a pad, or a click.

    A bend is the power of the second difference in 5 ms; near it is the median of half a second. In 96 songs without
    drums, as the codec plays them, plucked harps reach 28 dB; a drum that has strayed into a pad 40 to 50.
    """
    size = SAMPLE_RATE_HZ // 200
    bends = np.diff(audio.astype(np.float64), 2)
    level = 10 * np.log10((bends[: len(bends) // size * size].reshape(-1, size) ** 2).mean(axis=1) + 1e-14)
    padded = np.pad(level, BEND_REACH, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * BEND_REACH + 1), axis=1)
    out = np.where(level > FAINT_BEND_DB, level - around, 0.0)
    at = int(out.argmax())
    return float(out[at]), at * size / SAMPLE_RATE_HZ


def bars_of(audio: Audio, bar_samples: int) -> list[Tensor]:
    """The log-mel spectrum of every whole bar, from the first sample on."""
    mel = log_mel(torch.from_numpy(np.ascontiguousarray(audio))[None], 2048, 64)[0].clamp(min=-4.0)
    frames = bar_samples // 512 - 1  # the next one looks into the next bar
    starts = range(0, len(audio) - bar_samples + 1, bar_samples)
    return [mel[:, start // 512 : start // 512 + frames] for start in starts]


def distinct_bars(bars: list[Tensor]) -> int:
    """How many bars are like none that came before them."""
    kept: list[Tensor] = []
    for bar in bars:
        if not any(_same(bar, other) for other in kept):
            kept.append(bar)
    return len(kept)


def repeated_bars(bars: list[Tensor]) -> float:
    """Share of bars that are the bar before; not a number of a single bar."""
    return float(np.mean([_same(bar, last) for last, bar in pairwise(bars)])) if len(bars) > 1 else math.nan


def _same(one: Tensor, two: Tensor) -> bool:
    return bool((one - two).abs().mean() < SAME_BAR)


def death(audio: Audio) -> float | None:
    """The second at which the music dies, or None: from there on 4 s of silence or stand-still, or 20 s of a drone."""
    changes = _changes(audio)
    found = [_first_run(held, DEATH_SECONDS) for held in (_silent(audio), changes < STILL_CHANGE)] + [_drone(changes)]
    return min((second for second in found if second is not None), default=None)


def _silent(audio: Audio) -> npt.NDArray[np.bool_]:
    """Of every quarter of a second, whether none of its twentieths of a second is louder than -50 dBFS."""
    size = SAMPLE_RATE_HZ // 20
    levels = (audio[: len(audio) // (5 * size) * 5 * size].reshape(-1, 5, size) ** 2).mean(axis=2).max(axis=1)
    return np.asarray(levels < 10 ** (SILENT_DBFS / 10))


def _changes(audio: Audio) -> Vector:
    """How far the spectrum of every quarter of a second is from that of the one before."""
    mel = log_mel(torch.from_numpy(np.ascontiguousarray(audio))[None], 2048, 64)[0]
    edges = np.round(np.arange(0.0, mel.shape[1] + 1, SAMPLE_RATE_HZ / 4 / 512)).astype(int)
    blocks = torch.stack([mel[:, low:high].mean(1) for low, high in pairwise(edges)])
    return np.append(np.inf, blocks.diff(dim=0).abs().mean(1).numpy())


def _first_run(held: npt.NDArray[np.bool_], seconds: float) -> float | None:
    """The second at which the first run of true quarter seconds begins that lasts `seconds`."""
    length = int(4 * seconds)
    if len(held) < length:
        return None
    starts = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(held, length).all(axis=1))
    return float(starts[0]) / 4 if len(starts) else None


def _drone(changes: Vector) -> float | None:
    """The second at which the first stretch of 20 s begins in which the spectrum hardly moves."""
    length = int(4 * DRONE_SECONDS)
    if len(changes) < length:
        return None
    starts = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(changes, length).mean(axis=1) < DRONE_CHANGE)
    return float(starts[0]) / 4 if len(starts) else None
