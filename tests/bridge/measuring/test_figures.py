"""Figures from step times made by hand."""

from __future__ import annotations

import pytest

from bridge.measuring.figures import MARGIN_STEPS, percentile, rollover_figures


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (1, 1), (50, 50), (99, 99), (100, 100)])
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(percent: float, value: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_no_rollover_no_figure() -> None:
    assert rollover_figures([1.0] * 100, [], 10) is None
    assert rollover_figures([], [], 10) is None
    assert rollover_figures([1.0] * 100, [98], 10) is None  # its span is not over yet
    assert rollover_figures([1.0] * 100, [-3], 10) is None  # it was before what was kept


def test_the_longest_step_of_each_rollover_is_compared_with_the_median() -> None:
    steps = [1.0] * 2_000
    steps[495], steps[500], steps[1_505], steps[1_300] = 1.4, 1.2, 3.0, 1.1
    figures = rollover_figures(steps, [500, 1_000, 1_500], context_steps=100)
    assert figures is not None
    assert figures.rollovers == 3
    assert figures.ratio == 1.4  # of 1.4, 1.0 and 3.0
    assert figures.worst_ratio == 3.0
    assert figures.quiet_ratio == 1.0  # of 1.0, 1.0, 1.1 and 1.0


@pytest.mark.parametrize("offset", [-100 - MARGIN_STEPS, MARGIN_STEPS])
def test_the_span_reaches_from_the_warm_up_to_just_after_the_handover(offset: int) -> None:
    for distance, ratio in ((0, 9.0), (1 if offset > 0 else -1, 1.0)):
        steps = [1.0] * 1_000
        steps[500 + offset + distance] = 9.0
        figures = rollover_figures(steps, [500], context_steps=100)
        assert figures is not None
        assert figures.ratio == ratio


def test_short_quiet_stretches_say_nothing() -> None:
    figures = rollover_figures([1.0] * 220, [110], context_steps=50)
    assert figures is not None
    assert figures.quiet_ratio == 1.0
    short = rollover_figures([1.0] * 170, [110], context_steps=50)
    assert short is not None
    assert short.quiet_ratio is None
