from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from streamgen.pocket.training import restart
from streamgen.pocket.training.captions import train_tokenizer
from streamgen.pocket.training.codec import CodecPlan, CodecTrainer
from streamgen.pocket.training.fitting import LanguagePlan, LanguageTrainer
from streamgen.pocket.training.restart import averaged, restart_codec, restart_language


@pytest.mark.slow
def test_a_codec_goes_on_from_a_checkpoint(exported: Path, reloaded: tuple[Any, Any], tmp_path: Path) -> None:
    plan = CodecPlan(batch=2)
    restart_codec(tmp_path, exported, plan)
    trainer = CodecTrainer(tmp_path, plan)
    assert trainer.quantizing
    wanted, kept = reloaded[0].audio_encoder.state_dict(), trainer.kept_model().state_dict()
    assert all(torch.equal(kept[name], value) for name, value in wanted.items())
    losses = trainer.train_step(0.1 * torch.randn(2, 8 * 640))
    assert torch.isfinite(torch.tensor(list(losses.values()))).all()


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_mean_of_a_run_and_its_start_lies_between_and_what_the_start_did_not_use_reads_as_the_run_does(
    exported: Path, reloaded: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, first = copy.deepcopy(reloaded[0]), "decoder.layers.0"
    with torch.no_grad():
        start.get_submodule(f"decoder.model.{first}").fc2.weight[:, -256:] = 0
    monkeypatch.setattr(restart, "load_whole", lambda _: copy.deepcopy(start))
    tokenizer, plan = train_tokenizer(tmp_path / "tokenizer", captions=400), LanguagePlan()
    restart_language(tmp_path, exported, tokenizer, plan)
    run = LanguageTrainer(tmp_path, tokenizer, plan)
    before = {name: value.clone() for name, value in run.average.items()}
    run.average = {name: value + torch.randn_like(value) for name, value in before.items()}
    run.save()
    mean = averaged(tmp_path, exported, tokenizer, plan, 0.25).average
    reads, writes = (next(name for name in mean if name.endswith(f"layers.0.{part}.weight")) for part in ("fc1", "fc2"))
    torch.testing.assert_close(mean[writes], 0.75 * before[writes] + 0.25 * run.average[writes])
    torch.testing.assert_close(mean[reads][:-256], (0.75 * before[reads] + 0.25 * run.average[reads])[:-256])
    torch.testing.assert_close(mean[reads][-256:], run.average[reads][-256:])
