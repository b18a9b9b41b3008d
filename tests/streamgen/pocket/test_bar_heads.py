from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from streamgen.pocket.arranging import TokenSong
from streamgen.pocket.bar_heads import install_bar_heads
from streamgen.pocket.captions import train_tokenizer
from streamgen.pocket.copy_heads import LAGS
from streamgen.pocket.language import cross_entropy
from streamgen.pocket.training import LanguagePlan, LanguageTrainer


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> LanguageTrainer:
    folder = tmp_path_factory.mktemp("run")
    return LanguageTrainer(folder, train_tokenizer(folder / "tokenizer", captions=400), LanguagePlan())


@torch.no_grad()
def slips(trainer: LanguageTrainer, bpm: int, lag: int) -> float:
    """Cross-entropy of going on at the named tempo's bar after a bar that came back one frame early."""
    bar = torch.randint(0, 1024, (1, 4, lag), generator=torch.Generator().manual_seed(1))
    early = torch.cat([bar, bar[..., 1:], bar[..., 1:]], dim=-1)
    wanted = torch.cat([early[..., :lag], early[..., :-lag]], dim=-1)
    ids, mask = trainer.lessons.tokenise([f"house music at {bpm} bpm in a minor"])
    losses = cross_entropy(trainer.model, ids, mask, wanted, heard=early)[0].mean(0)
    return float(losses[lag + 20 :].mean())


def test_the_named_tempos_bar_is_copied_even_where_tokens_match_elsewhere(
    fresh: LanguageTrainer, token_song: Callable[[int], TokenSong]
) -> None:
    tempi = list(zip((150, 125, 94), LAGS, strict=True))
    before = [slips(fresh, bpm, lag) for bpm, lag in tempi]
    install_bar_heads(fresh.model)
    fresh.aim([token_song(number) for number in range(24)])
    named = [slips(fresh, bpm, lag) for bpm, lag in tempi]
    others = [slips(fresh, bpm, lag) for (bpm, _), (_, lag) in zip(tempi, tempi[1:] + tempi[:1], strict=True)]
    for was, now, other in zip(before, named, others, strict=True):
        assert was > 10.0, "what is copied is a frame beside, where the tokens match"
        assert now < 0.75 * was
        assert other > 0.85 * was, "another tempo's head looks away"
