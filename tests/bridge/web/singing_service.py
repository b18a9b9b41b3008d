"""A program: the live session of a model that sings sines, at the page and the sound card, until it is terminated.

It prints the page's address. What stands between a knob and the music is real: session, engine's thread, door.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.native.door import NativeDoor
from bridge.doors.sound_card.door import SoundCardDoor
from bridge.metrics import Metrics
from bridge.session.capacity import FixedCapacity
from bridge.session.engine_thread import EngineThread
from bridge.session.live_session import LiveSession
from bridge.settings import Settings
from bridge.threads import take_short_turns
from streamgen.config import Value
from streamgen.testing import FakeModel

RATE_HZ = 48_000
FIRST: dict[str, Value] = {"prompt/1/text": "piano", "lead_seconds": 2.0}


@dataclass
class Only:
    """Sessions of which there is one."""

    live: LiveSession

    async def get(self, _name: str) -> LiveSession:
        return self.live


async def serve() -> None:
    """Serve until SIGTERM."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    engine = EngineThread(FakeModel(), loop, FixedCapacity(4))
    live = await LiveSession.open("live", engine, RATE_HZ, FIRST)
    service = Service(Settings(port=0), Access(), Metrics())
    doors = [NativeDoor(service), SoundCardDoor(service)]
    for door in doors:
        await door.open(Only(live))
    print(doors[0].places()["page"], flush=True)
    await stop.wait()
    for door in doors:
        await door.close("the test is over")
    await live.close("the test is over")
    await engine.close()


if __name__ == "__main__":
    take_short_turns()
    asyncio.run(serve())
