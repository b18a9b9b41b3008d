"""`streamgen layouts`: surfaces and scripts for TouchOSC, REAPER, Max, Pd and others, with every parameter.

Rules: writes files, asks nobody anything; a file that is there is written over only if somebody says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bridge.cli.options import add_json_option
from bridge.cli.terminal import may_write, print_json, say
from bridge.errors import FileError, cannot_be
from bridge.settings import OPTIONS

__all__ = ["add_arguments", "run"]

_LISTEN = 9000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("out", type=Path, metavar="FOLDER", help="where to write them")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="where the service is (default: this machine)")
    default = OPTIONS["osc_port"].default
    parser.add_argument("--osc-port", type=int, default=default, metavar="N", help=f"its OSC (default: {default})")
    about = f"the port that the program listens at (default: {_LISTEN})"
    parser.add_argument("--listen", type=int, default=_LISTEN, metavar="N", help=about)
    parser.add_argument("--force", action="store_true", help="write over the ones that are there")
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write them; 0."""
    from bridge.doors.osc.layouts import LAYOUTS, Surface
    from bridge.session.parameters import session_table

    surface = Surface(session_table(), args.host, args.osc_port, args.listen)
    files = {args.out / name: make for name, make in LAYOUTS.items()}
    may_write(*files, force=args.force, instead="another FOLDER")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for path, make in files.items():
            path.write_bytes(make(surface))
            say(f"{path}: {str(make.__doc__).partition(chr(10))[0]}")
    except OSError as error:
        raise FileError(cannot_be("written", args.out, error)) from error
    if args.json:
        print_json({"files": [str(path) for path in files]})
    return 0
