"""One place of the rack: an effect with its mix, whose effect can come, fail and be exchanged while it plays.

              ┌────────────── the input as it is ───────────────────────────────────┐
    block ────┤                                                                     ├─ mix, by position ─► out
              └─ input_db ─┬─ effect ─ what came out waits ─ weight ─ wet, gain_db ─┘
                           └─ the next effect, while it takes over

Every path's samples wait with their positions, and what all paths have is mixed. So the latency of an effect needs no
delay line of its own: where one joins, the slot gives nothing out until that one has come as far; where one leaves,
everything that the others have comes at once. Sample p stays the music of position p throughout.

An effect that can fail (`Fallible`) is read `reserve_samples` behind what it gave: that much is left to fade with when
nothing more comes of it.

Rules: numpy only, no I/O, no thread of its own; what an effect raises is kept from the music.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bridge.audio.aligned import PendingAudio, Ramp
from bridge.audio.effect import Effect, ParameterChange, Pcm, Smoothed, processed_in_pieces
from bridge.audio.faults import EffectFault, Fallible, close
from bridge.audio.gain import linear
from bridge.audio.slot_mix import MIX, SlotMix, mix_parameters
from streamgen.config import ControlSpec

__all__ = ["FADE_SECONDS", "Slot"]

_log = logging.getLogger("bridge.rack")

FADE_SECONDS = 0.02  # over which effects come and go


@dataclass
class _MixSource:
    """An effect that takes part in the mix.

    Attributes:
        effect: what it is.
        given: what came out and is not mixed yet.
        early: samples that will come and are older than its beginning.
        weight: its share, over positions.
        alive: False when nothing more comes.
    """

    effect: Effect
    given: PendingAudio
    early: int
    weight: Ramp
    alive: bool = True
    reserve_samples: int = field(init=False)

    def __post_init__(self) -> None:
        self.reserve_samples = self.effect.reserve_samples if isinstance(self.effect, Fallible) else 0

    @property
    def limit(self) -> float:
        """The position up to which it can be mixed."""
        return max(self.given.start, self.given.end - self.reserve_samples) if self.alive else float("inf")

    def process(self, block: Pcm, start: int, changes: Sequence[ParameterChange]) -> None:
        out = self.effect.process(block, start, changes)
        early = min(self.early, out.shape[1])
        self.early -= early
        self.given.append(out[:, early:])


class Slot:
    """An effect in its place; see the file's head.

    Args:
        effect: what is in it, prepared.
        rate_hz: samples a second.
        name: as people see it.

    Attributes:
        effect: what is in it, or about to be.
        name: as given, of that effect.
        faults: why it failed, newest last; whoever tells of them clears the list.
        failed: whether its input is heard in its place.
        load: share of real time that it takes.
    """

    def __init__(self, effect: Effect, rate_hz: int, name: str) -> None:
        self.effect, self.name, self.faults = effect, name, list[str]()
        self.load = 0.0
        self._fade_samples = round(FADE_SECONDS * rate_hz)
        self._dry: PendingAudio | None = None  # None until audio comes
        self._sources: list[_MixSource] = []
        self._next: Effect | None = effect  # joins as soon as nothing else turns
        self.failed = self._leaving = False
        self._at_once = True  # where nothing was heard before there is nothing to fade from
        self._input = Smoothed.at(1.0, rate_hz)
        self._mix = SlotMix(rate_hz, mix_parameters(effect))
        self._waiting: list[ParameterChange] = []  # for the effect and its trim, by what comes in
        self._missed: dict[str, ParameterChange] = {}  # fell due while the effect took no part
        self._mix_waiting: list[ParameterChange] = []  # by what comes out

    @property
    def parameters(self) -> Mapping[str, ControlSpec]:
        """What it can be told."""
        return {**self.effect.parameters, **mix_parameters(self.effect)}

    @property
    def latency_samples(self) -> int:
        """How much it holds back."""
        return self.effect.latency_samples + (self.effect.reserve_samples if isinstance(self.effect, Fallible) else 0)

    @property
    def begins(self) -> bool:
        """Whether no audio has come yet."""
        return self._dry is None

    @property
    def held_samples(self) -> int:
        """How much it holds back just now."""
        return 0 if self._dry is None else self._dry.end - self._dry.start

    @property
    def position(self) -> int:
        """Of the next sample to come out, once audio has come."""
        assert self._dry is not None
        return self._dry.start

    def note_load(self, wall_seconds: float, audio_seconds: float) -> None:
        """Note how long a block took."""
        if audio_seconds > 0:
            self.load += min(audio_seconds, 1.0) * (wall_seconds / audio_seconds - self.load)

    def tell(self, change: ParameterChange) -> None:
        """Change a parameter at its sample. An effect that was given up gets another chance when its bypass ends."""
        if change.name in MIX:
            _insert(self._mix_waiting, change)
        if change.name not in MIX or change.name == "input_db":
            _insert(self._waiting, change)
        if change.name == "bypass" and not change.value and self.failed:
            self._forgive()

    def give_up(self, why: str) -> None:
        """Hear the input in place of an effect that can fail, until its bypass is turned on and off."""
        assert isinstance(self.effect, Fallible), self.effect
        self.effect.give_up()
        playing = [source for source in self._sources if source.alive and source.effect is self.effect]
        for source in playing:
            self._fail(source, why)
        if not playing:
            self._noted(why)

    def _forgive(self) -> None:
        if isinstance(self.effect, Fallible):
            self.effect.forgive()
        else:
            self.effect.reset()
            self.failed, self._next = False, self.effect

    # -- edits ----------------------------------------------------------------------------------------------------

    def replace(self, effect: Effect, name: str) -> None:
        """Let another effect, prepared, take over."""
        if not any(source.effect is self.effect for source in self._sources):
            close(self.effect)
        self.effect = self._next = effect
        self.name, self.failed = name, False
        self._waiting, self._missed = [], {}

    def leave(self) -> None:
        """Fade to the input; `left` tells when that is done."""
        self._leaving, self._next = True, None
        for source in self._sources:
            source.weight = source.weight.turned(self.position, self.position + self._fade_samples, 0.0)

    @property
    def left(self) -> bool:
        """Whether it has faded to the input: what comes out is what went in, all of it."""
        empty = self._dry is None or self._dry.start == self._dry.end
        return self._leaving and empty and not self._sources

    def enter(self, at_once: bool) -> None:
        """Begin in a new place, once it has left.

        Args:
            at_once: whether nothing was heard before; else the effect fades in.
        """
        self._dry, self._leaving, self._at_once = None, False, at_once
        self._next = None if self.failed else self.effect

    def reset(self) -> None:
        """Forget the audio so far: what comes next does not join."""
        sources, self._sources = self._sources, []
        self._dry, self._at_once = None, True
        self._input.settle()
        self._mix.settle()
        for source in sources:
            if source.effect is not self.effect:
                close(source.effect)
            elif source.alive:
                source.effect.reset()
        self._next = None if self.failed or self._leaving else self.effect

    def close(self) -> None:
        """Give up every effect in it."""
        close(self.effect)
        for source in self._sources:
            close(source.effect)  # which may be the same: nothing is left to give up then

    # -- audio ----------------------------------------------------------------------------------------------------

    def process(self, block: Pcm, start: int) -> Pcm:
        """Take the next block, float32 [2, n], from position `start` on; returns what can be mixed now."""
        dry = self._dry = self._dry or PendingAudio(start)
        self._let_join(start)
        self._at_once = False
        self._run(block, start)
        dry.append(block)
        until = int(min([dry.end, *(source.limit for source in self._sources)]))
        blank = np.broadcast_to(np.float32(0), (2, until - dry.start))
        mixed = processed_in_pieces(blank, dry.start, _due(self._mix_waiting, until), self._mix.aim, self._mixed)
        self._sources = [source for source in self._sources if not self._is_over(source)]
        return mixed

    def _let_join(self, start: int) -> None:
        """Let the effect that waits take over, once nothing else is turning; one that failed, when it is back."""
        idle = not self._sources and not self._leaving
        if self.failed and idle and isinstance(self.effect, Fallible) and self.effect.recovered():
            self.failed, self._next = False, self.effect
        turning = any(source.weight.end > self.position or not source.alive for source in self._sources)
        if self._next is None or turning:
            return
        end = start if self._at_once else start + self._fade_samples
        for source in self._sources:
            source.weight = source.weight.turned(start, end, 0.0)
        weight = Ramp.constant(1.0) if self._at_once else Ramp(start, end, 0.0, 1.0)
        self._sources.append(_MixSource(self._next, PendingAudio(start), self._next.latency_samples, weight))
        self._next = None

    def _run(self, block: Pcm, start: int) -> None:
        changes = _due(self._waiting, start + block.shape[1])
        trims = [change for change in changes if change.name == "input_db"]
        own = [change for change in changes if change.name != "input_db"]
        trimmed = processed_in_pieces(block, start, trims, self._aim_input, self._input.scaled)
        if not any(source.alive and source.effect is self.effect for source in self._sources):
            self._missed |= {change.name: change for change in own}
        for source in [source for source in self._sources if source.alive]:
            if source.effect is self.effect:
                own = [replace(missed, at_sample=start) for missed in self._missed.values()] + own
                self._missed = {}
            try:
                source.process(trimmed, start, own if source.effect is self.effect else ())
            except EffectFault as fault:
                self._fail(source, str(fault))
            except Exception as error:  # noqa: BLE001 - whatever it is, the music goes on without it
                _log.exception("%s failed", self.name)
                self._fail(source, f"{type(error).__name__}: {error}")

    def _aim_input(self, change: ParameterChange) -> None:
        self._input.aim(linear(change.value))

    def _fail(self, source: _MixSource, why: str) -> None:
        """Fade what is left of a source to the input."""
        source.alive = False
        source.weight = source.weight.turned(self.position, max(self.position, source.given.end), 0.0)
        if source.effect is not self.effect:
            close(source.effect)
            return
        self._noted(why)

    def _noted(self, why: str) -> None:
        self.failed, self._next = True, None
        self.faults.append(why)
        _log.warning("%s: %s; its input is heard", self.name, why)

    def _mixed(self, piece: Pcm) -> Pcm:
        """Mix the next samples, as many as `piece` has."""
        assert self._dry is not None
        start, count = self._dry.start, piece.shape[1]
        dry = self._dry.take(start + count)
        wet: Pcm | None = None
        share: float | NDArray[np.float32] = 0.0
        for source in self._sources:
            weight = source.weight.over(start, count)
            source_wet = _aligned(source.given, start, count)
            if isinstance(weight, float) and weight in (0.0, 1.0):
                if weight:
                    wet, share = source_wet if wet is None else wet + source_wet, share + 1.0
            else:
                wet = source_wet * weight if wet is None else wet + source_wet * weight
                share = share + weight
        return self._mix.mixed(dry, wet, share)

    def _is_over(self, source: _MixSource) -> bool:
        """Whether a source plays no part any more; an effect that was exchanged is then closed."""
        if source.weight.last or source.weight.end > self.position:
            return False
        if source.effect is not self.effect:
            close(source.effect)
        return True


def _aligned(given: PendingAudio, start: int, count: int) -> Pcm:
    """Take a source's samples at the mix's positions; silence where it has none: its weight is nothing there."""
    given.drop(start)
    before = min(max(given.start - start, 0), count)
    there = given.take(min(max(start + count, given.start), given.end))
    after = count - before - there.shape[1]
    return np.pad(there, ((0, 0), (before, after))) if before or after else there


def _insert(waiting: list[ParameterChange], change: ParameterChange) -> None:
    waiting.append(change)
    waiting.sort(key=lambda one: one.at_sample)  # stable: of two at one sample, the one asked for later wins


def _due(waiting: list[ParameterChange], until: int) -> list[ParameterChange]:
    """Take out the changes before a position."""
    count = sum(change.at_sample < until for change in waiting)
    due, waiting[:] = waiting[:count], waiting[count:]
    return due
