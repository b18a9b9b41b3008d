"""How much of a slot's effect is heard: bypass, wet, gain and the trim before it, smoothed.

Rules: numpy only; by the positions of what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bridge.audio.effect import Effect, ParameterChange, Pcm, Smoothed
from bridge.audio.gain import linear
from streamgen.config import ControlSpec, number, switch

__all__ = ["MIX", "SlotMix", "mix_parameters"]

MIX: Mapping[str, ControlSpec] = {
    "bypass": switch(False, "pass the input on as it is"),
    "wet": number(0, 1, 1, "", "share of the effect; the rest is its input"),
    "gain_db": number(-60, 24, 0, "dB", "level behind the effect"),
    "input_db": number(-60, 24, 0, "dB", "level before the effect"),
}
"""What every slot can be told, whatever is in it; no effect's own parameter has one of these names."""


class SlotMix:
    """Input and effect in their shares.

    Args:
        rate_hz: samples a second.
        specs: as `mix_parameters`; their defaults are what it begins with.
    """

    def __init__(self, rate_hz: int, specs: Mapping[str, ControlSpec]) -> None:
        self._levels = {name: Smoothed.at(_level(name, specs[name].default), rate_hz) for name in MIX}

    def settle(self) -> None:
        """Be where the parameters are."""
        for level in self._levels.values():
            level.settle()

    def aim(self, change: ParameterChange) -> None:
        """Turn a parameter from here on."""
        self._levels[change.name].aim(_level(change.name, change.value))

    def mixed(self, dry: Pcm, wet: Pcm | None, share: float | NDArray[np.float32]) -> Pcm:
        """Mix the input with the effects' weighted sum; `share` is the weights' sum.

        With b the bypass, w wet, g the gain and t the input's trim, both weighed by (1 − b):
        (1 − share) · dry + g · ((1 − w) · t · share · dry + w · wet)
        """
        count = dry.shape[1]
        bypass, part, gain, trim = (self._levels[name].next(count) for name in MIX)
        if wet is None or _is(bypass, 1.0):
            return dry
        if _is(bypass, 0.0) and _is(part, 1.0):
            wet = wet if _is(gain, 1.0) else wet * np.asarray(gain, np.float32)
            return wet if _is(share, 1.0) else wet + dry * np.asarray(1.0 - share, np.float32)
        shown = np.asarray(share * (1.0 - np.asarray(bypass)))
        dry_part = (1.0 - shown) + gain * (1.0 - np.asarray(part)) * trim * shown
        wet_part = (1.0 - np.asarray(bypass)) * gain * part
        return np.asarray(dry * dry_part.astype(np.float32) + wet * np.asarray(wet_part, np.float32))


def mix_parameters(effect: Effect) -> Mapping[str, ControlSpec]:
    """Return `MIX` with an effect's own defaults: a reverb begins with little of it."""
    return getattr(effect, "mix", MIX)


def _level(name: str, value: object) -> float:
    assert isinstance(value, int | float), value
    return linear(value) if name.endswith("_db") else float(value)


def _is(level: float | NDArray[np.float64] | NDArray[np.float32], value: float) -> bool:
    return isinstance(level, float) and level == value
