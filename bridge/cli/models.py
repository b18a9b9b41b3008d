"""`streamgen models`: the checkpoints known here.

Rules: loads none of them, downloads nothing, imports no torch.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bridge.cli.options import add_json_option
from bridge.cli.terminal import print_json, say, table

if TYPE_CHECKING:
    from streamgen.checkpoint import KnownCheckpoint

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """List them."""
    from streamgen.checkpoint import list_checkpoints

    known = list_checkpoints()
    for line in table([("name", "here", "size", "what", "licence of the weights"), *map(_row, known)]):
        say(line)
    say("--model takes any of these names, another Hub id, or a folder; what is not here is downloaded when first used")
    if args.json:
        print_json({"models": [_fields(row) for row in known]})
    return 0


def _row(row: KnownCheckpoint) -> tuple[str, ...]:
    return row.name, "yes" if row.cached else "no", _size(row.size_bytes or row.download_bytes), _what(row), row.licence


def _what(row: KnownCheckpoint) -> str:
    if row.name == "pocket":
        return "shipped, small"
    return ", ".join([row.parameters, "stereo" if row.stereo else "mono", *["follows a melody"] * row.melody])


def _fields(row: KnownCheckpoint) -> dict[str, Any]:
    names = ("name", "cached", "size_bytes", "download_bytes", "parameters", "stereo", "melody", "licence")
    return {name: getattr(row, name) for name in names} | {"folder": row.folder and str(row.folder)}


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "—"
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
