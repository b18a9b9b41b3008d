"""Tiny checkpoints and their transformers twins, loaded once a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration, MusicgenMelodyForConditionalGeneration

import streamgen
from streamgen.checkpoint import Checkpoint, load_checkpoint
from streamgen.lm.engine import LmEngine
from streamgen.pocket import pocket_folder
from streamgen.testing import tiny_checkpoint


@dataclass(frozen=True)
class Twin:
    """A checkpoint in transformers and in streamgen, same weights, float32."""

    reference: Any
    tokenizer: Any
    model: streamgen.Model
    checkpoint: Checkpoint

    @cached_property
    def torch_engine(self) -> LmEngine:
        """The same decoder on torch's kernels, whatever the model runs on."""
        return LmEngine.on_torch(self.checkpoint, device=torch.device("cpu"), dtype=torch.float32)

    def states(self, text: str) -> Tensor:
        """Text states [T, D] as transformers computes them for one text alone."""
        tokens = self.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = self.reference.text_encoder(**tokens).last_hidden_state
            return self.reference.enc_to_dec_proj(hidden)[0]

    def generate(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Transformers' generate: codes int64 [B, K, F] and audio float32 [B, channels, samples]."""
        codes: list[Tensor] = []
        decode = self.reference.audio_encoder.decode

        def tap(ids: Tensor, **rest: Any) -> Any:
            codes.append(ids[0].clone())
            return decode(ids, **rest)

        self.reference.audio_encoder.decode = tap
        try:
            audio = self.reference.generate(**kwargs)
        finally:
            self.reference.audio_encoder.decode = decode
        return codes[0] if len(codes) == 1 else torch.stack(codes, dim=2).flatten(1, 2), audio


@cache
def load_twin(kind: str) -> Twin:
    folder = pocket_folder() if kind == "pocket" else tiny_checkpoint(kind)
    architecture = MusicgenMelodyForConditionalGeneration if "melody" in kind else MusicgenForConditionalGeneration
    reference = architecture.from_pretrained(folder, dtype=torch.float32).eval()
    # not AutoProcessor: the melody one needs torchaudio, which has no CPU build here
    tokenizer = AutoTokenizer.from_pretrained(folder)
    checkpoint = replace(load_checkpoint(str(folder)), code_bias=None)  # transformers adds nothing to the logits
    model = streamgen.Model.from_checkpoint(checkpoint, device="cpu", precision="fp32")
    return Twin(reference, tokenizer, model, checkpoint)


@cache
def load_short_twin(kind: str) -> Twin:
    both, checkpoint = load_twin(kind), load_checkpoint(str(tiny_checkpoint(kind)))
    positions = 653 if "melody" in kind else 203  # a melody's prefix takes 236, twice around a rollover
    checkpoint.decoder = replace(checkpoint.decoder, max_positions=positions)
    model = streamgen.Model.from_checkpoint(checkpoint, device="cpu", precision="fp32")
    return Twin(both.reference, both.tokenizer, model, checkpoint)


@pytest.fixture(scope="session")
def short_twin() -> Callable[[str], Twin]:
    """As `twin`, but its model's windows are full after 4 s (melody 13 s): rollovers for a tenth of the steps."""
    return load_short_twin


@pytest.fixture(scope="session")
def twin() -> Callable[[str], Twin]:
    """Load a tiny checkpoint of a kind, or the shipped one ("pocket"), with its transformers twin."""
    return load_twin
