from __future__ import annotations

from collections.abc import Callable

import torch

from streamgen.pocket.arranging import TokenSong
from streamgen.pocket.bar_heads import reserved
from streamgen.pocket.training import LanguageTrainer, rivalry


def test_rivals_cost_more_the_likelier_the_wrong_caption() -> None:
    losses, shares = torch.full((2, 4, 10), 3.0), torch.full((4,), 0.25)
    unsure, sure, wrong = (float(rivalry(losses, losses + gain, shares)) for gain in (0.0, 2.0, -2.0))
    assert abs(unsure - 0.693) < 1e-3
    assert sure < 0.01
    assert wrong > 4.9


def test_steps_lower_the_entropy_and_training_resumes(
    trainer: LanguageTrainer, token_song: Callable[[int], TokenSong]
) -> None:
    songs = [token_song(3)]
    first = trainer.train_step(songs)
    for _ in range(2):  # a window, rivals, an opening
        last = trainer.train_step(songs)
    assert torch.isfinite(torch.tensor([first, last])).all()
    assert not any(rows.any() for rows in reserved(trainer.model)), "training leaves places and channel alone"
    trainer.save()
    again = LanguageTrainer(trainer.path.parent, trainer.tokenizer, trainer.plan)
    assert again.step == trainer.step
    assert all(torch.equal(again.average[name], value) for name, value in trainer.average.items())
