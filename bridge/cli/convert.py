"""`streamgen convert`: a checkpoint in the other format, for other programs.

Rules: says what it reads and writes; the formats are streamgen.checkpoint's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bridge.cli.terminal import say
from bridge.errors import UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("source", metavar="IN", help="a folder or Hub id, in transformers' or audiocraft's format")
    parser.add_argument("target", metavar="OUT", type=Path, help="the folder to write, in the other one's format")


def run(args: argparse.Namespace) -> int:
    """Convert it."""
    from streamgen.checkpoint import convert_checkpoint, load_checkpoint
    from streamgen.errors import StreamgenError

    try:
        checkpoint = load_checkpoint(args.source)
        lost = convert_checkpoint(checkpoint, args.target)
    except StreamgenError as error:
        raise UsageError(str(error)) from None
    written = "audiocraft" if checkpoint.format == "transformers" else "transformers"
    say(f"{checkpoint.format}'s {args.source} is {written}'s {args.target}")
    for line in (*checkpoint.notes, *lost):
        say(line)
    return 0
