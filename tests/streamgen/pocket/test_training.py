from __future__ import annotations

from collections.abc import Callable

import torch

from streamgen.pocket.arranging import TokenSong
from streamgen.pocket.language import cross_entropy
from streamgen.pocket.training import DAMAGE, TURNED, LanguageTrainer, damaged


def test_half_of_the_rows_are_damaged_a_little() -> None:
    codes = torch.randint(0, 1024, (200, 4, 100))
    share = (damaged(codes, DAMAGE) != codes).float().mean(dim=(1, 2))
    assert 60 < (share == 0).sum() < 140
    assert abs(share[share > 0].mean() - DAMAGE) < 0.01


def test_a_new_caption_is_read_from_its_frame_on_and_not_before(
    trainer: LanguageTrainer, token_song: Callable[[int], TokenSong]
) -> None:
    picks, others = [token_song(1)] * TURNED.rows, [token_song(2)] * TURNED.rows
    batch = trainer._turned_batch(TURNED, picks, others)
    assert batch.read is not None
    words = batch.ids.shape[-1]
    old, new = batch.read[..., :words], batch.read[..., words:]
    assert not (old.any(-1) & new.any(-1)).any(), "no column reads both"
    with torch.no_grad():
        before = cross_entropy(trainer.model, batch.ids, batch.mask, batch.codes, read=batch.read)
        ids = batch.ids.clone()
        ids[:, 1] = ids[:, 1].roll(1, dims=-1)  # other words in the second caption
        after = cross_entropy(trainer.model, ids, batch.mask, batch.codes, read=batch.read)
    for row in range(TURNED.rows):
        if batch.mask[row].any():
            turn = int(new[row].any(-1).nonzero()[0])
            assert torch.allclose(before[row, 0, :turn], after[row, 0, :turn], atol=1e-5)
            assert not torch.allclose(before[row, 0, turn:], after[row, 0, turn:], atol=1e-5)


def test_steps_lower_the_entropy_and_training_resumes(
    trainer: LanguageTrainer, token_song: Callable[[int], TokenSong]
) -> None:
    songs = [token_song(3)]
    first = trainer.train_step(songs)
    for _ in range(2):  # a window, a turned sequence, an opening
        last = trainer.train_step(songs)
    assert torch.isfinite(torch.tensor([first, last])).all()
    trainer.save()
    again = LanguageTrainer(trainer.path.parent, trainer.tokenizer, trainer.plan)
    assert again.step == trainer.step
    assert all(torch.equal(again.average[name], value) for name, value in trainer.average.items())
