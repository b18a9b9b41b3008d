"""Guidance: one row of logits from several, so that prompts pull and a null or negative row pushes.

    logits = null + Σ wᵢ · g · (cᵢ − null)        prompts cᵢ with weights wᵢ (Σ wᵢ = 1), guidance g

is a weighted sum of rows whose coefficients add up to 1; which rows and coefficients a mix of prompts needs is
`conditioning.prompt_mix`'s business. For one prompt the operations are those of transformers'
ClassifierFreeGuidanceLogitsProcessor, in their order, so the bits are the same.

Rules: arithmetic on logits only; knows no prompt.
Source: classifier-free guidance, arXiv:2207.12598; in MusicGen, arXiv:2306.05284, section 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["combine"]


def combine(logits: Tensor, coefficients: Sequence[float] | Tensor) -> Tensor:
    """Guide: one row of logits from several.

    Written as last + Σ cᵢ · (rowᵢ − last), which is Σ cᵢ · rowᵢ because the coefficients' sum is 1. For one prompt that
    is uncond + (cond − uncond) · g, the order of transformers' operations, hence its bits.

    Args:
        logits: float [rows, ...], the null or negative row last.
        coefficients: one per row, sum 1.

    Returns:
        float [...].
    """
    assert len(logits) == len(coefficients), (len(logits), len(coefficients))
    guided = last = logits[-1]
    for row, coefficient in zip(logits[:-1], coefficients[:-1], strict=True):
        guided = guided + (row - last) * coefficient
    return guided
