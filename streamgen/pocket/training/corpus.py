"""The corpus on disk: rendered songs as 16-bit shards, made once and read as often as needed.

Rules: a shard is written whole or not at all (rename at the end), so an interrupted render goes on where it stopped.
A song is known by its number alone; nothing but its sound is stored.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamgen.pocket.training.compose import GROOVE, SCORE, Song, held_out_song, training_song
from streamgen.pocket.training.synth import HOP_SAMPLES, SAMPLE_RATE_HZ, Synthesizer

SONGS_PER_SHARD = 50
Pcm = npt.NDArray[np.int16]


def render_corpus(folder: Path, songs: int) -> None:
    """Render the training songs, shard by shard: ten hours of music in five minutes of one core."""
    folder.mkdir(parents=True, exist_ok=True)
    with Synthesizer() as synth:
        for shard in range(-(-songs // SONGS_PER_SHARD)):
            target = shard_path(folder, shard)
            if not target.exists():
                numbers = range(songs)[shard * SONGS_PER_SHARD : (shard + 1) * SONGS_PER_SHARD]
                _write_shard(target, synth, numbers)
                print(f"render: shard {shard}", flush=True)


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard lies."""
    return folder / f"{shard:04d}.npz"


def _write_shard(target: Path, synth: Synthesizer, numbers: range) -> None:
    clips = [render_song(synth, training_song(number)) for number in numbers]
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, pcm=np.concatenate(clips), lengths=np.array([len(clip) for clip in clips]))
    os.replace(part, target)


def render_song(synth: Synthesizer, song: Song, score: Sequence[int] = SCORE) -> Pcm:
    """The bars of a song that `score` names, from silence, as int16 samples."""
    bars = [song.loops[loop] for loop in score]
    return np.round(synth.render(bars, song.bpm) * 32767).astype(np.int16)


def render_groove(synth: Synthesizer, song: Song, bars: int) -> Pcm:
    """A song's groove, `bars` times from silence, as int16 samples."""
    return render_song(synth, song, (GROOVE,) * bars)


def render_seconds(synth: Synthesizer, song: Song, seconds: int) -> Pcm:
    """The first seconds of a song's groove, repeated from silence, as int16 samples."""
    frames = seconds * SAMPLE_RATE_HZ // HOP_SAMPLES
    return render_groove(synth, song, frames // song.frames_per_bar + 1)[: seconds * SAMPLE_RATE_HZ]


def held_out_audio(count: int, score: Sequence[int] = SCORE) -> list[Pcm]:
    """The bars of held-out songs that `score` names, for judging."""
    with Synthesizer() as synth:
        return [render_song(synth, held_out_song(number), score) for number in range(count)]


def shard_clips(path: Path) -> list[Pcm]:
    """The songs of one shard, in order."""
    with np.load(path) as data:
        return np.split(data["pcm"], np.cumsum(data["lengths"])[:-1])


def all_clips(folder: Path) -> Iterator[Pcm]:
    """Every song rendered so far, in order."""
    for path in sorted(folder.glob("*.npz")):
        yield from shard_clips(path)
