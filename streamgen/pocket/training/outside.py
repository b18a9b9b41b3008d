"""What listeners hear that others trained: basic-pitch the pitches of a lead, musicnn how near the sound is to songs.

Rules: plays a checkpoint through streamgen itself with its own settings, without a master; writes `outside.json` and
`outside.md`. The listeners themselves are `outside_ears`.

Source: Kilgour et al., "Fréchet audio distance", Interspeech 2019.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from transformers import EncodecModel

from streamgen.model import Model, load_model
from streamgen.pocket.training.captions import captioned_songs
from streamgen.pocket.training.compose import DRUM_CHANNEL, GROOVE, Song, songs_of_every_style
from streamgen.pocket.training.corpus import render_seconds
from streamgen.pocket.training.judge import KINDS, SECONDS, Row, as_data, table, write_findings
from streamgen.pocket.training.listening import as_codec_plays, to_floats
from streamgen.pocket.training.measures import Audio
from streamgen.pocket.training.outside_ears import (
    LEAD_SECONDS,
    TOP_TAGS,
    Features,
    PitchListener,
    TagListener,
    main_pitches,
    require_listeners,
)
from streamgen.pocket.training.restart import load_whole
from streamgen.pocket.training.streams import SEEDS, perform
from streamgen.pocket.training.styles import STYLES
from streamgen.pocket.training.synth import Synthesizer

OTHER = "other"
_FIRST_OTHER_SONG = 30_000  # a number that nobody else comes to


def frechet_distance(some: Features, others: Features) -> float:
    """Fréchet distance, squared as is usual, of the Gaussians that two sets of rows [n, units] are taken for.

        |mean A - mean B|² + tr A + tr B - 2 tr √(AB)

    The root's trace is that of √(√A B √A), which is symmetric: its eigenvalues will do.
    """
    first, second = np.cov(some, rowvar=False), np.cov(others, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    between = some.mean(0) - others.mean(0)
    return float(between @ between + np.trace(first) + np.trace(second) - 2 * shared)


def pitches_written(song: Song) -> set[int]:
    """The main pitches of a song's groove as it is composed."""
    notes = [note for note in song.loops[GROOVE].notes if note.channel != DRUM_CHANNEL]
    return main_pitches((note.start, note.start + note.length, note.pitch, note.velocity) for note in notes)


@dataclass(frozen=True)
class Hearing:
    """What was heard in one clip, real, codec's, generated or of another song; pitches only where there is a lead."""

    kind: str
    seed: int | None
    text: str
    style: str
    pitches: list[int] | None
    written: int
    tags: list[str]
    features: Features


def pitch_rows(hearings: Sequence[Hearing]) -> list[Row]:
    """How many main pitches leads have: the mean over all of them, and over those of each style."""
    leads, rows = [one for one in hearings if one.pitches is not None], list[Row]()
    for style in dict.fromkeys([None, *(one.style for one in leads)]):
        chosen = [one for one in leads if style in (None, one.style)]
        counts = {kind: [len(one.pitches or ()) for one in chosen if one.kind == kind] for kind in KINDS}
        if chosen:
            written = np.mean([one.written for one in chosen if one.kind == "real"])
            name = f"main pitches of a lead in {LEAD_SECONDS} s, {len(counts['real'])} {style or 'songs'}"
            means = {kind: float(np.mean(found)) for kind, found in counts.items()}
            rows.append(Row(name, f"{written:.3g} (in the score)", means))
    return rows


