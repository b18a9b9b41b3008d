from __future__ import annotations

import re

import pytest

from streamgen.pocket.training.compose import DRUM_KEYS, STEPS_PER_BAR
from streamgen.pocket.training.styles import STYLES, Style


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_every_rhythm_is_one_bar_that_begins_notes_before_it_holds_them(style: Style) -> None:
    parts = [part for role in (style.bass, style.chords, style.leads) for part in role]
    rhythms = [rhythm for part in parts for rhythm in part.rhythms]
    rhythms += [rhythm for groove in style.grooves for rhythm in groove.values()]
    assert all(re.fullmatch(rf"(?!-)(?!.*\.-)[x.-]{{{STEPS_PER_BAR}}}", rhythm) for rhythm in rhythms), rhythms
    assert all("x" in rhythm for rhythm in rhythms)
    assert all(set(groove) <= set(DRUM_KEYS) for groove in style.grooves)


def test_no_two_styles_share_a_name_or_a_mood() -> None:
    names = [name for style in STYLES.values() for name in style.names]
    moods = [mood for style in STYLES.values() for mood in style.moods]
    assert len(set(names)) == len(names)
    assert len(set(moods)) == len(moods)


def test_drums_and_grooves_come_together() -> None:
    assert all((style.kit is None) == (not style.grooves) for style in STYLES.values())
