"""What a listener gets who sets nothing: loudness, width, the beat at a change, an arrangement, calm music, "no drums".

Rules: plays a checkpoint through streamgen and its sessions as users do; writes `defaults.json` and `defaults.md`. What
each row is held to is the model card's, where it says what listeners complained of.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from streamgen.model import Model, load_model
from streamgen.pocket.training import measures
from streamgen.pocket.training.calm import CALM, Calm, Rows, Stray, calm_rows, hear_calm, hear_strays, stray_rows
from streamgen.pocket.training.changing import ONE_TEMPO, TWO_TEMPI, bar_seconds, play_change
from streamgen.pocket.training.defects import bars_of, distinct_bars, repeated_bars
from streamgen.pocket.training.judge import write_findings
from streamgen.pocket.training.playing import play_together
from streamgen.pocket.training.session_sound import (
    Stereo,
    arranged,
    behind_master,
    correlation,
    loudness_lufs,
    mono_loss_db,
    within_parts,
)
from streamgen.pocket.training.strangers import PROMPTS, TOGETHER
from streamgen.pocket.training.synth import SAMPLE_RATE_HZ

LOUD_FROM, LOUD_UNTIL = 10, 22  # seconds: by then the master's gain has found its place
WIDE_STYLES = ("ambient", "orchestral", "piano")
ARRANGED = ("house", "ambient", "solo piano")
NEGATED = ("house", "techno", "lofi")
NEGATED_SECONDS = 10


@dataclass(frozen=True)
class DefaultsPlan:
    """How much of each is played."""

    prompts: int = len(PROMPTS)
    changes: int = 6  # of one tempo, and as many between tempi
    arranged: int = len(ARRANGED)
    arranged_seconds: float = 600.0
    calm: int = len(CALM)
    calm_seconds: float = 60.0
    stray_seeds: int = 4
    negated: int = len(NEGATED)


@dataclass(frozen=True)
class Mastered:
    """One prompt behind the master: LUFS by its gain alone and behind the limiter, width, how often it began anew."""

    prompt: str
    style: str
    lufs: float
    limited_lufs: float
    correlation: float
    mono_loss_db: float
    mends: int = 0


@dataclass(frozen=True)
class Jump:
    """The beat's jump at one change of prompt, in ms."""

    before: str
    after: str
    one_tempo: bool
    ms: float


@dataclass(frozen=True)
class Arranged:
    """One prompt, arranged: its bars, and how well the beat repeats at the bar lag."""

    prompt: str
    distinct_bars: int
    equal_to_the_one_before: float
    bar_correlation: float
    within_parts: float


@dataclass(frozen=True)
class Negated:
    """Percussive share of a style, and of the same with "no drums"."""

    prompt: str
    plain: float
    without: float


@dataclass(frozen=True)
class Defaults:
    """All that was measured; `limit` is the checkpoint's own `least_movement`."""

    mastered: list[Mastered]
    jumps: list[Jump]
    arranged: list[Arranged]
    calm: list[Calm]
    strays: list[Stray]
    negated: list[Negated]
    limit: float


def hear_mastered(model: Model, count: int) -> list[Mastered]:
    """Seconds 10 to 22 of strangers' prompts behind the session's master."""
    heard, asked = list[Mastered](), list(PROMPTS)[:count]
    for first in range(0, len(asked), TOGETHER):
        group = asked[first : first + TOGETHER]
        for prompt, (audio, mends) in zip(group, play_together(model, group, LOUD_UNTIL, first), strict=True):
            told = model.heard(prompt)
            style, loudness_db = ("", 0.0) if told is None else (told.style, told.loudness_db)
            alone, limited = (_later(behind_master(audio, loudness_db, limited=limited)) for limited in (False, True))
            loud = loudness_lufs(alone), loudness_lufs(limited)
            wide = correlation(limited), mono_loss_db(limited)
            heard.append(Mastered(prompt, style, *loud, *wide, mends))
            print(f"defaults: {len(heard)}/{len(asked)} {heard[-1]}", flush=True)
    return heard


def _later(sound: Stereo) -> Stereo:
    return sound[:, LOUD_FROM * SAMPLE_RATE_HZ : LOUD_UNTIL * SAMPLE_RATE_HZ]


def hear_changes(model: Model, count: int) -> list[Jump]:
    """Changes of one tempo and between tempi, asked for in the middle of a bar."""
    pairs = [(pair, True) for pair in ONE_TEMPO[:count]] + [(pair, False) for pair in TWO_TEMPI[:count]]
    jumps = list[Jump]()
    for seed, ((before, after), one_tempo) in enumerate(pairs):
        jumps.append(Jump(before, after, one_tempo, play_change(model, before, after, seed).jump_ms()))
        print(f"defaults: {jumps[-1]}", flush=True)
    return jumps


