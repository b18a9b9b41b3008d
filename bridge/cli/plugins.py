"""`streamgen plugins scan|list|show`: which plugins there are, for the rack.

    scan ─► a child for each plugin, with a time-out ─► the state folder ─► names in the rack of serve, play and render

Rules: loads nothing into this process; a plugin that hangs or dies costs its time-out and is said with its reason.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge.audio.catalogue import BUILT_IN, Catalogue
from bridge.audio.effect import Effect
from bridge.audio.faults import close
from bridge.audio.plugins.engine import NO_EFFECT
from bridge.audio.plugins.scan import ScannedPlugin, beside, catalogue_names, folders, load_cache, save_cache, scan
from bridge.audio.plugins.spawn import HostSettings, engine_missing
from bridge.cli.options import add_json_option, number
from bridge.cli.terminal import print_json, say, table
from bridge.errors import FileError, UsageError, cannot_be
from bridge.session.rack_keeper import scan_file
from bridge.settings import takes
from streamgen.config import ControlSpec

__all__ = ["add_arguments", "run"]

_TIMEOUT_SECONDS = 20.0
_RATE_HZ = 48_000
_NONE = "no plugins: `streamgen plugins scan` looks for them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    actions = parser.add_subparsers(title="what to do", dest="action", metavar="scan|list|show", required=True)
    look = actions.add_parser(
        "scan", help="look at every plugin here; those that are as they were are not loaded again"
    )
    look.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="where to look (default: where this system has them)"
    )
    look.add_argument(
        "--timeout", type=number(1, 600, "seconds"), default=_TIMEOUT_SECONDS, metavar="S",
        help=f"for each plugin (default: {_TIMEOUT_SECONDS:g})",
    )  # fmt: skip
    look.add_argument("--again", action="store_true", help="load all of them, also those that failed before")
    add_json_option(look)
    add_json_option(actions.add_parser("list", help="what the rack may be made of"))
    show = actions.add_parser("show", help="one effect's parameters")
    show.add_argument("name", metavar="NAME", help="as `list` has it")
    add_json_option(show)


def run(args: argparse.Namespace) -> int:
    """Do it; 1 if a scan found no plugin that can be used."""
    return {"scan": _scan, "list": _list, "show": _show}[args.action](args)


def _scan(args: argparse.Namespace) -> int:
    if missing := engine_missing():
        raise UsageError(missing)
    path, before = scan_file(), load_cache(scan_file())
    for folder in args.folders:
        if not folder.is_dir():
            raise UsageError(f"FOLDER is {str(folder)!r}: there is no such folder")
    with tempfile.TemporaryDirectory(prefix="streamgen-plugins-") as states:
        settings = HostSettings(Path(states), load_seconds=float(args.timeout))
        found = scan(settings, args.folders or None, [] if args.again else before, _tell)
    try:
        save_cache(path, beside(before, found, args.folders or folders()))
    except OSError as error:
        raise FileError(cannot_be("written", path, error)) from None
    usable = sum(one.info is not None for one in found)
    say(f"{usable} plugins, {len(found) - usable} that cannot be used; kept in {path}" if found else _nothing(args))
    if args.json:
        print_json({"plugins": _rows(found, load_cache(path)), "file": str(path)})
    return 0 if usable else 1


def _nothing(args: argparse.Namespace) -> str:
    where = ", ".join(map(str, args.folders)) or "where this system has them"
    return f"no VST3, LV2 or AU plugins {where}: install some, or name their FOLDER"


def _tell(found: ScannedPlugin) -> None:
    say(f"{found.name}: {found.reason}" if found.info is None else found.name)


def _list(args: argparse.Namespace) -> int:
    found = load_cache(scan_file())
    named = catalogue_names(found)
    by_reference = {one.reference: one for one in found}
    rows = [(name, "built in", "") for name in BUILT_IN]
    for name, reference in named.items():
        info = by_reference[reference].info
        rows.append((name, info.format if info else "", info.vendor if info else ""))
    for line in table([("name", "kind", "by"), *rows]):
        say(line)
    useless = [one for one in found if one.info is None]
    for one in useless:
        if not one.reason.endswith(NO_EFFECT):
            say(f"cannot be used: {one.name}: {one.reason}")
    if kinds := sum(one.reason.endswith(NO_EFFECT) for one in useless):
        say(f"{kinds} more are no effects for audio, but instruments and the like; --json lists them")
    if not found:
        say(_NONE)
    if args.json:
        print_json({"built_in": list(BUILT_IN), "plugins": _rows(found, found)})
    return 0


def _show(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="streamgen-plugins-", ignore_cleanup_errors=True) as states:
        catalogue = Catalogue(catalogue_names(load_cache(scan_file())), HostSettings(Path(states)))
        effect: Effect = catalogue.make(args.name, _RATE_HZ)
        try:
            rows = dict(effect.parameters)
            late = effect.latency_samples
        finally:
            close(effect)
    for line in table([("parameter", "takes", "default", "what"), *(_row(name, spec) for name, spec in rows.items())]):
        say(line)
    say(f"latency: {late / _RATE_HZ * 1e3:.1f} ms at {_RATE_HZ} Hz, which the rack makes up for")
    if args.json:
        named = [spec.as_dict() | {"name": name} for name, spec in rows.items()]
        print_json({"name": args.name, "latency_samples": late, "parameters": named})
    return 0


def _row(name: str, spec: ControlSpec) -> tuple[str, ...]:
    default = f"{spec.default:g}" if isinstance(spec.default, float) else str(spec.default)
    default = default.lower() if isinstance(spec.default, bool) else default  # as `takes` and TOML write it
    return name, takes(spec), default, spec.description


def _rows(found: Iterable[ScannedPlugin], all_found: Iterable[ScannedPlugin]) -> list[dict[str, Any]]:
    """Plugins as JSON has them, by the names that the rack knows them by."""
    names = {reference: name for name, reference in catalogue_names(all_found).items()}
    return [_fields(one, names.get(one.reference, one.name)) for one in found]


def _fields(found: ScannedPlugin, name: str) -> dict[str, Any]:
    info = {} if found.info is None else {"vendor": found.info.vendor, "format": found.info.format}
    return {"name": name, **asdict(found.reference), **info, "reason": found.reason or None}
