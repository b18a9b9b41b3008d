"""Prompt mixes: several weighted prompts, a negative one, and the fade from one mix to the next.

Rules: owns which decoder rows guidance needs, and their coefficients (`lm.sampling` adds them up); knows texts only as
names of rows: no encoder, no melody's audio, no stream. Prompts cᵢ with weights wᵢ (Σ wᵢ = 1), guidance g, and the null
row (unconditional, or the negative prompt in its place) give

    logits = null + Σ wᵢ · g · (cᵢ − null)

so row i has the coefficient wᵢ · g, the null row 1 − g, and their sum is always 1. Double guidance has one row more,
with the melody or style and no text ("alone"; without either it is the unconditional row), and a factor β:

    logits = null + g · (alone + β · Σ wᵢ · (cᵢ − alone) − null)

β = 1 is plain guidance, where that row's coefficient g · (1 − β) is 0. One prompt is transformers'
ClassifierFreeGuidanceLogitsProcessor; g = 1 needs no null row, so a negative prompt has no effect there. Below 1 the
formula goes on as audiocraft's does (g = 0 is the null row alone), where transformers stops guiding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from streamgen.conditioning.text import check_text
from streamgen.config import CONTROLS, MAX_PROMPTS
from streamgen.errors import ConfigError, PromptError

__all__ = ["PromptMix", "glide"]

MAX_WEIGHT = 1e9  # only proportions count

Weighted = tuple[tuple[str | None, float], ...]


@dataclass(frozen=True)
class PromptMix:
    """Weighted prompts and what they are guided away from. Make one with `of`, which checks and normalises.

    Attributes:
        prompts: (text, weight), each text once, weights above 0, sum 1; None is the unconditional prompt.
        negative: the text in the null row's place; None is the unconditional row.
        leaving: while gliding from another negative: that text and what is left of it, 0..1.
    """

    prompts: Weighted
    negative: str | None = None
    leaving: tuple[str | None, float] | None = None

    @staticmethod
    def of(
        prompt: str | None = None,
        prompts: Iterable[tuple[str | None, float]] | None = None,
        negative_prompt: str | None = None,
    ) -> PromptMix:
        """Check prompts and normalise their weights.

        Args:
            prompt: one text, or None for unconditional.
            prompts: (text, weight) pairs instead, at most `MAX_PROMPTS`; weights 0 to `MAX_WEIGHT`, not all of them 0.
                Equal texts are added up, and those of weight 0 need no row, so they are left out.
            negative_prompt: what to be guided away from; None is the unconditional row.
        Raises:
            PromptError: both or a bad one of them; see `check_text` for texts.
        """
        if prompts is not None and prompt is not None:
            raise PromptError("both prompt and prompts are given: use prompts=[(text, weight), …] for more than one")
        pairs = [(prompt, 1.0)] if prompts is None else _checked_pairs(prompts)
        return PromptMix(_normalised((check_text(text), weight) for text, weight in pairs), check_text(negative_prompt))

    @property
    def dominant(self) -> str | None:
        """Text of the heaviest prompt, the first of equals."""
        return max(self.prompts, key=lambda pair: pair[1])[0]

    def rows(self, guidance_scale: float, beta: float = 1.0) -> tuple[tuple[str | None, ...], tuple[float, ...]]:
        """Which decoder rows to run where texts are all there is, and how much each one's logits count.

        Args:
            guidance_scale: g, within `CONTROLS`.
            beta: β, within `CONTROLS`.
        Returns:
            Texts in order, None for unconditional, the null (or negative) row last and left out where its coefficient
            is 0; and the coefficients, whose sum is 1. A single unconditional prompt is one row, whatever the guidance.
        Raises:
            ConfigError: a number is outside its range.
        """
        # Last first: a text that is prompt and negative at once is one row, at the null row's place.
        shares = [(text, coefficient) for text, coefficient, _ in reversed(self.guided_rows(guidance_scale, beta))]
        kept = [(text, coefficient) for text, coefficient in list(_added_up(shares).items())[::-1] if coefficient != 0]
        return tuple(text for text, _ in kept), tuple(coefficient for _, coefficient in kept)

    def guided_rows(self, guidance_scale: float, beta: float = 1.0) -> list[tuple[str | None, float, bool]]:
        """Which decoder rows to run where prompts differ from the null row in more than their text: none is merged.

        Returns:
            Text, coefficient (not 0) and whether the row follows melody or style, for each; the null row last.
        Raises:
            ConfigError: a number is outside its range.
        """
        scale = CONTROLS["guidance_scale"].check_number(guidance_scale)
        weighs = CONTROLS["guidance_beta"].check_number(beta)
        rows = [(text, weight * (scale * weighs), True) for text, weight in self.prompts]
        rows += [(None, scale * (1.0 - weighs), True)]
        rows += [(text, share * (1.0 - scale), False) for text, share in self._negatives()]
        return [row for row in rows if row[1] != 0.0]

    def _negatives(self) -> Weighted:
        if self.leaving is None:
            return ((self.negative, 1.0),)
        return (self.leaving, (self.negative, 1.0 - self.leaving[1]))


def glide(old: PromptMix, new: PromptMix, t: float) -> PromptMix:
    """The mix on the way from one to another: weights cross-faded, negatives too.

    Args:
        old: where the fade began. If that was in the middle of a fade, it goes on from its `MAX_PROMPTS` heaviest
            prompts and the heavier of its negatives, so that the rows stay bounded.
        new: where it ends.
        t: 0..1, how far.
    Returns:
        At most twice `MAX_PROMPTS` prompts; exactly `old` at 0 and `new` at 1.
    Raises:
        ConfigError: t is outside 0..1.
    """
    t = _checked("t", t, 1.0)
    if old == new or t in (0.0, 1.0):
        return new if t else old
    start = _settled(old)
    faded = [(text, weight * (1.0 - t)) for text, weight in start.prompts]
    faded += [(text, weight * t) for text, weight in new.prompts]
    leaving = None if start.negative == new.negative else (start.negative, 1.0 - t)
    return replace(new, prompts=_normalised(faded), leaving=leaving)


def _settled(mix: PromptMix) -> PromptMix:
    heaviest = sorted(mix.prompts, key=lambda pair: -pair[1])[:MAX_PROMPTS]
    if len(heaviest) == len(mix.prompts) and mix.leaving is None:
        return mix
    kept = [pair for pair in mix.prompts if pair in heaviest]  # rows keep their order, so that their caches do
    negative = mix.leaving[0] if mix.leaving is not None and mix.leaving[1] > 0.5 else mix.negative
    return PromptMix(_normalised(kept), negative)


def _checked_pairs(prompts: object) -> list[tuple[object, float]]:
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Iterable):
        raise PromptError(f"prompts is a list of (text, weight) pairs, not {type(prompts).__name__}")
    pairs: list[tuple[object, float]] = []
    for pair in prompts:
        if len(pairs) == MAX_PROMPTS:
            raise PromptError(f"there are more than {MAX_PROMPTS} prompts: leave some out")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise PromptError(f"prompt {len(pairs) + 1} is no (text, weight) pair but {type(pair).__name__}")
        pairs.append((pair[0], _weight(pair[1], len(pairs) + 1)))
    if not any(weight > 0 for _, weight in pairs):
        raise PromptError(f"none of the {len(pairs)} prompts has a weight above 0: give one, or prompt=None")
    return pairs


def _weight(value: object, number: int) -> float:
    weight, problem = _in_range(value, MAX_WEIGHT)
    if problem:
        raise PromptError(f"the weight of prompt {number} is {problem}")
    return weight


def _normalised(pairs: Iterable[tuple[str | None, float]]) -> Weighted:
    added = _added_up(pairs)
    total = math.fsum(added.values())
    return tuple((text, weight / total) for text, weight in added.items() if weight / total > 0.0)


def _added_up(pairs: Iterable[tuple[str | None, float]]) -> dict[str | None, float]:
    added: dict[str | None, float] = {}
    for text, weight in pairs:
        added[text] = added.get(text, 0.0) + weight
    return added


def _in_range(value: object, limit: float) -> tuple[float, str]:
    """The number and "", or 0 and what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return 0.0, f"a {type(value).__name__}; it is a number, 0 to {limit:g}"
    number = value if isinstance(value, int) else float(value)
    if 0 <= number <= limit:
        return float(number), ""
    shown = f"{number:g}" if isinstance(number, float) or abs(number) < 10**15 else "far off"
    return 0.0, f"{shown}; it is a number, 0 to {limit:g}"


def _checked(name: str, value: object, limit: float) -> float:
    number, problem = _in_range(value, limit)
    if problem:
        raise ConfigError(f"{name} is {problem}")
    return number
