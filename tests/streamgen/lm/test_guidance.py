"""Guidance against transformers' processor, bit for bit. What mixes come to: conditioning/test_prompt_mix.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.generation import ClassifierFreeGuidanceLogitsProcessor

from streamgen.conditioning.prompt_mix import PromptMix
from streamgen.lm.guidance import combine


def logits_of(text: str | None, dtype: torch.dtype) -> Tensor:
    """What a decoder row of this text gave: any fixed function of the text."""
    generator = torch.Generator().manual_seed(sum(map(ord, text)) if text is not None else 1)
    return (torch.randn(4, 33, generator=generator, dtype=torch.float64) * 3).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.5, 3, 3.0, 7.3])
def test_one_prompt_has_the_bits_of_transformers(dtype: torch.dtype, scale: float) -> None:
    rows = torch.stack([logits_of("piano", dtype), logits_of(None, dtype)])
    texts, coefficients = PromptMix.of("piano").rows(scale)
    assert texts == ("piano", None)
    expected = ClassifierFreeGuidanceLogitsProcessor(scale)(torch.zeros(4, 1), rows.reshape(8, 33))
    assert torch.equal(combine(rows, coefficients), expected)


def test_coefficients_in_a_tensor_give_the_same_bits() -> None:
    texts, coefficients = PromptMix.of(prompts=[("piano", 2), ("strings", 1)]).rows(3.3)
    rows = torch.stack([logits_of(text, torch.float32) for text in texts])
    assert torch.equal(combine(rows, torch.tensor(coefficients)), combine(rows, coefficients))


def test_fast_and_slow_agree() -> None:
    """Twin: the weighted sum, written out."""
    rows, coefficients = torch.randn(4, 8, 33, dtype=torch.float64), (1.5, 0.25, 1.0, -1.75)
    slow = sum(coefficient * row for coefficient, row in zip(coefficients, rows, strict=True))
    torch.testing.assert_close(combine(rows, coefficients), slow, atol=1e-12, rtol=0)
