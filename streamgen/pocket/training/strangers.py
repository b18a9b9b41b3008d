"""Fifty prompts as people type them who never read the card: does the music live, and is the style theirs?

Rules: plays a checkpoint through streamgen itself, minutes at a time, as users hear it; writes `strangers.json` and
`strangers.md`. No prompt names a tempo in numbers: with one, the checkpoint's bar heads open and little goes wrong.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from streamgen.checkpoint import Heard
from streamgen.model import load_model
from streamgen.pocket.training.compose import STEPS_PER_BAR
from streamgen.pocket.training.defects import death, share_on_grid
from streamgen.pocket.training.judge import write_findings
from streamgen.pocket.training.listening import HEARD_SECONDS, style_listener
from streamgen.pocket.training.measures import Audio, StyleClassifier
from streamgen.pocket.training.playing import play_together
from streamgen.pocket.training.restart import load_whole
from streamgen.pocket.training.synth import HOP_SAMPLES, SAMPLE_RATE_HZ

TOGETHER = 10  # prompts that play in common passes
# What is asked for, and the style that a listener would accept; none where the twelve styles have no answer.
PROMPTS: dict[str, str | None] = {
    "house": "house",
    "solo piano": "piano",
    "techno": "techno",
    "dubstep with a heavy drop": None,
    "chill beats to study to": "lofi",
    "epic cinematic trailer": "orchestral",
    "8-bit video game music": "chiptune",
    "slow jazz": "jazz",
    "jazz piano trio in a smoky bar": "jazz",
    "heavy metal riff": "rock",
    "classic rock guitar solo": "rock",
    "punk rock": "rock",
    "funky slap bass groove": "funk",
    "disco": "house",
    "70s funk with horns": "funk",
    "reggae sunset on the beach": "reggae",
    "dub": "reggae",
    "bob marley style": "reggae",
    "drum & bass": "drum and bass",
    "jungle breakbeats": "drum and bass",
    "liquid dnb with a warm pad": "drum and bass",
    "ambient soundscape": "ambient",
    "relaxing meditation music": "ambient",
    "music for sleeping": "ambient",
    "space drone": "ambient",
    "sad piano": "piano",
    "romantic piano ballad": "piano",
    "nocturne by chopin": "piano",
    "string quartet": "orchestral",
    "symphony orchestra, majestic": "orchestral",
    "film score, tense": "orchestral",
    "waltz": None,
    "lo-fi hip hop": "lofi",
    "boom bap beat": "lofi",
    "trap beat with 808s": None,
    "deep house for a rooftop party": "house",
    "ibiza club anthem": "house",
    "berlin warehouse techno": "techno",
    "acid techno 303": "techno",
    "trance": "techno",
    "nintendo soundtrack": "chiptune",
    "retro arcade": "chiptune",
    "bebop": "jazz",
    "bossa nova": None,
    "smooth saxophone": None,
    "country song with banjo": None,
    "happy ukulele": None,
    "something fast and angry": None,
    "música electrónica para bailar": "house",
    "ruhige Klaviermusik": "piano",
}


@dataclass(frozen=True)
class Hearing:
    """What became of one prompt.

    Attributes:
        prompt, wanted, heard: what was asked for, its style if it has one, and the style that a classifier hears.
        dies_at_second: where the music dies, or None.
        loudness_dbfs: RMS of all of it.
        on_grid: share of the onsets near the sixteenths, where there are drums.
        mends: how often the guard began it anew.
    """

    prompt: str
    wanted: str | None
    heard: str
    dies_at_second: float | None
    loudness_dbfs: float
    on_grid: float | None = None
    mends: int = 0


@dataclass(frozen=True)
class StrangersFigures:
    """The counts over all prompts."""

    prompts: int
    minutes_each: float
    deaths: int
    mends: int
    style_right: float
    on_grid: float
    loudness_spread_db: float


def hear(prompt: str, audio: Audio, classify: StyleClassifier, heard: Heard | None = None, mends: int = 0) -> Hearing:
    """Judge one stream; its style is that of its first five seconds.

    Args:
        prompt: as it was typed.
        audio: mono.
        classify: names the style of some seconds.
        heard: what the checkpoint heard in the prompt.
        mends: by the guard.
    """
    loudness = 10 * np.log10(np.mean(audio.astype(np.float64) ** 2) + 1e-12)
    style = classify(audio[: HEARD_SECONDS * SAMPLE_RATE_HZ])
    on_grid = None
    if heard is not None and "drums" in heard.instruments:
        on_grid = share_on_grid(audio, heard.bar_frames / STEPS_PER_BAR * HOP_SAMPLES / SAMPLE_RATE_HZ)
    return Hearing(prompt, PROMPTS[prompt], style, death(audio), float(loudness), on_grid, mends)


def measure(hearings: list[Hearing], minutes: float) -> StrangersFigures:
    """Count everything over the prompts."""
    answered = [hearing for hearing in hearings if hearing.wanted is not None]
    levels = [hearing.loudness_dbfs for hearing in hearings]
    grids = [hearing.on_grid for hearing in hearings if hearing.on_grid is not None]
    return StrangersFigures(
        prompts=len(hearings),
        minutes_each=minutes,
        deaths=sum(hearing.dies_at_second is not None for hearing in hearings),
        mends=sum(hearing.mends for hearing in hearings),
        on_grid=float(np.mean(grids)) if grids else math.nan,
        style_right=float(np.mean([hearing.heard == hearing.wanted for hearing in answered])),
        loudness_spread_db=max(levels) - min(levels),
    )


def table(figures: StrangersFigures, hearings: list[Hearing]) -> str:
    """The figures and the prompts that went wrong, in markdown."""
    lines = ["| row | value |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value:.3g} |" for name, value in asdict(figures).items()]
    lines += ["", "| prompt | wanted | heard | dies at (s) |", "|---|---|---|---|"]
    for hearing in hearings:
        if hearing.dies_at_second is not None or hearing.wanted not in (None, hearing.heard):
            dies = "" if hearing.dies_at_second is None else f"{hearing.dies_at_second:g}"
            lines.append(f"| {hearing.prompt} | {hearing.wanted or ''} | {hearing.heard} | {dies} |")
    return "\n".join(lines) + "\n"


def judge_strangers(
    folder: Path, target: Path, minutes: float, songs: int, prompts: int = len(PROMPTS), precision: str = "auto"
) -> StrangersFigures:
    """Play prompts for `minutes` each on one thread, in the precision users get; write what was counted.

    Args:
        folder: the checkpoint.
        target: where the figures go.
        minutes: of each prompt.
        songs: how many the listener of styles is fitted on.
        prompts: how many, from the top of the list.
        precision: as in `load_model`.
    """
    torch.set_num_threads(1)
    model = load_model(str(folder), device="cpu", precision=precision)
    codec = load_whole(folder).audio_encoder
    classify, hearings = style_listener(codec, songs), list[Hearing]()
    asked = list(PROMPTS)[:prompts]
    for first in range(0, len(asked), TOGETHER):
        group = asked[first : first + TOGETHER]
        for prompt, (audio, mends) in zip(group, play_together(model, group, minutes * 60, first), strict=True):
            hearings.append(hear(prompt, audio, classify, model.heard(prompt), mends))
            print(f"strangers: {len(hearings)}/{prompts} {hearings[-1]}", flush=True)
    figures = measure(hearings, minutes)
    data = {**asdict(figures), "hearings": [asdict(hearing) for hearing in hearings]}
    write_findings(target, "strangers", data, table(figures, hearings))
    return figures
