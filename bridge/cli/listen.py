"""`streamgen listen`: plays or saves what a server sends, and steers it.

    Call ─► sink: a file, or the sound card's door

Rules: options, sinks and the report; the conversation is in doors/native/client.py. What a parameter may be is the
server's to say: its `hello` brings its own table.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.audio.files import AudioFile, check_output
from bridge.cli.options import add_json_option, number
from bridge.cli.terminal import StopFlag, may_write, print_json, say, stop_on_signals
from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.native.client import ListenClient, Pcm, Received, stream_url
from bridge.doors.native.frames import CODECS, MAX_RATE_HZ, MIN_RATE_HZ
from bridge.doors.sound_card.card import OutputDevice, choose_device
from bridge.doors.sound_card.door import SoundCardDoor
from bridge.errors import UsageError, WireError
from bridge.metrics import Metrics
from bridge.session.events import Block, Gap
from bridge.settings import Settings
from streamgen.config import ControlSpec, Value
from streamgen.errors import ConfigError, StreamgenError, one_line

__all__ = ["add_arguments", "run", "values_of", "words_of"]

_AHEAD_SECONDS = 0.1  # from its coming to its being due: with the server's first burst, 0.3 s against jitter on the way
_NOTICE_SECONDS, _FAREWELL_SECONDS = 0.1, 0.5  # after Ctrl-C: until it is seen; until a call that hangs is cut off


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("url", metavar="URL", help="of the server, such as ws://127.0.0.1:8711 or just HOST:PORT")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="save it: .wav, .flac, .ogg or .mp3 (default: play it)"
    )
    parser.add_argument("--force", action="store_true", help="write over a FILE that is there")
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
    """Listen until --seconds, Ctrl-C or a refusal; exit code 0, or 1 if it ended early or --set was refused."""
    words = words_of(args.changes)
    if args.out is not None:
        check_output(args.out, args.seconds or 0.0, int(args.sample_rate or 48_000))
        may_write(args.out, force=args.force)
    device = None if args.out is not None else choose_device(args.output)
    query = _query(args, device)
    sink = _ToFile(args.out) if device is None else _ToCard(device, int(query["sample_rate_hz"]), args.output)
    with stop_on_signals() as stop:
        enough = _Enough(stop)
        client = _Listening(stream_url(args.url, query), {}, sink, Received(args.seconds), enough, say, words=words)
        asyncio.run(_listen(client, sink, enough))
    _report(client, sink, args)
    if args.json:
        print_json(_fields(client, sink, args))
    refused = bool(words) and client.errors > 0
    return 0 if not refused and (client.received.complete or args.seconds is None) else 1


async def _listen(client: ListenClient, sink: _ToFile | _ToCard, stop: _Enough) -> None:
    """Listen to the end; a call that hangs, on a socket that nobody answers, must not outlive Ctrl-C by much."""
    async with sink:
        task = asyncio.create_task(client.listen())
        while not task.done():
            await asyncio.wait([task], timeout=_NOTICE_SECONDS)
            if stop and not task.done():
                await asyncio.wait([task], timeout=_FAREWELL_SECONDS)
                task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if client.received.complete:
            await asyncio.sleep(sink.unheard_seconds)


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
            raise UsageError(f"--set: {one_line(ConfigError.unknown('parameter', name, table), 2_000)}")
    try:
        return {name: _spec(table[name]).parse(word) for name, word in words.items()}
    except StreamgenError as problem:
        raise UsageError(f"--set: {one_line(problem, 2_000)}") from None


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
class _Listening(ListenClient):
    """Listening that begins with changes, and ends with the server.

    Attributes:
        sink: as `ListenClient`'s; told where silence is meant.
        stop: as `ListenClient`'s; told of the server's goodbye.
        words: what to change, name → value as it was typed.
    """

    sink: _ToFile | _ToCard
    stop: _Enough
    words: dict[str, str] = field(default_factory=dict)

    async def _greeted(self, socket: Any, hello: dict[str, Any]) -> None:
        self.wanted = values_of(self.words, hello.get("parameters", ()))
        self.words = {}  # once: another hand may have changed them since
        await super()._greeted(socket, hello)

    async def _told(self, socket: Any, message: dict[str, Any]) -> None:
        await super()._told(socket, message)
        self.stop.goodbye |= message.get("type") == "goaway"
        if message.get("type") in ("gap", "transport"):
            self.sink.rest()


def _query(args: argparse.Namespace, device: OutputDevice | None) -> dict[str, str]:
    rate = args.sample_rate
    if rate is None and device is not None:  # the server resamples: nothing is resampled twice, if it has that rate
        rate = max(MIN_RATE_HZ, min(MAX_RATE_HZ, device.sample_rate_hz))
    fields = {"codec": args.codec, "sample_rate_hz": rate, "session": args.session, "token": args.token}
    return {name: str(value) for name, value in fields.items() if value is not None}


# -- where it goes -----------------------------------------------------------------------------------------------------


class _ToFile:
    away, lost_seconds, unheard_seconds = 0, 0.0, 0.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: AudioFile | None = None

    def write(self, samples: Pcm, rate_hz: int) -> None:
        self._file = self._file or AudioFile(self._path, rate_hz)
        self._file.write(samples)

    def rest(self) -> None:
        """A file has no clock."""

    async def __aenter__(self) -> None:
        """It is made when something comes."""

    async def __aexit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()


class _ToCard:
    """Plays what comes as the service plays its session: in step, and on a device that came back.

    Args:
        device: where, for people.
        rate_hz: of what comes; the door makes of it what the device wants.
        output: where, as the operator said it.
    """

    def __init__(self, device: OutputDevice, rate_hz: int, output: str | None) -> None:
        self._device, self._rate_hz = device, rate_hz
        self._door = SoundCardDoor(Service(Settings(output=output), Access(), Metrics()))
        self._position, self._due = 0, 0.0

    def write(self, samples: Pcm, rate_hz: int) -> None:
        """Play them.

        Raises:
            WireError: they are of another rate than was asked for, and would be played at another speed.
        """
        if rate_hz != self._rate_hz:
            raise WireError("bad_audio", f"the server sends {rate_hz} Hz and was asked for {self._rate_hz} Hz")
        now = time.time()
        self._due = self._due if self._due > now else now + _AHEAD_SECONDS
        self._door.audio(Block(samples, self._position, time_us=round(self._due * 1e6)))
        self._position += samples.shape[1]
        self._due += samples.shape[1] / rate_hz

    def rest(self) -> None:
        """Running empty is no fault now."""
        self._door.event(Gap(self._position, 0, "rest"))

    @property
    def away(self) -> int:
        return max(self._door.sound_stats().reopened, int(self.lost_seconds > 0))

    @property
    def lost_seconds(self) -> float:
        return self._door.sound_stats().lost_seconds

    @property
    def unheard_seconds(self) -> float:
        return max(0.0, self._due - time.time() + self._door.sound_stats().delay_seconds)

    async def __aenter__(self) -> None:
        await self._door.start(self._rate_hz)
        if self._door.places()["sound"]:
            say(f"playing on {self._device.name} ({self._device.host_api}, {self._device.sample_rate_hz} Hz)")

    async def __aexit__(self, *_error: object) -> None:
        await self._door.close("the end")


def _missing(client: ListenClient, sink: _ToFile | _ToCard) -> tuple[int, float]:
    """How often, and how many seconds: on the way, and while there was no device."""
    received = client.received
    return received.gaps + sink.away, received.gap_frames / (received.rate_hz or 1) + sink.lost_seconds


def _report(client: ListenClient, sink: _ToFile | _ToCard, args: argparse.Namespace) -> None:
    gaps, seconds = _missing(client, sink)
    again = f", {client.connections - 1} reconnections" if client.connections > 1 else ""
    lost = f", {sink.lost_seconds:.2f} s of it while the sound device was away" if sink.away else ""
    say(f"{args.out or 'played'}: {client.received.seconds:.2f} s, {gaps} gaps, {seconds:.2f} s missing{lost}{again}")


def _word(told: object) -> str | None:
    return None if told is None else one_line(told)


def _fields(client: ListenClient, sink: _ToFile | _ToCard, args: argparse.Namespace) -> dict[str, object]:
    received, first = client.received, client.first_audio_seconds
    gaps, missing_seconds = _missing(client, sink)
    return {
        "session": _word(client.hello.get("session")),
        "model": _word(client.hello.get("model")),
        "codec": args.codec,
        "sample_rate_hz": received.rate_hz,
        "channels": 2,
        "audio_seconds": round(received.seconds, 6),
        "wall_seconds": round(time.monotonic() - client.began, 3),
        "first_audio_seconds": None if first is None else round(first, 3),
        "gaps": gaps,
        "underruns": client.underruns,
        "gap_seconds": round(missing_seconds, 6),
        "reconnections": max(0, client.connections - 1),
        "errors": client.errors,
        "interrupted": not received.complete and args.seconds is not None,
        "out": str(args.out) if args.out is not None and received.frames else None,
    }
