"""The stage on a model that sings sines, its measures on made sound, and a little of it on the shipped checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from streamgen.checkpoint import Heard
from streamgen.pocket import pocket_folder
from streamgen.pocket.training import defaults
from streamgen.pocket.training.calm import CALM, STRAY_DB, Calm, Stray
from streamgen.pocket.training.defaults import (
    Arranged,
    Defaults,
    DefaultsPlan,
    Jump,
    Mastered,
    Negated,
    judge_defaults,
    table,
)
from streamgen.testing.fake import FakeModel

FEW = DefaultsPlan(2, 1, arranged=1, arranged_seconds=6.0, calm=1, calm_seconds=11.0, stray_seeds=1, negated=1)


def test_the_table_has_every_row_of_the_card() -> None:
    found = Defaults(
        [
            Mastered("house", "house", -14.0, -15.0, 0.95, 0.1),
            Mastered("waltz", "orchestral", -13.5, -13.0, 0.8, 0.7, mends=1),
        ],
        [Jump("a", "b", True, -2.0), Jump("b", "c", True, 1.0), Jump("a", "c", False, 4.0)],
        [Arranged("house", 115, 0.48, 0.91, 0.98)],
        [Calm("waltz", 0.055, None), Calm("sad piano", 0.2, 12.0)],
        [Stray("waltz", 0, 11.2, 3.0), Stray("waltz", 100, 44.4, 9.0)],
        [Negated("house", 0.5, 0.2)],
        0.06,
    )
    text = table(found)
    for part in (
        "by the master's gain | <= 4 | 0.5 (-14.0 … -13.5 LUFS) |",
        "behind the limiter too | <= 4 | 2.0 (-15.0 … -13.0 LUFS) |",
        "left and right, orchestral | <= .9 | 0.80, at most 0.80 (1) |",
        "a mono sum loses at most, dB | <= 1 | 0.70 |",
        "begun anew by the guard meanwhile |  | waltz |",
        "one tempo | <= 10 | 1.5, at most 2.0 (2 changes) |",
        "between tempi | <= 10 | 4.0, at most 4.0 (1 changes) |",
        "| 115 · 0.48 · 0.91 · 0.98 |",
        "| 0.055 (waltz), 0.200 (sad piano) |",
        "the checkpoint's 0.06 | 0 | 1 · 1 |",
        "of 2 streams (sharpest bend over 30 dB) | 0 | 1 (waltz, seed 100: 44) |",
        '"house" · "no drums" | less | 0.50 · 0.20 |',
    ):
        assert part in text
    assert "ambient" not in text, "none was played"
    assert len(set(CALM)) == 12


class HearingModel(FakeModel):
    """One that hears the same in every prompt, and so has bars."""

    def heard(self, text: str | None) -> Heard | None:
        return None if text is None else Heard(text, "ambient", ("drums",), 125, "A minor", (), (), 96)


def test_the_stage_writes_what_it_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "load_model", lambda *_, **__: HearingModel())
    found = judge_defaults(tmp_path, tmp_path / "judge", FEW)
    written = json.loads((tmp_path / "judge" / "defaults.json").read_text())
    assert [one["prompt"] for one in written["mastered"]] == ["house", "solo piano"]
    assert all(-16 < one["lufs"] < -13 for one in written["mastered"]), "a sine, brought to -14 LUFS"
    assert [jump["one_tempo"] for jump in written["jumps"]] == [True, False]
    assert math.isnan(written["jumps"][0]["ms"]), "a sine has no beat"
    assert written["calm"][0]["dies_at_second"] is not None, "and stands still"
    assert written["calm"][0]["least_movement"] < 0.02
    assert [one["prompt"] for one in written["strays"]] == [CALM[0]]
    assert written["strays"][0]["bend_db"] < 10, "nor is a sine struck"
    assert (tmp_path / "judge" / "defaults.md").read_text() == table(found)


def test_a_checkpoint_without_bars_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "load_model", lambda *_, **__: FakeModel())
    with pytest.raises(SystemExit, match="does not tell the bars of its prompts"):
        judge_defaults(tmp_path, tmp_path, FEW)


@pytest.mark.slow
def test_a_few_seconds_of_the_shipped_checkpoint(tmp_path: Path) -> None:
    found = judge_defaults(pocket_folder(), tmp_path, FEW)
    assert all(abs(jump.ms) < 10 for jump in found.jumps)
    assert all(one.dies_at_second is None for one in found.calm)
    assert all(one.bend_db < STRAY_DB for one in found.strays)
    assert all(one.without < one.plain for one in found.negated)
    assert json.loads((tmp_path / "defaults.json").read_text())["limit"] == found.limit
