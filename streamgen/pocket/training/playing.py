"""What a checkpoint plays from a caption, the settings it is made for, and whether a new prompt is heard.

Rules: plays through streamgen itself, one stream alone, as a listener hears it; a classifier of styles listens; no
training.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
from torch import Tensor

from streamgen.config import StreamValues
from streamgen.model import Model
from streamgen.pocket.training.compose import Song
from streamgen.pocket.training.measures import Audio
from streamgen.stream.batch import Batch

GUIDANCE_SCALE, TEMPERATURE, TOP_K = 1.0, 0.7, 50  # what the exported checkpoint plays with
AUDITION = 8  # openings tried where the music begins anew
LEAST_MOVEMENT = 0.06  # of ten seconds, as the guard hears; the calmest of 72 songs through the codec has 0.065
CHANGE_CONTEXT_SECONDS = 0.0  # of the music before, another prompt hears nothing: it would be copied
# Guidance above 1 tears the loop apart (.99 of it kept at 1, .37 at 6), without it a negative prompt does nothing, and
# where the heavier prompt takes over in a fade the music begins anew: that is a cut.
UNSUPPORTED_CONTROLS = ("glide_seconds", "guidance_scale", "negative_prompt")


def play(model: Model, text: str, frames: int, seed: int) -> Tensor:
    """Codes int64 [K, frames] of a stream with one prompt, at the checkpoint's own settings."""
    clip = Batch(model.runtime, [text], frames / model.frame_rate_hz, seed=seed, controls={})
    return clip.codes()[0]


def play_together(
    model: Model, prompts: Sequence[str], seconds: float, seed: int, guard: bool | None = None
) -> list[tuple[Audio, int]]:
    """The first `seconds` of each prompt's stream, at the checkpoint's own settings, mono; and how often it was mended.

    Args:
        model: plays them all at once.
        prompts: one stream each.
        seconds: whole.
        seed: of the first; each next one has the next seed.
        guard: whether what dies is begun anew; None is the checkpoint's own.
    """
    said: StreamValues = {} if guard is None else {"guard": guard}
    seeded: list[StreamValues] = [{**said, "seed": seed + number} for number in range(len(prompts))]
    with ExitStack() as life:
        streams = [
            life.enter_context(model.open_stream(prompt, **values))
            for prompt, values in zip(prompts, seeded, strict=True)
        ]
        pieces: list[list[Audio]] = [[] for _ in streams]
        for _ in range(round(seconds)):
            chunks = model.read_together(dict.fromkeys(streams, model.sample_rate_hz))
            for stream, own in zip(streams, pieces, strict=True):
                own.append(chunks[stream].samples[0])
        return [
            (np.concatenate(own).astype(np.float32), stream.metrics.mends)
            for stream, own in zip(streams, pieces, strict=True)
        ]


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
