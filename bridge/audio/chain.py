"""A session's effects in order: one signal path for every door, every recording and every command.

    samples ─► width ─► gain ─► limiter ─► out          what goes in as the music of position p comes out as position p:
                │        │         │                    the latency of all of them is taken off at the beginning, and
             changes at their samples                   what they hold back is got out at the end

Rules: numpy only, no I/O, no thread; used by the engine's thread on what is final. A new effect is one line in EFFECTS:
its parameters then stand in the session's table, so at every door.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bridge.audio.effect import Change, Effect, Pcm
from bridge.audio.gain import Gain
from bridge.audio.limiter import Limiter
from bridge.audio.width import Width
from streamgen.config import ControlSpec, Value

__all__ = ["EFFECTS", "Chain", "effect_parameters"]

EFFECTS: list[Callable[[], Effect]] = [Width, Gain, Limiter]


def effect_parameters() -> dict[str, ControlSpec]:
    """Return what the effects of a new session can be told, by name."""
    return {name: spec for make in EFFECTS for name, spec in make().parameters.items()}


@dataclass
class _Stage:
    """One effect, how much the ones before it hold back, and the changes that wait for their sample."""

    effect: Effect
    delay_samples: int
    waiting: list[Change] = field(default_factory=list)

    def process(self, block: Pcm, start_sample: int) -> Pcm:
        start = start_sample - self.delay_samples
        due = sum(change.at_sample < start + block.shape[1] for change in self.waiting)
        changes, self.waiting = self.waiting[:due], self.waiting[due:]
        return self.effect.process(block, start, changes)


class Chain:
    """The signal path of one session.

    Args:
        rate_hz: samples a second.
        channels: of the source: 1 if both rows of every block are the same.
        max_block: the longest block that will come, in samples.
        effects: what it is made of, in order; None takes a new session's.

    Attributes:
        latency_samples: how much it holds back.
        position: of the next sample to go in.
    """

    def __init__(self, rate_hz: int, channels: int, max_block: int, effects: Iterable[Effect] | None = None) -> None:
        self.position = self.latency_samples = 0
        self._unheard = 0  # samples still to come out that are older than the beginning
        self._stages: list[_Stage] = []
        for effect in [make() for make in EFFECTS] if effects is None else effects:
            effect.prepare(rate_hz, channels, max_block)
            self._stages.append(_Stage(effect, self.latency_samples))
            self.latency_samples += effect.latency_samples
        self._unheard = self.latency_samples

    def set(self, values: Mapping[str, Value], at_sample: int | None = None) -> int:
        """Change parameters from a sample of the music on; None is the next to go in. Other names are left alone.

        Returns:
            The sample at which they change.
        """
        at = self.position if at_sample is None else max(at_sample, self.position)
        for stage in self._stages:
            own = [Change(at, name, value) for name, value in values.items() if name in stage.effect.parameters]
            if own:  # stable: of two at one sample, the one asked for later wins
                stage.waiting = sorted([*stage.waiting, *own], key=lambda change: change.at_sample)
        return at

    def process(self, samples: Pcm) -> Pcm:
        """Take the next float32 [2, n]; returns what comes out, shorter by what is held back at the beginning."""
        out = np.where(np.isfinite(samples), samples, np.float32(0))  # what is no number would stay in every filter
        for stage in self._stages:
            out = stage.process(out, self.position)
        self.position += samples.shape[1]
        before = min(self._unheard, out.shape[1])
        self._unheard -= before
        return out[:, before:]

    def finish(self) -> Pcm:
        """Return what is held back, and begin anew behind it: what follows does not join."""
        position = self.position
        rest = self.process(np.zeros((2, self.latency_samples), np.float32))
        self.position, self._unheard = position, self.latency_samples
        for stage in self._stages:
            stage.effect.reset()
        return rest
