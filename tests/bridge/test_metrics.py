"""Counters and their text."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from bridge.commands import Stats
from bridge.metrics import Metrics, quantile


def test_the_text_is_prometheus() -> None:
    metrics = Metrics()
    metrics.take(Stats(2.5, 1.25, 3, 4, 5, 64_000, True))
    metrics.step_seconds.extend([0.01, 0.02, 0.03])
    metrics.refused['a "b"\n\\c'] += 1
    metrics.listeners.update({"websocket": 2, "osc": 1})
    lines = metrics.text().splitlines()
    for line in lines:
        assert re.fullmatch(r'# (HELP|TYPE) streamgen_\w+ .+|streamgen_\w+(\{\w+="([^"\\\n]|\\.)*"\})? \S+', line), line
    assert "streamgen_realtime_factor 2.5" in lines
    assert "streamgen_underruns_total 3" in lines
    assert 'streamgen_step_seconds{quantile="0.5"} 0.02' in lines
    assert 'streamgen_step_seconds{quantile="0.99"} 0.03' in lines
    assert 'streamgen_listeners{door="websocket"} 2' in lines
    assert r'streamgen_refused_total{reason="a \"b\"\n\\c"} 1' in lines
    assert len({line.split()[2] for line in lines if line.startswith("# TYPE")}) == 13


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.99, 4), (1.0, 4)])
def test_quantiles_are_values_that_occurred(share: float, value: int) -> None:
    assert quantile([4, 1, 3, 2], share) == value
    assert quantile([], share) == 0.0


def test_made_up_labels_do_not_grow_the_text() -> None:
    metrics = Metrics()
    metrics.refused.update({f"reason {number}": 1 for number in range(1_000)})
    assert metrics.text().count("streamgen_refused_total{") == 64


def test_a_blocked_loop_is_seen() -> None:
    async def go() -> Metrics:
        metrics = Metrics()
        watching = asyncio.create_task(metrics.watch_loop())
        await asyncio.sleep(0.05)
        time.sleep(0.1)
        await asyncio.sleep(0.05)
        watching.cancel()
        return metrics

    lags = asyncio.run(go()).loop_lag_seconds
    assert max(lags) > 0.07
    assert len(lags) >= 2
