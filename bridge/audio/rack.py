"""The rack: effects in an order that can be edited while they play, each in its slot, before the limiter.

    samples ─► slot 3 ─► slot 1 ─► slot 2 ─► out        numbers stay with their effects whatever the order: a controller
                 │         │         │                  that is mapped to plugin/1/… keeps its knob
           plugin/3/…  plugin/1/…  plugin/2/…

A slot that is added fades in where it stands; one that is removed fades to its input and is then taken out, without a
seam, for its output is its input then; one that is moved does both. The others play on untouched.

Rules: see effect.py, but for one: where slots come and go the latency changes, and for that moment more or fewer
samples come out than went in. Positions stay true: the chain counts them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bridge.audio.effect import Effect, ParameterChange, Pcm
from bridge.audio.faults import Fallible, SlotFault, SlotState, TurnsItself, given_up, strikes
from bridge.audio.slot import Slot
from streamgen.config import ControlSpec, Value
from streamgen.errors import CapacityError, ConfigError

__all__ = ["MAX_LATENCY_SECONDS", "MAX_SLOTS", "Rack"]

MAX_SLOTS = 16
MAX_LATENCY_SECONDS = 1.0  # of all effects: what is made ahead has to cover it


class Rack:
    """An effect made of effects. Edited between two blocks, by the thread that processes.

    Attributes:
        parameters: of every slot: `plugin/N/NAME`. A new mapping after every edit.
        listens: further parameters of the session that effects in it follow.
        tempo_bpm: as set; 0 for none.
        faults: so far, of all effects.
    """

    listens = frozenset({"tempo"})

    def __init__(self) -> None:
        self.parameters: Mapping[str, ControlSpec] = {}
        self.tempo_bpm = 0.0
        self._slots: dict[int, Slot] = {}  # by number, in the order that is wanted
        self._playing: list[Slot] = []  # as audio runs through them now
        self._fresh = True
        self._told: list[SlotFault] = []
        self.faults = 0
        self._down: dict[int, bool] = {}  # numbers whose fault was told, and whether as given up

    # -- edits ----------------------------------------------------------------------------------------------------

    def add(self, effect: Effect, name: str, index: int | None = None, number: int = 0) -> int:
        """Put an effect into the order, at the end or before what stands at `index`; returns its slot's number.

        `number` is the one that it gets if that is free; 0 is any.

        Raises:
            CapacityError: the rack is full.
            ConfigError: its latency is too long.
        """
        self.check_room()
        free = set(range(1, MAX_SLOTS + 1)) - set(self._slots)
        number = number if number in free else min(free)
        slot = Slot(self._prepared(effect, name), self._rate_hz, name)
        numbers = list(self._slots)
        numbers.insert(len(numbers) if index is None else index, number)
        self._slots = {one: self._slots.get(one, slot) for one in numbers}
        self._edited()
        return number

    def check_room(self) -> None:
        """Say whether another effect can be added; one that is a plugin need not be loaded for that.

        Raises:
            CapacityError: the rack is full.
        """
        if len(self._slots) >= MAX_SLOTS:
            raise CapacityError(f"the rack has {MAX_SLOTS} slots and all are used: remove one first")

    def check(self, number: int) -> None:
        """Say whether there is a slot.

        Raises:
            ConfigError: there is none of that number.
        """
        self._slot(number)

    def replace(self, number: int, effect: Effect, name: str) -> None:
        """Let another effect take over a slot; its mix stays as it is set.

        Raises:
            ConfigError: there is no such slot, or the effect's latency is too long.
        """
        slot = self._slot(number)
        slot.replace(self._prepared(effect, name, slot.latency_samples), name)
        self._down.pop(number, None)
        self._edited()

    def remove(self, number: int) -> None:
        """Take a slot out; its number is free at once.

        Raises:
            ConfigError: there is no such slot.
        """
        self._slot(number).leave()
        self._slots = {one: slot for one, slot in self._slots.items() if one != number}
        self._down.pop(number, None)
        self._edited()

    def move(self, number: int, index: int) -> None:
        """Move a slot, so that it stands at `index` (from 0) of the order.

        Raises:
            ConfigError: there is no such slot.
        """
        slot = self._slot(number)
        numbers = [one for one in self._slots if one != number]
        numbers.insert(index, number)
        if numbers != list(self._slots):
            slot.leave()
            self._slots = {one: self._slots[one] for one in numbers}
            self._edited()

    def _slot(self, number: int) -> Slot:
        if number not in self._slots:
            there = ", ".join(map(str, sorted(self._slots))) or "none"
            raise ConfigError(f"there is no slot {number} in the rack; there are {there}")
        return self._slots[number]

    def _prepared(self, effect: Effect, name: str, freed_samples: int = 0) -> Effect:
        effect.prepare(self._rate_hz, 2, self._max_block)  # what effects before it make of a mono source is stereo
        late = (self.latency_samples - freed_samples + effect.latency_samples) / self._rate_hz
        if late > MAX_LATENCY_SECONDS:
            own = effect.latency_samples / self._rate_hz
            raise ConfigError(
                f"with {name}, which is {own:.2f} s late, the rack would be {late:.2f} s late; "
                f"at most {MAX_LATENCY_SECONDS:g} s can be made up for"
            )
        return effect

    def _edited(self) -> None:
        rows = {}
        for number, slot in self._slots.items():
            for name, spec in slot.parameters.items():
                path = f"plugin/{number}/{name}"
                rows[path] = replace(spec, name=path)
        self.parameters = rows
        self._settle()

    def _settle(self) -> None:
        """Take out what has left, put in what is not in its place."""
        for slot in [slot for slot in self._playing if slot.left]:
            self._playing.remove(slot)
            if slot not in self._slots.values():
                slot.close()
        before: Slot | None = None
        for slot in self._slots.values():
            if slot not in self._playing:
                self._playing.insert(0 if before is None else self._playing.index(before) + 1, slot)
                slot.enter(at_once=self._fresh)
            before = slot

    # -- the effect -----------------------------------------------------------------------------------------------

    @property
    def latency_samples(self) -> int:
        """How much it holds back once every slot is in its place, all together."""
        return sum(slot.latency_samples for slot in self._slots.values())

    @property
    def held_samples(self) -> int:
        """How much it holds back just now: less while it fills, more while a slot leaves."""
        return sum(slot.held_samples for slot in self._playing)

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - both rows are processed
        """See `Effect.prepare`."""
        self._rate_hz, self._max_block = rate_hz, max_block

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`; `changes` may name what `listens` does."""
        for change in changes:
            self._tell(change)
        if not self._playing:
            self._fresh = False
            return block
        early = self.latency_samples if self._fresh else 0
        self._fresh = False
        position = start_sample
        for slot in self._playing:
            begins, began, count = position if slot.begins else slot.position, time.perf_counter(), block.shape[1]
            block, position = slot.process(block, position), begins
            slot.note_load(time.perf_counter() - began, count / self._rate_hz)
        self._give_up_what_is_too_late()
        self._note_faults()
        self._settle()
        return np.pad(block, ((0, 0), (early, 0))) if early else block

    def _give_up_what_is_too_late(self) -> None:
        """Do without an effect that has become later than can be made up for: the music would wait for it.

        That is one which has just failed for its new latency, or else the latest.
        """
        late = self.latency_samples / self._rate_hz
        if late <= MAX_LATENCY_SECONDS:
            return
        grown = [slot for slot in self._slots.values() if isinstance(slot.effect, Fallible)]
        slot = max(grown, key=lambda slot: (slot.failed, slot.effect.latency_samples))
        slot.give_up(
            f"with it the rack would be {late:.2f} s late; at most {MAX_LATENCY_SECONDS:g} s can be made up for"
        )

    def _tell(self, change: ParameterChange) -> None:
        if change.name == "tempo":
            self.tempo_bpm = float(change.value)
            for slot in self._slots.values():
                if "tempo" in getattr(slot.effect, "listens", ()):
                    slot.tell(change)
            return
        _, number, name = change.name.split("/", 2)
        if int(number) in self._slots:  # one that is gone is not missed
            self._slots[int(number)].tell(replace(change, name=name))

    def reset(self) -> None:
        """See `Effect.reset`."""
        for slot in self._playing:
            slot.reset()
        self._fresh = True
        self._settle()

    def close(self) -> None:
        """Give up every effect."""
        for slot in {*self._slots.values(), *self._playing}:
            slot.close()

    # -- how it is doing ------------------------------------------------------------------------------------------

    def state(self) -> list[SlotState]:
        """Tell how every slot is doing, in the order of the signal. From any thread: edits make the order anew."""
        return [
            SlotState(number, slot.name, slot.latency_samples, slot.failed, strikes(slot.effect), slot.load)
            for number, slot in self._slots.items()
        ]

    def effect(self, number: int) -> Effect:
        """Return what is in a slot.

        Raises:
            ConfigError: there is no such slot.
        """
        return self._slot(number).effect

    def values(self, number: int) -> dict[str, Value]:
        """Return what a plugin in a slot says that its parameters are, by the table's names; others say nothing.

        Raises:
            ConfigError: there is no such slot.
        """
        effect = self._slot(number).effect
        own = effect.values() if isinstance(effect, TurnsItself) else {}
        return {f"plugin/{number}/{name}": value for name, value in own.items()}

    def take_faults(self) -> list[SlotFault]:
        """Take out what happened since the last call."""
        told, self._told = self._told, []
        return told

    def take_moves(self) -> dict[str, Value]:
        """Take out what plugins turned by themselves since the last call, by the table's names."""
        return {
            f"plugin/{number}/{name}": value
            for number, slot in self._slots.items()
            if isinstance(slot.effect, TurnsItself)
            for name, value in slot.effect.take_moves().items()
        }

    def _note_faults(self) -> None:
        for number, slot in self._slots.items():
            reasons, slot.faults = slot.faults, []
            for reason in reasons:
                self._tell_of(number, slot, reason)
            if number not in self._down:
                continue
            if not slot.failed:
                self._tell_of(number, slot, "")
            elif given_up(slot.effect) and not self._down[number]:
                self._tell_of(number, slot, "it could not be started again")

    def _tell_of(self, number: int, slot: Slot, reason: str) -> None:
        lost = bool(reason) and given_up(slot.effect)
        self.faults += bool(reason)
        self._told.append(SlotFault(number, slot.name, reason, strikes(slot.effect), lost))
        if reason:
            self._down[number] = lost
        else:
            self._down.pop(number, None)
