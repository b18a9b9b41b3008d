"""`streamgen render`: text to an audio file.

Rules: everything that can be wrong is checked before torch is loaded; audio goes to the file as it comes, so memory is
flat and Ctrl-C or SIGTERM leaves a valid file of what was made.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.files import AudioFile, check_output
from bridge.audio.resample import resampler
from bridge.cli.interrupts import StopFlag, stop_on_signals
from bridge.cli.options import (
    add_json_option,
    add_model_options,
    add_music_options,
    add_prompt,
    load_model,
    number,
    stream_options,
)
from bridge.cli.terminal import Progress, print_json, say
from bridge.errors import UsageError

if TYPE_CHECKING:
    from streamgen.model import Model
    from streamgen.stream.stream import Stream

__all__ = ["add_arguments", "render", "run"]

_CHUNK_SECONDS = 0.1
_ASSUMED_RATE_HZ = 32_000  # of every MusicGen there is; only to refuse a wav that would grow too big


@dataclass(frozen=True)
class Rendered:
    """What a render came to.

    Attributes:
        audio_seconds: length of the file.
        wall_seconds: time from the first prompt token to the closed file; loading the model is not in it.
        first_audio_seconds: the same, to the first audio.
        interrupted: whether a signal ended it early.
    """

    audio_seconds: float
    wall_seconds: float
    first_audio_seconds: float
    interrupted: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_prompt(parser)
    parser.add_argument(
        "--seconds", type=number(0.1, 86_400 * 7, "seconds"), default=30.0, metavar="S", help="length (default: 30)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the file to write: .wav, .flac or .ogg"
    )
    rate = number(8_000, 192_000, "Hz", whole=True)
    parser.add_argument("--sample-rate", type=rate, metavar="HZ", help="rate of the file (default: the model's)")
    add_model_options(parser)
    add_music_options(parser, without=("glide_seconds", "change_context_seconds"))  # nothing changes meanwhile
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Render; exit code 0 if all of it was made, 1 if interrupted."""
    check_output(args.out, args.seconds, args.sample_rate or _ASSUMED_RATE_HZ)
    _check_not_its_own_prompt(args)
    options = stream_options(args)
    model = load_model(args)
    with stop_on_signals() as stop:
        began = time.perf_counter()
        with closing(model.open_stream(**options)) as stream:
            done = render(stream, model.sample_rate_hz, args, began, stop)
            windows = stream.metrics.rollovers + 1
    _report(done, args, options["seed"])
    if args.json:
        print_json(_fields(done, args, model, windows, options["seed"]))
    return 1 if done.interrupted else 0


def _check_not_its_own_prompt(args: argparse.Namespace) -> None:
    for name, path in (("--audio-prompt", args.audio_prompt), ("--melody", args.melody)):
        if path is not None and path.exists() and args.out.exists() and path.samefile(args.out):
            raise UsageError(
                f"--out and {name} are both {str(path)!r}: the file would be overwritten; choose another --out"
            )


def render(stream: Stream, from_hz: int, args: argparse.Namespace, began: float, stop: StopFlag) -> Rendered:
    """Write `args.seconds` of a stream to `args.out`, or less if `stop` comes true; `began` is a perf_counter time."""
    to_hz = args.sample_rate or from_hz
    progress = Progress(args.seconds)
    first_audio = math.nan
    with AudioFile(args.out, to_hz) as file:
        for samples in _converted(stream, from_hz, to_hz, args.seconds, stop):
            if math.isnan(first_audio):
                first_audio = time.perf_counter() - began
            file.write(samples)
            progress.update(file.seconds)
        seconds = file.seconds
    progress.close()
    return Rendered(seconds, time.perf_counter() - began, first_audio, bool(stop))


def _converted(
    stream: Stream, from_hz: int, to_hz: int, seconds: float, stop: StopFlag
) -> Iterator[NDArray[np.float32]]:
    """Give float32 [2, n] at `to_hz`, exactly `seconds` of it in all unless stopped."""
    convert = resampler(from_hz, to_hz)
    source_left, left = round(seconds * from_hz), round(seconds * to_hz)
    chunks = stream.chunks(seconds=_CHUNK_SECONDS)
    while source_left > 0 and not stop:
        taken = next(chunks).samples[:, :source_left]
        source_left -= taken.shape[1]
        samples = convert.process(taken, last=source_left == 0)[:, :left]
        left -= samples.shape[1]
        if samples.shape[1]:
            yield samples
    if source_left:
        yield convert.process(np.zeros((2, 0), np.float32), last=True)


def _report(done: Rendered, args: argparse.Namespace, seed: int) -> None:
    speed = f"{done.audio_seconds / done.wall_seconds:.2f} × real time, seed {seed}"
    if not done.interrupted:
        say(f"{args.out}: {done.audio_seconds:g} s in {done.wall_seconds:.1f} s, {speed}")
    elif done.audio_seconds:
        say(f"interrupted: {args.out} holds the first {done.audio_seconds:.1f} s of {args.seconds:g} s, {speed}")
    else:
        say("interrupted before any audio was made; no file was written")


def _fields(done: Rendered, args: argparse.Namespace, model: Model, windows: int, seed: int) -> dict[str, Any]:
    return {
        "model": model.name,
        "precision": model.precision,
        "device": str(model.device),
        "sample_rate_hz": args.sample_rate or model.sample_rate_hz,
        "channels": 2,
        "audio_seconds": round(done.audio_seconds, 6),
        "wall_seconds": round(done.wall_seconds, 3),
        "realtime_factor": round(done.audio_seconds / done.wall_seconds, 3),
        "first_audio_seconds": None if math.isnan(done.first_audio_seconds) else round(done.first_audio_seconds, 3),
        "windows": windows,
        "seed": seed,
        "interrupted": done.interrupted,
        "out": str(args.out) if done.audio_seconds else None,
    }
