"""A real `streamgen serve` in a process of its own, and who hears it: for tests that attack it or count its cost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
from websockets.asyncio.client import connect

from streamgen.testing import tiny_checkpoint

HEADER = struct.Struct("<BBBBIQQII")
SAMPLE_RATE_HZ = 48_000
_VST3 = Path("/usr/lib/vst3/ZamCompX2.vst3")
_RACK = f"""
version = 1
[plugins]
zam = "{_VST3}"
[parameters]
[[slots]]
effect = "zam"
[slots.parameters]
makeup = 6.0
"""


def plugins_run() -> bool:
    """Whether the plugin of `rack_options` is here."""
    return find_spec("minihost") is not None and _VST3.exists()


def rack_options(home: Path) -> tuple[str, ...]:
    """Options of the command line for a rack with a real plugin in a child of its own."""
    file = home / "rack.toml"
    file.write_text(_RACK)
    return "--rack", str(file)


class Service:
    """A running service; ended by `stop` or on leaving the block.

    Args:
        home: where it writes its log.
        options: of the command line.
        model: a tiny checkpoint unless another is named.
        environment: of the sound server to play at; without one there is no sound card.
    """

    def __init__(self, home: Path, *options: str, model: str = "", environment: dict[str, str] | None = None) -> None:
        model = model or str(tiny_checkpoint("causal"))
        words = ["serve", "--model", model, "--port", "0", "--osc-port", "0", "--json", *options]
        words += [] if environment else ["--no-soundcard"]
        self._log = home / "serve.log"
        with self._log.open("wb") as log:  # a pipe that nobody reads would stop it
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge.cli.main", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise AssertionError(self.log())
        self.ready: dict[str, Any] = json.loads(line)

    def log(self) -> str:
        """What it said."""
        return self._log.read_text()

    def connect(self, query: str = "", **options: Any) -> connect:
        options |= {"subprotocols": ["streamgen.v1"], "max_size": None, "compression": None}
        return connect(self.ready["websocket"] + query, **options)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.ready["page"].rstrip("/") + path, timeout=20) as answer:
            return str(answer.read().decode())

    def metrics(self) -> dict[str, float]:
        lines = [line.rpartition(" ") for line in self.get("/metrics").splitlines() if not line.startswith("#")]
        return {name.removeprefix("streamgen_"): float(value) for name, _, value in lines}

    def loop_seconds(self) -> float:
        """Processor time of the event loop's thread alone; Linux only."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9

    def stop(self) -> int:
        """End it as a user would; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Processors:
    """Who has them, from now on: ticks of this machine, of the service and the test, with their children's."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._began = self._ticks()

    def others(self) -> float:
        """Share that other programs had."""
        every, idle, ours = (now - then for now, then in zip(self._ticks(), self._began, strict=True))
        return 1 - (idle + ours) / every

    def _ticks(self) -> tuple[int, int, int]:
        of_all = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        parents, used = {}, {}
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it ended in this moment
                words = file.read_text().rpartition(")")[2].split()
                pid = int(file.parent.name)
                parents[pid], used[pid] = (
                    int(words[1]),
                    sum(map(int, words[11:15])),
                )  # its own, and of those it outlived

        def ours(pid: int) -> bool:
            return pid in (self._service.process.pid, os.getpid()) or (pid in parents and ours(parents[pid]))

        return sum(of_all), of_all[3] + of_all[4], sum(ticks for pid, ticks in used.items() if ours(pid))


class Ear:
    """A WebSocket listener that keeps every sample and message."""

    def __init__(self, url: str) -> None:
        self.url, self.pieces, self.messages = url, [], []
        self.start: int | None = None
        self.samples = 0
        self.first_audio_seconds = 0.0

    async def listen(self, seconds: float) -> None:
        began = time.perf_counter()
        async with connect(self.url, subprotocols=["streamgen.v1"], max_size=None, compression=None) as client:
            async with asyncio.timeout(seconds * 3 + 20):
                while self.samples < seconds * SAMPLE_RATE_HZ:
                    self._take(await client.recv(), began)

    def _take(self, message: str | bytes, began: float) -> None:
        if isinstance(message, str):
            self.messages.append(json.loads(message))
            return
        position, frames = HEADER.unpack(message[: HEADER.size])[5], HEADER.unpack(message[: HEADER.size])[8]
        if self.start is None:
            self.start, self.first_audio_seconds = position, time.perf_counter() - began
        assert position == self.start + self.samples, "a gap nobody told of"
        self.samples += frames
        self.pieces.append(np.frombuffer(message[HEADER.size :], "<i2").reshape(-1, 2))

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]
