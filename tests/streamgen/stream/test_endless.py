"""Many minutes in one stream: memory and step time stay flat.

CI renders STREAMGEN_ENDLESS_MINUTES=10; the hour of the README's table is the same test with 60.

A step's time is what the processor spends on this thread: with one torch thread that is all of its work. The old stream
is timed against a young one, step by step beside it and at the same place of a window, so that what else the machine
does weighs on both alike.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamgen import Stream

Twins = Callable[[str], Any]
MINUTES = int(os.environ.get("STREAMGEN_ENDLESS_MINUTES", "10"))


def resident_bytes() -> int:
    """Memory of this process that is its own (Rss without files), from the kernel."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) * 1024


def settle(young: Stream, old: Stream) -> None:
    """Play a stream past its first window, to where in a window another one is."""
    while young.metrics.rollovers < 1 or young.metrics.window_position != old.metrics.window_position:
        young.read(640)


def step_ratio(old: Stream, young: Stream, steps: int = 3_000) -> float:
    """How much longer a step of the old stream takes: the median of neighbours, each going first in turn."""
    pairs = (old, young), (young, old)
    for step in range(steps):
        for stream in pairs[step % 2]:
            stream.read(640)
    times = [list(stream.metrics.step_seconds)[-steps:] for stream in (old, young)]
    return statistics.median(a / b for a, b in zip(*times, strict=True))


@pytest.mark.slow
def test_a_long_stream_is_flat(twin: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.get_num_threads() == 1, "else a part of the work is another thread's"
    model = twin("mono").model
    monkeypatch.setattr(model, "clock", time.thread_time)
    memory = []
    with model.open_stream("piano", seed=1) as old, model.open_stream("piano", seed=1) as young:
        for _ in range(MINUTES):
            for _ in range(60):
                assert np.isfinite(old.read(32_000).samples).all()
            gc.collect()
            memory.append(resident_bytes())
        settle(young, old)
        ratio = step_ratio(old, young)
    growth = (memory[-1] - memory[0]) / 2**20
    print(f"\ngrowth after the first minute {growth:.2f} MB, a step of the old stream / of a young one {ratio:.4f}")
    assert growth < 1
    assert ratio <= 1.03
