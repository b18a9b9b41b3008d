"""A plugin that falls ill on command, in a real child process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.audio.effect import Pcm
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.plugin import Plugin
from bridge.audio.plugins.spawn import HostSettings

RATE_HZ = 48_000


def music(count: int, seed: int = 4) -> Pcm:
    smooth = np.convolve(np.random.default_rng(seed).standard_normal(count + 63), np.hanning(64), "valid")
    return np.stack((smooth, -0.5 * smooth)).astype(np.float32) * np.float32(0.05)


@dataclass
class Patient:
    """A plugin and the file that orders what it shall suffer."""

    plugin: Plugin
    orders: Path

    def order(self, word: str) -> None:
        self.orders.with_suffix(".new").write_text(word)
        self.orders.with_suffix(".new").rename(self.orders)


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    """Limits for tests: a second core is not ours alone, so the deadline is longer than an operator's."""
    return HostSettings(
        tmp_path / "states",
        engine="ill_engine:IllEngine",
        deadline_seconds=0.2,
        memory_bytes=1 << 30,
        python_path=(str(Path(__file__).parent),),
    )


@pytest.fixture
def patient(settings: HostSettings, tmp_path: Path) -> Iterator[Callable[..., Patient]]:
    plugins: list[Plugin] = []

    def make(first_word: str = "", **changed: Any) -> Patient:
        orders = tmp_path / f"orders-{len(plugins)}"
        if first_word:
            orders.write_text(first_word)
        name = f"slot-{len(plugins)}"
        plugins.append(Plugin.open(Reference(str(orders)), replace(settings, **changed), RATE_HZ, name))
        plugins[-1].prepare(RATE_HZ, 2, 4_096)
        return Patient(plugins[-1], orders)

    yield make
    for plugin in plugins:
        plugin.close()
