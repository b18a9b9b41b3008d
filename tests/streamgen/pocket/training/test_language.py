from __future__ import annotations

from typing import Any

import torch

from streamgen.pocket.training.fitting import LanguageTrainer
from streamgen.pocket.training.language import START, cross_entropy, delay, logits

TEXTS = ["house, drums and synth bass, 125 bpm", "slow solo piano"]


def reference_logits(twin: tuple[Any, Any], delayed: torch.Tensor) -> torch.Tensor:
    model, processor = twin
    inputs = processor(text=TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(**inputs, decoder_input_ids=delayed.flatten(0, 1)).logits
    return out.unflatten(0, (len(TEXTS), -1))


def test_training_forward_equals_the_reloaded_checkpoint(trainer: LanguageTrainer, reloaded: tuple[Any, Any]) -> None:
    delayed = delay(torch.randint(0, 1024, (2, 4, 150)))[..., :-1]
    ids, mask = trainer.lessons.tokenise(TEXTS)
    with torch.no_grad():
        ours = logits(trainer.model, ids, mask, delayed)
    torch.testing.assert_close(ours, reference_logits(reloaded, delayed), atol=1e-3, rtol=0)


def test_changing_the_future_changes_no_past_logit(trainer: LanguageTrainer, reloaded: tuple[Any, Any]) -> None:
    delayed = delay(torch.randint(0, 1024, (2, 4, 60)))[..., :-1]
    changed = delayed.clone()
    changed[..., 30:] = torch.randint(0, 1024, changed[..., 30:].shape)
    ids, mask = trainer.lessons.tokenise(TEXTS)
    with torch.no_grad():
        ours = [logits(trainer.model, ids, mask, codes)[:, :, :30] for codes in (delayed, changed)]
    torch.testing.assert_close(*ours, atol=1e-4, rtol=0)
    theirs = [reference_logits(reloaded, codes)[:, :, :30] for codes in (delayed, changed)]
    torch.testing.assert_close(*theirs, atol=1e-4, rtol=0)


def test_the_null_condition_is_a_row_without_text(trainer: LanguageTrainer) -> None:
    delayed = delay(torch.randint(0, 1024, (1, 4, 20)))
    ids, mask = trainer.lessons.tokenise(TEXTS[:1])
    other, _ = trainer.lessons.tokenise(["rock"])
    with torch.no_grad():
        one = logits(trainer.model, ids, mask * 0, delayed)
        two = logits(trainer.model, other, torch.zeros_like(other), delayed)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_delay_is_as_drawn() -> None:
    codes = torch.arange(16).view(1, 4, 4)
    drawn = """
        B  0  1  2  3  B  B  B
        B  B  4  5  6  7  B  B
        B  B  B  8  9 10 11  B
        B  B  B  B 12 13 14 15"""
    rows = [[START if cell == "B" else int(cell) for cell in line.split()] for line in drawn.strip().splitlines()]
    assert delay(codes)[0].tolist() == rows


def test_cross_entropy_is_that_of_the_frames(trainer: LanguageTrainer) -> None:
    codes = torch.randint(0, 1024, (1, 4, 12))
    ids, mask = trainer.lessons.tokenise(TEXTS[:1])
    with torch.no_grad():
        found = cross_entropy(trainer.model, ids, mask, codes)
        scores = logits(trainer.model, ids, mask, delay(codes)).log_softmax(-1)
    assert found.shape == (1, 4, 12)
    book, frame = 2, 7
    expected = -scores[0, book, frame + book, codes[0, book, frame]]
    torch.testing.assert_close(found[0, book, frame], expected, atol=1e-4, rtol=0)
