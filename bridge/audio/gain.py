"""The output level and its switch, smoothed; levels in dB as factors.

Rules: see effect.py. At 0 dB and unmuted the output is the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from bridge.audio.effect import ParameterChange, Pcm, Smoothed, processed_in_pieces
from streamgen.config import ControlSpec, number, switch

__all__ = ["Gain", "linear"]


def linear(level_db: object) -> float:
    """Return the factor that a level in dB is."""
    assert isinstance(level_db, int | float), level_db
    return float(10 ** (level_db / 20))


class Gain:
    """An effect: gain_db and mute."""

    parameters: ClassVar[Mapping[str, ControlSpec]] = {
        "gain_db": number(-60, 12, 0, "dB", "output level, before the limiter"),
        "mute": switch(False, "silence the output; the music goes on"),
    }
    latency_samples = 0

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - the same for all
        """See `Effect.prepare`."""
        self._gain, self._heard = Smoothed.at(1.0, rate_hz), Smoothed.at(1.0, rate_hz)

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`."""
        return processed_in_pieces(block, start_sample, changes, self._aim, self._run)

    def _aim(self, change: ParameterChange) -> None:
        if change.name == "mute":
            self._heard.aim(0.0 if change.value else 1.0)
        else:
            self._gain.aim(linear(change.value))

    def _run(self, piece: Pcm) -> Pcm:
        return self._heard.scaled(self._gain.scaled(piece))

    def reset(self) -> None:
        """See `Effect.reset`."""
        self._gain.settle()
        self._heard.settle()
