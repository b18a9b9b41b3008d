from __future__ import annotations

import pytest

from bridge.session.beats import Beats, Line, next_multiple


def test_beats_begin_at_the_usual_tempo_and_go_on_at_another() -> None:
    beats = Beats(48_000)
    assert beats.line(48_000).beat_at(48_000) == pytest.approx(2.0)
    beats.go_on(Line(48_000, 2.0, 1 / 48_000))
    assert beats.line(96_000).beat_at(96_000) == pytest.approx(3.0)
    assert beats.line(24_000).beat_at(24_000) == pytest.approx(1.0), "what lies before stays"
    assert [beats.sample(beat) for beat in (1, 2, 5)] == [24_000, 48_000, 192_000]


def test_a_count_that_is_skipped_falls_where_it_is_skipped() -> None:
    beats = Beats(48_000)
    beats.go_on(Line(60_000, 4.0, 1 / 24_000))  # 2.5 there before: the music begins anew, and with it a bar
    assert [beats.sample(beat) for beat in (2, 3, 4, 5)] == [48_000, 60_000, 60_000, 84_000]


def test_another_line_takes_the_place_of_those_behind_it() -> None:
    beats = Beats(48_000)
    beats.go_on(Line(96_000, 4.0, 1 / 48_000))
    beats.go_on(Line(72_000, 3.0, 1 / 12_000))
    assert beats.sample(7) == 120_000


@pytest.mark.parametrize(
    ("beat", "quantum", "found"), [(3.2, 4, 4), (4.0, 4, 4), (4.0000001, 4, 4), (4.1, 1, 5), (0, 8, 0)]
)
def test_the_next_multiple(beat: float, quantum: int, found: int) -> None:
    assert next_multiple(beat, quantum) == found
