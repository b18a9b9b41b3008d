from __future__ import annotations

import pytest

from streamgen.errors import ConfigError
from streamgen.lm.windows import WindowLayout, WindowPlan


def walk(plan: WindowPlan, heads: int) -> list[list[tuple[int, int]]]:
    """The obvious twin of the stream's windows: (start frame, positions used) of each window fed at each head."""
    fed: list[list[tuple[int, int]]] = []
    windows = [[0, 0, 0]]  # start frame, start position, vectors fed
    for head in range(-1, heads):
        handover = plan.handover(windows[0][0], windows[0][1])
        if head == handover:
            windows.pop(0)
            handover = plan.handover(windows[0][0], windows[0][1])
        if head == plan.warming_start(handover):
            windows.append([plan.successor_start(handover), plan.start_position, 0])
        for window in windows:
            window[2] += 1
        fed.append([(start, position + count) for start, position, count in windows])
    return fed


FITTING = [
    (start, context, prefix)
    for start in (0, 1, 137, 800)
    for context in (1, 50, 300, 351)
    for prefix in (0, 40)
    if context <= WindowPlan.longest_context(1503, start, prefix)
]


@pytest.mark.parametrize(("start_position", "context", "prefix"), FITTING)
def test_no_window_ever_leaves_the_limit_and_the_context_is_exact(
    start_position: int, context: int, prefix: int
) -> None:
    limit = 1503
    plan = WindowPlan(limit, context, start_position, prefix)
    fed = walk(plan, 8000)
    assert max(position for windows in fed for _, position in windows) == limit, "every position is used, none beyond"
    assert max(len(windows) for windows in fed) == 2
    leads = [windows[0][0] for windows in fed]
    changes = [i for i in range(1, len(leads)) if leads[i] != leads[i - 1]]
    assert len(changes) >= 4
    for i in changes:
        head = i - 1  # fed[0] is head −1
        start, position = fed[i][0]
        assert head - start + 1 == context, "frames start … head are the context"
        assert position == start_position + prefix + 1 + context


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"752 frames from position 0 .* within 1 … 751"):
        WindowPlan(1503, 752)
    with pytest.raises(ConfigError, match="choose a shorter context"):
        WindowPlan(1503, 600, start_position=400)
    assert WindowPlan.longest_context(1503, 0, 250) == 501


def test_an_audio_prompt_leaves_room_to_warm_the_successor() -> None:
    plan = WindowPlan(1503, 600, prefix=10)
    head_after_prompt = plan.longest_prompt() - 1
    assert head_after_prompt == plan.warming_start(plan.handover(0, 0))


def test_the_drawing_is_to_scale() -> None:
    drawing = WindowPlan(1503, 600).draw(windows=3, width=60)
    lines = drawing.splitlines()
    assert lines[0].count("=") == 27  # 1502 of 3306 frames
    assert lines[1].strip().split()[2].count("-") == 11  # 600 frames warmed
    assert lines[-1] == "ends at (seconds): 30.0  48.1  66.2"


@pytest.mark.parametrize(("start", "context", "prefix"), FITTING)
def test_in_mid_stream_a_context_that_fits_is_laid_out_as_from_the_beginning(
    start: int, context: int, prefix: int
) -> None:
    layout = WindowLayout(1503, 50.0)
    plan = layout.plan(context / 50, start / 50, prefix)
    assert plan == layout.fitting_plan(context / 50, start / 50, prefix) == WindowPlan(1503, context, start, prefix)


@pytest.mark.parametrize(("start", "context", "prefix"), [(28.0, 12.0, 0), (0.0, 30.0, 300), (30.0, 0.02, 700)])
def test_in_mid_stream_a_context_that_does_not_fit_is_cut(start: float, context: float, prefix: int) -> None:
    layout = WindowLayout(1503, 50.0)
    with pytest.raises(ConfigError, match=r"context_seconds is .*, must be at most .* s: .* windows have 1503"):
        layout.plan(context, start, prefix)
    plan = layout.fitting_plan(context, start, prefix)
    assert plan.context_frames == WindowPlan.longest_context(1503, plan.start_position, prefix) >= 1
    with pytest.raises(ConfigError, match="so shorten the prompt"):
        layout.fitting_plan(context, start, 751)
