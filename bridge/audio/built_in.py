"""The rack's own effects: nothing to install, no process of their own. A new one is one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridge.audio.compressor import Compressor
from bridge.audio.effect import Effect
from bridge.audio.equalizer import Equalizer, HighPass, Tilt
from bridge.audio.reverb import Reverb
from bridge.audio.saturation import Saturation

__all__ = ["BUILT_IN"]

BUILT_IN: Mapping[str, Callable[[], Effect]] = {
    "high-pass": HighPass,
    "equalizer": Equalizer,
    "tilt": Tilt,
    "compressor": Compressor,
    "saturation": Saturation,
    "reverb": Reverb,
}
