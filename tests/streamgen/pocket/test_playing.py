from __future__ import annotations

import torch

from streamgen.pocket.playing import play
from streamgen.pocket.training import LanguageTrainer


def test_a_model_plays_its_captions(trainer: LanguageTrainer) -> None:
    ids, mask = trainer.lessons.tokenise(["house, 125 bpm", "jazz trio, 94 bpm"])
    torch.manual_seed(0)
    codes = play(trainer.model, ids, mask, 12, do_sample=True, guidance_scale=2.0)
    assert codes.shape == (2, 4, 12)
    assert codes.max() < 1024
    assert not torch.equal(codes[0], codes[1])
