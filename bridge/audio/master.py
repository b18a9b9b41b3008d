"""Mastering with one switch: what makes a small model's sound into something to keep on.

    ─► high-pass ─► width and a little reverb, for mono ─► glue compressor ─► evener ─► slow gain ─► (limiter)
       30 Hz                                                                  told how    towards
                                                                              loud it is  −14 LUFS

The slow gain hears a break of four bars when it is over; the evener is told of it beforehand, where a checkpoint tells
how loud its styles are.

Rules: see effect.py. Off it gives back what it gets, and costs nothing. The chain's own limiter stands behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import numpy as np

from bridge.audio.compressor import Compressor
from bridge.audio.effect import ParameterChange, Pcm, Smoothed, processed_in_pieces
from bridge.audio.equalizer import HighPass
from bridge.audio.gain import linear
from bridge.audio.loudness import SlowGain
from bridge.audio.reverb import Reverb
from bridge.audio.width import SideMaker
from streamgen.config import ControlSpec, text

__all__ = ["LOUDNESS", "TARGET_LUFS", "Color", "Master", "master_default"]

TARGET_LUFS = -14.0  # what streaming services play music at
LOUDNESS = "loudness_db"  # of the music that begins: what a checkpoint tells of its style
_FIRST_DB = 8.0  # where `pocket`'s styles end, but for 1 dB: from 0, every piece began with a swell
_FADE_SECONDS = 0.2  # longer than the switch takes
_WIDTH = 0.48  # more, and a mono sum of the widest pads loses over 1 dB
_REVERB_LEVEL = 0.12  # −18 dB
_GLUE = {"threshold_db": -22.0, "ratio": 1.8, "knee_db": 12.0, "attack_ms": 30.0, "release_ms": 250.0}


def master_default(model_name: str) -> str:
    """Return what a checkpoint begins with: the shipped one is mono and uneven, the others are finished sound."""
    return "gentle" if model_name == "pocket" else "off"


class Master:
    """An effect: the switch `master`."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "master": text("mastering: low cut, glue, loudness; width and room for mono", "off", ("off", "gentle")),
    }
    listens: ClassVar[Collection[str]] = frozenset({LOUDNESS})
    latency_samples = 0

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:
        """See `Effect.prepare`."""
        self._rate_hz, self._channels, self._max_block = rate_hz, channels, max_block
        self._share = Smoothed.at(0.0, rate_hz)
        self._evening = Smoothed.at(1.0, rate_hz)
        self._gentle: _Gentle | None = None
        self._fading = 0  # samples for which it still has to run, once it is switched off

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`."""
        return processed_in_pieces(block, start_sample, changes, self._aim, self._run)

    def _aim(self, change: ParameterChange) -> None:
        if change.name == LOUDNESS:
            self._evening.aim(linear(-float(change.value)))
            if change.at_sample <= 0 or self._gentle is None:
                self._evening.settle()
            return
        on = change.value != "off"
        if on and self._gentle is None:
            first_db = _FIRST_DB if change.at_sample <= 0 else 0.0  # later, music is heard at its own level before
            self._gentle = _Gentle(self._rate_hz, self._channels, self._max_block, first_db)
        self._fading = 0 if on else round(_FADE_SECONDS * self._rate_hz)
        self._share.aim(1.0 if on else 0.0)

    def _run(self, piece: Pcm) -> Pcm:
        if self._gentle is None or not piece.shape[1]:
            return piece
        if not self._fading:
            return self._mixed(self._gentle, piece)
        count = min(self._fading, piece.shape[1])
        made = self._mixed(self._gentle, piece[:, :count])
        self._fading -= count
        if not self._fading:
            self._gentle = None  # it begins anew when it is switched on again
        return np.concatenate((made, piece[:, count:]), axis=1)

    def _mixed(self, gentle: _Gentle, piece: Pcm) -> Pcm:
        share, made = self._share.next(piece.shape[1]), gentle.process(piece, self._evening)
        if isinstance(share, float) and share == 1.0:
            return made
        # all of it is what was made, to the bit: so it is where a piece begins behind the fade
        return np.where(np.asarray(share) == 1.0, made, piece + (made - piece) * np.asarray(share, np.float32))

    def reset(self) -> None:
        """See `Effect.reset`. The loudness is not forgotten: after a pause the music is as loud as before."""
        self._share.settle()
        self._evening.settle()
        if self._fading:
            self._gentle, self._fading = None, 0
        if self._gentle is not None:
            self._gentle.reset()


class _Gentle:
    """What is behind the switch."""

    def __init__(self, rate_hz: int, channels: int, max_block: int, first_db: float) -> None:
        self._color = Color(rate_hz, channels, max_block)
        self._gain = SlowGain(rate_hz, TARGET_LUFS, first_db)

    def process(self, piece: Pcm, evening: Smoothed) -> Pcm:
        return self._gain.process(evening.scaled(self._color.process(piece)))

    def reset(self) -> None:
        self._color.reset()


class Color:
    """What the master does to the sound before it sees to its loudness. Arguments as of `Effect.prepare`."""

    def __init__(self, rate_hz: int, channels: int, max_block: int) -> None:
        self._low_cut, self._glue = HighPass(), Compressor(**_GLUE)
        self._room = _RoomReverb(rate_hz, max_block) if channels == 1 else None
        for effect in (self._low_cut, self._glue):
            effect.prepare(rate_hz, channels, max_block)

    def process(self, piece: Pcm) -> Pcm:
        """Take the next float32 [2, n], and give as much."""
        out = self._low_cut.process(piece, 0, ())
        if self._room is not None:
            out = self._room.process(out)
        return self._glue.process(out, 0, ())

    def reset(self) -> None:
        """Forget the audio so far."""
        self._low_cut.reset()
        self._glue.reset()
        if self._room is not None:
            self._room.reset()


class _RoomReverb:
    """Width and reverb for a source whose channels are the same; where both are summed no width is left."""

    def __init__(self, rate_hz: int, max_block: int) -> None:
        self._side = SideMaker(rate_hz)
        self._reverb = Reverb()
        self._reverb.prepare(rate_hz, 2, max_block)
        self._before: Pcm = np.zeros(self._side.context_samples, np.float32)

    def process(self, piece: Pcm) -> Pcm:
        middle: Pcm = np.concatenate((self._before, (piece[0] + piece[1]) / np.float32(2)))
        self._before = middle[piece.shape[1] :].copy()
        side = self._side.of(middle) * np.float32(_WIDTH)
        out = self._reverb.process(piece, 0, ()) * np.float32(_REVERB_LEVEL)
        out[0] += piece[0] + side
        out[1] += piece[1] - side
        return out

    def reset(self) -> None:
        self._before = np.zeros(self._side.context_samples, np.float32)
        self._reverb.reset()
