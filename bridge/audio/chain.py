"""A session's effects in order: one signal path for every door, every recording and every command.

    samples ─► width ─► rack ─► master ─► gain ─► limiter ─► out
                │        │        │        │         │
                └────────┴────────┴────────┴─ changes at their samples

What goes in as the music of position p comes out as position p: the chain counts the samples of every effect, takes
what is older than the beginning off, and gets what they hold back out at the end. The rack's latency may change.

Rules: numpy only, no I/O, no thread of its own; used by the engine's thread on what is final. A new effect is one line
in EFFECTS: its parameters then stand in the session's table, so at every door.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bridge.audio.effect import Effect, ParameterChange, Pcm
from bridge.audio.gain import Gain
from bridge.audio.limiter import Limiter
from bridge.audio.master import Master
from bridge.audio.rack import Rack
from bridge.audio.width import Width
from streamgen.config import ControlSpec, Value

__all__ = ["EFFECTS", "Chain", "effect_parameters"]

_GLIDE_STEP_SAMPLES = 240
_MOST_STEPS = 2_000

EFFECTS: list[Callable[[], Effect]] = [Width, Rack, Master, Gain, Limiter]


def effect_parameters() -> dict[str, ControlSpec]:
    """Return what the effects of a new session can be told, by name."""
    return {name: spec for make in EFFECTS for name, spec in make().parameters.items()}


@dataclass
class _EffectStage:
    """One effect in its place.

    Attributes:
        effect: what it is.
        position: of the next sample that comes out.
        waiting: changes whose sample has not come, in order.
        values: what was told last, by name.
        gliding: names of which steps of a glide may wait.
    """

    effect: Effect
    position: int = 0
    waiting: list[ParameterChange] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    gliding: set[str] = field(default_factory=set)

    def knows(self, name: str) -> bool:
        return name in self.effect.parameters or name in getattr(self.effect, "listens", ())

    def tell(self, at: int, name: str, value: Value, glide_samples: int, *, at_once: bool) -> None:
        """Let a change wait for its sample; a glide of the same parameter ends there."""
        spec = self.effect.parameters.get(name)
        own, kept = ParameterChange(at, name, value), self.waiting
        if glide_samples and spec is not None and spec.type == "float":
            first = float(self.values.get(name, spec.default)) if at_once else None
            own = replace(own, glide_samples=glide_samples, glide_from=first)
        if at_once:  # no other glide begins
            glides = (one.glides or (one.glide_samples and one.at_sample <= at) for one in kept)
            kept = [one for one, ends in zip(kept, glides, strict=True) if one.name != name or not ends]
        # stable: of two at one sample, the one asked for later wins
        self.waiting = sorted([*kept, own], key=_by_sample)

    def forget(self, names: Collection[str], behind: int) -> None:
        """Give up what was to change behind a sample; a glide that has begun goes on."""
        self.waiting = [one for one in self.waiting if one.glides or one.name not in names or one.at_sample <= behind]

    def process(self, block: Pcm, start_sample: int) -> Pcm:
        changes: list[ParameterChange] = []
        while self.waiting and self.waiting[0].at_sample < start_sample + block.shape[1]:
            change = self.waiting.pop(0)
            if not change.glides and change.name in self.gliding:  # it ends the glide on its way
                self.gliding.remove(change.name)
                self.waiting = [one for one in self.waiting if not (one.glides and one.name == change.name)]
            if change.glide_samples:
                self.gliding.add(change.name)
                self.waiting = sorted([*self._steps(change), *self.waiting], key=_by_sample)
                continue
            self.values[change.name] = change.value
            changes.append(change)
        out = self.effect.process(block, start_sample, changes)
        self.position += out.shape[1]
        return out

    def _steps(self, change: ParameterChange) -> Iterator[ParameterChange]:
        first = change.glide_from
        if first is None:
            spec = self.effect.parameters.get(change.name)  # None of an effect that was taken out
            first = float(self.values.get(change.name, change.value if spec is None else spec.default))
        return _glide(change.at_sample, change.name, first, float(change.value), change.glide_samples)


def _by_sample(change: ParameterChange) -> int:
    return change.at_sample


def _glide(at: int, name: str, first: float, last: float, glide_samples: int) -> Iterator[ParameterChange]:
    count = min(max(glide_samples // _GLIDE_STEP_SAMPLES, 1), _MOST_STEPS)
    for step in range(1, count + 1):
        value = last if step == count else first + (last - first) * step / count
        yield ParameterChange(at + (step - 1) * glide_samples // count, name, value, glides=True)


def _finite(samples: Pcm) -> Pcm:
    """Return samples, silence where they are no numbers: those would stay in every filter."""
    flat = np.ascontiguousarray(samples).reshape(-1)
    if math.isfinite(np.dot(flat, flat)):  # a square that is no number, or one too many, is looked for
        return samples
    return np.where(np.isfinite(samples), samples, np.float32(0))


class Chain:
    """The signal path of one session.

    Args:
        rate_hz: samples a second.
        channels: of the source: 1 if both rows of every block are the same.
        max_block: the longest block that will come, in samples.
        effects: what it is made of, in order; None takes a new session's.

    Attributes:
        position: of the next sample to go in.
        rack: the one among its effects.
    """

    def __init__(self, rate_hz: int, channels: int, max_block: int, effects: Iterable[Effect] | None = None) -> None:
        self._stages = [
            _EffectStage(effect) for effect in ([make() for make in EFFECTS] if effects is None else effects)
        ]
        racks = [stage.effect for stage in self._stages if isinstance(stage.effect, Rack)]
        self.rack = racks[0] if racks else Rack()
        for stage in self._stages:
            stage.effect.prepare(rate_hz, channels, max_block)
        self._max_block = max_block
        self.position = self._out_position = 0
        self._fresh = True

    def _begin(self, position: int) -> None:
        self._fresh, self._out_position = False, position
        for stage in self._stages:
            position -= stage.effect.latency_samples
            stage.position = position

    @property
    def latency_samples(self) -> int:
        """How much it holds back."""
        return sum(stage.effect.latency_samples for stage in self._stages)

    def set(self, values: Mapping[str, Value], at_sample: int | None = None, glide_samples: int = 0) -> int:
        """Change parameters from a sample of the music on. Other names are left alone.

        Args:
            values: by name.
            at_sample: from where on; None is the next to go in.
            glide_samples: over which numbers with fractions go there from where they are, in small steps.

        Returns:
            The sample at which they change.
        """
        at = self.position if at_sample is None else max(at_sample, self.position)
        for stage in self._stages:
            for name, value in values.items():
                if stage.knows(name):
                    stage.tell(at, name, value, glide_samples, at_once=at == self.position)
        return at

    def forget(self, names: Collection[str]) -> None:
        """Give up what effects were to be told of some parameters behind the next sample to go in."""
        for stage in self._stages:
            stage.forget(names, self.position)

    def process(self, samples: Pcm) -> Pcm:
        """Take the next float32 [2, n]; returns what comes out: fewer at the beginning, by what is held back."""
        if self._fresh:  # not before: what is in the rack may change until then
            self._begin(self.position)
        out = _finite(samples)
        start, self.position = self.position, self.position + samples.shape[1]
        for stage in self._stages:
            begins = stage.position
            out, start = stage.process(out, start), begins
        early = min(max(self._out_position - start, 0), out.shape[1])
        self._out_position += out.shape[1] - early
        return out[:, early:]

    def finish(self) -> Pcm:
        """Return what is held back, and begin anew behind it: what follows does not join."""
        end, pieces = self.position, [np.zeros((2, 0), np.float32)]
        while self._out_position < end:
            pieces.append(self.process(np.zeros((2, min(end - self._out_position, self._max_block)), np.float32)))
        rest = np.concatenate(pieces, axis=1)
        rest = rest[:, : rest.shape[1] - (self._out_position - end)]
        for stage in self._stages:
            stage.effect.reset()
        self.position, self._fresh = end, True
        return rest

    def close(self) -> None:
        """Give up what its effects hold."""
        self.rack.close()
