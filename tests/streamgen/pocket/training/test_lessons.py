from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from streamgen.pocket.training.arranging import STEADY, TokenSong
from streamgen.pocket.training.fitting import LanguageTrainer
from streamgen.pocket.training.language import cross_entropy
from streamgen.pocket.training.lessons import OPENING, RIVALS, TURNED, Lessons, damaged, held, loosened, strayed


@pytest.fixture
def drawn(trainer: LanguageTrainer) -> Lessons:
    return Lessons(trainer.tokenizer, random.Random(1))


def test_rows_are_damaged_by_their_own_share() -> None:
    codes = torch.randint(0, 1024, (3, 4, 1000))
    share = (damaged(codes, torch.tensor([0.0, 0.04, 1.0])) != codes).float().mean(dim=(1, 2))
    assert share[0] == 0
    assert 0.03 < share[1] < 0.05
    assert share[2] > 0.99


def test_an_opening_heard_badly_counts_to_its_end_and_one_heard_well_at_its_front(
    drawn: Lessons, token_song: Callable[[int], TokenSong]
) -> None:
    bar = token_song(1).song.frames_per_bar
    batches = [drawn.opening(OPENING, [token_song(1)]) for _ in range(6)]
    for batch in batches:
        assert abs(batch.weights.mean() - 1) < 1e-5
        assert batch.sixteenths is not None
        assert batch.sixteenths.tolist() == [bar // 16 if row.any() else 0 for row in batch.mask]
    codes, sounds, weights = (
        torch.cat([getattr(batch, name) for batch in batches]) for name in ("codes", "heard", "weights")
    )
    wrong = (sounds != codes).float().mean(dim=(1, 2))
    whole, deaf = wrong == 0, (wrong > 0.99) & (weights[:, :bar] > 0).all(1)
    assert whole.any()
    assert deaf.any()
    front, end = weights[:, :6].mean(1), weights[:, bar - 6 : bar].mean(1)
    torch.testing.assert_close(front[whole], (8 if bar > 70 else 8 / 3) * end[whole])
    torch.testing.assert_close(front[deaf], end[deaf])
    assert not weights[deaf, bar:].any(), "what is heard badly is not to be copied"


def test_what_is_played_loosely_comes_a_frame_early_or_late_and_nothing_is_learned_from_what_came_early() -> None:
    codes = torch.arange(200).expand(8, 4, -1)
    heard, early = loosened(codes, random.Random(0))
    late = codes - heard
    assert set(late[:, :, 1:-1].unique().tolist()) == {-1, 0, 1}
    assert early[:, :-1][(late[:, 0, :-1] < 0)].all()
    assert 0.2 < early.float().mean() < 0.45
    assert (heard[:, 0] == heard[:, 3]).all(), "all codebooks together"


def test_what_stands_still_is_the_frame_it_began_with() -> None:
    codes = torch.arange(300).expand(6, 4, -1)
    heard = held(codes, random.Random(0))
    changed = heard != codes
    assert changed.any(dim=(1, 2)).sum() >= 4, "most rows stand still somewhere"
    assert 0.02 < changed.float().mean() < 0.4
    steps = heard.diff(dim=-1)
    assert ((steps == 0) | (steps == 1) | ~(changed[..., 1:] == changed[..., :-1])).all()
    assert (heard <= codes).all(), "nothing is heard before its time"


def test_strays_are_short_pieces_of_other_songs(token_song: Callable[[int], TokenSong]) -> None:
    songs = [token_song(number) for number in range(3)]
    codes = torch.full((8, 4, 300), -1)
    heard = strayed(codes, songs, random.Random(0))
    foreign = (heard >= 0).all(1)
    assert torch.equal(foreign, (heard >= 0).any(1)), "all codebooks of a frame"
    assert 0.01 < foreign.float().mean() < 0.2
    known = {tuple(frame.tolist()) for song in songs for frame in song.bar(STEADY).T}
    assert {tuple(frame.tolist()) for frame in heard.transpose(1, 2)[foreign]} <= known


def test_rivals_are_the_same_music_under_its_own_and_a_wrong_caption(
    drawn: Lessons, trainer: LanguageTrainer, token_song: Callable[[int], TokenSong]
) -> None:
    batch = drawn.rivals(RIVALS, [token_song(number) for number in range(8)])
    assert batch.rivals
    assert torch.equal(batch.codes[::2], batch.codes[1::2])
    assert torch.equal(batch.heard[::2], batch.heard[1::2])
    texts = trainer.tokenizer.batch_decode(batch.ids, skip_special_tokens=True)
    differing = [set(own.split()) ^ set(wrong.split()) for own, wrong in zip(texts[::2], texts[1::2], strict=True)]
    assert sum(len(words) == 2 for words in differing) > len(differing) / 2, "most differ in one word: key or tempo"
    assert sum(words <= set("cdefga") for words in differing) >= len(differing) / 4


def test_a_new_caption_is_read_from_its_frame_on_and_not_before(
    drawn: Lessons, trainer: LanguageTrainer, token_song: Callable[[int], TokenSong]
) -> None:
    batch = drawn.turned(TURNED, [token_song(1), token_song(2)])
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
