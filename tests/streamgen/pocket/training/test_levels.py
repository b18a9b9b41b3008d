"""What words add to a loudness, on prompts whose answer is known, and the stage on a model that sings sines."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path

import pytest

from streamgen.checkpoint.vocabulary import WORDS_FILE
from streamgen.pocket import pocket_folder
from streamgen.pocket.training import levels
from streamgen.pocket.training.levels import Break, Level, Prompt, added_up, judge_levels, table
from streamgen.testing.fake import FakeModel


def test_what_words_add_is_found_and_what_they_leave_is_told() -> None:
    adds = {"piano": 1.0, "saw synth": -1.0, "125": 0.5, "94": -0.5, "C": 0.2, "D": -0.2}
    kinds = list(product(("piano", "saw synth"), ("125", "94"), ("C", "D")))
    even = added_up("house", [Prompt(("drums", *kind), -20 + sum(adds[word] for word in kind)) for kind in kinds], -21)
    assert even.loudness_db == {"": 1.0, **adds}, "of the drums, which all have, nothing can be said"
    assert (even.lufs, even.left) == (pytest.approx(-20), pytest.approx(0, abs=1e-9))
    odd = added_up(
        "house", [Prompt(kind, -20 + (1 if kind[0] == "piano" and kind[1] == "94" else 0)) for kind in kinds], -20
    )
    assert odd.left == pytest.approx(0.25)


def test_the_table_has_a_row_for_each_style() -> None:
    text = table([Level("house", -23.04, {"": -0.1}, 0.58)], [Break("house", 0.7, -0.62)])
    assert "| house | -23.0 | ± 0.6 | +0.7 · -0.6 |" in text


def test_the_stage_writes_what_it_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "load_model", lambda *_, **__: FakeModel())
    monkeypatch.setattr(levels, "bar_seconds", lambda *_: 2.0)
    shutil.copy(pocket_folder() / WORDS_FILE, tmp_path)
    found = judge_levels(tmp_path, tmp_path / "judge", 2)
    assert [one.style for one in found] == ["house", "techno"]
    assert all(set(one.loudness_db) <= {"", "piano", "saw synth"} for one in found), "one tempo, one tonic"
    assert abs(found[0].loudness_db[""] + found[1].loudness_db[""]) < 0.15, "their mean is 0"
    written = json.loads((tmp_path / "judge" / "levels.json").read_text())
    assert written["levels"][0]["loudness_db"] == found[0].loudness_db
    assert all(abs(one["before"]) < 2.5 for one in written["breaks"]), "a sine is as loud as another but for the ear"


def test_a_checkpoint_without_words_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="does not tell its styles"):
        judge_levels(tmp_path, tmp_path)


def test_what_the_shipped_words_say_is_even() -> None:
    """Of every word that others can stand for the effects cancel out, and styles' own have a mean of nothing."""
    styles = json.loads((pocket_folder() / WORDS_FILE).read_text())["styles"]
    assert sum(style["loudness_db"][""] for style in styles.values()) == pytest.approx(0, abs=0.6)
    for style in styles.values():
        for group in (("150", "125", "94"), ("C", "D", "E", "F", "G", "A")):
            assert sum(style["loudness_db"][word] for word in group) == pytest.approx(0, abs=0.35)
