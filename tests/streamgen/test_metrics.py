from __future__ import annotations

import pytest

from streamgen.metrics import StreamMetrics, quantile


def test_steps_are_counted_and_only_the_newest_kept() -> None:
    metrics = StreamMetrics()
    for step in range(10_000):
        metrics.record_step(step * 1e-3, rollovers=step // 4000, position=step % 1503, windows=1)
    assert metrics.steps == 10_000
    assert len(metrics.step_seconds) == 8192
    assert metrics.step_seconds[-1] == 9.999
    assert list(metrics.rollover_steps) == [4000, 8000], "the first step that each successor led"
    assert metrics.lm_seconds == sum(step * 1e-3 for step in range(10_000))
    assert repr(metrics) == "<StreamMetrics: 10000 steps, 49995.000 s of passes, 0.000 s of codec, 2 rollovers>"
    assert (metrics.window_position, metrics.windows, metrics.rollovers) == (9999 % 1503, 1, 2)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.99, 4), (1.0, 4)])
def test_quantiles_are_values_that_occurred(share: float, value: int) -> None:
    assert quantile([4, 1, 3, 2], share) == value
    assert quantile([], share) == 0.0
