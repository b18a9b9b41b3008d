"""High-pass, equaliser and tilt: effects that are filters.

Rules: see effect.py. Where nothing is lifted or lowered the output is the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from bridge.audio.effect import ParameterChange, Pcm, processed_in_pieces
from bridge.audio.filters import Array, TurningFilter, bell, high_pass, high_shelf, low_shelf, tilt
from streamgen.config import ControlSpec, Value, number

__all__ = ["Equalizer", "HighPass", "Tilt"]


class _FilterEffect:
    """What the three share: a filter that turns, designed from the parameters' values."""

    parameters: ClassVar[Mapping[str, ControlSpec]]
    latency_samples = 0

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - any block will do
        """See `Effect.prepare`."""
        self._rate_hz = rate_hz
        values = {name: spec.default for name, spec in self.parameters.items()}
        self._filter = TurningFilter(self._designed, values, rate_hz)

    def _designed(self, values: Mapping[str, Value]) -> Array:
        numbers = {name: float(value) for name, value in values.items()}
        return np.array(self._sections(numbers, self._rate_hz))

    def _sections(self, values: Mapping[str, float], rate_hz: int) -> list[list[float]]:
        """Coefficients of as many sections whatever the values."""
        raise NotImplementedError

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`."""
        return processed_in_pieces(block, start_sample, changes, self._aim, self._run)

    def _aim(self, change: ParameterChange) -> None:
        self._filter.aim(change.name, change.value)

    def _run(self, piece: Pcm) -> Pcm:
        return self._filter.process(piece)

    def reset(self) -> None:
        """See `Effect.reset`."""
        self._filter.reset()


class HighPass(_FilterEffect):
    """An effect: takes away below a frequency, 12 dB an octave."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "frequency_hz": number(10, 1_000, 30, "Hz", "what lies below is taken away, 12 dB an octave"),
    }

    def _sections(self, values: Mapping[str, float], rate_hz: int) -> list[list[float]]:
        return [high_pass(values["frequency_hz"], rate_hz)]


class Tilt(_FilterEffect):
    """An effect: brighter or darker with one knob."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "tilt_db": number(-6, 6, 0, "dB", "lifts the treble and lowers the bass by as much, or the other way"),
        "pivot_hz": number(100, 5_000, 700, "Hz", "what stays as it is"),
    }

    def _sections(self, values: Mapping[str, float], rate_hz: int) -> list[list[float]]:
        return [tilt(values["pivot_hz"], values["tilt_db"], rate_hz)]


_BELLS = {1: 200, 2: 1_000, 3: 4_000}


def _bell_rows(band: int, hz: float) -> dict[str, ControlSpec]:
    return {
        f"band{band}_hz": number(20, 20_000, hz, "Hz", f"middle of band {band}"),
        f"band{band}_db": number(-18, 18, 0, "dB", f"lift of band {band}"),
        f"band{band}_q": number(0.1, 10, 1, "", f"band {band}'s narrowness"),
    }


class Equalizer(_FilterEffect):
    """An effect: two shelves and three bells between them."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "low_hz": number(20, 1_000, 100, "Hz", "the low shelf reaches up to here"),
        "low_db": number(-18, 18, 0, "dB", "lift of the low shelf"),
        **{name: spec for band, hz in _BELLS.items() for name, spec in _bell_rows(band, hz).items()},
        "high_hz": number(1_000, 20_000, 8_000, "Hz", "the high shelf begins here"),
        "high_db": number(-18, 18, 0, "dB", "lift of the high shelf"),
    }

    def _sections(self, values: Mapping[str, float], rate_hz: int) -> list[list[float]]:
        bells = [
            bell(values[f"band{band}_hz"], values[f"band{band}_db"], values[f"band{band}_q"], rate_hz)
            for band in _BELLS
        ]
        low = low_shelf(values["low_hz"], values["low_db"], rate_hz)
        return [low, *bells, high_shelf(values["high_hz"], values["high_db"], rate_hz)]
