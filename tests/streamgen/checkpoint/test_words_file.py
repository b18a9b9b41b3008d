from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamgen.checkpoint.files import read_json
from streamgen.checkpoint.vocabulary import WORDS_FILE, read_vocabulary, suggested
from streamgen.checkpoint.words import hear
from streamgen.checkpoint.words_file import check_words
from streamgen.errors import CheckpointError
from streamgen.pocket import pocket_folder

HOUSE = ("styles", "house")
DAMAGES = [
    ((), "default_style", "polka", "default_style: there is no style 'polka'"),
    ((), "styles", {}, "styles is {}, must be a table with something in it"),
    ((), "styles", {"house": "house"}, "the style 'house' is 'house', must be a table"),
    (HOUSE, "say", 5, "say of the style 'house' is 5, must be a text"),
    (HOUSE, "key", "A", "there is no key 'A'"),
    (HOUSE, "key", "A dorian", "there is no key 'A dorian'"),
    (HOUSE, "tempo_bpm", 126, "there is no tempo of bar_frames 126; there are 150, 125, 94"),
    (HOUSE, "parts", [], "must be a list of lists of instruments"),
    (HOUSE, "parts", [[]], r"is \[\], must be a list of texts, at least one"),
    (HOUSE, "parts", ["drums"], "a part of the style 'house' is 'drums'"),
    (HOUSE, "moods", "deep", "moods of the style 'house' is 'deep'"),
    (HOUSE, "loudness_db", -3, "loudness_db is -3, must be a table"),
    (
        HOUSE,
        "loudness_db",
        {"harp": 1},
        "loudness_db of the style 'house': there is no instrument, tempo or tonic 'harp'",
    ),
    (HOUSE, "loudness_db", {"": 99}, "loudness_db of the style 'house': '' is 99, must be a number within -24 … 24"),
    (HOUSE, "loudness_db", {"A": float("nan")}, "'A' is nan, must be a number"),
    (HOUSE, "phrases", None, "phrases of the style 'house' is None"),
    ((), "hints", {"polka": ["quick"]}, "hints: there is no style 'polka'"),
    ((), "hints", {"house": "quick"}, "what means 'house' is 'quick'"),
    ((), "tempi", {"126": ["quick"]}, "there is no tempo of bar_frames '126'"),
    ((), "instruments", ["drums"], r"instruments is \['drums'\], must be a table"),
    (("instruments",), "drums", {"phrases": []}, "the instrument 'drums' is"),
    (("instruments", "drums"), "style", "polka", "there is no style 'polka'"),
    (("instruments", "drums"), "phrases", "drum", "phrases of the instrument 'drums' is 'drum'"),
    ((), "tempo_changes", {"louder": []}, "tempo_changes: there is no such 'louder'; there are faster, slower"),
    ((), "modes", {"minor": "moll"}, "what means 'minor' is 'moll'"),
    ((), "tonics", [], r"tonics is \[\]"),
    ((), "tonics", ["Bb"], "there is no note 'Bb'"),
    ((), "stand_ins", {"drums": {"house": "polka"}}, "stand_ins of 'drums': there is no style 'polka'"),
    ((), "stand_ins", None, "stand_ins is None"),
    (("bar_frames",), "0", 80, "bar_frames has '0'"),
    (("bar_frames",), "²", 80, "bar_frames has '²'"),
    (("bar_frames",), "125", 0, "bar_frames of 125 is 0, must be within 1 … 1000 frames"),
    (("bar_frames",), "125", float("inf"), "bar_frames of 125 is inf"),
    ((), "without", "no", "without is 'no', must be a list of texts"),
    ((), "nearest", "tango", "nearest is 'tango', must be a list of texts"),
    ((), "as_typed", [3], r"as_typed is \[3\], must be a list of texts"),
]


def words() -> dict[str, Any]:
    return read_json(pocket_folder() / WORDS_FILE)


def test_the_shipped_words_are_sound() -> None:
    check_words(words())


@pytest.mark.parametrize(("place", "name", "value", "complaint"), DAMAGES)
def test_what_would_fail_with_some_prompt_is_refused_with_the_file(
    tmp_path: Path, place: tuple[str, ...], name: str, value: object, complaint: str
) -> None:
    data = words()
    table: Any = data
    for step in place:
        table = table[step]
    table[name] = value
    (tmp_path / WORDS_FILE).write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=complaint) as told:
        read_vocabulary(tmp_path)
    assert "\n" not in str(told.value)
    assert "correct it, or move it away" in str(told.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("stand_ins"),
        lambda data: data.pop("never"),
        lambda data: (data.pop("nearest"), data.pop("as_typed")),
        lambda data: data.update(hints={}, tempi={}),
        lambda data: data["styles"]["house"].update(moods=[], phrases=[]),
    ],
)
def test_what_a_checkpoint_does_not_need_may_be_missing(tmp_path: Path, change: Callable[[Any], object]) -> None:
    data = words()
    change(data)
    (tmp_path / WORDS_FILE).write_text(json.dumps(data))
    found = read_vocabulary(tmp_path)
    assert found is not None
    for prompt in ("house", "no drums", "piano, slow", "in F minor, 300 bpm", "", *suggested(found)):
        assert hear(prompt, found).bar_frames in found.bar_frames.values()
