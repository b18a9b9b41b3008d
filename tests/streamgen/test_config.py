from __future__ import annotations

import numpy as np
import pytest

from streamgen.config import RANGES, check
from streamgen.errors import ConfigError


@pytest.mark.parametrize("name", RANGES)
def test_limits_and_default_are_allowed_and_beyond_is_not(name: str) -> None:
    row = RANGES[name]
    for value in (row.low, row.high, row.default):
        assert check(name, value) == value
    step = 1 if row.whole else 1e-6
    for value in (row.low - step, row.high + step, float("nan"), float("inf"), 10**400, None, "3", True, 1j):
        with pytest.raises(ConfigError, match=f"{name} is .*, must be"):
            check(name, value)


def test_numpy_numbers_are_numbers() -> None:
    assert check("temperature", np.float32(0.5)) == 0.5
    assert check("top_k", np.int64(3)) == 3
    assert isinstance(check("top_k", 3.0), int)


def test_the_message_says_name_value_limit_and_unit() -> None:
    with pytest.raises(ConfigError) as caught:
        check("glide_seconds", 61)
    assert str(caught.value) == "glide_seconds is 61, must be within 0 … 60 s"


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="there is no parameter 'x'; there are guidance_scale, "):
        check("x", 1)


def test_each_row_says_what_it_is() -> None:
    assert all(row.description and row.low <= row.default <= row.high for row in RANGES.values())
