"""What a listener hears by default: the judge's captions as streams, opening auditioned, under three seeds.

Rules: plays a checkpoint through streamgen itself with its own settings; writes `streams.json` and `streams.md`. The
judge's own clips are single openings, which tell more of the model and less of what is heard.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from streamgen.model import Model, load_model
from streamgen.pocket.training import measures
from streamgen.pocket.training.captions import captioned_songs
from streamgen.pocket.training.compose import STEPS_PER_BAR, Song
from streamgen.pocket.training.defects import share_on_grid
from streamgen.pocket.training.judge import write_findings
from streamgen.pocket.training.listening import HEARD_SECONDS, confusion, style_listener
from streamgen.pocket.training.listening import table as confusions
from streamgen.pocket.training.measures import Audio, StyleClassifier
from streamgen.pocket.training.playing import play_together
from streamgen.pocket.training.restart import load_whole
from streamgen.pocket.training.styles import STYLES
from streamgen.pocket.training.synth import HOP_SAMPLES, SAMPLE_RATE_HZ

SECONDS = 10
SEEDS = (0, 1000, 2000)  # of the first caption; each next one has the next seed
TOGETHER = 12
ALL = "all"


@dataclass(frozen=True)
class Performance:
    """One caption's stream, and what was heard in it.

    Attributes:
        seed: the first caption's, which names the round.
        on_grid: share of the onsets near the sixteenths; None without drums.
    """

    seed: int
    text: str
    style: str
    heard: str
    in_key: bool
    bar_correlation: float | None
    on_grid: float | None


def perform(model: Model, prompts: list[tuple[Song, str]], seed: int, seconds: float = SECONDS) -> list[Audio]:
    """The first seconds of every caption's stream, mono."""
    out = list[Audio]()
    for first in range(0, len(prompts), TOGETHER):
        texts = [text for _, text in prompts[first : first + TOGETHER]]
        out += [audio for audio, _mends in play_together(model, texts, seconds, seed + first)]
    return out


def hear(song: Song, text: str, audio: Audio, classify: StyleClassifier, seed: int) -> Performance:
    """Judge one stream; its style is that of its first five seconds."""
    bar_seconds = song.frames_per_bar * HOP_SAMPLES / SAMPLE_RATE_HZ
    return Performance(
        seed=seed,
        text=text,
        style=song.style,
        heard=classify(audio[: HEARD_SECONDS * SAMPLE_RATE_HZ]),
        in_key=measures.key_rank(audio, song.tonic, STYLES[song.style].minor) == 0,
        bar_correlation=measures.autocorrelation(measures.onset_envelope(audio), bar_seconds)
        if song.has_drums
        else None,
        on_grid=share_on_grid(audio, bar_seconds / STEPS_PER_BAR) if song.has_drums else None,
    )


def shares(performances: list[Performance]) -> dict[str, float]:
    """Means over some streams."""
    drummed = [one for one in performances if one.on_grid is not None and one.bar_correlation is not None]
    return {
        "style right": float(np.mean([one.heard == one.style for one in performances])),
        "named key": float(np.mean([one.in_key for one in performances])),
        "onsets within 12 ms of the 16th grid, drums": float(np.mean([one.on_grid for one in drummed])),
        "onset autocorrelation at the bar lag, drums": float(np.mean([one.bar_correlation for one in drummed])),
    }


def table(performances: list[Performance]) -> str:
    """The means of every round and of all, in markdown, and what sounds like another style."""
    rounds = {str(seed): [p for p in performances if p.seed == seed] for seed in sorted({p.seed for p in performances})}
    means = {name: shares(chosen) for name, chosen in {**rounds, ALL: performances}.items()}
    lines = [f"| row | {' | '.join(f'seed {name}' for name in rounds)} | {ALL} |", f"|---|{'---|' * len(means)}"]
    lines += [f"| {row} | {' | '.join(f'{found[row]:.3g}' for found in means.values())} |" for row in means[ALL]]
    wrong = [one for one in performances if one.heard != one.style]
    lines += ["", "| caption | seed | heard |", "|---|---|---|"]
    lines += [f"| {one.text} | {one.seed} | {one.heard} |" for one in wrong]
    return "\n".join(lines) + "\n"


def judge_streams(
    folder: Path, target: Path, clips: int, listener_songs: int, precision: str = "auto"
) -> list[Performance]:
    """Play the judge's captions as streams on one thread, in the precision users get; write what was heard.

    Args:
        folder: the checkpoint.
        target: where the figures go.
        clips: how many captions.
        listener_songs: how many songs the listener of styles is fitted on.
        precision: as in `load_model`.
    """
    torch.set_num_threads(1)
    model = load_model(str(folder), device="cpu", precision=precision)
    codec = load_whole(folder).audio_encoder
    classify, prompts = style_listener(codec, listener_songs), captioned_songs(clips)
    heard, clips_heard = list[Performance](), list[tuple[Song, Audio]]()
    for seed in SEEDS:
        for (song, text), audio in zip(prompts, perform(model, prompts, seed), strict=True):
            heard.append(hear(song, text, audio, classify, seed))
            clips_heard.append((song, audio))
        print(f"streams: seed {seed} {shares([one for one in heard if one.seed == seed])}", flush=True)
    by_style = confusions({"streams": confusion(classify, clips_heard)})
    write_findings(target, "streams", [asdict(one) for one in heard], f"{table(heard)}\n{by_style}")
    return heard
