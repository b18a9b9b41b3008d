"""`streamgen play`: the application with two doors, the sound card and this terminal, and no network.

    TerminalDoor ─► live ─► sound card

Rules: options in, a report out; what is typed is terminal_door.py's, all else app.py's.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

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
from bridge.cli.terminal import kept_terminal, on_terminal, print_json, say
from bridge.cli.terminal_door import TerminalDoor
from bridge.errors import BridgeError, DeviceError
from bridge.session.events import Notice
from bridge.settings import music_table

if TYPE_CHECKING:
    from bridge.app import Running
    from bridge.doors.sound_card.card import OutputDevice
    from streamgen import Model

__all__ = ["add_arguments", "run"]

_BUFFER = music_table()["lead_seconds"]
_BUFFER_SECONDS = 1.0  # less than the service keeps: here one person waits for one change
_AFTERMATH_SECONDS = 0.1  # what a device may still hold, above its own word


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_prompt(parser)
    parser.add_argument(
        "--seconds", type=number(0.1, 86_400 * 365, "seconds"), metavar="S", help="stop after (default: never)"
    )
    parser.add_argument(
        "--buffer", type=number(*_BUFFER.limits, "seconds"), default=_BUFFER_SECONDS, metavar="S",
        help=f"audio made ahead: more survives longer stalls (default: {_BUFFER_SECONDS:g})",
    )  # fmt: skip
    add_settings(parser, "output", "latency", "session_rate", "scene", "rack", "presets", "takes")
    add_music_options(parser, without=("lead_seconds",))
    add_prompt_files(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Play until :q, Ctrl-C, --seconds or an error."""
    from bridge.app import SOUND_CARD, App, make_doors, service_of
    from bridge.session.takes import takes_folder
    from bridge.threads import go_first

    settings, prompt, options = settings_of(args), prompt_of(args), prompt_files(args)
    device = _device(args, settings.output)
    go_first()
    service = service_of(settings)
    (sound,) = make_doors(service, [SOUND_CARD])
    door, terminal = TerminalDoor(sound.stats, settings.takes or takes_folder()), on_terminal()

    async def until_quit(running: Running) -> None:
        where = f"{device.name} ({device.host_api}, {device.sample_rate_hz} Hz)"
        say(f"playing on {where}; a change is heard in about {door.delay_seconds:.1f} s")
        await _until_quit(running, door, args.seconds, terminal)

    with beginning(settings) as rack:
        model = load_model(settings)
        values = first_values(settings, prompt, rack.preset.values) | {"lead_seconds": args.buffer}
        with kept_terminal(terminal):
            App(service, [sound, door], values, options, rack=rack).run(model, 1.0, until_quit)
    if terminal:
        say("")  # leave the line that is being typed
    if door.failed:
        raise BridgeError(door.failed)
    _report(door)
    if args.json:
        print_json(_fields(door, model, device, int(values["seed"])))
    return 0


def _device(args: argparse.Namespace, wanted: str | None) -> OutputDevice:
    from bridge.doors.sound_card.card import choose_device

    try:
        return choose_device(wanted)
    except DeviceError as error:
        prompt = "--unconditional" if args.prompt is None else f'"{args.prompt}"'
        instead = f"streamgen render {prompt} --seconds {args.seconds or 30:g} --out music.wav"
        raise DeviceError(f"{error}; to make a file instead: {instead}") from error


async def _until_quit(running: Running, door: TerminalDoor, seconds: float | None, terminal: bool) -> None:
    if seconds is not None:
        await door.end_after(seconds)
    door.tell(Notice("heard", running.live.heard(), 0))
    door.read_lines(terminal)
    ends = [asyncio.create_task(event.wait()) for event in (running.stop, door.ended)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in ends:
        task.cancel()
    if door.finished:
        await asyncio.sleep(door.delay_seconds + _AFTERMATH_SECONDS)
    door.played = door.figures(seconds, running.live.player.generator.windows)


# -- the report --------------------------------------------------------------------------------------------------------


def _report(door: TerminalDoor) -> None:
    """Say how it went, and what would make it better."""
    played = door.played
    say(str(played))
    if played.late_callbacks:
        say(f"the system was too busy to play in time, {played.late_callbacks} times: close other programs")
    if played.gaps and played.realtime_factor < 1:
        say("this machine is slower than real time here: choose a smaller --model, or `streamgen render` to a file")


def _fields(door: TerminalDoor, model: Model, device: OutputDevice, seed: int) -> dict[str, object]:
    played = door.played
    return {
        "model": model.name,
        "precision": model.precision,
        "device": str(model.device),
        "output": device.name,
        "sample_rate_hz": device.sample_rate_hz,
        "channels": device.channels,
        "audio_seconds": round(played.seconds, 3),
        "realtime_factor": round(played.realtime_factor, 3),
        "gaps": played.gaps,
        "late_callbacks": played.late_callbacks,
        "gap_seconds": round(played.gap_seconds, 3),
        "windows": played.windows,
        "seed": seed,
    }
