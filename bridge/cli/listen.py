"""`streamgen listen`: plays or saves what a server sends, and steers it.

    Call ─► sink: a file, or ring ─► sound card

Rules: options, sinks and the report; the conversation is in doors/native/client.py. What a parameter may be is the
server's to say: its `hello` brings its own table.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.audio.files import AudioFile, check_output
from bridge.audio.resample import Resampler, resampler
from bridge.audio.ring import Ring
from bridge.cli.options import add_json_option, number
from bridge.cli.terminal import StopFlag, print_json, say, stop_on_signals
from bridge.doors.native.client import Call, Pcm, Received, Sink, stream_url
from bridge.doors.native.frames import CODECS, MAX_RATE_HZ, MIN_RATE_HZ
from bridge.doors.sound_card.card import OutputDevice, SoundCard, choose_device
from bridge.errors import UsageError
from streamgen.config import ControlSpec, Value
from streamgen.errors import StreamgenError

__all__ = ["add_arguments", "run", "values_of", "words_of"]

_RING_SECONDS = 2
_RESUME_SECONDS = 0.2
_NOTICE_SECONDS, _FAREWELL_SECONDS = 0.1, 0.5  # after Ctrl-C: until it is seen; until a call that hangs is cut off


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("url", metavar="URL", help="of the server, such as ws://127.0.0.1:8711 or just HOST:PORT")
    parser.add_argument("--out", type=Path, metavar="FILE", help="save it: .wav, .flac or .ogg (default: play it)")
    parser.add_argument(
        "--seconds", type=number(0.1, 86_400 * 365, "seconds"), metavar="S", help="stop after (default: never)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
        help="change a parameter first, such as prompt/1/text=techno; may be repeated",
    )  # fmt: skip
    parser.add_argument("--codec", choices=tuple(CODECS), default="s16le", help="of the audio (default: s16le)")
    rate = number(MIN_RATE_HZ, MAX_RATE_HZ, "Hz", whole=True)
    parser.add_argument("--sample-rate", type=rate, metavar="HZ", help="of the audio (default: the session's)")
    parser.add_argument("--session", metavar="NAME", help="live (default), new, or a name")
    parser.add_argument("--token", metavar="SECRET", help="if the server asks for one")
    parser.add_argument("--output", metavar="NAME", help="sound device: its number or part of its name")
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Listen until --seconds, Ctrl-C or a refusal; exit code 0, or 1 if it ended early."""
    words = words_of(args.changes)
    if args.out is not None:
        check_output(args.out, args.seconds or 0.0, int(args.sample_rate or 48_000))
    device = None if args.out is not None else choose_device(args.output)
    url = stream_url(args.url, _query(args, device))
    with stop_on_signals() as stop, _sink(args.out, device) as sink:
        enough = _Enough(stop)
        call = _Call(url, {}, sink, Received(args.seconds), enough, say, words=words)
        asyncio.run(_listen(call, enough))
    _report(call, args)
    if args.json:
        print_json(_fields(call, args))
    return 0 if call.received.complete or args.seconds is None else 1


async def _listen(call: Call, stop: _Enough) -> None:
    """Listen to the end; a call that hangs, on a socket that nobody answers, must not outlive Ctrl-C by much."""
    task = asyncio.create_task(call.listen())
    while not task.done():
        await asyncio.wait([task], timeout=_NOTICE_SECONDS)
        if stop and not task.done():
            await asyncio.wait([task], timeout=_FAREWELL_SECONDS)
            task.cancel()
    with suppress(asyncio.CancelledError):
        await task


# -- what is changed first ---------------------------------------------------------------------------------------------


def words_of(changes: Iterable[str]) -> dict[str, str]:
    """Take NAME=VALUE words apart.

    Raises:
        UsageError: there is no "=".
    """
    words: dict[str, str] = {}
    for change in changes:
        name, separator, words[name] = change.partition("=")
        if not separator:
            raise UsageError(f"--set is {change!r}, must be NAME=VALUE, such as prompt/1/text=techno")
    return words


def values_of(words: Mapping[str, str], parameters: Iterable[Mapping[str, Any]]) -> dict[str, Value]:
    """Read the words by the server's table, as its `hello` brings it.

    Raises:
        UsageError: an unknown name, or a value that does not fit.
    """
    table = {str(row.get("name")): row for row in parameters}
    for name in words:
        if name not in table:
            raise UsageError(f"--set: the server has no parameter {name!r}; it has {', '.join(table)}")
    try:
        return {name: _spec(table[name]).parse(word) for name, word in words.items()}
    except StreamgenError as problem:
        raise UsageError(f"--set: {problem}") from None


