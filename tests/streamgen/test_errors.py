"""Words of strangers in an error's line: short, and steering nothing."""

from __future__ import annotations

from streamgen.errors import one_line, quoted


def test_words_from_elsewhere_are_one_short_line_that_steers_no_terminal() -> None:
    assert one_line("no\x1b]0;owned\x07\nstreamgen: forged\u202e\ud800.") == "no ]0;owned streamgen: forged ."
    assert one_line("x" * 10_000, 10) == "x" * 9 + "…"
    assert one_line({"a": 1}) == "{'a': 1}"
    assert quoted("x" * 1_000) == "'" + "x" * 98 + "…"
    assert quoted(7) == "7"
