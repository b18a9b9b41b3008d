"""`streamgen devices`: what plays sound here, by host API.

Rules: opens no device.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from itertools import groupby

from bridge.cli.options import add_json_option
from bridge.cli.terminal import print_json, say, table
from bridge.doors.sound_card.card import OutputDevice, output_devices
from bridge.errors import DeviceError

__all__ = ["add_arguments", "run"]

_NONE = (
    "no sound device: PortAudio finds none that plays. Plug one in, or start a sound server "
    "(PipeWire, PulseAudio, JACK); in a container there is none: use `streamgen render`"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """List the devices; 1 if there is none."""
    try:
        devices = output_devices()
    except DeviceError as error:
        devices, problem = [], str(error)
    else:
        problem = "" if devices else _NONE
    if args.json:
        print_json({"devices": [asdict(device) for device in devices], "problem": problem or None})
    for line in [problem] if problem else _lines(devices):
        say(line)
    return 1 if problem else 0


def _lines(devices: list[OutputDevice]) -> list[str]:
    lines = []
    for host_api, members in groupby(devices, key=lambda device: device.host_api):
        rows = [_row(device) for device in members]
        lines += [host_api, *("  " + line for line in table(rows))]
    return [*lines, "* plays if nothing else is said; choose with `streamgen play --output NUMBER`"]


def _row(device: OutputDevice) -> tuple[str, ...]:
    star = "*" if device.default else " "
    channels = "stereo" if device.channels == 2 else "mono"
    return f"{star}{device.index}", f"{device.sample_rate_hz} Hz", channels, device.name
