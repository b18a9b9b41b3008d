"""`streamgen serve`: the application with every door, until Ctrl-C or SIGTERM.

    engine's thread ──► live ──► WebSocket listeners, the page      :8711
                             ──► OSC: control, meters, audio        :8712
                             ──► the sound card, if there is one
                             ──► a recording

Rules: options in, one line and one JSON object out when all is ready; app.py does the rest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bridge.cli.options import (
    add_json_option,
    add_music_options,
    add_settings,
    beginning,
    first_values,
    load_model,
    settings_of,
)
from bridge.cli.terminal import print_json, say
from bridge.errors import FileError, UsageError
from bridge.settings import OPTIONS, Settings

if TYPE_CHECKING:
    from bridge.app import Running
    from streamgen import Model

__all__ = ["add_arguments", "run"]

_COMFORTABLE = 1.15  # × real time: below it, whatever else the machine does is heard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_settings(parser, *OPTIONS, model=False)
    add_music_options(parser)
    about = "settings from a TOML file, named as the options are; the command line wins"
    parser.add_argument("--config", type=Path, metavar="FILE", help=about)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; exit code 0."""
    from bridge.app import App, check_ports, make_doors, service_of
    from bridge.speed import measure
    from bridge.threads import go_first

    settings = settings_of(args)
    service = service_of(settings)  # what cannot be is told before seconds of loading
    _check_recording(settings.record)
    check_ports(settings)
    go_first()  # before torch and PortAudio start threads
    doors = make_doors(service)
    state = _state(settings)

    async def until_stopped(running: Running) -> None:
        if running.restored:
            say(f"restored {running.restored}, from {state}; --fresh starts anew")
        about = {"model": model.name, "precision": model.precision, "realtime_factor": round(factor, 3)}
        places = running.places()
        say(_ready_line(places, settings))
        if args.json:
            print_json({"event": "ready", **places, **about})
        await running.stop.wait()
        say("stopping: saying goodbye to clients, finishing the recording")

    with beginning(settings) as rack:
        model = load_model(settings)
        factor = measure(model, settings.prompt)
        _say_speed(factor, model)
        values = first_values(settings, settings.prompt, rack.preset.values)
        App(service, doors, values, state=state, rack=rack).run(model, factor, until_stopped)
    return 0


def _state(settings: Settings) -> Path | None:
    """Where the session's state is kept; nowhere for a port that the system chooses, for it has another each time."""
    from bridge.session.state import state_file

    return settings.state or (state_file(settings.port) if settings.port else None)


def _check_recording(path: Path | None) -> None:
    from bridge.audio.recorder import check_recording

    try:
        if path is not None:
            check_recording(path)
    except FileError as error:
        raise UsageError(f"--record: {error}") from error


def _say_speed(factor: float, model: Model) -> None:
    if factor >= _COMFORTABLE:
        say(f"{model.name} plays at {factor:.1f} × real time here")
        return
    say(
        f"{model.name} plays at {factor:.2f} × real time here: there will be pauses. Choose --model pocket, a smaller "
        "checkpoint, --precision int8, or a GPU (--device cuda)"
    )


def _ready_line(places: Mapping[str, Any], settings: Settings) -> str:
    """Tell where everything is to be found, so that a page can be clicked.

    With its token where a person reads it, behind the #, which browsers keep to themselves; a log must not have it.
    """
    found = dict(places)
    recording = found.pop("recording", None)
    if settings.token and sys.stderr.isatty():
        for page in found.keys() & {"page", "page_for_others"}:
            found[page] = f"{found[page]}#token={quote(settings.token, safe='')}"
    found = dict(sorted(found.items(), key=lambda place: not place[0].startswith("page")))  # what most people look for
    words = [f"{name.replace('_', ' ')} {'none' if place is None else place}" for name, place in found.items()]
    return "ready: " + " · ".join([*words, f"recording to {recording}"] if recording else words)
