"""`streamgen play`: text to the sound card, and a line editor to change it while it plays.

Rules: each thread has one job. The engine's thread owns the stream: it takes commands from a queue between two chunks,
and puts audio into the ring. PortAudio's callback copies from the ring. A daemon thread reads lines. The main thread
waits.

    lines ──► queue ──► engine's thread ──► ring ──► callback ──► loudspeaker
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.audio.resample import Resampler, resampler
from bridge.audio.ring import Ring
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
from bridge.cli.terminal import kept_terminal, on_terminal, print_json, say, typed_lines
from bridge.doors.sound_card.card import OutputDevice, SoundCard, choose_device
from bridge.errors import DeviceError
from bridge.session.parameters import LIVE, PARAMETERS, parse
from bridge.threads import take_short_turns
from streamgen.errors import ConfigError, StreamgenError

if TYPE_CHECKING:
    from streamgen.model import Model
    from streamgen.stream.stream import Stream

__all__ = ["Player", "add_arguments", "run"]

_CHUNK_SECONDS = 0.1
_HELP = "type a new prompt and Enter; :set NAME VALUE (" + ", ".join(LIVE) + "); :s status; :q quit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_prompt(parser)
    parser.add_argument(
        "--seconds", type=number(0.1, 86_400 * 365, "seconds"), metavar="S", help="stop after (default: never)"
    )
    parser.add_argument(
        "--output", metavar="NAME", help="sound device: its number or part of its name; see `streamgen devices`"
    )
    parser.add_argument(
        "--buffer", type=number(0.2, 30, "seconds"), default=1.0, metavar="S",
        help="audio held ready: more survives stalls, less answers sooner (default: 1)",
    )  # fmt: skip
    add_model_options(parser)
    add_music_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Play until :q, Ctrl-C, --seconds or an error."""
    options = stream_options(args)
    try:
        device = choose_device(args.output)
    except DeviceError as error:
        raise DeviceError(f"{error}; to make a file instead: {_render_instead(args)}") from error
    model = load_model(args)
    take_short_turns()
    with stop_on_signals() as stop, closing(model.open_stream(**options)) as stream:
        player = Player(stream, model.sample_rate_hz, device, args.buffer, args.seconds)
        _play(player, device, stop)
    player.report()
    if args.json:
        print_json(_fields(player, model, device, options["seed"]))
    return 0


def _render_instead(args: argparse.Namespace) -> str:
    prompt = "--unconditional" if args.prompt is None else f'"{args.prompt}"'
    return f"streamgen render {prompt} --seconds {args.seconds or 30:g} --out music.wav"


