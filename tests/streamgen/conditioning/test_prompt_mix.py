"""Weights, negatives and fades against the formula; guidance itself is tested in lm/test_sampling.py."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from streamgen.conditioning.prompt_mix import PromptMix, glide
from streamgen.config import MAX_PROMPTS
from streamgen.errors import ConfigError, PromptError
from streamgen.lm.sampling import combine

TEXTS = ["piano", "strings", "drums", "flute", None]


def logits_of(text: str | None, dtype: torch.dtype = torch.float64) -> Tensor:
    """What a decoder row of this text gave: any fixed function of the text."""
    generator = torch.Generator().manual_seed(sum(map(ord, text)) if text is not None else 1)
    return (torch.randn(4, 33, generator=generator, dtype=torch.float64) * 3).to(dtype)


def guided(mix: PromptMix, scale: float) -> Tensor:
    texts, coefficients = mix.rows(scale)
    return combine(torch.stack([logits_of(text) for text in texts]), coefficients)


def formula(weights: dict[str | None, float], null: Tensor, scale: float) -> Tensor:
    """Sum over prompts of null + w·g·(c − null), written as the docstring has it."""
    total = sum(weights.values())
    return null + sum(w / total * scale * (logits_of(text) - null) for text, w in weights.items())


@pytest.mark.parametrize("scale", [0.0, 0.4, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("negative", [None, "drums", "noise"])
def test_rows_and_combine_are_the_formula(scale: float, negative: str | None) -> None:
    rng = random.Random(scale)
    for _ in range(20):
        weights = {text: rng.uniform(0.1, 5) for text in rng.sample(TEXTS, rng.randint(1, 5))}
        mix = PromptMix.of(prompts=list(weights.items()), negative_prompt=negative)
        expected = formula(weights, logits_of(negative), scale)
        torch.testing.assert_close(guided(mix, scale), expected, atol=1e-9, rtol=0)
        texts, coefficients = mix.rows(scale)
        assert len(set(texts)) == len(texts)
        assert math.isclose(sum(coefficients), 1.0, abs_tol=1e-9)
        assert 0.0 not in coefficients


def test_rows_put_the_null_row_last() -> None:
    mix = PromptMix.of(prompts=[("piano", 3), ("strings", 1)], negative_prompt="drums")
    assert mix.rows(2.0) == (("piano", "strings", "drums"), (1.5, 0.5, -1.0))
    assert PromptMix.of("piano").rows(3.0) == (("piano", None), (3.0, -2.0))


def test_guidance_1_needs_no_null_row() -> None:
    assert PromptMix.of("piano").rows(1.0) == (("piano",), (1.0,))
    assert PromptMix.of("piano", negative_prompt="drums").rows(1) == (("piano",), (1.0,))


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, 20.0])
def test_an_unconditional_prompt_is_one_row_whatever_the_guidance(scale: float) -> None:
    texts, coefficients = PromptMix.of(None).rows(scale)
    assert texts == (None,)
    assert coefficients == (1.0,)
    rows = logits_of(None)[None]
    assert combine(rows, coefficients) is not rows
    assert torch.equal(combine(rows, coefficients), rows[0])


def test_unconditional_among_prompts_shares_the_null_row() -> None:
    mix = PromptMix.of(prompts=[("piano", 1), (None, 1)])
    assert mix.rows(3.0) == (("piano", None), (1.5, -0.5))
    assert mix.rows(2.0) == (("piano",), (1.0,))  # 2 · ½ − 1 leaves nothing of the null row
    negative = PromptMix.of(prompts=[("piano", 1), (None, 1)], negative_prompt="drums")
    assert negative.rows(3.0) == (("piano", None, "drums"), (1.5, 1.5, -2.0))


def test_a_prompt_that_is_also_negative_is_one_row() -> None:
    mix = PromptMix.of(prompts=[("drums", 1), ("piano", 1)], negative_prompt="drums")
    assert mix.rows(3.0) == (("piano", "drums"), (1.5, -0.5))


def test_rows_that_are_not_merged_are_the_prompts_first_and_apart_from_the_null_row() -> None:
    assert PromptMix.of(None).guided_rows(3.0) == [(None, 3.0, True), (None, -2.0, False)]
    assert PromptMix.of(None).guided_rows(1.0) == [(None, 1.0, True)]
    mix = PromptMix.of(prompts=[(None, 1), ("piano", 1)], negative_prompt="piano")
    assert mix.guided_rows(3.0) == [(None, 1.5, True), ("piano", 1.5, True), ("piano", -2.0, False)]


def test_double_guidance_has_a_row_of_the_melody_or_style_alone() -> None:
    """None + g · (alone + β · (both − alone) − none), by rows."""
    mix = PromptMix.of("piano")
    assert mix.guided_rows(3.0, 2.0) == [("piano", 6.0, True), (None, -3.0, True), (None, -2.0, False)]
    assert mix.guided_rows(3.0, 0.0) == [(None, 3.0, True), (None, -2.0, False)]
    assert mix.guided_rows(1.0, 2.0) == [("piano", 2.0, True), (None, -1.0, True)]
    assert mix.guided_rows(3.0, 1.0) == [("piano", 3.0, True), (None, -2.0, False)], "plain guidance"
    assert mix.rows(3.0, 2.0) == (("piano", None), (6.0, -5.0)), "without a melody it is the null row"
    away = PromptMix.of("piano", negative_prompt="drums")
    assert away.rows(3.0, 2.0) == (("piano", None, "drums"), (6.0, -3.0, -2.0))


@pytest.mark.parametrize(
    ("prompts", "dominant"),
    [
        ([("piano", 1), ("rock", 2)], "rock"),
        ([("piano", 0.3), ("rock", 0.3)], "piano"),
        ([("piano", 2), (None, 3)], None),
        ([("piano", 2), ("rock", 3), ("piano", 2)], "piano"),
    ],
)
def test_the_dominant_prompt_is_the_heaviest(prompts: list[tuple[str | None, float]], dominant: str | None) -> None:
    assert PromptMix.of(prompts=prompts).dominant == dominant


def test_weights_are_normalised_and_equal_texts_added() -> None:
    mix = PromptMix.of(prompts=[("piano", 1), ("strings", 0), ("drums", 2), ("piano", np.float32(1))])
    assert mix == PromptMix((("piano", 0.5), ("drums", 0.5)))
    assert PromptMix.of(prompts=[("piano", 5e-324), ("drums", 0)]) == PromptMix.of("piano")
    assert PromptMix.of(prompts=[("piano", 1e9), ("drums", 1e9)]).prompts == (("piano", 0.5), ("drums", 0.5))
    assert len(PromptMix.of(prompts=[(str(n), 1) for n in range(MAX_PROMPTS)]).prompts) == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt": "a", "prompts": [("b", 1)]}, "both prompt and prompts"),
        ({"prompt": ""}, "empty"),
        ({"prompt": 7}, "not int"),
        ({"prompts": []}, "none of the 0 prompts"),
        ({"prompts": [("a", 0), ("b", 0.0)]}, "none of the 2 prompts"),
        ({"prompts": [("a", 1)] * 9}, "more than 8"),
        ({"prompts": "piano"}, "not str"),
        ({"prompts": 3}, "not int"),
        ({"prompts": ["ab"]}, "no .text, weight. pair"),
        ({"prompts": [("a",)]}, "no .text, weight. pair"),
        ({"prompts": [("a", 1, 2)]}, "no .text, weight. pair"),
        ({"prompts": [(1, "a")]}, "weight of prompt 1 is a str"),
        ({"prompts": [("a", 1), ("b", -0.1)]}, "weight of prompt 2 is -0.1"),
        ({"prompts": [("a", math.nan)]}, "is nan"),
        ({"prompts": [("a", math.inf)]}, "is inf"),
        ({"prompts": [("a", 10**400)]}, "is far off"),
        ({"prompts": [("a", True)]}, "is a bool"),
        ({"prompts": [("a", None)]}, "is a NoneType"),
        ({"prompts": [("a", 1 + 1j)]}, "is a complex"),
        ({"prompts": [("a\0", 1)]}, "control character"),
        ({"prompt": "a", "negative_prompt": " "}, "empty"),
        ({"prompt": "a", "negative_prompt": "b" * 2001}, "2,001 characters"),
    ],
)
def test_a_bad_mix_is_refused_in_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(PromptError, match=said) as caught:
        PromptMix.of(**arguments)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("scale", [-0.1, math.nan, math.inf, 20.5, "3", None, True, 10**400])
def test_a_bad_guidance_scale_is_refused(scale: Any) -> None:
    with pytest.raises(ConfigError, match=r"guidance_scale is .*, must be (a number )?within 0 … 20"):
        PromptMix.of("piano").rows(scale)


OLD = PromptMix.of(prompts=[("piano", 3), ("strings", 1)], negative_prompt="noise")
NEW = PromptMix.of(prompts=[("strings", 1), ("flute", 1)], negative_prompt=None)


def test_a_glide_begins_at_the_old_mix_and_ends_at_the_new() -> None:
    assert glide(OLD, NEW, 0.0) is OLD
    assert glide(OLD, NEW, 1) is NEW


@pytest.mark.parametrize("t", [1e-9, 0.25, 0.5, 0.9])
def test_a_glide_cross_fades_what_is_heard(t: float) -> None:
    expected = (1 - t) * guided(OLD, 3.0) + t * guided(NEW, 3.0)
    torch.testing.assert_close(guided(glide(OLD, NEW, t), 3.0), expected, atol=1e-9, rtol=0)


def test_a_glide_keeps_its_rows_from_begin_to_end() -> None:
    rows = {glide(OLD, NEW, t).rows(3.0)[0] for t in (0.01, 0.3, 0.7, 0.99)}
    assert rows == {("piano", "strings", "flute", "noise", None)}


def test_a_glide_to_itself_changes_nothing() -> None:
    for t in (0.0, 0.3, 1.0):
        assert glide(OLD, OLD, t).rows(3.0) == OLD.rows(3.0)


def test_glides_within_glides_stay_bounded() -> None:
    mix, rng = PromptMix.of("start"), random.Random(2)
    for round_number in range(20):
        prompts = [(f"{round_number} {n}", rng.uniform(0.1, 1)) for n in range(8)]
        mix = glide(mix, PromptMix.of(prompts=prompts, negative_prompt=f"not {round_number}"), rng.random())
        texts, coefficients = mix.rows(3.0)
        assert len(mix.prompts) <= 16
        assert len(texts) <= 18
        assert math.isclose(sum(coefficients), 1.0, abs_tol=1e-9)
        assert math.isclose(sum(weight for _, weight in mix.prompts), 1.0, abs_tol=1e-12)


def test_a_glide_from_within_a_glide_starts_where_that_was() -> None:
    halfway = glide(OLD, NEW, 0.5)
    assert glide(halfway, OLD, 0.0) is halfway
    small = PromptMix.of(prompts=[("piano", 1), ("strings", 1)])
    further = glide(glide(small, PromptMix.of("flute"), 0.5), PromptMix.of("harp"), 0.5)
    assert dict(further.prompts) == pytest.approx({"piano": 0.125, "strings": 0.125, "flute": 0.25, "harp": 0.5})


@pytest.mark.parametrize("t", [-0.001, 1.001, math.nan, "0.5", None])
def test_a_bad_position_is_refused(t: Any) -> None:
    with pytest.raises(ConfigError, match=r"t is .*; it is a number, 0 to 1"):
        glide(OLD, NEW, t)
