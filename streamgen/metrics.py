"""Counters of one stream. Late audio is a number here, never an exception.

Rules: bounded memory whatever the length of the stream; no torch, no clock of its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["StreamMetrics", "quantile"]

_STEPS_KEPT = 8_192  # nearly three minutes at 50 steps a second: several rollovers, 0.3 MB
_ROLLOVERS_KEPT = 256


@dataclass(repr=False)
class StreamMetrics:
    """What a stream has done so far.

    Attributes:
        steps: LM steps.
        step_seconds: wall seconds of the newest steps, one a step, newest last.
        lm_seconds, codec_seconds: wall seconds in total.
        rollovers: windows handed over.
        rollover_steps: index (counted like `steps`) of the first step that each successor led.
        window_position: position in the leading window.
        windows: windows fed in the last step (2 while a successor is warmed).
        mends: how often the guard began the music anew.
    """

    steps: int = 0
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_STEPS_KEPT))
    lm_seconds: float = 0.0
    codec_seconds: float = 0.0
    rollovers: int = 0
    rollover_steps: deque[int] = field(default_factory=lambda: deque(maxlen=_ROLLOVERS_KEPT))
    window_position: int = 0
    windows: int = 0
    mends: int = 0

    def __repr__(self) -> str:
        """Say how many steps there were and what they took."""
        took = f"{self.lm_seconds:.3f} s of passes, {self.codec_seconds:.3f} s of codec"
        return f"<StreamMetrics: {self.steps} steps, {took}, {self.rollovers} rollovers>"

    def record_step(self, seconds: float, rollovers: int, position: int, windows: int) -> None:
        """Count one LM step."""
        if rollovers > self.rollovers:
            self.rollover_steps.append(self.steps)
        self.rollovers, self.window_position, self.windows = rollovers, position, windows
        self.steps += 1
        self.step_seconds.append(seconds)
        self.lm_seconds += seconds


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie (nearest rank); 0 where there are none."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1 if share else 0)]
