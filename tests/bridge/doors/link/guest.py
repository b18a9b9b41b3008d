"""A scene in a network of its own: Ableton's library leads, the door is its guest; prints what both saw as JSON.

Run by test_door.py in a network namespace, where nobody else's Link can be heard.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.link.door import LinkDoor
from bridge.metrics import Metrics
from bridge.session.capacity import FixedCapacity
from bridge.session.commands import Set
from bridge.session.engine_thread import EngineThread
from bridge.session.events import Beat
from bridge.session.live_session import LiveSession
from bridge.settings import Settings
from streamgen.testing import FakeModel

LIBRARY = Path(__file__).parents[3] / "real_parts" / "ableton_link.py"
TEMPI = (60, 90, 120, 150, 180)


class Room:
    """The library's process, the live session, its door, and what all of them said."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.beats: list[Beat] = []

    def audio(self, block: object) -> None:
        """Hear the music, so that it plays."""

    def event(self, event: object) -> None:
        if isinstance(event, Beat):
            self.beats.append(event)

    async def read(self) -> None:
        async for line in self.library.stdout:
            self.seen.append(json.loads(line))

    def order(self, line: str) -> None:
        self.library.stdin.write(line.encode() + b"\n")

    async def play(self) -> dict[str, Any]:
        """Let the scene play; returns what was found."""
        self.library = await asyncio.create_subprocess_exec(sys.executable, LIBRARY, "133.7", stdin=PIPE, stdout=PIPE)
        reading = asyncio.create_task(self.read())
        engine = EngineThread(FakeModel(), asyncio.get_running_loop(), FixedCapacity(5))
        live = await LiveSession.open("live", engine, 48_000, {"prompt/1/text": "piano"})
        live.add(self)
        await asyncio.sleep(1.5)
        door = LinkDoor(Service(Settings(link=True), Access("127.0.0.1"), Metrics()))
        began = time.monotonic()
        await door.open(SimpleNamespace(live=live))
        while live.timeline.source != "link":
            await asyncio.sleep(0.002)
        found: dict[str, Any] = {"joined_seconds": time.monotonic() - began}
        try:
            await asyncio.sleep(1)
            found["tempo_after_joining"] = self.seen[-1]["tempo"]
            found["errors_ms"] = [self.error_ms(live)]
            for bpm in TEMPI:
                self.order(f"tempo {bpm}")
                await asyncio.sleep(1)
                found["errors_ms"].append(self.error_ms(live))
            found["tempo_here"] = live.values()["tempo"]
            await live.do(Set({"tempo": 77.0}, "osc"))
            await asyncio.sleep(0.5)
            found["tempo_there"] = self.seen[-1]["tempo"]
            for order in ("play", "stop"):
                self.order(order)
                await asyncio.sleep(0.5)
                found[order] = str(live.state())
            found["peers"] = door.stats()["link_peers"]
            found["beats"] = [[beat.time_us, beat.beat] for beat in self.beats if beat.source == "link"]
            self.order("quit")
            await self.library.wait()
            while live.timeline.source == "link":
                await asyncio.sleep(0.05)
            found["tempo_alone"] = live.timeline.bpm(live.timeline.due())
        finally:
            await door.close("the scene is over")
            await live.close("the scene is over")
            await engine.close()
            reading.cancel()
        return found

    def error_ms(self, live: LiveSession) -> float:
        """How far the two are apart in what beat it is, median of the newest half second."""
        timeline = live.timeline
        apart = [timeline.beat_seconds(seen["beat"]) - seen["monotonic"] for seen in self.seen[-25:]]  # type: ignore[operator]
        return 1000 * statistics.median(map(abs, apart))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Room().play())))
