"""One untrained pocket model, in training's form and as transformers reads it back from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, MusicgenForConditionalGeneration

from streamgen.pocket.training.arranging import TokenSong
from streamgen.pocket.training.captions import train_tokenizer
from streamgen.pocket.training.codec import new_codec
from streamgen.pocket.training.compose import SCORE, training_song
from streamgen.pocket.training.corpus import Pcm
from streamgen.pocket.training.export import export
from streamgen.pocket.training.fitting import LanguagePlan, LanguageTrainer


@pytest.fixture(scope="session")
def two_songs() -> list[Pcm]:
    """Decaying tones of 3 s, struck each half second."""
    time = np.arange(150 * 640) / 32_000
    return [
        (9000 * np.sin(2 * np.pi * hertz * time) * np.exp(-3 * (time % 0.5))).astype(np.int16) for hertz in (220, 330)
    ]


@pytest.fixture(scope="session")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> LanguageTrainer:
    folder = tmp_path_factory.mktemp("run")
    return LanguageTrainer(folder, train_tokenizer(folder / "tokenizer", captions=1500), LanguagePlan())


@pytest.fixture(scope="session")
def exported(trainer: LanguageTrainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    with torch.no_grad():
        for weight in trainer.modules.parameters():
            weight.copy_(weight.half().float())  # what is written is float16: both sides then hold the same numbers
        trainer.average = {name: value.clone() for name, value in trainer.modules.state_dict().items()}
    export(trainer, new_codec(), folder, [_token_song(number) for number in range(12)])
    return folder


@pytest.fixture(scope="session")
def reloaded(exported: Path) -> tuple[Any, Any]:
    model = MusicgenForConditionalGeneration.from_pretrained(exported, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(exported)


@pytest.fixture
def token_song() -> Callable[[int], TokenSong]:
    """The training song of a number, with random codes for its bars."""
    return _token_song


def _token_song(number: int) -> TokenSong:
    song = training_song(number)
    return TokenSong(song, torch.randint(0, 1024, (4, len(SCORE) * song.frames_per_bar), dtype=torch.int16))
