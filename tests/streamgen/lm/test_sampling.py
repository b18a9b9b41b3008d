from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.generation import ClassifierFreeGuidanceLogitsProcessor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from streamgen.conditioning.prompt_mix import PromptMix
from streamgen.lm.sampling import (
    Sampling,
    Uniforms,
    _largest,
    combine,
    draw,
    probabilities,
    sample,
    sample_together,
    uniforms,
)

SETTINGS = [
    Sampling(1.0, 0, 0.0),
    Sampling(0.7, 250, 0.0),
    Sampling(1.3, 40, 0.0),
    Sampling(1.0, 0, 0.9),
    Sampling(0.9, 100, 0.5),
    Sampling(2.0, 1, 0.0),
    Sampling(1.0, 5000, 0.999),
]


def reference(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    processors = LogitsProcessorList()
    if sampling.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p:
        processors.append(TopPLogitsWarper(sampling.top_p))
    ids = torch.zeros(len(logits), 1, dtype=torch.int64)
    return torch.softmax(processors(ids, logits), dim=-1)


@pytest.mark.parametrize("sampling", SETTINGS)
def test_probabilities_are_transformers(sampling: Sampling) -> None:
    logits = torch.randn(16, 2048) * 3
    assert torch.allclose(probabilities(logits, sampling), reference(logits, sampling), atol=1e-5, rtol=0)


def test_ties_at_the_threshold_stay_as_in_transformers() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    sampling = Sampling(1.0, 2, 0.0)
    assert torch.allclose(probabilities(logits, sampling), reference(logits, sampling), atol=1e-7)


@pytest.mark.parametrize("sampling", SETTINGS[:5])
def test_frequencies_pass_chi_square(sampling: Sampling) -> None:
    """100,000 draws of one distribution; the statistic stays below the 99.9 % quantile (Wilson and Hilferty)."""
    logits = torch.randn(1, 48) * 2
    distribution = probabilities(logits, sampling)[0].double()
    many = 100_000
    uniform = torch.cat([uniforms(11, column, 1000) for column in range(many // 1000)])
    codes = draw(distribution.float().expand(many, -1), uniform)
    counts = torch.bincount(codes, minlength=48).double()
    assert counts[distribution == 0].sum() == 0
    expected = distribution * many
    pooled = expected >= 5
    statistic = ((counts - expected)[pooled] ** 2 / expected[pooled]).sum().item()
    freedom = int(pooled.sum()) - 1
    limit = freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert statistic < limit, (statistic, limit)


def test_zero_temperature_is_greedy() -> None:
    logits = torch.randn(4, 64)
    assert torch.equal(sample(logits, Sampling(temperature=0), 5), logits.argmax(-1))


def test_a_draw_depends_on_seed_and_column_only() -> None:
    logits = torch.randn(4, 64)
    first = sample(logits, Sampling(seed=3), 10)
    torch.manual_seed(99)
    np.random.seed(1)  # noqa: NPY002 - global generators must not matter
    assert torch.equal(sample(logits, Sampling(seed=3), 10), first)
    others = [uniforms(3, 11, 4), uniforms(4, 10, 4), uniforms(2**31 - 1, 10, 4)]
    assert all(not torch.equal(uniforms(3, 10, 4), other) for other in others)


def test_the_uniforms_are_uniform_and_uncorrelated_over_columns() -> None:
    grid = torch.stack([uniforms(5, column, 8) for column in range(4000)])
    assert abs(grid.mean().item() - 0.5) < 0.01
    assert abs(grid.var().item() - 1 / 12) < 0.003
    assert torch.corrcoef(torch.stack([grid[:-1, 0], grid[1:, 0], grid[:-1, 1]])).triu(1).abs().max() < 0.05


def test_draw_never_takes_a_code_without_probability() -> None:
    distribution = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).expand(4, -1)
    edge = torch.tensor([0.0, 0.5, 0.4999999, 0.99999994])
    assert draw(distribution, edge).tolist() == [1, 3, 1, 3]


def test_the_coldest_draws_are_greedy() -> None:
    logits = torch.tensor([[-8.0, 9.0, 3.0], [7.0, 1.0, 6.0]])
    for temperature in (1e-45, 1e-39, 1e-7, 1e-5):
        assert sample(logits, Sampling(temperature=temperature), column=3).tolist() == [1, 0], temperature


def test_one_generator_for_all_columns_gives_what_one_for_each_gives() -> None:
    """Twin: a generator made for each column. In any order, for counts that leave its buffer half used."""
    source = Uniforms()
    places = [(seed, column) for seed in (0, 7, 2**31 - 1) for column in (0, 1, 5, 3, 10**9)]
    for count in (4, 1, 8, 9, 3):
        assert torch.equal(source(places, count), torch.stack([uniforms(*place, count) for place in places])), count


@pytest.mark.parametrize("top_p", [0.0, 0.9])
@pytest.mark.parametrize("books", [4, 8])
def test_streams_drawn_together_get_what_each_gets_alone(top_p: float, books: int) -> None:
    chosen = [
        Sampling(seed=1, top_p=top_p),
        Sampling(temperature=0.7, seed=2),
        Sampling(seed=3, top_p=top_p),
        Sampling(temperature=0.0, seed=4),
        Sampling(seed=5, top_p=top_p),
        Sampling(temperature=0.0, seed=6),
    ]
    logits = torch.randn(6, books, 300) * 3
    columns = [7, 7, 8, 9, 7, 1]
    source = Uniforms()
    for members in ([0, 1, 2, 3, 4, 5], [0, 2, 4], [3, 5], [1]):
        own = [chosen[at] for at in members], [columns[at] for at in members]
        together = sample_together(logits[members], *own, source)
        alone = [sample(logits[at], chosen[at], columns[at]) for at in members]
        assert torch.equal(together, torch.stack(alone)), members


def test_the_fast_threshold_is_torchs() -> None:
    """Twin: `torch.topk`, among ties, infinities and what is no number too."""
    logits = torch.randn(9, 1024).round(decimals=1)
    logits[1], logits[2, 7], logits[3, :300], logits[4, 5] = 0.5, torch.nan, torch.nan, torch.inf
    for k in (1, 2, 250, 1023):
        twin = torch.topk(logits, k).values[..., -1:]
        assert torch.equal(_largest(logits, k).nan_to_num(nan=1e9), twin.nan_to_num(nan=1e9)), k


# -- guidance; what mixes come to: conditioning/test_prompt_mix.py -----------------------------------------------------


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


def test_guidance_fast_and_slow_agree() -> None:
    """Twin: the weighted sum, written out."""
    rows, coefficients = torch.randn(4, 8, 33, dtype=torch.float64), (1.5, 0.25, 1.0, -1.75)
    slow = sum(coefficient * row for coefficient, row in zip(coefficients, rows, strict=True))
    torch.testing.assert_close(combine(rows, coefficients), slow, atol=1e-12, rtol=0)