def nearness_rows(hearings: Sequence[Hearing]) -> list[Row]:
    """Fréchet distances; of what is generated the mean over the seeds, and each by itself.

    So few patches leave real songs of the same styles apart, too: by how much is the chance.
    """
    by_round: defaultdict[tuple[str, int | None], list[Features]] = defaultdict(list)
    for one in hearings:
        by_round[one.kind, one.seed].append(one.features)
    heard = {key: np.concatenate(found) for key, found in by_round.items()}
    real, codec, other = (heard.pop((kind, None)) for kind in ("real", "codec", OTHER))
    own, chance = frechet_distance(real, codec), f"{frechet_distance(real, other):.3g} (as many other real songs)"
    away = {seed: frechet_distance(real, features) for (_, seed), features in heard.items()}
    mean = float(np.mean(list(away.values())))
    beside = float(np.mean([frechet_distance(codec, features) for features in heard.values()]))
    return [
        Row(f"Fréchet distance to real, {len(real)} patches", chance, {"codec": own, "generated": mean}),
        *(Row(f"the same, seed {seed} alone", "", {"generated": distance}) for seed, distance in away.items()),
        Row("Fréchet distance to real / the codec's own", "", {"codec": 1.0, "generated": mean / own}),
        Row("Fréchet distance to the codec", "", {"real": own, "generated": beside}),
    ]


def tag_row(hearings: Sequence[Hearing]) -> Row:
    """How many of its likeliest tags a clip has in common with the real song; by chance, two real songs."""
    songs = {one.text: set(one.tags) for one in hearings if one.kind == "real"}
    shared = {kind: [len(songs[one.text] & set(one.tags)) for one in hearings if one.kind == kind] for kind in KINDS}
    values = {kind: float(np.mean(found)) for kind, found in shared.items()}
    chance = np.mean([len(one & other) for one, other in permutations(songs.values(), 2)])
    return Row(f"top {TOP_TAGS} tags, shared with the real song", f"{chance:.2g} (another song)", values)


def listen(model: Model, codec: EncodecModel, prompts: Sequence[tuple[Song, str]]) -> Iterator[Hearing]:
    """Render and encode songs, render others, play the captions under three seeds, and listen to all of it."""
    melody, sound = PitchListener(), TagListener()

    def hear(prompt: tuple[Song, str], audio: Audio, kind: str, seed: int | None = None) -> Hearing:
        song, text = prompt
        pitches = sorted(melody.pitches(audio)) if STYLES[song.style].leads and kind in KINDS else None
        features, tags = sound.hear(audio)
        return Hearing(kind, seed, text, song.style, pitches, len(pitches_written(song)), tags, features)

    with Synthesizer() as synth:
        for prompt in prompts:
            pcm = render_seconds(synth, prompt[0], SECONDS)
            yield hear(prompt, to_floats(pcm), "real")
            yield hear(prompt, as_codec_plays(codec, pcm), "codec")
        for song in songs_of_every_style(len(prompts), _FIRST_OTHER_SONG):
            yield hear((song, ""), to_floats(render_seconds(synth, song, SECONDS)), OTHER)
    print(f"outside: heard {len(prompts)} songs, the codec's, and as many others", flush=True)
    for seed in SEEDS:
        for prompt, audio in zip(prompts, perform(model, list(prompts), seed, SECONDS), strict=True):
            yield hear(prompt, audio, "generated", seed)
        print(f"outside: heard seed {seed}", flush=True)


def judge_outside(folder: Path, target: Path, clips: int, precision: str = "auto") -> list[Row]:
    """Listen on one thread, in the precision users get; write what was heard.

    Args:
        folder: the checkpoint.
        target: where the figures go.
        clips: how many captions.
        precision: as in `load_model`.

    Raises:
        ListenersMissingError: a package of the listeners is not installed.
    """
    require_listeners()
    torch.set_num_threads(1)
    model = load_model(str(folder), device="cpu", precision=precision)
    print(f"outside: plays in {model.load_note}", flush=True)
    hearings = list(listen(model, load_whole(folder).audio_encoder, captioned_songs(clips)))
    rows = [*pitch_rows(hearings), *nearness_rows(hearings), tag_row(hearings)]
    clips_heard = [{k: v for k, v in vars(one).items() if k != "features"} for one in hearings]
    data = {"rows": as_data(rows), "clips": clips_heard}
    write_findings(target, "outside", data, table(rows, clips, model.precision))
    return rows
