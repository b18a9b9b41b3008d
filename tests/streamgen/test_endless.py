"""Many minutes in one stream: memory and step time stay flat.

CI renders STREAMGEN_ENDLESS_MINUTES=10; the hour of the README's table is the same test with 60.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Twins = Callable[[str], Any]
MINUTES = int(os.environ.get("STREAMGEN_ENDLESS_MINUTES", "10"))


def resident_bytes() -> int:
    """Memory of this process that is its own (Rss without files), from the kernel."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) * 1024


@pytest.mark.slow
def test_a_long_stream_is_flat(twin: Twins) -> None:
    model = twin("mono").model
    minutes, memory = [], []
    with model.open_stream("piano", seed=1) as stream:
        for _ in range(MINUTES):
            for _ in range(60):
                second = stream.read(32_000).samples
                assert np.isfinite(second).all()
            gc.collect()
            memory.append(resident_bytes())
            # each step of a window's cycle costs its own time: compare the same share of a minute, by its fast half
            newest = sorted(list(stream.metrics.step_seconds)[-3000:])
            minutes.append(statistics.mean(newest[:1500]))
    growth = (memory[-1] - memory[0]) / 2**20
    half = len(minutes) // 2
    ratio = min(minutes[half:]) / min(minutes[1 : half + 1])  # least times: a busy machine only adds
    print(f"\ngrowth after the first minute {growth:.2f} MB, later minutes / earlier {ratio:.3f}")
    assert growth < 1
    # ten minutes are too few for the least times to shed what else runs here: 1.035 was seen beside other tests
    assert ratio <= (1.03 if MINUTES >= 60 else 1.1)
