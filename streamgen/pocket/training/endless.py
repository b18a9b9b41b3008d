"""What goes wrong in long streams, counted: silence, stuck notes, noise, and seams where windows roll over.

Rules: plays a checkpoint through streamgen itself, window after window, as users hear it; writes `endless.json`,
`endless.md` and, as `alike_STYLE.png`, how alike the bars of each stream are. Two-sample comparisons are
Kolmogorov-Smirnov's.
"""

import math
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamgen.model import Model, load_model
from streamgen.pocket.training import measures
from streamgen.pocket.training.captions import caption
from streamgen.pocket.training.compose import Song, held_out_song
from streamgen.pocket.training.defects import bars_of, death, distinct_bars, repeated_bars
from streamgen.pocket.training.judge import write_findings
from streamgen.pocket.training.measures import Audio, Vector
from streamgen.pocket.training.mel import log_mel
from streamgen.pocket.training.pictures import similarity, write_png
from streamgen.pocket.training.synth import HOP_SAMPLES, SAMPLE_RATE_HZ

SILENT_DBFS = -50.0
STUCK_SECONDS = 8.0
STUCK_CHANGE = 0.02  # log10-mel L1 between quarters of a second; a held organ chord moves more
NOISE_SECONDS = 10
PAIRS = 40  # rollovers compared with as many places inside windows


@dataclass(frozen=True)
class Passage:
    """One prompt's stream: its song, what was heard (mono), at which samples windows rolled over, the guard's mends."""

    song: Song
    text: str
    audio: Audio
    rollovers: tuple[int, ...]
    cpu_seconds: float
    mends: int = 0

    def bars(self) -> list[Tensor]:
        """The log-mel spectrum of every whole bar."""
        return bars_of(self.audio, self.song.frames_per_bar * HOP_SAMPLES)


