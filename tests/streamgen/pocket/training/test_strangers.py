from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from streamgen.pocket import pocket_folder
from streamgen.pocket.training import strangers
from streamgen.pocket.training.strangers import PROMPTS, Hearing, measure, table
from streamgen.pocket.training.styles import STYLES


def test_fifty_prompts_name_styles_there_are_and_no_tempo() -> None:
    assert len(PROMPTS) == 50
    assert {style for style in PROMPTS.values() if style} == set(STYLES)
    assert not [prompt for prompt in PROMPTS if "bpm" in prompt]


def test_counts_and_the_list_of_what_went_wrong() -> None:
    hearings = [
        Hearing("house", "house", "house", None, -18.0, on_grid=0.9),
        Hearing("solo piano", "piano", "ambient", 10.0, -43.0, mends=2),
        Hearing("waltz", None, "rock", None, -20.0),
    ]
    figures = measure(hearings, 3.0)
    assert (figures.prompts, figures.deaths, figures.style_right, figures.loudness_spread_db) == (3, 1, 0.5, 25.0)
    assert (figures.mends, figures.on_grid) == (2, 0.9)
    text = table(figures, hearings)
    assert "| deaths | 1 |" in text
    assert "| solo piano | piano | ambient | 10 |" in text
    assert "waltz" not in text


def test_a_stream_is_heard_by_its_first_seconds() -> None:
    audio = np.concatenate([np.full(5 * 32_000, 0.1), np.zeros(5 * 32_000)]).astype(np.float32)
    lengths = []

    def classify(part: np.ndarray) -> str:
        lengths.append(len(part))
        return "house"

    heard = strangers.hear("house", audio, classify)  # type: ignore[arg-type]
    assert lengths == [5 * 32_000]
    assert heard.loudness_dbfs == pytest.approx(-23.0, abs=0.1)
    assert heard.dies_at_second == 0.25  # a constant stands still from its second quarter on


@pytest.mark.slow
def test_a_few_seconds_of_two_prompts(tmp_path: Path) -> None:
    figures = strangers.judge_strangers(pocket_folder(), tmp_path, minutes=0.1, songs=24, prompts=2)
    assert figures.prompts == 2
    assert len(json.loads((tmp_path / "strangers.json").read_text())["hearings"]) == 2
