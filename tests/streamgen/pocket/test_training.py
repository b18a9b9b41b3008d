from __future__ import annotations

from collections.abc import Callable

import torch

from streamgen.pocket.arranging import TokenSong
from streamgen.pocket.bar_heads import fixed_rows
from streamgen.pocket.training import LanguageTrainer


def test_steps_lower_the_entropy_and_training_resumes(
    trainer: LanguageTrainer, token_song: Callable[[int], TokenSong]
) -> None:
    songs = [token_song(3)]
    first = trainer.train_step(songs)
    places = [rows.clone() for rows in fixed_rows(trainer.model)]
    for _ in range(2):  # a window, a dream, an opening
        last = trainer.train_step(songs)
    assert torch.isfinite(torch.tensor([first, last])).all()
    assert all(torch.equal(now, then) for now, then in zip(fixed_rows(trainer.model), places, strict=True))
    trainer.save()
    again = LanguageTrainer(trainer.path.parent, trainer.tokenizer, trainer.plan)
    assert again.step == trainer.step
    assert all(torch.equal(again.average[name], value) for name, value in trainer.average.items())
