from __future__ import annotations

import random

import torch

from streamgen.pocket.compose import training_song
from streamgen.pocket.dreaming import Dream, Dreams, dream
from streamgen.pocket.training import LanguageTrainer


def test_a_model_plays_its_captions(trainer: LanguageTrainer) -> None:
    songs = [training_song(1), training_song(2)]
    texts = ["house, 125 bpm", "jazz trio, 94 bpm"]
    dreams = dream(trainer.model, songs, texts, trainer.lessons.tokenise(texts), 12)
    assert [one.text for one in dreams] == texts
    assert [one.frames_per_bar for one in dreams] == [song.frames_per_bar for song in songs]
    assert all(one.codes.shape == (4, 12) and one.codes.max() < 1024 for one in dreams)
    assert not torch.equal(dreams[0].codes, dreams[1].codes)


def test_what_should_have_been_played_is_the_bar_before() -> None:
    codes = torch.arange(10).repeat(4, 1)
    assert Dream("", 4, codes).wanted()[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]


def test_old_dreams_are_forgotten() -> None:
    kept = Dreams(3, random.Random(0))
    for number in range(5):
        kept.add([Dream(str(number), 1, torch.zeros(4, 2))])
    assert len(kept) == 3
    assert {one.text for one in kept.pick(50)} == {"2", "3", "4"}