def hear_arranged(model: Model, prompt: str, seconds: float) -> Arranged:
    """A session with `arrange`, counted as `endless` counts."""
    audio, bar = arranged(model, prompt, seconds).mean(axis=0), bar_seconds(model, prompt)
    bar_samples = round(bar * SAMPLE_RATE_HZ)
    bars = bars_of(audio, bar_samples)
    beat = measures.autocorrelation(measures.onset_envelope(audio), bar)
    return Arranged(prompt, distinct_bars(bars), repeated_bars(bars), beat, within_parts(audio, bar_samples))


def hear_negated(model: Model, count: int) -> list[Negated]:
    """Styles as they are, and with "no drums"."""
    asked = [text for name in NEGATED[:count] for text in (name, f"{name}, no drums")]
    shares = [measures.percussive_share(a) for a, _mends in play_together(model, asked, NEGATED_SECONDS, 0)]
    return [Negated(*found) for found in zip(asked[::2], shares[::2], shares[1::2], strict=True)]


def table(found: Defaults) -> str:
    """The rows of the model card, in markdown."""
    rows = [*_mastered_rows(found.mastered), *_jump_rows(found.jumps), *_arranged_rows(found.arranged)]
    rows += [*calm_rows(found.calm, found.limit), *stray_rows(found.strays), *_negated_rows(found.negated)]
    lines = ["| row | bar | value |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _mastered_rows(heard: Sequence[Mastered]) -> Rows:
    rows: Rows = []
    for name, levels in (
        ("by the master's gain", [one.lufs for one in heard]),
        ("behind the limiter too", [one.limited_lufs for one in heard]),
    ):
        spread = f"{max(levels) - min(levels):.1f} ({min(levels):.1f} … {max(levels):.1f} LUFS)"
        rows.append((f"loudness, {len(heard)} prompts, seconds 10 to 22, spread in dB, {name}", "<= 4", spread))
    for style in WIDE_STYLES:
        if values := [one.correlation for one in heard if one.style == style]:
            text = f"{np.mean(values):.2f}, at most {max(values):.2f} ({len(values)})"
            rows.append((f"correlation of left and right, {style}", "<= .9", text))
    loss = max(one.mono_loss_db for one in heard)
    anew = ", ".join(one.prompt for one in heard if one.mends) or "none"
    return [
        *rows,
        ("a mono sum loses at most, dB", "<= 1", f"{loss:.2f}"),
        ("begun anew by the guard meanwhile", "", anew),
    ]


def _jump_rows(jumps: Sequence[Jump]) -> Rows:
    rows: Rows = []
    for name, one_tempo in (("one tempo", True), ("between tempi", False)):
        sizes = [abs(jump.ms) for jump in jumps if jump.one_tempo == one_tempo]
        text = f"{np.mean(sizes):.1f}, at most {max(sizes):.1f} ({len(sizes)} changes)"
        rows.append((f"beat's jump at a prompt change, ms, {name}", "<= 10", text))
    return rows


def _arranged_rows(arrangements: Sequence[Arranged]) -> Rows:
    names = "distinct bars · equal to the one before · onset autocorrelation at the bar lag · within parts"
    rows: Rows = []
    for one in arrangements:
        shares = one.equal_to_the_one_before, one.bar_correlation, one.within_parts
        text = " · ".join([str(one.distinct_bars), *(f"{share:.2f}" for share in shares)])
        rows.append((f"arranged, {one.prompt}: {names}", ">= 40 · <= .85 · >= .8", text))
    return rows


def _negated_rows(negated: Sequence[Negated]) -> Rows:
    return [
        (f'percussive share, "{one.prompt}" · "no drums"', "less", f"{one.plain:.2f} · {one.without:.2f}")
        for one in negated
    ]


def judge_defaults(folder: Path, target: Path, plan: DefaultsPlan, precision: str = "auto") -> Defaults:
    """Play all of it on one thread, in the precision users get; write what was measured.

    Args:
        folder: the checkpoint, one that tells its bars.
        target: where the figures go.
        plan: how much of each.
        precision: as in `load_model`.
    """
    torch.set_num_threads(1)
    model = load_model(str(folder), device="cpu", precision=precision)
    if model.heard(NEGATED[0]) is None:
        sys.exit(f"{folder} does not tell the bars of its prompts: put the prompt_words.json of its words beside it")
    print(f"defaults: {model.load_note}", flush=True)
    mastered, jumps = hear_mastered(model, plan.prompts), hear_changes(model, plan.changes)
    arrangements = list[Arranged]()
    for prompt in ARRANGED[: plan.arranged]:
        arrangements.append(hear_arranged(model, prompt, plan.arranged_seconds))
        print(f"defaults: {arrangements[-1]}", flush=True)
    calm, negated = hear_calm(model, plan.calm, plan.calm_seconds), hear_negated(model, plan.negated)
    strays = hear_strays(model, plan.calm, plan.calm_seconds, plan.stray_seeds)
    limit = model.runtime.defaults.least_movement
    found = Defaults(mastered, jumps, arrangements, calm, strays, negated, limit)
    write_findings(target, "defaults", asdict(found), table(found))
    return found
