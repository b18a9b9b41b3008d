"""Values read from text, against the engine's own table."""

from __future__ import annotations

import pytest

from bridge.session.parameters import LIVE, PARAMETERS, in_words, parse
from streamgen.config import RANGES
from streamgen.errors import ConfigError


def test_the_table_is_the_engines_own() -> None:
    assert PARAMETERS is RANGES
    assert set(LIVE) <= set(PARAMETERS)


@pytest.mark.parametrize("name", sorted(RANGES))
def test_both_limits_are_allowed_and_nothing_beyond(name: str) -> None:
    row = PARAMETERS[name]
    kind = int if row.whole else float
    assert parse(name, row, str(kind(row.low))) == row.low
    assert parse(name, row, str(kind(row.high))) == row.high
    for beyond in (row.low - 1, row.high + 1):
        with pytest.raises(ConfigError, match=f"^{name} is "):
            parse(name, row, str(kind(beyond)))


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e999", "0x1", "1,5"])
def test_what_is_no_number_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ConfigError, match=r"temperature is .* must be .*within 0 … 5"):
        parse("temperature", PARAMETERS["temperature"], text)


def test_a_fraction_is_no_whole_number() -> None:
    with pytest.raises(ConfigError, match=r"top_k is '1\.5', must be a whole number"):
        parse("top_k", PARAMETERS["top_k"], "1.5")


def test_ranges_in_words_carry_their_unit() -> None:
    assert in_words(PARAMETERS["context_seconds"]).endswith(" s")
    assert in_words(PARAMETERS["seed"]) == "0 … 2147483647"