@dataclass
class Player:
    """One stream on its way to one device.

    Attributes:
        stream: an endless stream; the engine's thread alone touches it once run() has begun.
        source_hz: its rate.
        device: where it plays.
        buffer_seconds: audio held ready.
        limit_seconds: when to end; None is never.
        late_callbacks: how often the system itself asked for audio too late, known once it is over.
    """

    stream: Stream
    source_hz: int
    device: OutputDevice
    buffer_seconds: float
    limit_seconds: float | None = None
    commands: queue.SimpleQueue[Callable[[Stream], None]] = field(default_factory=queue.SimpleQueue)
    made_seconds: float = 0.0
    busy_seconds: float = 0.0
    late_callbacks: int = 0
    error: BaseException | None = None

    def __post_init__(self) -> None:
        """Make the ring, empty."""
        frames = round(self.buffer_seconds * self.device.sample_rate_hz)
        self.ring = Ring(frames, self.device.channels, resume_frames=max(1, frames // 2))
        self.stopping = threading.Event()
        self.primed = threading.Event()

    @property
    def realtime_factor(self) -> float:
        """Audio made a second of work; below 1 there are gaps."""
        return self.made_seconds / self.busy_seconds if self.busy_seconds else 0.0

    def run(self) -> None:
        """The engine's thread: commands in, audio out, until stopped or the limit is reached."""
        try:
            self._run(resampler(self.source_hz, self.device.sample_rate_hz))
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.error = error
        finally:
            self.ring.end()
            self.primed.set()

    def _run(self, convert: Resampler) -> None:
        chunks = self.stream.chunks(seconds=_CHUNK_SECONDS)
        left = np.inf if self.limit_seconds is None else round(self.limit_seconds * self.source_hz)
        while left > 0 and not self.stopping.is_set():
            began = time.perf_counter()
            self._obey()
            samples = next(chunks).samples
            samples = samples[:, : int(min(left, samples.shape[1]))]
            left -= samples.shape[1]
            frames = convert.process(samples, last=left <= 0)
            self.busy_seconds += time.perf_counter() - began
            self.made_seconds += samples.shape[1] / self.source_hz
            self._put(frames.T if self.device.channels == 2 else frames.mean(axis=0, keepdims=True).T)

    def _obey(self) -> None:
        while not self.commands.empty():
            self.commands.get()(self.stream)

    def _put(self, frames: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        while len(frames) and not self.stopping.is_set():
            frames = frames[self.ring.write(frames) :]
            if len(frames):
                self.primed.set()
                time.sleep(_CHUNK_SECONDS / 4)

    def status(self) -> str:
        """One line: speed, what is held ready, gaps so far."""
        lead = self.ring.filled_frames / self.device.sample_rate_hz
        gaps = f"{self.ring.starvations} gaps, {self.ring.starved_frames / self.device.sample_rate_hz:.1f} s of silence"
        return f"{self.made_seconds:.0f} s made, {self.realtime_factor:.2f} × real time, {lead:.1f} s ready, {gaps}"

    def report(self) -> None:
        """Say how it went, and what would make it better."""
        say(self.status())
        if self.late_callbacks:
            say(f"the system was too busy to play in time, {self.late_callbacks} times: close other programs")
        if self.ring.starvations and self.realtime_factor < 1:
            say("this machine is slower than real time here: choose a smaller --model, or `streamgen render` to a file")


def _play(player: Player, device: OutputDevice, stop: StopFlag) -> None:
    engine = threading.Thread(target=player.run, name="streamgen engine")
    engine.start()
    terminal = on_terminal()
    try:
        _wait(player.primed, player, stop)
        with kept_terminal(terminal), SoundCard(device, player.ring) as card:
            held = player.buffer_seconds + card.latency_seconds
            where = f"{device.name} ({device.host_api}, {device.sample_rate_hz} Hz)"
            say(f"playing on {where}; a change is heard in about {held:.1f} s")
            _start_editor(player, terminal)
            while not (stop or player.stopping.is_set() or player.ring.drained):
                time.sleep(0.05)
            if player.ring.drained:
                time.sleep(card.latency_seconds)  # PulseAudio under ALSA drops what it still holds when a stream stops
        player.late_callbacks = card.late_callbacks
    finally:
        player.stopping.set()
        engine.join()
        if terminal:
            say("")  # leave the line that is being typed
    if player.error is not None:
        raise player.error


def _wait(event: threading.Event, player: Player, stop: StopFlag) -> None:
    while not (stop or event.wait(0.05)):
        if player.stopping.is_set():
            return


def _start_editor(player: Player, terminal: bool) -> None:
    if terminal:
        say(_HELP)
    threading.Thread(target=_read_lines, args=(player, terminal), name="streamgen lines", daemon=True).start()


def _read_lines(player: Player, terminal: bool) -> None:
    """Take lines until the end of input: that means quit on a terminal, and play on from a pipe."""
    for line in typed_lines() if terminal else sys.stdin or ():
        answer = handle_line(line.strip(), player)
        if answer:
            say(answer)
    if terminal:
        player.stopping.set()


def handle_line(line: str, player: Player) -> str:
    """Do what one line asks; returns what to say, "" for nothing."""
    if not line.startswith(":"):
        return _change(player, f"prompt: {line}", prompt=line) if line else ""
    word, *rest = line[1:].split() or ["help"]
    if word in ("q", "quit"):
        player.stopping.set()
        return ""
    if word in ("s", "status"):
        return player.status()
    if word == "set" and len(rest) == 2 and rest[0] in LIVE:
        return _set(player, *rest)
    return _HELP


def _set(player: Player, name: str, text: str) -> str:
    try:
        value = parse(name, PARAMETERS[name], text)
    except ConfigError as error:
        return str(error)
    return _change(player, f"{name}: {value:g}", **{name: value})


def _change(player: Player, answer: str, **values: Any) -> str:
    def change(stream: Stream) -> None:
        try:
            stream.set(**values)
        except StreamgenError as error:  # a wrong prompt typed live must not end the music
            say(str(error))

    player.commands.put(change)
    return answer


def _fields(player: Player, model: Model, device: OutputDevice, seed: int) -> dict[str, object]:
    return {
        "model": model.name,
        "precision": model.precision,
        "device": str(model.device),
        "output": device.name,
        "sample_rate_hz": device.sample_rate_hz,
        "channels": device.channels,
        "audio_seconds": round(player.made_seconds, 3),
        "realtime_factor": round(player.realtime_factor, 3),
        "gaps": player.ring.starvations,
        "late_callbacks": player.late_callbacks,
        "gap_seconds": round(player.ring.starved_frames / device.sample_rate_hz, 3),
        "windows": player.stream.metrics.rollovers + 1,
        "seed": seed,
    }
