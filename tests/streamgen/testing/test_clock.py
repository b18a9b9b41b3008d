"""Time that passes only when told to."""

from __future__ import annotations

import pytest

from streamgen import ConfigError
from streamgen.testing import FakeClock


def test_the_clock_moves_only_forward() -> None:
    clock = FakeClock()
    clock.sleep(1.5)
    clock.advance(0.5)
    assert clock() == 2.0
    assert clock.slept == [1.5]
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="time passes by 0 or more"):
            clock.advance(bad)
