"""Which plugins there are on this machine, each looked at in a child of its own.

    folders ─► files and bundles ─► changed since the last scan? ─► child, with a time-out ─► what it is, or why not
                                                 └ no: as it was then ───────────────────────┘

Rules: for the operator's command line; takes as long as the plugins take. A plugin that hangs or dies costs its
time-out, is remembered with its reason, and is not tried again until its file changes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bridge.audio.catalogue import BUILT_IN
from bridge.audio.plugins.engine import PluginInfo, Reference
from bridge.audio.plugins.lv2 import plugin_uris
from bridge.audio.plugins.process import PluginProcess
from bridge.audio.plugins.spawn import HostSettings, PluginTrouble
from bridge.disk import home, write_whole

__all__ = ["ScannedPlugin", "beside", "catalogue_names", "folders", "load_cache", "save_cache", "scan"]

_SCAN_RATE_HZ = 48_000
_AT_ONCE = 2
_ENDINGS = (".vst3", ".lv2", ".component")


@dataclass(frozen=True)
class ScannedPlugin:
    """A plugin, or what is none.

    Attributes:
        reference: where it is.
        changed: its file's time and size when it was looked at.
        info: what it is; None if it cannot be loaded.
        reason: why not.
    """

    reference: Reference
    changed: str
    info: PluginInfo | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """As people read it."""
        if self.info is not None and self.info.name:
            return self.info.name
        bundle = Path(self.reference.path).stem
        return f"{bundle} {re.split('[/:#]', self.reference.uri)[-1]}".rstrip()


def folders() -> list[Path]:
    """Return where this system keeps plugins, the user's own first."""
    own = home()
    if sys.platform == "darwin":
        library = "Library/Audio/Plug-Ins"
        kinds = ("VST3", "LV2", "Components")
        return [root / library / kind for root in (own, Path("/")) for kind in kinds]
    if sys.platform == "win32":
        common = Path(os.environ.get("COMMONPROGRAMFILES", "C:/Program Files/Common Files"))
        local = Path(os.environ.get("LOCALAPPDATA", own)) / "Programs/Common"
        return [local / "VST3", common / "VST3", common / "LV2"]
    named = [Path(one) for one in os.environ.get("LV2_PATH", "").split(":") if one]
    roots = [own, Path("/usr/local/lib"), Path("/usr/lib")]
    usual = [root / (f".{kind}" if root == own else kind) for root in roots for kind in ("vst3", "lv2")]
    return [*named, *usual]


def scan(
    settings: HostSettings,
    where: Iterable[Path] | None = None,
    known: Iterable[ScannedPlugin] = (),
    tell: Callable[[ScannedPlugin], None] = lambda _found: None,
) -> list[ScannedPlugin]:
    """Look at every plugin.

    Args:
        settings: `load_seconds` is every plugin's time-out.
        where: folders; None takes `folders()`.
        known: what an earlier scan found; what has not changed since is not looked at again.
        tell: called for each as it is found, from several threads.

    Returns:
        All of them, in the folders' order; none twice.
    """
    before = {(one.reference, one.changed): one for one in known}
    there = {reference: _changed(reference) for reference in _references(folders() if where is None else where)}

    def look(reference: Reference) -> ScannedPlugin:
        changed = there[reference]
        found = before.get((reference, changed)) or _looked_at(reference, changed, settings)
        tell(found)
        return found

    with ThreadPoolExecutor(_AT_ONCE, "plugin scan") as pool:
        return list(pool.map(look, there))


def beside(
    before: Iterable[ScannedPlugin], found: Iterable[ScannedPlugin], where: Iterable[Path]
) -> list[ScannedPlugin]:
    """Put what a scan of some folders found beside what was found elsewhere before, and is still there.

    In the order of before, new ones last: so that a name means the plugin that it meant.
    """
    known, looked_into = list(before), [folder.resolve() for folder in where]
    place = {one.reference: number for number, one in enumerate(known)}
    kept = [one for one in known if _is_elsewhere(Path(one.reference.path), looked_into)]
    return sorted([*kept, *found], key=lambda one: place.get(one.reference, len(place)))


def _is_elsewhere(path: Path, folders: Iterable[Path]) -> bool:
    return path.exists() and not any(path.resolve().is_relative_to(folder) for folder in folders)


def _references(where: Iterable[Path]) -> Iterator[Reference]:
    for folder in where:
        for path in sorted(_bundles(folder)):
            if path.suffix != ".lv2":
                yield Reference(str(path))
                continue
            try:
                yield from [Reference(str(path), uri) for uri in plugin_uris(path)]
            except OSError:  # not ours to read: looked at all the same, so that it is listed with a reason
                yield Reference(str(path))


def _bundles(folder: Path) -> Iterator[Path]:
    """Every plugin below a folder; a bundle is not looked into."""
    try:
        inside = list(folder.iterdir())
    except OSError:  # not there, or not ours to read
        return
    for path in inside:
        if path.suffix.lower() in _ENDINGS:
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _bundles(path)


def _changed(reference: Reference) -> str:
    path, newest = Path(reference.path), 0
    for one in (path, *path.rglob("*")):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to read
            newest = max(newest, one.stat().st_mtime_ns)
    return f"{newest}"


def _looked_at(reference: Reference, changed: str, settings: HostSettings) -> ScannedPlugin:
    try:
        process = PluginProcess.start(reference, settings, _SCAN_RATE_HZ, None)
    except PluginTrouble as trouble:
        return ScannedPlugin(reference, changed, None, str(trouble))
    process.kill()
    return ScannedPlugin(reference, changed, replace(process.loaded.info, parameters=()))


def catalogue_names(found: Iterable[ScannedPlugin]) -> dict[str, Reference]:
    """Return what can be put into a rack, by names of which no two are the same, and none a built-in effect's."""
    named: dict[str, Reference] = {}
    for one in found:
        if one.info is not None:
            named[_free_name(one.name, one.info.format, named)] = one.reference
    return named


def _free_name(name: str, kind: str, taken: Mapping[str, Reference]) -> str:
    tries = itertools.chain((name, f"{name} ({kind})"), (f"{name} ({kind} {count})" for count in itertools.count(2)))
    return next(one for one in tries if one not in taken and one not in BUILT_IN)


# -- the cache ---------------------------------------------------------------------------------------------------------


def save_cache(path: Path, found: Iterable[ScannedPlugin]) -> None:
    """Write what a scan found, whole or not at all."""
    rows = [{**asdict(one), "info": None if one.info is None else one.info.as_dict()} for one in found]
    write_whole(path, json.dumps(rows, indent=1).encode())


def load_cache(path: Path) -> list[ScannedPlugin]:
    """Read what `save_cache` wrote; nothing if there is none, or it is of another version."""
    try:
        rows = json.loads(path.read_text())
        return [
            ScannedPlugin(
                Reference(**row["reference"]),
                row["changed"],
                None if row["info"] is None else PluginInfo.from_dict(row["info"]),
                row["reason"],
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []
