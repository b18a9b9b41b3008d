"""How fast a model plays on this machine, and how many sessions that is enough for.

Rules: uses a model's public face only; imports no torch. A service asks before it opens its doors.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamgen import Model

__all__ = ["measure", "measure_capacity", "sessions_within"]

_MEASURE_SECONDS = 1.0
_SHARE = 0.8  # of real time that sessions may use together
_TOGETHER, _TOGETHER_BLOCKS, _TOGETHER_GAIN = 4, 3, 0.5  # a second session costs half of the first at least


def measure(model: Model, prompt: str) -> float:
    """Play a second into the void: seconds of audio a second of work, guidance on, after a warm-up."""
    with model.open_stream(prompt or None, seed=0) as stream:
        stream.read(model.sample_rate_hz // 5)
        began = time.perf_counter()
        stream.read(round(_MEASURE_SECONDS * model.sample_rate_hz))
        return _MEASURE_SECONDS / (time.perf_counter() - began)


def measure_capacity(model: Model, realtime_factor: float) -> int:
    """Count the sessions that this machine keeps up with, by what one costs alone and each costs beside others.

    All of them share each pass over the weights, so the second costs less than the first: how much less depends on
    the checkpoint and on the machine, and is measured. A machine that has no room for a second is not asked.
    """
    first = 1 / max(realtime_factor, 1e-9)
    if 2 * first * _TOGETHER_GAIN > _SHARE:
        return 1
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(model.open_stream(seed=seed))) for seed in range(_TOGETHER)]
        wanted = dict.fromkeys(streams, round(0.1 * model.sample_rate_hz))
        model.read_together(wanted)
        began = time.perf_counter()
        for _ in range(_TOGETHER_BLOCKS):
            model.read_together(wanted)
        together = (time.perf_counter() - began) / (0.1 * _TOGETHER_BLOCKS)
    return sessions_within(_SHARE, first, together, _TOGETHER)


def sessions_within(share: float, first: float, together: float, count: int) -> int:
    """Draw a line through the costs of one session and of some together; return how many stay within a share.

    Args:
        share: seconds of work a second of music.
        first: of one session.
        together: of `count` sessions in one pass.
        count: at least 2.

    Returns:
        At least 1.
    """
    # a line that seems flat is a measurement that was disturbed
    each = max((together - first) / (count - 1), first / 50)
    return max(1, 1 + int((share - first) / each))
