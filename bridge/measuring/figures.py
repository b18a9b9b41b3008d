"""Figures from step times: medians, the cost of a rollover, the limit that memory sets.

Rules: plain arithmetic on lists of numbers; no torch, no clock.

A rollover is the handover from one window to its warmed successor. Steps that belong to it:

    … quiet │ warm-up: the successor is fed beside the leader │ handover, ± MARGIN_STEPS │ quiet …
            └──────────────── context ───────────────────────┘
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["FRAMES_PER_SECOND", "MARGIN_STEPS", "RolloverFigures", "percentile", "rollover_figures"]

FRAMES_PER_SECOND = 50
MARGIN_STEPS = 5


@dataclass(frozen=True)
class RolloverFigures:
    """What rollovers cost, in medians of a step.

    Attributes:
        rollovers: how many were measured.
        ratio: longest step of a rollover over the median of all steps; the median over the rollovers.
        worst_ratio: the same for the worst of them.
        quiet_ratio: longest step of a span without a handover or a warm-up, the median over such spans: what the
            machine's own noise amounts to. None where no such span was long enough.
    """

    rollovers: int
    ratio: float
    worst_ratio: float
    quiet_ratio: float | None


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the smallest value that at least `percent` of all do not exceed."""
    assert values, "no values"
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def rollover_figures(
    step_seconds: Sequence[float], handovers: Sequence[int], context_steps: int
) -> RolloverFigures | None:
    """Compare the steps around rollovers with the median step; None if no rollover lies within.

    Args:
        step_seconds: duration of each step, oldest first.
        handovers: index into step_seconds of the first step each successor led.
        context_steps: steps of warm-up before a handover.
    """
    typical = median(step_seconds) if step_seconds else 0.0
    spans = [(max(0, at - context_steps - MARGIN_STEPS), at + MARGIN_STEPS + 1) for at in handovers if at >= 0]
    longest = [max(step_seconds[start:stop]) / typical for start, stop in spans if stop <= len(step_seconds)]
    if not longest:
        return None
    quiet = _quiet_maxima(step_seconds, spans)
    quiet_ratio = median(quiet) / typical if quiet else None
    return RolloverFigures(len(longest), median(longest), max(longest), quiet_ratio)


def _quiet_maxima(step_seconds: Sequence[float], spans: Sequence[tuple[int, int]]) -> list[float]:
    """Longest steps of the stretches between rollovers, cut into pieces of a rollover's length at most."""
    edges = [0, *(edge for span in spans for edge in span), len(step_seconds)]
    gaps = [(edges[index], edges[index + 1]) for index in range(0, len(edges), 2)]
    return [max(step_seconds[start:stop]) for start, stop in gaps if stop - start >= 2 * FRAMES_PER_SECOND]
