from __future__ import annotations

from typing import Any

import pytest
import torch

from streamgen.pocket.training.captions import train_tokenizer
from streamgen.pocket.training.compose import FRAMES_PER_STEP
from streamgen.pocket.training.fitting import LanguagePlan, LanguageTrainer
from streamgen.pocket.training.language import delay, hidden_states, text_states
from streamgen.pocket.training.phase_units import LOUD, PHASES, UNITS, directions, phases, read_by_units
from streamgen.pocket.training.phase_units import write_phase_units as write


@pytest.mark.slow
def test_the_first_layer_tells_the_place_in_every_sixteenth_whatever_sounds(tmp_path: Any) -> None:
    torch.manual_seed(0)
    trainer = LanguageTrainer(tmp_path, train_tokenizer(tmp_path / "tokenizer", captions=400), LanguagePlan())
    ids, mask = trainer.lessons.tokenise(["house, 125 bpm", "ambient", "rock, 150 bpm", "slow lofi"])
    drawn = [delay(torch.randint(0, 1024, (4, 4, 500)))[..., :-1] for _ in range(2)]
    states = text_states(trainer.model, ids, mask)
    decoder: Any = trainer.model.decoder
    before = hidden_states(decoder.model.decoder, drawn[1], states, mask)
    write(trainer.model, ids, mask, drawn[0])

    first, hidden = decoder.model.decoder.layers[0], decoder.config.hidden_size
    awake = torch.nn.functional.gelu(first.fc1(read_by_units(trainer.model, ids, mask, drawn[1])))[..., -UNITS:]
    told = awake @ first.fc2.weight[:, -UNITS:].T @ directions(hidden, 0).T / LOUD
    wanted, begin = phases(drawn[1].shape[-1]), 0
    for steps in FRAMES_PER_STEP.values():
        said = told[:, : UNITS - 16, begin : begin + steps].argmax(-1)
        assert (said == wanted[: UNITS - 16, begin : begin + steps].argmax(-1)).float().mean() > 0.98, steps
        begin += steps
    assert begin == PHASES
    assert told[:, UNITS + 8 :].abs().mean() < 0.1, "silent after two bars"
    after = hidden_states(decoder.model.decoder, drawn[1], states, mask)
    assert not torch.equal(after[:, :100], before[:, :100])


def test_what_they_write_leaves_places_and_names_alone() -> None:
    rows = directions(384, 0)
    torch.testing.assert_close(rows @ rows.T, torch.eye(PHASES), atol=1e-5, rtol=0)
    assert not rows[:, :30].abs().gt(1e-6).any()
    assert not rows[:, 192:222].abs().gt(1e-6).any()
    assert not rows[:, -22:].abs().gt(1e-6).any()