def six_songs(seed: int = 0) -> list[tuple[Song, str]]:
    """Held-out songs of six styles with their complete captions."""
    rng, found = random.Random(seed), dict[str, Song]()
    for number in range(200):
        song = held_out_song(5000 + number)
        found.setdefault(song.style, song)
    chosen = sorted(found.values(), key=lambda song: song.style)[:: max(1, len(found) // 6)][:6]
    return [(song, caption(song, rng, complete=True).lower()) for song in chosen]


def play(model: Model, song: Song, text: str, seconds: float, seed: int) -> Passage:
    """Play one prompt through as many windows as `seconds` needs."""
    begun, pieces, length = time.process_time(), list[Audio](), 0
    with model.open_stream(text, seed=seed) as stream:
        for chunk in stream.chunks(seconds=1.0):
            pieces.append(np.asarray(chunk.samples[0], dtype=np.float32))
            length += pieces[-1].size
            if length >= seconds * SAMPLE_RATE_HZ:
                break
        rollovers = tuple(step * HOP_SAMPLES for step in stream.metrics.rollover_steps)
        mends = stream.metrics.mends
    return Passage(song, text, np.concatenate(pieces), rollovers, time.process_time() - begun, mends)


def silent_half_seconds(audio: Audio) -> int:
    """How many half-seconds lie under -50 dBFS."""
    return round(measures.silent_share(audio) * (len(audio) // (SAMPLE_RATE_HZ // 2)))


def longest_hold(audio: Audio) -> float:
    """Seconds of the longest stretch in which the spectrum stands still."""
    mel = log_mel(torch.from_numpy(audio)[None], 2048, 64)[0]
    quarter = SAMPLE_RATE_HZ // 4 // 512
    blocks = mel[:, : mel.shape[1] // quarter * quarter].unflatten(1, (-1, quarter)).mean(2)
    still = (blocks.diff(dim=1).abs().mean(0) < STUCK_CHANGE).tolist()
    longest = run = 0
    for held in still:
        run = run + 1 if held else 0
        longest = max(longest, run)
    return longest / 4


def noisy_blocks(audio: Audio, allowed: float) -> int:
    """How many blocks of ten seconds are flatter in spectrum than allowed."""
    size = NOISE_SECONDS * SAMPLE_RATE_HZ
    return sum(measures.flatness(audio[at : at + size]) > allowed for at in range(0, len(audio) - size + 1, size))


def seams(passage: Passage, places: Iterable[int]) -> tuple[list[float], list[float]]:
    """Chroma correlation and loudness difference in dB between the bars before and after some samples."""
    bar, alike, louder = passage.song.frames_per_bar * HOP_SAMPLES, list[float](), list[float]()
    for place in places:
        before, after = passage.audio[place - bar : place], passage.audio[place : place + bar]
        if len(before) == len(after) == bar:
            alike.append(float(np.corrcoef(measures.chroma(before), measures.chroma(after))[0, 1]))
            louder.append(abs(_decibel(after) - _decibel(before)))
    return alike, louder


def _decibel(audio: Audio) -> float:
    return 10 * math.log10(float(np.mean(audio.astype(np.float64) ** 2)) + 1e-12)


def ks_p_value(one: Sequence[float], two: Sequence[float]) -> float:
    """Probability that two samples of one distribution differ at least this much (asymptotic Kolmogorov-Smirnov)."""
    if not (len(one) and len(two)):
        return math.nan
    a, b = np.sort(one), np.sort(two)
    both: Vector = np.concatenate([a, b])
    gap = np.abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max()
    root = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    x = (root + 0.12 + 0.11 / root) * float(gap)
    total = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(1.0, max(0.0, total)) if x > 0.2 else 1.0


@dataclass(frozen=True)
class EndlessFigures:
    """The counts over all streams, and what they cost."""

    minutes: float
    silent_half_seconds: int
    stuck_notes: int
    longest_hold_seconds: float
    noisy_blocks: int
    distinct_bars_a_stream: float
    bars_equal_to_the_one_before: float
    deaths: int
    mends: int
    rollovers: int
    chroma_at_rollover: float
    chroma_inside: float
    chroma_p: float
    loudness_db_at_rollover: float
    loudness_db_inside: float
    loudness_p: float
    realtime_factor_one_core: float
    load_seconds: float
    megabytes: float


def measure(passages: list[Passage], load_seconds: float, megabytes: float) -> EndlessFigures:
    """Count everything over the passages."""
    holds = [longest_hold(passage.audio) for passage in passages]
    allowed = [2 * measures.flatness(passage.audio[: 20 * SAMPLE_RATE_HZ]) + 0.02 for passage in passages]
    at_seams, inside = [], []
    for passage in passages:
        here = passage.rollovers
        at_seams.append(seams(passage, here))
        inside.append(seams(passage, [(a + b) // 2 for a, b in pairwise(here)]))
    bars = [passage.bars() for passage in passages]
    chroma, loudness = (_spread(at_seams, kind) for kind in (0, 1))
    chroma_in, loudness_in = (_spread(inside, kind) for kind in (0, 1))
    seconds = sum(len(passage.audio) for passage in passages) / SAMPLE_RATE_HZ
    return EndlessFigures(
        minutes=seconds / 60,
        silent_half_seconds=sum(silent_half_seconds(passage.audio) for passage in passages),
        stuck_notes=sum(hold > STUCK_SECONDS for hold in holds),
        longest_hold_seconds=max(holds),
        noisy_blocks=sum(noisy_blocks(p.audio, limit) for p, limit in zip(passages, allowed, strict=True)),
        distinct_bars_a_stream=float(np.mean([distinct_bars(stream) for stream in bars])),
        bars_equal_to_the_one_before=float(np.mean([repeated_bars(stream) for stream in bars])),
        deaths=sum(death(passage.audio) is not None for passage in passages),
        mends=sum(passage.mends for passage in passages),
        rollovers=sum(len(passage.rollovers) for passage in passages),
        chroma_at_rollover=_mean(chroma),
        chroma_inside=_mean(chroma_in),
        chroma_p=ks_p_value(chroma, chroma_in),
        loudness_db_at_rollover=_mean(loudness),
        loudness_db_inside=_mean(loudness_in),
        loudness_p=ks_p_value(loudness, loudness_in),
        realtime_factor_one_core=seconds / sum(passage.cpu_seconds for passage in passages),
        load_seconds=load_seconds,
        megabytes=megabytes,
    )


def _mean(values: list[float]) -> float:
    """The mean; not a number where a stream was too short for any."""
    return float(np.mean(values)) if values else math.nan


def _spread(found: list[tuple[list[float], list[float]]], kind: int) -> list[float]:
    """Up to `PAIRS` values, evenly from all passages."""
    values = [value for passage in found for value in passage[kind]]
    return values[:: max(1, len(values) // PAIRS)][:PAIRS]


def table(figures: EndlessFigures) -> str:
    """The figures in markdown."""
    lines = ["| row | value |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value:.3g} |" for name, value in asdict(figures).items()]
    return "\n".join(lines) + "\n"


def judge_endless(folder: Path, target: Path, minutes: float, precision: str = "auto") -> EndlessFigures:
    """Play six prompts for `minutes` in all on one thread, in the precision users get; write what was counted."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    model = load_model(str(folder), device="cpu", precision=precision)
    load_seconds = time.perf_counter() - begun
    print(f"endless: {model.load_note}", flush=True)
    passages = []
    for number, (song, text) in enumerate(six_songs()):
        passages.append(play(model, song, text, minutes * 10, number))
        print(f"endless: {number + 1}/6 {text!r}, {len(passages[-1].rollovers)} rollovers", flush=True)
    megabytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6
    figures = measure(passages, load_seconds, megabytes)
    write_findings(target, "endless", asdict(figures), table(figures))
    for passage in passages:
        if bars := passage.bars():  # a smoke run's last less than one
            write_png(target / f"alike_{passage.song.style}.png", similarity(bars))
    return figures
