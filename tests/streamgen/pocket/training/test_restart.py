from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from streamgen.pocket.training.captions import train_tokenizer
from streamgen.pocket.training.codec import CodecPlan, CodecTrainer
from streamgen.pocket.training.fitting import LanguagePlan, LanguageTrainer
from streamgen.pocket.training.restart import restart_codec, restart_language


def test_a_codec_goes_on_from_a_checkpoint(exported: Path, reloaded: tuple[Any, Any], tmp_path: Path) -> None:
    plan = CodecPlan(batch=2)
    restart_codec(tmp_path, exported, plan)
    trainer = CodecTrainer(tmp_path, plan)
    assert trainer.quantizing
    wanted, kept = reloaded[0].audio_encoder.state_dict(), trainer.kept_model().state_dict()
    assert all(torch.equal(kept[name], value) for name, value in wanted.items())
    losses = trainer.train_step(0.1 * torch.randn(2, 8 * 640))
    assert torch.isfinite(torch.tensor(list(losses.values()))).all()


def test_a_language_model_goes_on_with_other_words(exported: Path, reloaded: tuple[Any, Any], tmp_path: Path) -> None:
    tokenizer = train_tokenizer(tmp_path / "tokenizer", captions=400)
    restart_language(tmp_path, exported, tokenizer, LanguagePlan())
    trainer = LanguageTrainer(tmp_path, tokenizer, LanguagePlan())
    old, new = reloaded[1].tokenizer.get_vocab(), tokenizer.get_vocab()
    before, after = reloaded[0].text_encoder.shared.weight, trainer.model.text_encoder.shared.weight
    shared = set(old) & set(new)
    assert len(shared) > 100
    assert all(torch.equal(after[new[piece]], before[old[piece]]) for piece in shared)
    wanted = reloaded[0].decoder.state_dict()
    assert all(torch.equal(trainer.model.decoder.state_dict()[name], value) for name, value in wanted.items())
