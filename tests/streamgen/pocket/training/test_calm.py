"""Movement and strays, on made sound and on a model that sings sines."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamgen.checkpoint import Heard
from streamgen.pocket.training.calm import CALM, hear_strays, least_movement
from streamgen.pocket.training.defects import sharpest_bend
from streamgen.stream.guard import Guard
from streamgen.testing.fake import FakeModel

RATE = 32_000


def tone(hertz: float, seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def melody(seconds: float) -> np.ndarray:
    steps = (0, 4, 7, 12) * round(seconds / 2)
    return np.concatenate([tone(220 * 2 ** (step / 12), 0.5) for step in steps])


def test_the_calmest_ten_seconds_count() -> None:
    lively = least_movement(melody(24))
    assert lively > 0.05
    assert least_movement(np.concatenate([melody(12), tone(220, 12), melody(12)])) < 0.01 < lively
    assert math.isnan(least_movement(melody(8)))


@pytest.mark.parametrize(("factor", "found"), [(0.99, False), (1.01, True)])
def test_the_least_movement_is_where_the_guards_limit_begins_to_hear_a_drone(factor: float, found: bool) -> None:
    rng = np.random.default_rng(2)
    audio = (melody(30) * np.repeat(rng.uniform(0.2, 1, 30), RATE)).astype(np.float32)
    guard = Guard(RATE, 640, 0, factor * least_movement(audio))
    guard.listen(audio, list(range(len(audio) // 640)))
    assert (guard.heard.fault == "drone") is found


def test_a_drum_in_a_pad_is_found_where_it_is_and_a_swell_is_none() -> None:
    pad = melody(6) * np.linspace(0.1, 1, 6 * RATE, dtype=np.float32)
    struck = pad.copy()
    struck[4 * RATE : 4 * RATE + 300] += np.random.default_rng(0).normal(0, 0.2, 300).astype(np.float32)
    assert sharpest_bend(pad)[0] < 28
    found, second = sharpest_bend(struck)
    assert found > 35
    assert second == pytest.approx(4, abs=0.02)


def test_what_is_too_faint_to_be_heard_is_no_bend() -> None:
    silence = np.zeros(2 * RATE, np.float32)
    silence[RATE] = 1e-5
    assert sharpest_bend(silence)[0] == 0


class HearingModel(FakeModel):
    """One that hears an orchestra in films, and pianos elsewhere."""

    def heard(self, text: str | None) -> Heard | None:
        style = "orchestral" if text and "film" in text else "piano"
        return None if text is None else Heard(text, style, (), 125, "A minor", (), (), 96)


def test_each_calm_prompt_is_heard_with_each_seed_but_for_pianos() -> None:
    found = hear_strays(HearingModel(), len(CALM), 2, seeds=2)
    films = [prompt for prompt in CALM if "film" in prompt]
    assert [(one.prompt, one.seed) for one in found] == [
        (prompt, seed + number) for seed in (0, 100) for number, prompt in enumerate(films)
    ]
