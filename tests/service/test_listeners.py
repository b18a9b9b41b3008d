"""Listeners of a running service: one that stops reading, and fifty at once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from bridge.doors.native.frames import AudioHeader

from .running import Service

STALL_SECONDS = float(os.environ.get("STREAMGEN_STALL_SECONDS", "5"))  # thirty is the same test
RATE_HZ = 48_000


class Reader:
    """Knows where it is, what was missing and what it was told."""

    def __init__(self) -> None:
        self.position: int | None = None
        self.seconds = 0.0
        self.missing: list[int] = []
        self.told: list[dict[str, Any]] = []

    def take(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.told.append(json.loads(message))
            return
        header = AudioHeader.unpack(message)
        if self.position is not None and header.sample_position != self.position:
            self.missing.append(header.sample_position - self.position)
        self.position = header.sample_position + header.frame_count
        self.seconds += header.frame_count / header.sample_rate_hz

    async def listen(self, client: ClientConnection) -> None:
        async for message in client:
            self.take(message)

    def slow(self) -> list[dict[str, Any]]:
        """The gaps it is to blame for; an engine that is late on a busy machine is nobody's."""
        return [message for message in self.told if message.get("reason") == "slow_client"]

    def underruns(self) -> list[int]:
        """The samples of each gap that the engine is to blame for."""
        return [message["samples"] for message in self.told if message.get("reason") == "underrun"]


@pytest.mark.slow
def test_one_that_stops_reading_keeps_a_second_and_a_half_and_is_told_its_gap(tmp_path: Path) -> None:
    async def scene(service: Service) -> None:
        async with service.connect() as good, service.connect() as bad:
            reader, stalled = Reader(), Reader()
            listening = asyncio.create_task(reader.listen(good))
            while stalled.seconds < 0.5:
                stalled.take(await bad.recv())
            bad.transport.pause_reading()
            stalled_at = stalled.position or 0
            await asyncio.sleep(STALL_SECONDS)
            now = reader.position or 0
            bad.transport.resume_reading()
            async with asyncio.timeout(30):
                while (stalled.position or 0) < now:
                    stalled.take(await bad.recv())
            listening.cancel()
            (gap,) = stalled.slow()
            assert stalled.missing == [gap["samples"]]
            missed_seconds = (now - stalled_at) / RATE_HZ
            kept_seconds = missed_seconds - gap["samples"] / RATE_HZ
            print(f"\nstalled for {STALL_SECONDS:g} s, {missed_seconds:.2f} s of music: kept {kept_seconds:.2f} s")
            assert kept_seconds <= 1.5
            assert missed_seconds > STALL_SECONDS / 2
            assert (reader.slow(), reader.missing) == ([], [])
            assert service.metrics()['dropped_samples_total{door="websocket"}'] == gap["samples"]

    with Service(tmp_path) as service:
        asyncio.run(scene(service))
        assert service.stop() == 0


async def share_of_loop(service: Service, count: int, query: str, seconds: float) -> float:
    """Let so many listen; returns the share of a core that the event loop took meanwhile."""
    readers, clients, tasks = [Reader() for _ in range(count)], [], []
    for reader in readers:  # each hears before the next comes: to let fifty in takes longer than one may not read
        clients.append(await service.connect(query))
        tasks.append(asyncio.create_task(reader.listen(clients[-1])))
    await asyncio.sleep(2.0)
    used, began = service.loop_seconds(), time.monotonic()
    await asyncio.sleep(seconds)
    used, wall = service.loop_seconds() - used, time.monotonic() - began
    for task in tasks:
        task.cancel()
    for client in clients:
        await client.close()
    assert [(reader.slow(), reader.missing) for reader in readers] == [([], [])] * count
    # of a machine too busy for real time all hear equally little
    assert min(reader.seconds for reader in readers) > max(reader.seconds for reader in readers) - 2.0
    return used / wall


@pytest.mark.slow
def test_fifty_hear_every_sample_of_the_shipped_checkpoint(tmp_path: Path) -> None:
    """What one costs is the processor time of the event loop with fifty, less that with one, by forty-nine."""
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")

    async def scene(service: Service) -> float:
        one = await share_of_loop(service, 1, "", 8.0)
        costs = []
        for query, seconds in (("", 8.0), ("?sample_rate_hz=44100", 4.0), ("?codec=opus", 4.0)):
            costs.append((await share_of_loop(service, 50, query, seconds) - one) / 49)
            print(f"\n{query or 's16le'}: {1e3 * costs[-1]:.2f} ms of processor a second for a listener")
        return costs[0]

    with Service(tmp_path, model="pocket") as service:
        cost = asyncio.run(scene(service))
        counted = service.metrics()
        lag, held = counted['event_loop_lag_seconds{quantile="0.99"}'], counted["event_loop_held_seconds"]
        assert cost < 2.1e-3, "at the session's rate one is cut, coded and framed for all"
        print(f"underruns {counted['underruns_total']:.0f}, lag p99 {1e3 * lag:.1f} ms, held {1e3 * held:.1f} ms")
        assert service.stop() == 0
