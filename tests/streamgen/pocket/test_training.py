from __future__ import annotations

import random

import torch

from streamgen.pocket.compose import training_song
from streamgen.pocket.training import DAMAGE, LanguageTrainer, TokenSong, arrange, damaged, spliced


def tokens(number: int) -> TokenSong:
    song = training_song(number)
    return TokenSong(song, tuple(torch.randint(0, 1024, (4, 2 * song.frames_per_bar)) for _ in song.loops))


def test_an_opening_starts_with_the_first_bars() -> None:
    source = tokens(0)
    codes = arrange(source, 250, opening=True, rng=random.Random(0))
    bar = source.song.frames_per_bar
    assert codes.shape == (4, 250)
    assert any(torch.equal(codes[:, : 2 * bar], loop[:, : 2 * bar][:, :250]) for loop in source.loops)


def test_bars_repeat_and_loops_change_only_at_sections() -> None:
    source, rng = tokens(1), random.Random(2)
    bar = source.song.frames_per_bar
    codes = arrange(source, 16 * bar, opening=True, rng=rng)
    bars = codes.split(bar, dim=1)
    changes = [number for number in range(3, 16) if not torch.equal(bars[number], bars[number - 1])]
    assert all(number % 4 == 0 for number in changes)


def test_a_window_may_start_anywhere_in_the_bar() -> None:
    source, rng = tokens(2), random.Random(0)
    steady = [loop[:, source.song.frames_per_bar :] for loop in source.loops]
    starts = set()
    for _ in range(12):
        first = arrange(source, 30, opening=False, rng=rng)[:, 0]
        starts |= {
            int((loop == first[:, None]).all(0).nonzero()[0])
            for loop in steady
            if (loop == first[:, None]).all(0).any()
        }
    assert len(starts) > 6


def test_a_spliced_bar_is_no_songs_bar_and_repeats_exactly() -> None:
    songs = [tokens(number) for number in range(12)]
    source, bar = songs[3], songs[3].song.frames_per_bar
    codes = spliced(source, songs, 4 * bar, random.Random(0))
    assert codes.shape == (4, 4 * bar)
    assert torch.equal(codes[:, bar:], codes[:, :-bar])
    own = torch.cat([loop[:, bar:] for loop in source.loops], dim=1)
    known = (codes[:, :bar, None] == own[:, None].long()).all(0).any(1)
    assert 0 < known.float().mean() < 1


def test_half_of_the_rows_are_damaged_a_little() -> None:
    codes = torch.randint(0, 1024, (200, 4, 100))
    share = (damaged(codes) != codes).float().mean(dim=(1, 2))
    assert 60 < (share == 0).sum() < 140
    assert abs(share[share > 0].mean() - DAMAGE) < 0.01


def test_steps_lower_the_entropy_and_training_resumes(trainer: LanguageTrainer) -> None:
    songs = [tokens(3)]
    first = trainer.train_step(songs)
    for _ in range(2):
        last = trainer.train_step(songs)
    assert torch.isfinite(torch.tensor([first, last])).all()
    trainer.save()
    again = LanguageTrainer(trainer.path.parent, trainer.tokenizer, trainer.plan)
    assert again.step == trainer.step
    assert all(torch.equal(again.average[name], value) for name, value in trainer.average.items())
