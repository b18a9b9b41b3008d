"""What a stream listens for in its own sound, so that music that has died is seen, told and begun anew.

    decoded sound ─► blocks of a quarter second ─► a fault, if the newest four seconds all have it ─► a fresh opening

    silence       no twentieth of a second above -50 dBFS
    stand-still   the spectrum does not move
    drone         it hardly moves, on average; or for ten seconds less than the checkpoint says its music ever does
    one code      the coarsest code is the one before, nine times in ten, and the spectrum stands almost still
    noise         every block is as flat as noise is
    run-away      every block is louder than any music is left

A language model that reads what it played falls into such states and does not leave them by itself: what sounds is
what is likely to go on. The limits are those of which held-out real music, its reconstructions by codecs and sounds of
hard cases stay clear (docs/measurements.md).

Rules: knows no model, no control and no cache. What was heard is an immutable value, so that marks and snapshots keep
it for nothing; it depends on the frames alone, not on the pieces in which they are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_SECONDS", "SoundFeatures", "Guard", "GuardMemory", "Mended", "movement"]

Audio = NDArray[np.float32]
Spectrum = NDArray[np.float64]

BLOCK_SECONDS = 0.25
PATIENCE_BLOCKS = 16  # all of them, before anything is done
LONGEST_PATIENCE_BLOCKS = 16 * PATIENCE_BLOCKS  # of what cannot be mended
SLOW_PATIENCE = 2.5  # times that patience, before music that moves less than its checkpoint's is a drone
HEALTHY_SECONDS = 60.0  # after which a mend has been one
SILENT_DBFS, RUNAWAY_DBFS = -50.0, -3.0
STILL_CHANGE, DRONE_CHANGE, ONE_CODE_CHANGE = 0.02, 0.03, 0.05  # log10-mel between blocks, mean over 48 bands
NOISE_FLATNESS = 0.5  # white noise in blocks like these: .95
ONE_CODE_SHARE = 0.9
_BANDS, _LOWEST_HZ, _HIGHEST_HZ = 48, 60.0, 14_000.0
_WINDOW = 2048
_FLOOR = 1e-10  # of a power: -100 dB


@dataclass(frozen=True)
class SoundFeatures:
    """What was heard in a quarter of a second.

    Attributes:
        level_db: of its loudest twentieth of a second, RMS in dBFS.
        rms_db: of all of it.
        change: of its spectrum from the one before, log10; infinite for the first.
        flatness: geometric mean of its spectrum over the arithmetic, 1 for noise.
        held: share of the coarsest codes that are the one before.
    """

    level_db: float
    rms_db: float
    change: float
    flatness: float
    held: float

    @property
    def silent(self) -> bool:
        """Whether nobody hears it."""
        return self.level_db < SILENT_DBFS


@dataclass(frozen=True)
class Mended:
    """What was found, and from which sample on the music begins anew."""

    fault: str
    at_sample: int


@dataclass(frozen=True)
class GuardMemory:
    """What a guard remembers of a stream.

    Attributes:
        frame: up to which it has listened.
        samples: float32 [n], of the block that is not whole yet.
        codes: the coarsest codes of that block so far.
        last_code: of the block before.
        spectrum: of the block before, log10.
        blocks: the newest ones, oldest first.
        from_frame: what sounded before it does not count: there the prompts changed.
        mend_frame: where the music is to begin anew; None if nothing is wrong.
        fault: what is wrong.
        openings: how often it was begun anew.
        patience: blocks that must all have a fault.
        mended: what was done so far, newest last.
    """

    frame: int = 0
    samples: Audio = field(default_factory=lambda: np.zeros(0, np.float32))
    codes: tuple[int, ...] = ()
    last_code: int | None = None
    spectrum: Spectrum | None = None
    blocks: tuple[SoundFeatures, ...] = ()
    from_frame: int = 0
    mend_frame: int | None = None
    fault: str = ""
    openings: int = 0
    patience: int = PATIENCE_BLOCKS
    mended: tuple[Mended, ...] = ()


class Guard:
    """Listens to one stream.

    Args:
        rate_hz: of its sound.
        hop_samples: of a frame.
        margin_frames: after what was heard, that may be drawn already: the music begins anew no earlier.
        least_movement: mean change of the spectrum, log10, that the checkpoint's music never stays under; 0 if unknown.

    Attributes:
        heard: what it remembers.
    """

    def __init__(self, rate_hz: int, hop_samples: int, margin_frames: int, least_movement: float = 0.0) -> None:
        self._rate_hz, self._hop, self._margin = rate_hz, hop_samples, margin_frames
        self._least_movement = least_movement
        self._block_frames = max(round(BLOCK_SECONDS * rate_hz / hop_samples), 1)
        self._bands = _band_edges(rate_hz)
        self.heard = GuardMemory()

    def listen(self, pcm: Audio, codes: list[int]) -> None:
        """Take decoded frames in: float32 [n] of sound, mono, and the coarsest code of each frame."""
        block = self._block_frames * self._hop
        now = self.heard
        samples, held = np.concatenate([now.samples, pcm]), (*now.codes, *codes)
        while len(samples) >= block:
            self._take_block(samples[:block], held[: self._block_frames])
            samples, held = samples[block:], held[self._block_frames :]
        self.heard = replace(self.heard, samples=samples, codes=held)

    def _take_block(self, samples: Audio, codes: tuple[int, ...]) -> None:
        now = self.heard
        spectrum = self._spectrum(samples)
        change = math.inf if now.spectrum is None else float(np.abs(_log(spectrum) - _log(now.spectrum)).mean())
        held = _held(codes if now.last_code is None else (now.last_code, *codes))
        block = SoundFeatures(*_levels(samples, self._rate_hz), change, _flatness(spectrum), held)
        frame, start = now.frame + self._block_frames, now.frame
        counted = (*now.blocks, block)[-LONGEST_PATIENCE_BLOCKS:] if start >= now.from_frame else ()
        self.heard = replace(now, frame=frame, spectrum=spectrum, blocks=counted, last_code=codes[-1])
        fault = fault_of(counted[-now.patience :]) if len(counted) >= now.patience else ""
        fault = fault or self._slow(counted, now.patience)
        if fault and now.mend_frame is None:
            self.heard = replace(self.heard, mend_frame=frame + self._margin, fault=fault)

    def _slow(self, blocks: tuple[SoundFeatures, ...], patience: int) -> str:
        """Name what moves too little for this checkpoint; "" for music, and for what was not heard for long enough."""
        needed = min(round(SLOW_PATIENCE * patience), LONGEST_PATIENCE_BLOCKS)
        changes = [block.change for block in blocks[-needed:]]
        return "drone" if len(changes) == needed and float(np.mean(changes)) < self._least_movement else ""

    def _spectrum(self, samples: Audio) -> Spectrum:
        """Mean power in bands, for a full-scale sine about 1."""
        length = min(_WINDOW, len(samples))
        windows = np.lib.stride_tricks.sliding_window_view(samples, length)[:: max(length // 2, 1)]
        power = (np.abs(np.fft.rfft(windows * _hann(length))) ** 2).mean(axis=0) * (4 / length) ** 2
        edges = np.minimum((self._bands * length / self._rate_hz).astype(int), len(power) - 1)
        below = power[: max(edges[-1], edges[-2] + 1)]
        # a band narrower than two of the transform's numbers is the one that it begins with
        means: Spectrum = np.add.reduceat(below, edges[:-1]) / np.maximum(np.diff(edges), 1)
        return means

    # -- what the stream asks -------------------------------------------------------------------------------------

    def forget(self, from_frame: int) -> None:
        """Let nothing count that sounded before a frame: there the prompts change, or fade."""
        self.heard = replace(
            self.heard, from_frame=from_frame, blocks=(), mend_frame=None, fault="", patience=PATIENCE_BLOCKS
        )

    def due(self, frame: int) -> bool:
        """Tell whether the music is to begin anew at a frame."""
        return self.heard.mend_frame is not None and frame >= self.heard.mend_frame

    def mend(self, frame: int) -> None:
        """Note that it begins anew at a frame."""
        now, at_sample = self.heard, frame * self._hop
        last = now.mended[-1].at_sample if now.mended else -math.inf
        in_vain = at_sample - last < HEALTHY_SECONDS * self._rate_hz
        patience = min(2 * now.patience, LONGEST_PATIENCE_BLOCKS) if in_vain else PATIENCE_BLOCKS
        self.heard = replace(
            now,
            from_frame=frame,
            blocks=(),
            mend_frame=None,
            fault="",
            openings=now.openings + 1,
            patience=patience,
            mended=(*now.mended, Mended(now.fault, at_sample))[-32:],
        )


def movement(audio: Audio, rate_hz: int) -> float:
    """Median change of the spectrum from one quarter of a second to the next, log10: what a drone lacks.

    Not the mean: a drone has a beginning too, and that one change is as large as ten of a lively music.

    Args:
        audio: float32 [n]; 0 of less than half a second.
        rate_hz: its samples a second.
    """
    block = round(BLOCK_SECONDS * rate_hz)
    guard = Guard(rate_hz, block, 0)
    guard.listen(audio, [0] * (len(audio) // block))
    changes = [one.change for one in guard.heard.blocks[1:]]
    return float(np.median(changes)) if changes else 0.0


def fault_of(blocks: tuple[SoundFeatures, ...]) -> str:
    """Name what all of some blocks have; "" for music."""
    if all(block.silent for block in blocks):
        return "silence"
    changes = [block.change for block in blocks]
    if max(changes) < STILL_CHANGE:
        return "stand-still"
    if float(np.mean(changes)) < DRONE_CHANGE:
        return "drone"
    if float(np.mean([block.held for block in blocks])) > ONE_CODE_SHARE and float(np.mean(changes)) < ONE_CODE_CHANGE:
        return "one code"
    if all(block.flatness > NOISE_FLATNESS and not block.silent for block in blocks):
        return "noise"
    return "run-away level" if all(block.rms_db > RUNAWAY_DBFS for block in blocks) else ""


@lru_cache(maxsize=4)
def _hann(length: int) -> NDArray[np.float64]:
    return np.hanning(length + 1)[:-1]


def _band_edges(rate_hz: int) -> NDArray[np.float64]:
    """Hz of the edges of bands that are as wide as the ear hears them."""
    top = min(_HIGHEST_HZ, 0.45 * rate_hz)
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (_LOWEST_HZ, top))
    mel = np.linspace(low, high, _BANDS + 1)
    return np.asarray(700 * (10 ** (mel / 2595) - 1), dtype=np.float64)


def _log(power: Spectrum) -> Spectrum:
    return np.log10(power + _FLOOR) / 2  # of amplitudes, as log-mel spectra are compared


def _levels(samples: Audio, rate_hz: int) -> tuple[float, float]:
    """Level of the loudest twentieth of a second, and of all."""
    size = min(rate_hz // 20, len(samples)) or 1
    power = (samples[: len(samples) // size * size].astype(np.float64).reshape(-1, size) ** 2).mean(axis=1)
    return _db(float(power.max())), _db(float(power.mean()))


def _db(power: float) -> float:
    return 10 * math.log10(power + _FLOOR)


def _flatness(power: Spectrum) -> float:
    return float(np.exp(np.log(power + _FLOOR).mean()) / (power + _FLOOR).mean())


def _held(codes: tuple[int, ...]) -> float:
    pairs = list(pairwise(codes))
    return sum(one == two for one, two in pairs) / len(pairs) if pairs else 0.0
