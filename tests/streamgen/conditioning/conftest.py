"""Tiny checkpoints as transformers loads them, and as a `Checkpoint` made from the very same tensors.

Rules: takes no weights from streamgen.checkpoint's readers, so that a wrong reader and a wrong conditioner can't agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration, MusicgenMelodyForConditionalGeneration

from streamgen.checkpoint.settings import T5Settings, read_settings
from streamgen.checkpoint.t5 import T5Encoder
from streamgen.checkpoint.tokenizer import Tokenizer
from streamgen.checkpoint.types import Checkpoint, DecoderConfig, MelodyConfig
from streamgen.testing import tiny_checkpoint


@dataclass
class Golden:
    """transformers' model and tokenizer, and our checkpoint of the same weights."""

    model: Any
    tokenizer: Any
    checkpoint: Checkpoint

    def encoder_hidden_states(self, **inputs: Any) -> Tensor:
        """What `generate` hands to the decoder at its first step, guidance rows included."""
        seen: list[dict[str, Any]] = []
        hook = self.model.decoder.register_forward_pre_hook(
            lambda _module, _args, kwargs: seen.append(kwargs), with_kwargs=True
        )
        try:
            self.model.generate(**inputs, max_new_tokens=1, do_sample=False)
        finally:
            hook.remove()
        return seen[0]["encoder_hidden_states"]


def _golden(kind: str, model_class: Any) -> Golden:
    folder = tiny_checkpoint(kind)
    model = model_class.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    decoder = model.config.decoder
    shape = DecoderConfig(
        hidden_size=decoder.hidden_size, num_layers=decoder.num_hidden_layers, num_heads=decoder.num_attention_heads,
        ffn_dim=decoder.ffn_dim, num_codebooks=decoder.num_codebooks, vocab_size=decoder.vocab_size,
        audio_channels=decoder.audio_channels, max_positions=1503, cross_attention=kind != "melody",
    )  # fmt: skip
    checkpoint = Checkpoint(
        name=f"tiny-{kind}", folder=folder, format="transformers", licence="none", decoder=shape, weights={},
        codec=None,
        text_encoder=T5Encoder(
            read_settings(T5Settings, model.config.text_encoder.to_dict(), "here"), model.text_encoder.state_dict()
        ),
        tokenizer=Tokenizer(lambda: tokenizer),
        text_projection=(model.enc_to_dec_proj.weight.detach(), model.enc_to_dec_proj.bias.detach()),
    )  # fmt: skip
    if kind == "melody":
        checkpoint.melody = MelodyConfig(model.config.num_chroma, model.config.chroma_length)
        projection = model.audio_enc_to_dec_proj
        checkpoint.melody_projection = (projection.weight.detach(), projection.bias.detach())
    return Golden(model, tokenizer, checkpoint)


@pytest.fixture(scope="session")
def mono() -> Golden:
    return _golden("mono", MusicgenForConditionalGeneration)


@pytest.fixture(scope="session")
def melody() -> Golden:
    return _golden("melody", MusicgenMelodyForConditionalGeneration)


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[int]]:
    """Give a function that watches a text encoder: the list it returns gets one entry a run, its input's length."""

    def watch(encoder: T5Encoder) -> list[int]:
        calls: list[int] = []
        encode = T5Encoder.__call__

        def counted(self: T5Encoder, ids: Tensor) -> Tensor:
            if self is encoder:
                calls.append(ids.shape[1])
            return encode(self, ids)

        monkeypatch.setattr(T5Encoder, "__call__", counted)
        return calls

    return watch
