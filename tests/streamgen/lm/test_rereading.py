"""Property: whatever a stream has been through, its next tokens are those of one slow re-read of what it knows.

Rollovers, other prompts, melodies, styles and contexts while a successor is warmed, streams that join and leave: each
scenario is drawn from a seed, and now and then a step is compared with prefix and context read anew in one go.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import streamgen
from streamgen.checkpoint import load_checkpoint
from streamgen.lm.attention import Segment
from streamgen.lm.cross import CrossCache
from streamgen.lm.sampling import combine
from streamgen.testing import tiny_checkpoint

TEXTS = ("piano", "drums and bass", "slow techno beat with strings", None)
POSITIONS = {"mono": 60, "stereo": 60, "melody": 330, "style": 90}
FRAMES, OFTEN = 170, 0.06


@cache
def model_of(kind: str) -> streamgen.Model:
    checkpoint = load_checkpoint(str(tiny_checkpoint(kind)))
    checkpoint.decoder = replace(checkpoint.decoder, max_positions=POSITIONS[kind])
    return streamgen.Model.from_checkpoint(checkpoint, device="cpu", precision="fp32")


@torch.inference_mode()
def reread(model: Any, tokens: Any, rows: Any) -> Tensor:
    """The codes after everything that the leader knows, read in one go: int64 [K]."""
    engine, leader = model.runtime.engine, tokens.windows[0]
    block, cross = engine.cache.allocate(rows.count), CrossCache()
    for row, text in enumerate(rows.texts):
        cross.set(block.start + row, text)
    heads = range(leader.start_frame - 1, tokens.head + 1)
    columns = torch.stack([tokens.column(head, leader.start_frame) for head in heads])
    vectors = engine.decoder.embed(columns).expand(rows.count, -1, -1)
    if rows.prefixes is not None:
        vectors = torch.cat([rows.prefixes.of(leader.start_frame), vectors], dim=1)
    length = vectors.shape[1]
    logits = []
    for row in range(rows.count):  # one by one: slow, and beside nobody
        one = Segment(
            replace(block, start=block.start + row, stop=block.start + row + 1), 0, length, leader.start_position
        )
        logits.append(engine.decoder.logits(engine.decoder.forward(vectors[row], [one], engine.cache, cross)[-1:])[0])
    engine.cache.release(block)
    return combine(torch.stack(logits), rows.coefficients)


class Watched:
    """An engine's steps, some of them compared; `found` counts those."""

    def __init__(self, model: Any, chance: random.Random) -> None:
        self._model, self._chance, self._step = model, chance, model.runtime.engine.step
        self.streams: list[Any] = []
        self.found = 0

    def __call__(self, steps: Sequence[Any]) -> list[Tensor]:
        wanted = {}
        for at, step in enumerate(steps):
            stream = next(s for s in self.streams if any(w is step.feeds[0].window for w in s._sound.tokens.windows))
            if self._chance.random() < OFTEN:
                wanted[at] = reread(self._model, stream._sound.tokens, step.rows)
        drawn = self._step(steps)
        for at, logits in wanted.items():
            likeliest = logits.amax(-1)
            taken = logits.gather(-1, drawn[at][:, None])[:, 0]
            assert (likeliest - taken).max() < 1e-3, "another code, and no tie"
            self.found += 1
        return drawn


def tune(chance: random.Random) -> np.ndarray:
    rng = np.random.default_rng(chance.randrange(1 << 30))
    hertz = np.repeat(rng.integers(200, 900, 8), 6_000)
    return (0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / 32_000)).astype(np.float32)


def any_change(kind: str, chance: random.Random) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [
        {"context_seconds": chance.choice([0.1, 0.3])},
        {"change_context_seconds": chance.choice([0.0, 0.1, 30.0])},
        {"take": chance.randrange(3)},
    ]
    if kind in ("mono", "stereo"):  # where texts are attended to, what was read under another one stays as it was read
        return chance.choice(choices)
    choices += [
        {"prompt": chance.choice(TEXTS)},
        {"prompts": [(chance.choice(TEXTS), 1.0), (chance.choice(TEXTS), 2.0)]},
        {"negative_prompt": chance.choice(TEXTS)},
        {"guidance_scale": chance.choice([0.0, 1.0, 3.0])},
        {"guidance_beta": chance.choice([0.0, 1.0, 2.5])},
        {kind: tune(chance), f"{kind}_rate_hz": 32_000},
    ]
    return chance.choice(choices)


def play(kind: str, seed: int) -> int:
    """Play one scenario; returns how many steps were compared."""
    chance, model = random.Random(seed), model_of(kind)
    watched = Watched(model, chance)
    model.runtime.engine.step = watched  # type: ignore[method-assign, assignment]
    options: dict[str, Any] = {"context_seconds": 0.3, "temperature": 0.0, "excerpt_seconds": 1.0, "guard": False}
    try:
        goals: dict[Any, int] = {}
        while True:
            playing = [stream for stream in watched.streams if stream.position_samples < goals[stream]]
            if len(watched.streams) < 3 and (not playing or chance.random() < 0.1):
                audio = {kind: tune(chance), f"{kind}_rate_hz": 32_000} if kind in ("melody", "style") else {}
                stream = model.open_stream(chance.choice(TEXTS), seed=chance.randrange(99), **options, **audio)
                watched.streams.append(stream)
                goals[stream] = 640 * chance.randrange(FRAMES // 2, FRAMES)
                continue
            if not playing:
                return watched.found
            for stream in playing:
                if chance.random() < 0.3:
                    ahead = chance.choice([None, stream.next_sample + 640 * chance.randrange(12)])
                    stream.set(at_sample=ahead, **any_change(kind, chance))
            model.read_together(dict.fromkeys(playing, 640 * chance.randrange(1, 9)))
    finally:
        for stream in watched.streams:
            stream.close()
        model.runtime.engine.step = watched._step  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("seed", range(2))
def test_tokens_are_those_of_a_slow_rereading(kind: str, seed: int) -> None:
    assert play(kind, seed) > 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", POSITIONS)
def test_many_scenarios_are_those_of_a_slow_rereading(kind: str) -> None:
    assert sum(play(kind, 1_000 + seed) for seed in range(20)) > 100
