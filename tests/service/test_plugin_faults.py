"""A real plugin dies and hangs again and again in a real service, while three hear it: nothing is missing, all is told.

STREAMGEN_PLUGIN_FAULTS says how often each; CI does less.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from .running import Ear, Service, plugins_run, rack_options

COUNT = int(os.environ.get("STREAMGEN_PLUGIN_FAULTS", "2"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not plugins_run(), reason="needs minihost and zam-plugins"),
]


def child_of(service: Service) -> int | None:
    """The process of the plugin, by its id."""
    for task in Path(f"/proc/{service.process.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"bridge.audio.plugins.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return None


async def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


async def fail_again_and_again(service: Service, ear: Ear) -> None:
    """Let the plugin die and hang COUNT times each, forgiven whenever it is given up."""
    for number in range(2 * COUNT):
        await wait_until(lambda: child_of(service) is not None, "no child came")
        await asyncio.sleep(0.3)  # heard, before it fails again
        told = len(ear.told("slot_fault"))
        pid = child_of(service)
        assert pid is not None
        os.kill(pid, signal.SIGSEGV if number % 2 else signal.SIGSTOP)
        await wait_until(lambda told=told: len(ear.told("slot_fault")) > told, "nobody was told")  # type: ignore[misc]
        if ear.told("slot_fault")[-1]["given_up"]:
            async with service.connect("?enabled=0") as client:
                for bypass in (True, False):
                    await client.send(json.dumps({"type": "set", "values": {"plugin/1/bypass": bypass}}))
                    await asyncio.sleep(0.1)
        await wait_until(lambda: not ear.told("slot_fault")[-1]["reason"], "it did not come back")


async def hear(service: Service, ears: list[Ear]) -> None:
    listening = [asyncio.create_task(ear.listen(1e6)) for ear in ears]
    await wait_until(lambda: all(ear.samples for ear in ears), "no music")
    await fail_again_and_again(service, ears[0])
    await asyncio.sleep(2)
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)  # a second cancel would cut their goodbye short


def test_three_hear_every_sample_while_a_plugin_dies_and_hangs(tmp_path: Path) -> None:
    options = (*rack_options(tmp_path), "--record", str(tmp_path / "stream.wav"), "--state", str(tmp_path / "state"))
    with Service(tmp_path, *options) as service:
        ears = [Ear(service.ready["websocket"]) for _ in range(3)]
        asyncio.run(hear(service, ears))
        assert service.metrics()["underruns_total"] == 0
        assert service.stop() == 0, service.log()
        stream = soundfile.read(service.ready["recording"], dtype="int16", always_2d=True)[0]
    for ear in ears:  # an ear asserts that block follows on block
        heard = np.concatenate(ear.pieces)
        assert ear.start is not None
        assert np.abs(stream[ear.start : ear.start + len(heard)].astype(int) - heard).max() <= 1
        assert not ear.told("gap")
        faults = ear.told("slot_fault")
        assert len([fault for fault in faults if fault["reason"]]) == 2 * COUNT
        assert not faults[-1]["reason"], "it plays again"
