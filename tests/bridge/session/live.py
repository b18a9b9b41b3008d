"""A session whose engine sings sines, for tests of racks and presets, and plugins that fall ill when told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from bridge.audio.catalogue import Catalogue
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.spawn import HostSettings
from bridge.session.capacity import FixedCapacity
from bridge.session.engine_thread import EngineThread
from bridge.session.events import Block, Event
from bridge.session.live_session import LiveSession
from streamgen.testing import FakeModel

RATE_HZ = 48_000
ILL = Path(__file__).parents[1] / "audio" / "plugins"


class Listening:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.events: list[Event] = []

    def audio(self, block: Block) -> None:
        self.blocks.append(block)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def told(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def audio_so_far(self) -> np.ndarray:
        return np.concatenate([block.samples for block in self.blocks], axis=1)

    def assert_unbroken(self) -> None:
        for before, after in itertools.pairwise(self.blocks):
            assert after.start_sample == before.end_sample
            assert not after.discontinuity


def play(
    scene: Callable[[LiveSession], Awaitable[None]],
    catalogue: Catalogue | None = None,
    presets: Path | None = None,
    takes: Path | None = None,
) -> None:
    """Let a scene play on a session of its own."""

    async def run() -> None:
        engine = EngineThread(FakeModel(), asyncio.get_running_loop(), FixedCapacity(5))
        first = {"prompt/1/text": "piano"}
        folders = {"presets": presets, "takes": takes}
        session = await LiveSession.open("live", engine, RATE_HZ, first, catalogue=catalogue, **folders)
        try:
            await scene(session)
        finally:
            await session.close("the end")
            await engine.close()

    asyncio.run(run())


def ill_host(folder: Path, **settings: Any) -> HostSettings:
    """How plugins are kept whose orders to fall ill lie in a folder."""
    own = {"engine": "ill_engine:IllEngine", "deadline_seconds": 0.5, "python_path": (str(ILL),)}
    return HostSettings(folder / "states", **own | settings)


def ill_catalogue(folder: Path, host: HostSettings) -> Catalogue:
    """The built-in effects, and `ill`."""
    return Catalogue({"ill": Reference(str(folder / "orders"))}, host)
