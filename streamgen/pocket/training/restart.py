"""Going on from a checkpoint that was exported, where the files of its training are gone; and halfway back to it.

Rules: writes the run's `codec.pt` or `language.pt` as the trainers do, with fresh optimisers; trains nothing.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration, T5Tokenizer

from streamgen.pocket.training.bar_heads import silence
from streamgen.pocket.training.codec import CodecPlan, CodecTrainer
from streamgen.pocket.training.fitting import LanguagePlan, LanguageTrainer
from streamgen.pocket.training.language import modules_to_train


def restart_codec(folder: Path, checkpoint: Path, plan: CodecPlan) -> None:
    """Begin `folder/codec.pt` with a checkpoint's codec, past the point where its encoder is frozen."""
    trainer, codec = CodecTrainer(folder, plan), load_whole(checkpoint).audio_encoder
    trainer.model.load_state_dict(codec.state_dict())
    trainer.average = {name: value.clone() for name, value in codec.state_dict().items()}
    books = torch.stack([layer.codebook.embed for layer in codec.quantizer.layers])
    for kept in (trainer.quantizer.books, trainer.quantizer.sums):
        kept.copy_(books)
    trainer.step = plan.quantize_from + plan.encoder_frozen
    trainer.save()


def restart_language(folder: Path, checkpoint: Path, tokenizer: T5Tokenizer, plan: LanguagePlan) -> None:
    """Begin `folder/language.pt` with a checkpoint's decoder and text encoder.

    The words of `tokenizer` that the checkpoint knew keep their vectors, whatever their number is now.
    """
    trainer = LanguageTrainer(folder, tokenizer, plan)
    _begin(trainer, checkpoint)
    trainer.step = 1
    trainer.save()


def averaged(
    folder: Path, checkpoint: Path, tokenizer: T5Tokenizer, plan: LanguagePlan, share: float
) -> LanguageTrainer:
    """Return the run's language model, its weights a mean of its own and of the checkpoint that it went on from.

    Heads that are written after training are silent in both. Units that the checkpoint did not have read as the run's
    do, and write their share.

    Args:
        folder: of the run; nothing is written there.
        checkpoint: what it began with.
        tokenizer: the run's.
        plan: the run's.
        share: of the run's weights, 0 … 1.
    """
    trainer, start = (LanguageTrainer(folder, tokenizer, plan) for _ in range(2))
    _begin(start, checkpoint)
    for name, weight in start.average.items():
        own = trainer.average[name]
        if name.endswith("fc1.weight"):
            unheard = (start.average[name.replace("fc1", "fc2")] == 0).all(dim=0)
            weight[unheard] = own[unheard]
        trainer.average[name] = torch.lerp(weight, own, share)
    return trainer


def _begin(trainer: LanguageTrainer, checkpoint: Path) -> None:
    """Put a checkpoint's language model into a trainer, as both are in training."""
    model, mine = load_whole(checkpoint), trainer.model
    parts: Any = mine  # transformers' modules have no types mypy can follow
    with torch.no_grad():
        fresh = parts.text_encoder.get_input_embeddings().weight.clone()
        old, known = (
            model.text_encoder.get_input_embeddings().weight,
            AutoTokenizer.from_pretrained(checkpoint).get_vocab(),
        )
        for piece, number in trainer.tokenizer.get_vocab().items():
            if piece in known:
                fresh[number] = old[known[piece]]
        model.text_encoder.set_input_embeddings(torch.nn.Embedding.from_pretrained(fresh, freeze=False))
        for part, theirs in zip(modules_to_train(mine), modules_to_train(model), strict=True):
            part.load_state_dict(widened(theirs.state_dict(), part.state_dict()))
    silence(mine)
    trainer.average = {name: value.clone() for name, value in trainer.modules.state_dict().items()}


def widened(theirs: dict[str, Tensor], mine: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of another width, with new units behind theirs: these read as fresh ones do, and write nothing yet."""
    found = {}
    for name, weight in theirs.items():
        found[name] = mine[name].clone()
        if found[name].shape != weight.shape and name.endswith("fc2.weight"):
            found[name].zero_()
        found[name][tuple(slice(0, size) for size in weight.shape)] = weight
    return found


def load_whole(checkpoint: Path) -> Any:
    """Codec and language model, in float32: on its own transformers takes what the weights are kept in."""
    return MusicgenForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
