from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamgen.pocket.training import fitting as training
from streamgen.pocket.training import language
from streamgen.pocket.training.arranging import TokenSong
from streamgen.pocket.training.bar_heads import reserved
from streamgen.pocket.training.fitting import LanguageTrainer, rivalry
from streamgen.pocket.training.lessons import KINDS, OPENING

pytestmark = pytest.mark.slow


@pytest.fixture
def songs(token_song: Callable[[int], TokenSong]) -> list[TokenSong]:
    return [token_song(number) for number in range(6)]


def test_rivals_cost_more_the_likelier_the_wrong_caption() -> None:
    losses, shares = torch.full((2, 4, 10), 3.0), torch.full((4,), 0.25)
    unsure, sure, wrong = (float(rivalry(losses, losses + gain, shares)) for gain in (0.0, 2.0, -2.0))
    assert abs(unsure - 0.693) < 1e-3
    assert sure < 0.01
    assert wrong > 4.9


def test_steps_lower_the_entropy_and_training_resumes(
    trainer: LanguageTrainer, token_song: Callable[[int], TokenSong], tmp_path: Path
) -> None:
    trainer = LanguageTrainer(tmp_path, trainer.tokenizer, trainer.plan)  # the shared one is never trained
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


def test_places_in_the_sixteenth_can_be_learned_from_words_and_positions(
    trainer: LanguageTrainer, songs: list[TokenSong], tmp_path: Path
) -> None:
    fresh = LanguageTrainer(tmp_path, trainer.tokenizer, trainer.plan)
    batch = fresh.lessons.opening(OPENING, songs)
    steps = batch.sixteenths
    assert steps is not None
    optimiser = torch.optim.Adam(fresh.modules.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = fresh.timing_loss(batch, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert abs(losses[0] - np.log(8)) < 0.7, "at first as good as guessing"
    nobody = fresh.timing_loss(batch, torch.where(torch.arange(len(steps)) == 0, steps.clamp(min=5), 0))
    assert torch.isfinite(nobody), "rows without text don't count"


@pytest.mark.parametrize("step", range(len(KINDS)))
def test_a_step_keeps_to_its_device(
    step: int, trainer: LanguageTrainer, songs: list[TokenSong], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device stands for a GPU: what is mixed with the CPU's tensors there raises."""

    def states(_: object, ids: Tensor, mask: Tensor) -> Tensor:  # transformers' T5 looks at its mask, which meta lacks
        return (torch.zeros(*ids.shape, 384, device=ids.device) * mask[..., None]).flatten(1, -2)

    for module in (language, training):
        monkeypatch.setattr(module, "text_states", states)
    away = LanguageTrainer(tmp_path, trainer.tokenizer, trainer.plan, device=torch.device("meta"))
    losses, loss = away.losses(away.lessons.batch(step, songs).to(away.device))
    loss.backward()
    assert {tensor.device.type for tensor in (losses, loss, *away.average.values())} == {"meta"}
    assert all(head.weight.grad is not None for head in away.model.decoder.lm_heads)  # type: ignore[union-attr]


@pytest.mark.gpu
def test_a_gpu_trains_as_the_cpu_does(trainer: LanguageTrainer, songs: list[TokenSong], tmp_path: Path) -> None:
    entropies = []
    for device in ("cpu", "cuda"):
        model = LanguageTrainer(tmp_path, trainer.tokenizer, trainer.plan, seed=3, device=torch.device(device))
        entropies.append([model.train_step(songs) for _ in KINDS])
    torch.testing.assert_close(*map(torch.tensor, entropies), rtol=0.02, atol=0.05)
