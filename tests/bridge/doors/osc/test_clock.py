"""Time tags to samples."""

from __future__ import annotations

import numpy as np

from bridge.doors.osc.clock import SampleClock
from bridge.session.messages import Block


def test_the_newest_block_says_which_sample_is_due_when() -> None:
    clock = SampleClock(32_000)
    assert clock.sample_at(5.0, 1.0) is None or clock.sample_at(5.0, 1e9) is None
    clock.heard(Block(np.zeros((2, 3200), np.float32), 64_000, time_us=1_000_000_000_000))
    assert clock.sample_at(1_000_000.0, 1_000_000.0) == 64_000
    assert clock.sample_at(1_000_002.5, 1_000_000.0) == 64_000 + 80_000
    assert clock.sample_at(999_999.9, 999_999.9) == 64_000 - 3200
    assert clock.sample_at(0.0, 999_999.9) == 0


def test_a_clock_that_stands_still_names_no_sample() -> None:
    clock = SampleClock(32_000)
    assert clock.sample_at(1_000_002.0, 1_000_000.0) is None
    clock.heard(Block(np.zeros((2, 3200), np.float32), 0, time_us=1_000_000_000_000))
    assert clock.sample_at(1_000_003.0, 1_000_001.0) == 96_000
    assert clock.sample_at(1_000_003.0, 1_000_001.2) is None
