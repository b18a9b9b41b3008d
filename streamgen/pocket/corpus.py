"""The corpus on disk: rendered loops as 16-bit shards, made once and read as often as needed.

Rules: a shard is written whole or not at all (rename at the end), so an interrupted render goes on where it stopped.
A song is known by its number alone; nothing but its sound is stored.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamgen.pocket.compose import Song, held_out_song, training_song
from streamgen.pocket.synth import Synthesizer

SONGS_PER_SHARD = 50
BARS = 3  # the first from silence, the second with the tails of the first, the third as every later one
Pcm = npt.NDArray[np.int16]


def render_corpus(folder: Path, songs: int) -> None:
    """Render the training songs' loops, shard by shard: five hours of music in two minutes of one core."""
    folder.mkdir(parents=True, exist_ok=True)
    with Synthesizer() as synth:
        for shard in range(-(-songs // SONGS_PER_SHARD)):
            target = shard_path(folder, shard)
            if not target.exists():
                _write_shard(target, synth, range(shard * SONGS_PER_SHARD, (shard + 1) * SONGS_PER_SHARD))
                print(f"render: shard {shard}", flush=True)


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard lies."""
    return folder / f"{shard:04d}.npz"


def _write_shard(target: Path, synth: Synthesizer, numbers: range) -> None:
    clips = [clip for number in numbers for clip in render_song(synth, training_song(number), BARS)]
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, pcm=np.concatenate(clips), lengths=np.array([len(clip) for clip in clips]))
    os.replace(part, target)


def render_song(synth: Synthesizer, song: Song, bars: int) -> list[Pcm]:
    """Every loop of a song, `bars` times from silence, as int16 samples."""
    return [np.round(synth.render(loop, song.bpm, bars) * 32767).astype(np.int16) for loop in song.loops]


def held_out_audio(count: int, bars: int) -> list[Pcm]:
    """The first loops of held-out songs, for judging."""
    with Synthesizer() as synth:
        return [render_song(synth, held_out_song(number), bars)[0] for number in range(count)]


def shard_clips(path: Path) -> list[Pcm]:
    """The loops of one shard, two for each song, in the order of the songs."""
    with np.load(path) as data:
        return np.split(data["pcm"], np.cumsum(data["lengths"])[:-1])


def all_clips(folder: Path) -> Iterator[Pcm]:
    """Every loop rendered so far, in order."""
    for path in sorted(folder.glob("*.npz")):
        yield from shard_clips(path)
