"""Music without drums: whether it lives, how much it moves at least, and whether a drum strays into it.

Rules: plays through streamgen; makes no files. `defaults` writes what is found here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamgen.model import Model
from streamgen.pocket.training.defects import death, sharpest_bend
from streamgen.pocket.training.measures import Audio
from streamgen.pocket.training.playing import play_together
from streamgen.pocket.training.synth import HOP_SAMPLES, SAMPLE_RATE_HZ
from streamgen.stream.guard import BLOCK_SECONDS, Guard

CALM = (
    "epic cinematic trailer",
    "string quartet",
    "film score, tense",
    "waltz",
    "adagio for strings",
    "film music",
    "solo piano",
    "sad piano",
    "ambient soundscape",
    "music for sleeping",
    "space drone",
    "ruhige Klaviermusik",
)
SEED = 100
CALMEST_SECONDS = 10
STRUCK = ("piano",)  # styles whose own notes are struck
STRAY_DB = 30.0  # the sharpest bend: harps reach 28
SEEDS_APART = 100

Rows = list[tuple[str, str, str]]


@dataclass(frozen=True)
class Calm:
    """One calm prompt: the least mean movement of ten seconds, and where the music dies, or None."""

    prompt: str
    least_movement: float
    dies_at_second: float | None


@dataclass(frozen=True)
class Stray:
    """The sharpest bend of one stream: how far it stands out, and when."""

    prompt: str
    seed: int
    bend_db: float
    at_second: float


def least_movement(audio: Audio) -> float:
    """The least mean movement of any ten seconds, by the guard's own measure; not a number of less sound."""
    frames = round(BLOCK_SECONDS * SAMPLE_RATE_HZ / HOP_SAMPLES)  # whole ones, as the guard of a stream hears
    guard, changes, block = Guard(SAMPLE_RATE_HZ, HOP_SAMPLES, 0), list[float](), frames * HOP_SAMPLES
    for at in range(0, len(audio) - block + 1, block):
        guard.listen(audio[at : at + block], [0] * frames)
        changes.append(guard.heard.blocks[-1].change)
    length = round(CALMEST_SECONDS / BLOCK_SECONDS)
    means = np.convolve(changes[1:], np.full(length, 1 / length), "valid") if len(changes) > length else [math.nan]
    return float(np.min(means))


def hear_calm(model: Model, count: int, seconds: float) -> list[Calm]:
    """Calm prompts with the guard off, so that what dies is heard dying."""
    asked = CALM[:count]
    played = play_together(model, asked, seconds, SEED, guard=False)
    return [Calm(prompt, least_movement(a), death(a)) for prompt, (a, _mends) in zip(asked, played, strict=True)]


def hear_strays(model: Model, count: int, seconds: float, seeds: int) -> list[Stray]:
    """The calm prompts in whose style nothing is struck, once for each seed, as a listener hears them."""
    asked = [prompt for prompt in CALM[:count] if (heard := model.heard(prompt)) and heard.style not in STRUCK]
    found = list[Stray]()
    for first in range(0, seeds * SEEDS_APART, SEEDS_APART):
        for number, (audio, _mends) in enumerate(play_together(model, asked, seconds, first)):
            found.append(Stray(asked[number], first + number, *sharpest_bend(audio)))
    return found


def calm_rows(calm: Sequence[Calm], limit: float) -> Rows:
    """The rows of movement."""
    least = sorted((one.least_movement, one.prompt) for one in calm)
    text = ", ".join(f"{movement:.3f} ({prompt})" for movement, prompt in least[:3])
    dead, under = sum(one.dies_at_second is not None for one in calm), sum(one[0] < limit for one in least)
    return [
        (f"least movement of ten seconds, {len(calm)} calm prompts, guard off", "", text),
        (f"of these dead · under the checkpoint's {limit:g}", "0", f"{dead} · {under}"),
    ]


def stray_rows(strays: Sequence[Stray]) -> Rows:
    """The row of drums in calm music."""
    struck = [f"{one.prompt}, seed {one.seed}: {one.bend_db:.0f}" for one in strays if one.bend_db > STRAY_DB]
    name = f"something struck in calm music, of {len(strays)} streams (sharpest bend over {STRAY_DB:g} dB)"
    most = max((one.bend_db for one in strays), default=math.nan)
    return [(name, "0", f"{len(struck)} ({', '.join(struck) or f'at most {most:.0f} dB'})")]
