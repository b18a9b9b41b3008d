"""The output chain of a session, its parameters changed at a sample, its edges faded.

    block   ├──────────────┬────────┬───────────┤
                     gain_db at …   mute at …         the block is cut there, so a change is exact to the sample

Rules: numpy only, no I/O, no thread; positions are the session's samples before the chain's latency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.output import OutputChain
from bridge.session.parameters import Value

__all__ = ["OUTPUT_NAMES", "TimedOutput"]

OUTPUT_NAMES = ("gain_db", "mute", "width")
_FADE_SAMPLES = 640  # 20 ms

Pcm = NDArray[np.float32]


@dataclass(frozen=True)
class _Change:
    at_sample: int
    values: Mapping[str, Value]


class TimedOutput:
    """An output chain with a timetable.

    Args:
        sample_rate_hz: of the audio.
        mono: whether the stream is one channel doubled.

    Attributes:
        latency_samples: how much later audio comes out, constant.
    """

    def __init__(self, sample_rate_hz: int, mono: bool) -> None:
        self._chain = OutputChain(sample_rate_hz, mono)
        self._ahead: list[_Change] = []
        self.latency_samples = self._chain.latency_samples

    def set(self, values: Mapping[str, Value], at_sample: int | None = None) -> None:
        """Change parameters from the next sample on, or at a sample ahead; names that are not the output's are left."""
        output = {name: value for name, value in values.items() if name in OUTPUT_NAMES}
        if at_sample is None:
            self._aim(output)
        elif output:  # stable: of two at one sample, the one asked for later wins
            self._ahead = sorted([*self._ahead, _Change(at_sample, output)], key=lambda change: change.at_sample)

    def _aim(self, values: Mapping[str, Value]) -> None:
        if "gain_db" in values:
            self._chain.set(gain_db=float(values["gain_db"]))
        if "mute" in values:
            self._chain.set(mute=bool(values["mute"]))
        if "width" in values:
            self._chain.set(width=float(values["width"]))

    def process(self, samples: Pcm, start: int, *, fade_in: bool = False, fade_out: bool = False) -> Pcm:
        """Process the next block.

        Args:
            samples: float32 [2, n].
            start: session sample of the first one.
            fade_in: fade its beginning in first.
            fade_out: fade its end out first.

        Returns:
            float32 [2, n], `latency_samples` late.
        """
        if fade_in or fade_out:
            samples = _faded(samples, fade_in=fade_in, fade_out=fade_out)
        end, done, pieces = start + samples.shape[1], 0, []
        while self._ahead and self._ahead[0].at_sample < end:
            change = self._ahead.pop(0)
            cut = max(change.at_sample - start, done)
            pieces.append(self._chain.process(samples[:, done:cut]))
            self._aim(change.values)
            done = cut
        pieces.append(self._chain.process(samples[:, done:]))
        return np.concatenate(pieces, axis=1)


def _faded(samples: Pcm, *, fade_in: bool, fade_out: bool) -> Pcm:
    """Fade the edges of a block over 20 ms at most."""
    out = samples.copy()
    length = min(_FADE_SAMPLES, samples.shape[1] // 2)
    ramp = np.linspace(0.0, 1.0, length, endpoint=False, dtype=np.float32)
    if fade_in:
        out[:, :length] *= ramp
    if fade_out:
        out[:, -length:] *= ramp[::-1]
    return out
