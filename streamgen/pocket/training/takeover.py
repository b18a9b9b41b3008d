"""Whether a new prompt is heard while the old loop plays.

Rules: plays a checkpoint through streamgen itself at its own guidance; a classifier of styles listens.
"""

from collections.abc import Callable, Sequence

import numpy as np

from streamgen.model import Model
from streamgen.pocket.training.compose import Song
from streamgen.pocket.training.measures import Audio

BEFORE_SECONDS, GRACE_SECONDS, HEARD_SECONDS = 6.0, 3.0, 5.0


def heard_after_change(model: Model, before: str, after: str, seed: int) -> Audio:
    """Play one prompt for six seconds and another for eight; the last five are what counts (float32, mono)."""
    with model.open_stream(before, seed=seed) as stream:
        stream.read(round(BEFORE_SECONDS * model.sample_rate_hz))
        stream.set(prompt=after)
        stream.read(round(GRACE_SECONDS * model.sample_rate_hz))
        heard = stream.read(round(HEARD_SECONDS * model.sample_rate_hz))
    return np.asarray(heard.samples[0], dtype=np.float32)


def takeover_share(model: Model, prompts: Sequence[tuple[Song, str]], classify: Callable[[Audio], str]) -> float:
    """Share of changes, each prompt to the next of another style, after which the new style is recognised."""
    pairs = [
        (text, *next((s, t) for s, t in [*prompts[number + 1 :], *prompts] if s.style != song.style))
        for number, (song, text) in enumerate(prompts)
    ]
    heard = [heard_after_change(model, before, after, seed) for seed, (before, _, after) in enumerate(pairs)]
    return float(np.mean([classify(audio) == song.style for audio, (_, song, _) in zip(heard, pairs, strict=True)]))
