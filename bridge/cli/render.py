"""`streamgen render`: text to an audio file, by the same session as `serve` plays, under a clock that the audio drives.

    Player ─ blocks ─► file
       ▲
       └─ time passes as soon as enough is made ahead: nothing is ever late, and nothing waits

Rules: everything that can be wrong is checked before torch is loaded; audio goes to the file as it comes, so memory is
flat and Ctrl-C or SIGTERM leaves a valid file of what was made.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.conversion import resampler
from bridge.audio.faults import SlotFault
from bridge.audio.files import BITS, PIPE, AudioFile, WavPipe, check_output
from bridge.cli.options import (
    add_json_option,
    add_music_options,
    add_prompt,
    add_prompt_files,
    add_settings,
    beginning,
    first_values,
    load_model,
    number,
    prompt_files,
    prompt_of,
    settings_of,
)
from bridge.cli.terminal import Progress, StopFlag, may_write, print_json, say, stop_on_signals
from bridge.errors import UsageError
from bridge.session.commands import Action, Transport
from bridge.session.events import Block, Event
from bridge.session.presets import commands
from bridge.session.rack_keeper import Beginning
from bridge.session.timeline import Timeline
from bridge.settings import Settings, music_table
from streamgen.config import Value

if TYPE_CHECKING:
    from streamgen import Model

__all__ = ["OfflineSession", "add_arguments", "run"]

Pcm = NDArray[np.float32]

_NOTHING_CHANGES = ("glide_seconds", "change_context_seconds", "lead_seconds")  # meanwhile: these would do nothing
_DEADLINE_SECONDS = 30.0  # for a plugin's block: nobody is waiting
_TAIL_SECONDS = 0.05  # made beyond the end where a resampler follows, for its filter looks that far


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_prompt(parser)
    parser.add_argument(
        "--seconds",
        type=number(0.1, 86_400 * 7, "seconds"),
        default=30.0,
        metavar="S",
        help="length, cut there without a fade (default: 30)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE",
        help="the file to write: .wav, .flac, .ogg or .mp3; - is a wav into standard output",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="write over a FILE that is there")
    parser.add_argument(
        "--bits", type=int, choices=BITS, help="of a wav or flac (default: 24; 32 are floats, wav only)"
    )
    rate = number(8_000, 192_000, "Hz", whole=True)
    parser.add_argument("--sample-rate", type=rate, metavar="HZ", help="rate of the file (default: --session-rate)")
    add_settings(parser, "session_rate", "scene", "rack")
    add_music_options(parser, without=_NOTHING_CHANGES)
    add_prompt_files(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Render; exit code 0 if all of it was made, 1 if interrupted."""
    settings = settings_of(args)
    rate_hz = args.sample_rate or settings.session_rate
    _check_output(args, rate_hz)
    prompt, options = prompt_of(args), prompt_files(args)
    with beginning(settings, _DEADLINE_SECONDS) as rack:
        values = first_values(settings, prompt, rack.preset.values)
        model = load_model(settings)
        with stop_on_signals() as stop:
            began = time.perf_counter()
            with closing(OfflineSession(model, settings, values, options, rack)) as session:
                heard = session.heard
                if heard:  # before minutes of work for music that was not meant
                    say(f"heard: {heard}")
                done = _write(session, rate_hz, args, began, stop)
                windows = session.windows
    _report(done, args, int(values["seed"]))
    if args.json:
        print_json(_fields(done, args, model, windows, int(values["seed"]), rate_hz) | {"heard": heard})
    return 1 if done.interrupted else 0


def _check_output(args: argparse.Namespace, rate_hz: int) -> None:
    if args.out != PIPE:
        check_output(args.out, args.seconds, rate_hz, bits=args.bits)
        _check_not_its_own_prompt(args)
        may_write(args.out, force=args.force)
    elif args.json or args.bits == BITS[-1] or sys.stdout.isatty():
        raise UsageError(
            "--out is '-', a wav of 16 or 24 bits into standard output: not with --json, nor at a terminal"
        )


def _check_not_its_own_prompt(args: argparse.Namespace) -> None:
    prompts = (("--audio-prompt", args.audio_prompt), ("--melody", args.melody), ("--style", args.style))
    for name, path in prompts:
        if path is not None and path.exists() and args.out.exists() and path.samefile(args.out):
            raise UsageError(
                f"--out and {name} are both {str(path)!r}: the file would be overwritten; choose another --out"
            )


# -- the music ---------------------------------------------------------------------------------------------------------


