"""From logits to codes: guidance, temperature, top-k, top-p, and draws that depend only on (seed, column).

    logits = null + Σ wᵢ · g · (cᵢ − null)        prompts cᵢ with weights wᵢ (Σ wᵢ = 1), guidance g

is a weighted sum of rows whose coefficients add up to 1; which rows and coefficients a mix of prompts needs is
`conditioning.prompt_mix`'s business.

Order and arithmetic are those of transformers' processors (temperature → top-k → top-p → softmax). The randomness is a
counter-based generator (Philox): column c of a stream with seed s always gets the same K uniforms, so a rewind or a
restore needs no generator state, and a row never depends on its neighbours in the batch.

Rules: knows no window, no cache, no prompt; float32 in, int64 out.
Source of guidance: classifier-free guidance, arXiv:2207.12598; in MusicGen, arXiv:2306.05284, section 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamgen.graphs import sent

__all__ = ["Sampling", "Uniforms", "combine", "draw", "probabilities", "sample", "sample_together", "uniforms"]

_COLDEST = 1e-6  # greedy below it, where logits divided by it could leave float32


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


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn; ranges are checked where users set them (`streamgen.config`).

    Attributes:
        temperature: divides the logits; 0 is greedy.
        top_k: only the k most likely codes; 0 turns it off.
        top_p: only the smallest set of codes with this probability; 0 or 1 turns it off.
        seed: whole number from 0.
    """

    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    seed: int = 0


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Turn logits into the distribution that is drawn from.

    Args:
        logits: float32 [..., V].
        sampling: temperature must be above 0.

    Returns:
        float32 [..., V], rows sum to 1.
    Source: transformers' TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper.
    """
    scores = logits / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        scores = _keep_top_k(scores, sampling.top_k)
    if 0.0 < sampling.top_p < 1.0:
        scores = _keep_top_p(scores, sampling.top_p)
    return torch.softmax(scores, dim=-1)


def _keep_top_k(scores: Tensor, k: int) -> Tensor:
    return scores.masked_fill(scores < _largest(scores, k), -torch.inf)


def _largest(scores: Tensor, k: int) -> Tensor:
    """Return the k-th largest of each row, [..., 1]; NaN counts as larger than any number."""
    if scores.device.type != "cpu" or scores.dtype != torch.float32:
        return torch.topk(scores, k).values[..., -1:]
    place = scores.shape[-1] - k
    # numpy parts the row where torch sorts what it keeps: the same number, several times as fast
    return torch.from_numpy(np.partition(scores.numpy(), place, axis=-1)[..., place : place + 1])


def _keep_top_p(scores: Tensor, top_p: float) -> Tensor:
    ascending, order = torch.sort(scores, descending=False)
    remove = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    remove[..., -1] = False  # the most likely code always stays
    return scores.masked_fill(remove.scatter(-1, order, remove), -torch.inf)


def uniforms(seed: int, column: int, count: int) -> Tensor:
    """Return `count` float32 uniforms in [0, 1) that belong to this seed and column alone, [count]."""
    bits = np.random.Philox(key=seed, counter=[0, column, 0, 0])
    return torch.from_numpy(np.random.Generator(bits).random(count, dtype=np.float32))


class Uniforms:
    """What `uniforms` gives, from one generator that is set anew for each column: to make one takes as long as a draw.

    One thread at a time.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._random = np.random.Generator(self._bits)
        self._start: Any = dict(self._bits.state)  # nothing is drawn yet: the buffer is empty
        self._counter, self._key = np.zeros(4, np.uint64), np.zeros(2, np.uint64)
        self._start["state"] = {"counter": self._counter, "key": self._key}

    def __call__(self, places: Sequence[tuple[int, int]], count: int) -> Tensor:
        """Return `count` float32 uniforms in [0, 1) for each seed and column, [n, count]."""
        out = np.empty((len(places), count), np.float32)
        for row, (seed, column) in zip(out, places, strict=True):
            self._counter[1], self._key[0] = column, seed
            self._bits.state = self._start
            self._random.random(dtype=np.float32, out=row)
        return torch.from_numpy(out)


def draw(distribution: Tensor, uniform: Tensor) -> Tensor:
    """Invert the cumulative distribution at `uniform`.

    Args:
        distribution: float32 [K, V], rows sum to 1.
        uniform: float32 [K] in [0, 1).

    Returns:
        int64 [K]; never a code of probability 0.
    """
    cumulative = distribution.cumsum(dim=-1, dtype=torch.float64)  # float32 sums of 2048 terms lose the rare codes
    target = uniform.double()[:, None] * cumulative[:, -1:]
    # side="right": the first code whose cumulative sum exceeds the target has a probability above 0
    codes = torch.searchsorted(cumulative, target, right=True)
    return codes[:, 0].clamp_(max=distribution.shape[-1] - 1)


def sample(logits: Tensor, sampling: Sampling, column: int) -> Tensor:
    """Draw one code per codebook.

    Args:
        logits: float32 [K, V], guidance already applied.
        sampling: settings of the stream.
        column: the column the codes are for; with the seed it fixes the draw.

    Returns:
        int64 [K].
    """
    if sampling.temperature < _COLDEST:
        return logits.argmax(dim=-1)
    distribution = probabilities(logits, sampling)
    return draw(distribution, uniforms(sampling.seed, column, len(logits)).to(logits.device))


def sample_together(
    logits: Tensor, samplings: Sequence[Sampling], columns: Sequence[int], source: Uniforms | None = None
) -> Tensor:
    """Draw for several streams: each gets what `sample` would have given it alone.

    Those whose settings differ in the seed alone are drawn in one go, for a call costs more than its numbers.

    Args:
        logits: float32 [n, K, V].
        samplings: settings of each.
        columns: the column of each that the codes are for.
        source: of the uniforms; None makes one.

    Returns:
        int64 [n, K].
    """
    alike: dict[tuple[float, int, float], list[int]] = {}
    for at, one in enumerate(samplings):
        alike.setdefault((one.temperature, one.top_k, one.top_p), []).append(at)
    source = source or Uniforms()
    if len(alike) == 1:
        return _sample_alike(logits, samplings, columns, source)
    drawn = logits.new_empty(logits.shape[:2], dtype=torch.int64)
    for members in alike.values():
        own = [samplings[at] for at in members], [columns[at] for at in members]
        rows = sent(torch.tensor(members), logits.device)
        drawn[rows] = _sample_alike(logits[rows], *own, source)
    return drawn


def _sample_alike(logits: Tensor, samplings: Sequence[Sampling], columns: Sequence[int], source: Uniforms) -> Tensor:
    """Draw under settings that differ in the seed alone."""
    count, books, size = logits.shape
    if samplings[0].temperature < _COLDEST:
        return logits.argmax(dim=-1)
    distribution = probabilities(logits.reshape(-1, size), samplings[0])
    places = [(sampling.seed, column) for sampling, column in zip(samplings, columns, strict=True)]
    return draw(distribution, sent(source(places, books).flatten(), logits.device)).view(count, books)
