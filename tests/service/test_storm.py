"""One client's storm of long prompts, and five sessions that start together: what those who play on lose by it.

CI's storm lasts STREAMGEN_STORM_SECONDS=10; a minute is the same test with 60.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from websockets.exceptions import ConnectionClosed

from .running import Processors, Service
from .test_listeners import RATE_HZ, Reader

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("STREAMGEN_STORM_SECONDS", "10"))
A_SECOND = 10
ROOM_MB, KEPT_MB, AFTER_SECONDS = 300, 100, 10
TRIES, CROWDED = 3, 0.2
WORDS = [
    "house",
    "techno",
    "piano",
    "strings",
    "drums",
    "bass",
    "harp",
    "choir",
    "slow",
    "fast",
    "warm",
    "dark",
    "bright",
    "minor",
    "major",
    "lofi",
    "funk",
    "jazz",
]


def texts(draw: random.Random) -> dict[str, str | float]:
    """Eight prompts of 900 characters that were never sent before."""
    values: dict[str, str | float] = {}
    for slot in range(1, 9):
        words = " ".join(f"{draw.choice(WORDS)} {draw.randrange(10_000)}" for _ in range(100))
        values |= {f"prompt/{slot}/text": words[:900], f"prompt/{slot}/weight": draw.uniform(0.1, 1.0)}
    return values


async def by_websocket(service: Service, query: str) -> None:
    draw = random.Random(5)
    async with service.connect(query) as client:
        reading = asyncio.create_task(Reader().listen(client))
        for number in range(round(SECONDS * A_SECOND)):
            await client.send(json.dumps({"type": "set", "id": number, "values": texts(draw)}))
            await asyncio.sleep(1 / A_SECOND)
        reading.cancel()


async def by_osc(service: Service) -> None:
    draw = random.Random(6)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(round(SECONDS * A_SECOND)):
            bundle = OscBundleBuilder(IMMEDIATELY)
            for name, value in texts(draw).items():
                message = OscMessageBuilder(f"/streamgen/{name}")
                message.add_arg(value)
                bundle.add_content(message.build())
            sender.sendto(bundle.build().dgram, ("127.0.0.1", service.ready["osc_port"]))
            await asyncio.sleep(1 / A_SECOND)


STORMS: dict[str, Callable[[Service], Awaitable[None]]] = {
    "WebSocket, live": lambda service: by_websocket(service, ""),
    "WebSocket, private": lambda service: by_websocket(service, "?session=new"),
    "OSC, live": by_osc,
}


def resident_mb(service: Service) -> float:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1e3


@dataclass
class Weather:
    """What a storm came to: memory before, at most and soon after; how often the engine was late for who listens."""

    idle_mb: float = 0.0
    peak_mb: float = 0.0
    after_mb: float = 0.0
    underruns: int = 0
    late_seconds: float = 0.0
    others: float = 0.0  # share of the processors that other programs took meanwhile


async def weathered(service: Service, storm: Callable[[Service], Awaitable[None]]) -> Weather:
    """Let a storm pass while somebody listens to the live session."""
    bystander, found = Reader(), Weather()
    async with service.connect() as client:
        listening = asyncio.create_task(bystander.listen(client))
        await asyncio.sleep(3)
        found.idle_mb, before = resident_mb(service), bystander.underruns()
        processors = Processors(service)
        storming = asyncio.ensure_future(storm(service))
        while not storming.done():
            await asyncio.sleep(0.2)
            found.peak_mb = max(found.peak_mb, resident_mb(service))
        await storming
        found.others = processors.others()
        until = time.monotonic() + AFTER_SECONDS
        while (mb := resident_mb(service)) >= found.idle_mb + KEPT_MB and time.monotonic() < until:
            await asyncio.sleep(0.5)
        found.after_mb = mb
        late = bystander.underruns()[len(before) :]  # each is told once the music goes on
        found.underruns, found.late_seconds = len(late), sum(late) / RATE_HZ
        listening.cancel()
    assert (bystander.slow(), bystander.missing) == ([], [])
    return found


@pytest.mark.parametrize("storm", STORMS)
def test_a_storm_of_prompts_takes_no_sample_from_bystanders_and_gives_its_memory_back(
    storm: str, tmp_path: Path
) -> None:
    """A storm that makes the engine late does it every time; another program that takes the machine, now and then."""
    with Service(tmp_path, model="pocket") as service:
        for _ in range(TRIES):
            found = asyncio.run(weathered(service, STORMS[storm]))
            print(f"\n{storm}: {found}")
            assert found.peak_mb < found.idle_mb + ROOM_MB
            assert found.after_mb < found.idle_mb + KEPT_MB
            if found.underruns == 0:
                break
        assert service.stop() == 0
    if found.underruns and found.others > CROWDED:
        pytest.skip(f"other programs took {found.others:.0%} of the processors: late {found.underruns} times")
    assert found.underruns == 0


def test_five_sessions_that_start_together_stall_nobody(tmp_path: Path) -> None:
    """Those for whom there is room begin; those for whom there is none are told when to come again.

    As of a storm: five that stall others do it every time, another program that takes the machine, now and then.
    """

    async def newcomer(service: Service) -> str:
        reader = Reader()
        try:
            async with service.connect("?session=new") as client, asyncio.timeout(20):
                while reader.seconds < 2.0:
                    reader.take(await client.recv())
            return "late" if any(told.get("reason") == "underrun" for told in reader.told) else "plays"
        except ConnectionClosed as closed:
            return closed.rcvd.reason if closed.rcvd else "lost"

    async def scene(service: Service) -> tuple[list[str], float]:
        """Return who was late or lost, and the share of the processors that other programs took meanwhile."""
        bystander = Reader()
        async with service.connect() as client:
            listening = asyncio.create_task(bystander.listen(client))
            await asyncio.sleep(3)
            before, processors = len(bystander.underruns()), Processors(service)
            ends = await asyncio.gather(*(newcomer(service) for _ in range(5)))
            others = processors.others()
            listening.cancel()
        print(f"\n{ends}, bystander {bystander.underruns()}, other programs {others:.0%}")
        assert (bystander.slow(), bystander.missing) == ([], [])
        late = [f"the bystander, by {samples} samples" for samples in bystander.underruns()[before:]]
        return late + [end for end in ends if end != "plays" and "again in" not in end], others

    with Service(tmp_path, model="pocket") as service:
        for _ in range(TRIES):
            late, others = asyncio.run(scene(service))
            if not late:
                break
        assert service.stop() == 0
    if late and others > CROWDED:
        pytest.skip(f"other programs took {others:.0%} of the processors: {late}")
    assert late == []
