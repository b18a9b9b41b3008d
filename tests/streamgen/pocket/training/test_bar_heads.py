from __future__ import annotations

import pytest
import torch
from torch import Tensor

from streamgen.pocket.training import fitting as training
from streamgen.pocket.training.arranging import TokenSong
from streamgen.pocket.training.bar_heads import ridge
from streamgen.pocket.training.captions import train_tokenizer
from streamgen.pocket.training.compose import SCORE, training_song
from streamgen.pocket.training.copy_heads import LAGS
from streamgen.pocket.training.fitting import LanguagePlan, LanguageTrainer
from streamgen.pocket.training.language import cross_entropy

TEMPI = dict(zip((150, 125, 94), LAGS, strict=True))


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> LanguageTrainer:
    """A fresh model that has learned to name, its bar heads silent."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    trainer = LanguageTrainer(folder, train_tokenizer(folder / "tokenizer", captions=400), LanguagePlan())
    songs = [TokenSong(training_song(number), torch.zeros(4, 0)) for number in range(300)]
    optimiser = torch.optim.Adam([*trainer.modules.parameters()], lr=3e-3)
    for _ in range(110):
        optimiser.zero_grad()
        trainer.naming_loss(songs).backward()
        optimiser.step()
    trainer.average = {name: value.clone() for name, value in trainer.modules.state_dict().items()}
    trainer.save()
    return trainer


@pytest.fixture(scope="module")
def written(without: LanguageTrainer) -> LanguageTrainer:
    """The same model with its bar heads."""
    trainer = LanguageTrainer(without.path.parent, without.tokenizer, LanguagePlan())
    songs = [training_song(number) for number in range(60)]
    codes = [torch.randint(0, 1024, (4, len(SCORE) * song.frames_per_bar)) for song in songs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CAPTIONS_READ", 600)
        patch.setattr(training, "WINDOWS_READ", 4)
        trainer.finish([TokenSong(song, code) for song, code in zip(songs, codes, strict=True)])
    return trainer


def bar(lag: int) -> Tensor:
    return torch.randint(0, 1024, (1, 4, lag), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def losses(trainer: LanguageTrainer, bpm: int, wanted: Tensor, heard: Tensor) -> Tensor:
    """Cross-entropy [frames] of some music under a caption that names a tempo, other music being heard."""
    ids, mask = trainer.lessons.tokenise([f"house music at {bpm} bpm in a minor"])
    return cross_entropy(trainer.model, ids, mask, wanted, heard=heard)[0].mean(0)


def slips(trainer: LanguageTrainer, bpm: int, lag: int) -> float:
    """What going on at the named tempo's bar costs, after a bar that came back one frame early."""
    early = torch.cat([bar(lag), bar(lag)[..., 1:], bar(lag)[..., 1:]], dim=-1)
    wanted = torch.cat([early[..., :lag], early[..., :-lag]], dim=-1)
    return float(losses(trainer, bpm, wanted, early)[lag + 20 :].mean())


@pytest.mark.slow
def test_the_named_tempos_bar_is_copied_even_where_tokens_match_elsewhere(
    without: LanguageTrainer, written: LanguageTrainer
) -> None:
    others = [*TEMPI.values()][1:] + [*TEMPI.values()][:1]
    for (bpm, lag), other in zip(TEMPI.items(), others, strict=True):
        was = slips(without, bpm, lag)
        assert was > 10.0, "what is copied is a frame beside, where the tokens match"
        assert slips(written, bpm, lag) < 0.75 * was
        assert slips(written, bpm, other) > 0.85 * slips(without, bpm, other), "another tempo's head looks away"


@pytest.mark.slow
def test_two_bars_outvote_a_mistake_in_the_third(without: LanguageTrainer, written: LanguageTrainer) -> None:
    for bpm, lag in TEMPI.items():
        clean = bar(lag).repeat(1, 1, 4)
        heard, stand = clean.clone(), slice(2 * lag + 20, 2 * lag + 60)
        heard[..., stand] = heard[..., stand.start : stand.start + 1]
        place = slice(3 * lag + 24, 3 * lag + 58)
        right, was = (float(losses(model, bpm, clean, heard)[place].mean()) for model in (written, without))
        wrong = torch.cat([heard[..., :lag], heard[..., :-lag]], dim=-1)
        again = float(losses(written, bpm, wrong, heard)[place].mean())
        assert right < 0.8 * was
        assert right < 0.8 * again, "the bar of before is likelier than the mistake once more"


def test_ridge_finds_the_rows_that_were_used() -> None:
    rows, read = torch.randn(3, 8), torch.randn(400, 8)
    torch.testing.assert_close(ridge(read, read @ rows.T), rows, rtol=1e-3, atol=1e-3)
