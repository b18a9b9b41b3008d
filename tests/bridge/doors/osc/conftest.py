"""A session that plays a sine at real time, for tests of this door: `bridge.session.messages.Session` in full.

What the engine does is tested elsewhere; here its place is taken so that time, samples and changes are known.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from bridge.session.messages import (
    Action,
    AudioPrompt,
    Block,
    Changed,
    Command,
    Event,
    Listener,
    PlayerState,
    Set,
    Stats,
    Transport,
    Transported,
)
from bridge.session.parameters import Parameters, session_table
from bridge.session.timeline import Moment, Schedule, Timeline
from streamgen.config import ControlSpec, Value

COMMITTED_SECONDS = 0.2


@dataclass
class SineSession:
    """440 Hz left, 660 Hz right, half scale. Audio is final 0.2 s before it is due, as in the engine.

    What is asked for a time is scheduled on the timeline as the player does it.

    Attributes:
        work_seconds: how long each command takes.
        commands: what was asked, in order.
        sets: (sample at which it applied, values), in order.
        acts: (sample at which it was done, action), in order.
    """

    name: str = "live"
    model: str = "sine"
    model_rate_hz: int = 32_000
    rate_hz: int = 48_000
    table: Mapping[str, ControlSpec] = field(default_factory=session_table)
    work_seconds: float = 0.0
    commands: list[Command] = field(default_factory=list)
    sets: list[tuple[int, dict[str, Value]]] = field(default_factory=list)
    acts: list[tuple[int, Action]] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    player_state: PlayerState = PlayerState.PLAYING

    def __post_init__(self) -> None:
        self.timeline = Timeline(self.rate_hz)
        self.parameters = Parameters(self.table)
        self._schedule: Schedule[Command] = Schedule(self.timeline)
        self._position = 0
        self._recent: list[Block] = []

    async def run(self) -> None:
        """Play for ever."""
        self.timeline.start(0)
        while True:
            while self.timeline.running and self._position < self.timeline.due() + COMMITTED_SECONDS * self.rate_hz:
                self._publish_block()
            for command in self._schedule.take(self._position):
                self._carry_out(replace(command, at=None))
            await asyncio.sleep(0.01)

    def sample_at(self, when: float) -> int:
        """Return the sample due at a time, Unix seconds."""
        at = self.timeline.sample_at(Moment(unix_seconds=when))
        assert at is not None
        return at

    def _publish_block(self) -> None:
        at = np.arange(self._position, self._position + self.rate_hz // 10) / self.rate_hz * 2 * np.pi
        samples = 0.5 * np.sin(np.stack([440 * at, 660 * at])).astype(np.float32)
        due = self.timeline.unix_seconds(self._position)
        block = Block(samples, self._position, time_us=round(due * 1e6))
        self._position = block.end_sample
        self._recent = [*self._recent[-2:], block]
        for listener in list(self.listeners):
            listener.audio(block)

    def tell(self, event: Event) -> None:
        """Tell every listener."""
        for listener in list(self.listeners):
            listener.event(event)

    def values(self) -> Mapping[str, Value]:
        return dict(self.parameters.values)

    def state(self) -> PlayerState:
        return self.player_state

    def position_samples(self) -> int:
        return self._position

    async def do(self, command: Command) -> int:
        await asyncio.sleep(self.work_seconds)
        self.commands.append(command)
        return self._carry_out(command)

    def _carry_out(self, command: Command) -> int:
        assert not isinstance(command, AudioPrompt)
        if isinstance(command, Set):
            self.parameters.checked(command.values)
        at = self._position
        if command.at is not None:
            sample = self.timeline.sample_at(command.at)
            if sample is None or (sample > at and isinstance(command, Transport)):
                self._schedule.add(command.at, command)
                return at if sample is None else sample
            at = max(at, sample)
        return self._set(command, at) if isinstance(command, Set) else self._act(command)

    def _set(self, command: Set, at: int) -> int:
        values = self.parameters.checked(command.values)
        self.parameters.values.update(values)
        self.sets.append((at, values))
        self.tell(Changed(values, command.by, at))
        return at

    def _act(self, command: Transport) -> int:
        states = {Action.PLAY: PlayerState.PLAYING, Action.RESET: self.player_state, Action.STOP: PlayerState.STOPPED}
        self.player_state = states.get(command.action, PlayerState.PAUSED)
        if self.player_state.plays and not self.timeline.running:
            self.timeline.start(self._position)
        elif not self.player_state.plays:
            self.timeline.stop()
        self.acts.append((self._position, command.action))
        self.tell(Transported(command.action, self.player_state, command.by, self._position))
        return self._position

    def add(self, listener: Listener) -> Sequence[Block]:
        self.listeners.append(listener)
        return list(self._recent)

    def remove(self, listener: Listener) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)

    def stats(self) -> Stats:
        plays = self.player_state.plays
        return Stats(2.5, 1.25, 3, len(self.listeners), 700, self._position, plays, self.player_state)

    async def record(self, path: Path | None) -> None:
        raise NotImplementedError


@pytest.fixture
def sine_session() -> type[SineSession]:
    """The class: a session is made inside the test's own event loop."""
    return SineSession


@pytest.fixture
def no_old_garbage() -> Iterator[None]:
    """Keep what other tests left out of the collector's pauses."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