def _spec(row: Mapping[str, Any]) -> ControlSpec:
    low, high, choices = row.get("min"), row.get("max"), tuple(row.get("choices", ()))
    return ControlSpec(row["type"], low, high, row.get("default", ""), row.get("unit", ""), "", choices, row["name"])


class _Enough(StopFlag):
    """True once a signal has come, or the server has said goodbye."""

    def __init__(self, stop: StopFlag) -> None:
        super().__init__()
        self._stop, self.goodbye = stop, False

    def __bool__(self) -> bool:
        """Whether to end now."""
        return self.goodbye or bool(self._stop)


@dataclass
class _Call(Call):
    """A call that begins with changes, and ends with the server.

    Attributes:
        stop: as `Call`'s; told of the server's goodbye.
        words: what to change, name → value as it was typed.
    """

    stop: _Enough
    words: dict[str, str] = field(default_factory=dict)

    async def _greeted(self, socket: Any, hello: dict[str, Any]) -> None:
        self.wanted = values_of(self.words, hello.get("parameters", ()))
        self.words = {}  # once: another hand may have changed them since
        await super()._greeted(socket, hello)

    async def _told(self, socket: Any, message: dict[str, Any]) -> None:
        await super()._told(socket, message)
        self.stop.goodbye |= message.get("type") == "goaway"


def _query(args: argparse.Namespace, device: OutputDevice | None) -> dict[str, str]:
    rate = args.sample_rate
    if rate is None and device is not None and MIN_RATE_HZ <= device.sample_rate_hz <= MAX_RATE_HZ:
        rate = device.sample_rate_hz  # the server resamples: nothing is resampled twice
    fields = {"codec": args.codec, "sample_rate_hz": rate, "session": args.session, "token": args.token}
    return {name: str(value) for name, value in fields.items() if value is not None}


# -- where it goes -----------------------------------------------------------------------------------------------------


class _ToFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: AudioFile | None = None

    def write(self, samples: Pcm, rate_hz: int) -> None:
        self._file = self._file or AudioFile(self._path, rate_hz)
        self._file.write(samples)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _ToCard:
    """A ring of two seconds before the sound card; what does not fit is dropped, for the server's clock runs ahead.

    The server is asked for the device's rate; where it has none such (192 kHz), what comes is converted here.
    """

    def __init__(self, device: OutputDevice) -> None:
        self._mono = device.channels == 1
        self._rate_hz = device.sample_rate_hz
        frames, resume = _RING_SECONDS * self._rate_hz, round(_RESUME_SECONDS * self._rate_hz)
        self.ring = Ring(frames, device.channels, resume_frames=resume)
        self._converter: tuple[int, Resampler] | None = None

    def write(self, samples: Pcm, rate_hz: int) -> None:
        if self._converter is None or self._converter[0] != rate_hz:
            self._converter = rate_hz, resampler(rate_hz, self._rate_hz)
        samples = self._converter[1].process(samples)
        self.ring.write(samples.mean(axis=0, keepdims=True).T if self._mono else samples.T)


@contextmanager
def _sink(out: Path | None, device: OutputDevice | None) -> Iterator[Sink]:
    if device is None:
        assert out is not None, "neither a file nor a device"
        file = _ToFile(out)
        try:
            yield file
        finally:
            file.close()
        return
    card = _ToCard(device)
    with SoundCard(device, card.ring):
        say(f"playing on {device.name} ({device.host_api}, {device.sample_rate_hz} Hz)")
        yield card


def _report(call: Call, args: argparse.Namespace) -> None:
    received = call.received
    missing = f"{received.gaps} gaps, {received.gap_frames / (received.rate_hz or 1):.2f} s missing"
    again = f", {call.connections - 1} reconnections" if call.connections > 1 else ""
    say(f"{args.out or 'played'}: {received.seconds:.2f} s, {missing}{again}")


def _fields(call: Call, args: argparse.Namespace) -> dict[str, object]:
    received, first = call.received, call.first_audio_seconds
    return {
        "session": call.hello.get("session"),
        "model": call.hello.get("model"),
        "codec": args.codec,
        "sample_rate_hz": received.rate_hz,
        "channels": 2,
        "audio_seconds": round(received.seconds, 6),
        "wall_seconds": round(time.monotonic() - call.began, 3),
        "first_audio_seconds": None if first is None else round(first, 3),
        "gaps": received.gaps,
        "underruns": call.underruns,
        "gap_seconds": round(received.gap_frames / (received.rate_hz or 1), 6),
        "reconnections": max(0, call.connections - 1),
        "errors": call.errors,
        "interrupted": not received.complete and args.seconds is not None,
        "out": str(args.out) if args.out is not None and received.frames else None,
    }
