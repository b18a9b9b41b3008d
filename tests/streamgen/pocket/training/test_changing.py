"""The beat at a change of prompt: clicks that jump by known times, and one change of the shipped checkpoint's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamgen.model import load_model
from streamgen.pocket import pocket_folder
from streamgen.pocket.training.changing import (
    AFTER_SECONDS,
    BEFORE_SECONDS,
    ONE_TEMPO,
    TWO_TEMPI,
    Change,
    bar_seconds,
    grid_offset,
    play_change,
)
from streamgen.pocket.training.strangers import PROMPTS

RATE = 32_000
CLICK = np.random.default_rng(0).standard_normal(300).astype(np.float32) * np.exp(-np.arange(300) / 60) * 0.5


def clicks(seconds: float, step_seconds: float, late_seconds: float = 0.0) -> np.ndarray:
    """A click on every second step of a grid, from a time after the beginning on."""
    audio = np.zeros(round(seconds * RATE), np.float32)
    for time in np.arange(late_seconds % step_seconds + step_seconds, seconds - 0.05, 2 * step_seconds):
        at = round(time * RATE)
        audio[at : at + len(CLICK)] += CLICK.astype(np.float32)
    return audio


@pytest.mark.parametrize("steps", [(0.12, 0.12), (0.12, 0.16), (0.16, 0.1)])
@pytest.mark.parametrize("late_ms", [0.0, 7.0, -23.0])
def test_a_jump_of_the_beat_is_heard_in_milliseconds(steps: tuple[float, float], late_ms: float) -> None:
    """The line is at 9.6 s, which is a whole number of every step."""
    audio = np.concatenate([clicks(9.6, steps[0]), clicks(6.0, steps[1], late_ms / 1000)])
    assert Change("", "", audio, 9.6, steps).jump_ms() == pytest.approx(late_ms, abs=1.1)


def test_an_old_grid_that_misses_the_line_is_a_jump_too() -> None:
    audio = np.concatenate([clicks(9.63, 0.12), clicks(6.0, 0.12)])
    assert Change("", "", audio, 9.63, (0.12, 0.12)).jump_ms() == pytest.approx(30, abs=1.1)


def test_where_nothing_begins_there_is_no_grid() -> None:
    assert math.isnan(grid_offset(np.zeros(RATE, np.float32), 0.5, 0.12))
    noise = np.random.default_rng(3).standard_normal(8 * RATE).astype(np.float32) * 0.1
    assert math.isnan(grid_offset(noise, 0.5, 0.12))


def test_stray_onsets_do_not_move_the_grid() -> None:
    audio = clicks(8.0, 0.12)
    audio[round(1.24 * RATE) :][: len(CLICK)] += CLICK.astype(np.float32)
    audio[round(3.03 * RATE) :][: len(CLICK)] += CLICK.astype(np.float32)
    assert grid_offset(audio, 0.0, 0.12) == pytest.approx(grid_offset(clicks(8.0, 0.12), 0.0, 0.12), abs=0.0005)


@pytest.mark.slow
def test_the_shipped_checkpoint_changes_on_its_bar_line() -> None:
    model = load_model(str(pocket_folder()), device="cpu")
    assert {text for pair in ONE_TEMPO + TWO_TEMPI for text in pair} <= set(PROMPTS)
    for pairs, same in ((ONE_TEMPO, True), (TWO_TEMPI, False)):
        for one, two in pairs:
            assert (bar_seconds(model, one) == bar_seconds(model, two)) is same
    change = play_change(model, *ONE_TEMPO[0], seed=0)
    bar = bar_seconds(model, ONE_TEMPO[0][0])
    assert change.line_seconds == pytest.approx(math.ceil(BEFORE_SECONDS / bar) * bar)
    assert len(change.audio) / RATE == pytest.approx(change.line_seconds + AFTER_SECONDS)
    assert abs(change.jump_ms()) < 10
