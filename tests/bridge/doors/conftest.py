"""A session that plays a sine at real time, for tests of the doors: `bridge.session.interface.Session` in full.

What the engine does is tested elsewhere; here its place is taken so that time, samples and changes are known.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bridge.session.messages import (
    AudioPrompt,
    Block,
    Changed,
    Command,
    Event,
    Listener,
    Set,
    Stats,
    Transport,
    Transported,
)
from bridge.session.parameters import Value, checked, defaults

RATE_HZ = 32_000
BLOCK_SAMPLES = 3_200
COMMITTED_SECONDS = 0.2


@dataclass
class SineSession:
    """440 Hz left, 660 Hz right, half scale. Audio is final 0.2 s before it is due, as in the engine.

    Attributes:
        work_seconds: how long each command takes.
        commands: what was asked, in order.
        sets: (sample at which it applied, values), in order.
        began: time at which sample 0 was due, Unix seconds.
    """

    name: str = "live"
    model: str = "sine"
    sample_rate_hz: int = RATE_HZ
    work_seconds: float = 0.0
    commands: list[Command] = field(default_factory=list)
    sets: list[tuple[int, dict[str, Value]]] = field(default_factory=list)
    began: float = 0.0
    listeners: list[Listener] = field(default_factory=list)
    _values: dict[str, Value] = field(default_factory=defaults)
    _playing: bool = True
    _position: int = 0
    _recent: list[Block] = field(default_factory=list)

    async def run(self) -> None:
        """Play for ever."""
        self.began = time.time()
        while True:
            while self._position / RATE_HZ < time.time() - self.began + COMMITTED_SECONDS:
                self._publish_block()
            await asyncio.sleep(0.02)

    def sample_at(self, when: float) -> int:
        """Return the sample due at a time, Unix seconds."""
        return round((when - self.began) * RATE_HZ)

    def _publish_block(self) -> None:
        at = np.arange(self._position, self._position + BLOCK_SAMPLES) / RATE_HZ * 2 * np.pi
        samples = 0.5 * np.sin(np.stack([440 * at, 660 * at])).astype(np.float32)
        due = self.began + self._position / RATE_HZ
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
        return dict(self._values)

    def playing(self) -> bool:
        return self._playing

    def position_samples(self) -> int:
        return self._position

    async def do(self, command: Command) -> int:
        await asyncio.sleep(self.work_seconds)
        self.commands.append(command)
        if isinstance(command, Set):
            return self._set(command)
        if isinstance(command, Transport):
            self._playing = {"play": True, "reset": self._playing}.get(command.action, False)
            self.tell(Transported(command.action, command.by, self._position))
        assert not isinstance(command, AudioPrompt)
        return self._position

    def _set(self, command: Set) -> int:
        values = checked(command.values)
        at = max(command.at_sample or 0, self._position)
        self._values.update(values)
        self.sets.append((at, values))
        self.tell(Changed(values, command.by, at))
        return at

    def add(self, listener: Listener) -> Sequence[Block]:
        self.listeners.append(listener)
        return list(self._recent)

    def remove(self, listener: Listener) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)

    def stats(self) -> Stats:
        return Stats(2.5, 1.25, 3, len(self.listeners), 700, self._position, self._playing)

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
