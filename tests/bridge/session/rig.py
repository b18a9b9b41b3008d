"""A player by a clock of the test's own, and everything it told."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import streamgen
from bridge.session.events import Block, Changed, Event
from bridge.session.generator import BLOCK_FRAMES
from bridge.session.player import Player
from bridge.session.timeline import Timeline
from streamgen.checkpoint import Heard

RATE_HZ, FRAME = 48_000, 960
BLOCK = BLOCK_FRAMES * FRAME


class Rig:
    """A player, its clock and everything it told."""

    def __init__(self, model: streamgen.Model, rate_hz: int = RATE_HZ, **values: float | str) -> None:
        self.time = 100.0
        self.told: list[Block | Event] = []
        start = {"prompt/1/text": "piano", "seed": 3, "lead_seconds": 1.0}
        self.timeline = Timeline(rate_hz, lambda: self.time, lambda: 1e9 + self.time)
        self.player = Player(model, self.told.append, self.timeline, values={**start, **values})
        self.player.playback.wanted = True

    def run(self, seconds: float, *, make: bool = True, speed: float | None = None) -> None:
        """Let time pass in steps of 10 ms; making is instant, or costs time at a given speed."""
        end = self.time + seconds
        while self.time < end:
            self.player.tick()
            if make and self.player.playback.needs_audio:
                self.player.make()
                if speed is not None:
                    self.time += BLOCK / RATE_HZ / speed
                    self.player.generator.pace.factor = speed  # it saw an instant
            else:
                self.time += 0.01

    @property
    def stream(self) -> streamgen.Stream:
        return self.player.generator._stream

    def blocks(self) -> list[Block]:
        return [item for item in self.told if isinstance(item, Block)]

    def events(self, kind: type) -> list:
        return [item for item in self.told if isinstance(item, kind)]

    def audio(self) -> np.ndarray:
        return np.concatenate([block.samples for block in self.blocks()], axis=1)


def contiguous(blocks: list[Block]) -> bool:
    return all(a.end_sample == b.start_sample for a, b in pairwise(blocks))


def told(rig: Rig, name: str) -> Any:
    """What a door knows that has listened from the beginning, which is what the player knows."""
    events = [event.values[name] for event in rig.events(Changed) if name in event.values]
    value = rig.player.parameters.values[name]
    assert not events or events[-1] == value
    return value


def lane(rig: Rig, name: str) -> Any:
    """What the effect was told last of a parameter."""
    return next(stage.values[name] for stage in rig.player.output._chain._stages if name in stage.values)


def bars_of_a_second(text: str) -> Heard:
    return Heard(text, "house", (), 60, "A minor", (), (), 50)