class OfflineSession:
    """A session without a clock of its own: what it plays is what a live one of the same values plays.

    Args:
        model: what plays.
        settings: its rate.
        values: parameters to begin with.
        options: further arguments of `Model.open_stream`.
        rack: what its rack is made of, and its scene.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        values: Mapping[str, Value],
        options: Mapping[str, Any],
        rack: Beginning,
    ) -> None:
        from bridge.session.player import Player  # needs torch

        rate_hz = self.rate_hz = settings.session_rate
        self._seconds = 0.0
        self._blocks: list[Pcm] = []
        timeline = Timeline(rate_hz, lambda: self._seconds, lambda: self._seconds)
        shortest = music_table()["lead_seconds"].limits[0]  # nothing is late here: what is made is played at once
        self._player = Player(
            model,
            self._hear,
            timeline,
            values={**values, "lead_seconds": shortest},
            options=options,
            scene=rack.scene,
        )
        self._player.playback.wanted = True
        for command in commands(rack.preset, rack.make(rate_hz), "rack"):
            self._player.do(command)

    def _hear(self, item: Block | Event) -> None:
        if isinstance(item, Block):
            self._blocks.append(item.samples)
        elif isinstance(item, SlotFault):
            say(item.told())

    @property
    def windows(self) -> int:
        """How many windows of the model have led so far."""
        return self._player.generator.windows

    @property
    def heard(self) -> str:
        """What the model understands of the prompt, one line."""
        return self._player.heard

    def step(self) -> list[Pcm]:
        """Go on a little; returns the samples that are final since, float32 [2, n] each."""
        wait = self._player.tick()
        if self._player.playback.needs_audio:
            self._player.make()
        else:
            self._seconds += wait
        return self._taken()

    def end(self) -> list[Pcm]:
        """Fade out, and return what the effects held back."""
        self._player.do(Transport(Action.PAUSE, "render"))
        return self._taken()

    def _taken(self) -> list[Pcm]:
        taken, self._blocks = self._blocks, []
        return taken

    def close(self) -> None:
        """Give the stream's memory back."""
        self._player.close()


def _pieces(session: OfflineSession, rate_hz: int, seconds: float, stop: StopFlag) -> Iterator[Pcm]:
    """Give float32 [2, n] at the file's rate, exactly `seconds` of it in all unless stopped."""
    convert, left = resampler(session.rate_hz, rate_hz), round(seconds * rate_hz)
    tail = 0 if rate_hz == session.rate_hz else _TAIL_SECONDS
    for samples in _until(session, round((seconds + tail) * session.rate_hz), stop):
        piece = convert.process(samples)[:, :left]
        left -= piece.shape[1]
        yield piece
    yield convert.process(np.zeros((2, 0), np.float32), last=True)[:, :left]


def _until(session: OfflineSession, count: int, stop: StopFlag) -> Iterator[Pcm]:
    """Give so many samples, or what there is when `stop` comes true."""
    while count > 0 and not stop:
        for samples in session.step():
            yield samples[:, : max(count, 0)]
            count -= samples.shape[1]
    if count > 0:
        yield from session.end()


# -- the file ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rendered:
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


def _write(session: OfflineSession, rate_hz: int, args: argparse.Namespace, began: float, stop: StopFlag) -> _Rendered:
    """Write `args.seconds` to `args.out`, or less if `stop` comes true; `began` is a perf_counter time."""
    progress = Progress(args.seconds)
    first_audio = math.nan
    frames = round(args.seconds * rate_hz)
    piped = args.out == PIPE
    with WavPipe(rate_hz, frames, args.bits or 24) if piped else AudioFile(args.out, rate_hz, bits=args.bits) as file:
        for samples in _pieces(session, rate_hz, args.seconds, stop):
            if samples.shape[1]:
                file.write(samples)
                first_audio = time.perf_counter() - began if math.isnan(first_audio) else first_audio
            progress.update(file.seconds)
        seconds = file.seconds
    progress.close()
    complete = seconds >= frames / rate_hz
    return _Rendered(seconds, time.perf_counter() - began, first_audio, bool(stop) and not complete)


def _report(done: _Rendered, args: argparse.Namespace, seed: int) -> None:
    speed = f"{done.audio_seconds / done.wall_seconds:.2f} × real time, seed {seed}"
    if not done.interrupted:
        say(f"{args.out}: {done.audio_seconds:g} s in {done.wall_seconds:.1f} s, {speed}")
    elif done.audio_seconds:
        say(f"interrupted: {args.out} holds the first {done.audio_seconds:.1f} s of {args.seconds:g} s, {speed}")
    else:
        say("interrupted before any audio was made; no file was written")


def _fields(
    done: _Rendered, args: argparse.Namespace, model: Model, windows: int, seed: int, rate_hz: int
) -> dict[str, Any]:
    return {
        "model": model.name,
        "precision": model.precision,
        "device": str(model.device),
        "sample_rate_hz": rate_hz,
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
