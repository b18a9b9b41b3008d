"""How loud a checkpoint's prompts are beside each other, and a break beside the groove around it.

    every style's instruments × tempi × tonics ─► what is heard of each at one gain ─► `loudness_db`, for its words
    sessions, arranged ─► a break's loudness less the bars' before it and behind it

What a caption says decides nearly all of it (two openings are .3 LU apart, two keys of a house 1.6), and its words add
up: what they leave is told beside them.

Rules: plays a checkpoint through streamgen and its sessions; writes `levels.json`, whose `loudness_db` is to be put
into the checkpoint's `prompt_words.json`, and `levels.md`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from streamgen.checkpoint.vocabulary import StyleWords, read_vocabulary
from streamgen.model import Model, load_model
from streamgen.pocket.training.changing import bar_seconds
from streamgen.pocket.training.judge import write_findings
from streamgen.pocket.training.playing import play_together
from streamgen.pocket.training.session_sound import arranged, break_lu, heard_lufs
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

TOGETHER = 6
SECONDS, SETTLED_SECONDS, BREAK_SECONDS = 11, 2, 80


@dataclass(frozen=True)
class Prompt:
    """One prompt of a style: the words that may matter, and how loud it is at the master's gain."""

    words: tuple[str, ...]
    lufs: float


@dataclass(frozen=True)
class Level:
    """A style's `loudness_db`, how loud it is in the mean, and what its words leave of each prompt's (RMS, LU)."""

    style: str
    lufs: float
    loudness_db: Mapping[str, float]
    left: float


@dataclass(frozen=True)
class Break:
    """By how many LU the first break of a style's piece is louder than the bars before it, and after."""

    style: str
    before: float
    after: float


def hear_prompts(model: Model, style: StyleWords, tempi: Sequence[int], tonics: Sequence[str]) -> list[Prompt]:
    """Play all that a style can be, from its third second on: the first has its beginning in it."""
    kinds = [(tuple(dict.fromkeys(i)), str(t), n) for i, t, n in product(product(*style.parts), tempi, tonics)]
    mode, found = style.key.split()[1], list[Prompt]()
    for first in range(0, len(kinds), TOGETHER):
        group = kinds[first : first + TOGETHER]
        asked = [f"{style.say}, {', '.join(i)}, {tempo} bpm, in {tonic} {mode}" for i, tempo, tonic in group]
        for (instruments, *rest), (audio, _mends) in zip(
            group, play_together(model, asked, SECONDS, first), strict=True
        ):
            lufs = heard_lufs(audio[SETTLED_SECONDS * SAMPLE_RATE_HZ :])
            found.append(Prompt((*instruments, *rest), lufs))
    return found


def added_up(style: str, prompts: Sequence[Prompt], mean_lufs: float) -> Level:
    """What each word that not all prompts have adds to the style's mean loudness: as many have one as another."""
    levels = np.array([one.lufs for one in prompts])
    has = {word: np.array([word in one.words for one in prompts]) for one in prompts for word in one.words}
    adds = {word: float(levels[found].mean() - levels.mean()) for word, found in has.items() if not found.all()}
    left = levels - levels.mean() - sum(add * has[word] for word, add in adds.items())
    rounded = {word: round(float(add), 1) + 0.0 for word, add in {"": levels.mean() - mean_lufs, **adds}.items()}
    return Level(style, float(levels.mean()), rounded, float(np.sqrt(np.square(left).mean())))


def hear_levels(
    model: Model, styles: Mapping[str, StyleWords], tempi: Sequence[int], tonics: Sequence[str]
) -> list[Level]:
    """Play every style; their mean is what each is louder than."""
    heard = dict[str, list[Prompt]]()
    for name, style in styles.items():
        heard[name] = hear_prompts(model, style, tempi, tonics)
        print(f"levels: {len(heard[name])} prompts of {name}", flush=True)
    mean = float(np.mean([np.mean([one.lufs for one in found]) for found in heard.values()]))
    return [added_up(name, found, mean) for name, found in heard.items()]


def hear_breaks(model: Model, styles: Mapping[str, StyleWords]) -> list[Break]:
    """Play every style's first break, with the master a session begins with."""
    found = list[Break]()
    for name, style in styles.items():
        sound = arranged(model, style.say, BREAK_SECONDS, master="gentle")
        found.append(Break(name, *break_lu(sound, round(bar_seconds(model, style.say) * SAMPLE_RATE_HZ))))
        print(f"levels: {found[-1]}", flush=True)
    return found


def table(levels: Sequence[Level], breaks: Sequence[Break]) -> str:
    """What was heard, in markdown."""
    between = {one.style: one for one in breaks}
    lines = [
        "| style | LUFS at one gain | left by its words | a break less the bars before · after, LU |",
        "|---|---|---|---|",
    ]
    for one in levels:
        found = between[one.style]
        beside = f"{found.before:+.1f} · {found.after:+.1f}"
        lines.append(f"| {one.style} | {one.lufs:.1f} | ± {one.left:.1f} | {beside} |")
    return "\n".join(lines) + "\n"


def judge_levels(folder: Path, target: Path, count: int | None = None, precision: str = "auto") -> list[Level]:
    """Listen on one thread, in the precision users get; write what was heard.

    Args:
        folder: the checkpoint, one that tells its bars.
        target: where the figures go.
        count: of the first so many styles, one tempo and tonic each; None is all.
        precision: as in `load_model`.
    """
    torch.set_num_threads(1)
    words = read_vocabulary(folder)
    if words is None:
        sys.exit(f"{folder} does not tell its styles: put the prompt_words.json of its words beside it")
    model = load_model(str(folder), device="cpu", precision=precision)
    styles = dict(list(words.styles.items())[:count])
    few = None if count is None else 1
    levels = hear_levels(model, styles, list(words.bar_frames)[:few], words.tonics[:few])
    breaks = hear_breaks(model, styles)
    data = {"levels": [asdict(one) for one in levels], "breaks": [asdict(one) for one in breaks]}
    write_findings(target, "levels", data, table(levels, breaks))
    return levels
