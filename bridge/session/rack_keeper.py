"""The rack of the session `live` from one start to the next: the operator's file, and what became of it since.

    --rack FILE ──► Beginning: names of plugins, first slots ──┐
    scan's cache ─► names of plugins                           ├─► live ─► RackKeeper ─► live-8711.rack.toml ──┐
         ▲                                                     └──────────────────────────────────────────────┘
    `plugins scan`          what was kept wins, until FILE is another one or was changed, or --fresh says otherwise

The file is written soon after each change, and every few seconds for what plugins keep to themselves; whole or not at
all. So a kill −9 loses a quarter of a second of edits, and those seconds of a plugin's own state.

Rules: the event loop; files and plugins in threads beside it. What was kept and cannot be had again is one line in the
log and the music plays without it; what the operator's file says and cannot be is an error before it begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bridge.audio.catalogue import BUILT_IN, Catalogue
from bridge.audio.effect import Effect
from bridge.audio.plugins.scan import catalogue_names, load_cache
from bridge.audio.plugins.spawn import HostSettings
from bridge.errors import FileError, UsageError
from bridge.session import preset_files
from bridge.session.arranger import Part
from bridge.session.events import Block, Changed, Event, TableChanged
from bridge.session.preset_files import Preset, SlotPreset
from bridge.session.presets import Racked, commands, made, rack_of
from bridge.session.state import AFTER_SECONDS, state_folder
from streamgen.errors import StreamgenError

__all__ = ["Beginning", "RackKeeper", "keep_aside", "kept_file", "kept_rack", "presets_folder", "put_in", "scan_file"]

_log = logging.getLogger("bridge.rack")
_STATES_EVERY_SECONDS = 5.0


def scan_file() -> Path:
    """Return where `streamgen plugins scan` keeps what it found."""
    return state_folder() / "plugins.json"


def presets_folder() -> Path:
    """Return where presets are, unless the operator says otherwise."""
    return state_folder() / "presets"


def kept_file(state: Path) -> Path:
    """Return where the rack is kept, beside the file of all else."""
    return state.with_suffix(".rack.toml")


@dataclass(frozen=True)
class Beginning:
    """What files say of the beginning: what a rack may be made of and begins with, and what `arrange` plays.

    Attributes:
        catalogue: names of effects: built in, found by a scan, or named by the operator's file.
        preset: the file's slots, and parameters outside the rack.
        origin: which file, as of when; "" for none.
        scene: its parts; None for those that are shipped.
    """

    catalogue: Catalogue = field(default_factory=Catalogue)
    preset: Preset = field(default_factory=Preset)
    origin: str = ""
    scene: tuple[Part, ...] | None = None

    @classmethod
    def of(cls, rack: Path | None, host: HostSettings, found: Path | None = None) -> Beginning:
        """Read the operator's file and what a scan found.

        Args:
            rack: the file; None begins with an empty rack.
            host: how plugins are kept.
            found: what a scan wrote; None is where it does so.

        Raises:
            UsageError: the file cannot be read, or names what there is not.
        """
        plugins = catalogue_names(load_cache(scan_file() if found is None else found))
        if rack is None:
            return cls(Catalogue(plugins, host))
        try:
            preset, named = preset_files.read(rack), preset_files.plugins_in(rack)
            if shadowed := ", ".join(name for name in named if name in BUILT_IN):
                raise FileError(f"under [plugins], {shadowed} is the name of a built-in effect: choose another")
            catalogue = Catalogue(plugins | named, host)
            origin = f"{rack.resolve()} {rack.stat().st_mtime_ns}"
        except (FileError, OSError) as error:
            raise UsageError(f"--rack {str(rack)!r}: {error}") from None
        for slot in preset.slots:
            if slot.effect not in catalogue.names:
                there = ", ".join(catalogue.names)
                remedy = "name it under [plugins], or let `streamgen plugins scan` find it"
                raise UsageError(
                    f"--rack {str(rack)!r}: there is no effect {slot.effect!r}; there are {there}; {remedy}"
                )
        return cls(catalogue, preset, origin)

    def make(self, rate_hz: int) -> Callable[[SlotPreset], Effect]:
        """Return what makes a slot's effect; it takes as long as a plugin takes to load."""
        return lambda slot: made(self.catalogue, rate_hz, slot)


# -- at the start ------------------------------------------------------------------------------------------------------


def kept_rack(path: Path, origin: str) -> Preset | None:
    """Return what was kept, if it grew from the file that is named now; None if there is nothing to go on with."""
    if not path.exists():
        return None
    try:
        kept = preset_files.read(path)
    except FileError as error:
        aside = path.with_name(path.name + ".damaged")
        with contextlib.suppress(OSError):
            path.replace(aside)
        _log.warning("%s: moved to %r; the rack begins anew", error, aside.name)
        return None
    return kept if origin in ("", kept.origin) else None


async def put_in(session: Racked, preset: Preset, by: str, strict: bool) -> list[str]:
    """Fill a session's rack, which is empty.

    Args:
        session: nobody else edits it yet.
        preset: whose slots.
        by: who asks.
        strict: whether what cannot be had is an error; else it is left out.

    Returns:
        What was left out, and why, a line each.

    Raises:
        StreamgenError: an effect cannot be had, or a value is not allowed.
    """
    left_out = []

    def make(slot: SlotPreset) -> Effect | None:
        try:
            return made(session.catalogue, session.rate_hz, slot)
        except StreamgenError as error:
            if strict:
                raise
            left_out.append(f"{slot.effect}: {error}")
            return None

    steps = commands(preset, make, by)
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        try:
            await session.do(step)
        except StreamgenError as error:
            if strict:
                raise
            left_out.append(str(error))
    return left_out


def keep_aside(path: Path, left_out: Sequence[str]) -> None:
    """Copy what was kept, of which not all could be had: a plugin that is missing today may be back tomorrow."""
    aside = path.with_name(path.name + ".before")
    with contextlib.suppress(OSError):
        shutil.copyfile(path, aside)
    _log.warning("of the rack that was kept, not all is back: %s; it stays in %r", "; ".join(left_out), aside.name)


# -- from then on ------------------------------------------------------------------------------------------------------


class RackKeeper:
    """Keeps a session's rack in a file from now on. A Listener that takes no audio.

    Args:
        path: the file.
        session: whose.
        origin: of the file that it began with.
    """

    wants_audio = False

    def __init__(self, path: Path, session: Racked, origin: str = "") -> None:
        self._path, self._session, self._origin = path, session, origin
        self._last: Preset | None = None
        self._told = False
        self._changed, self._ending = asyncio.Event(), False
        self._task = asyncio.create_task(self._run())
        session.add(self)

    def audio(self, block: Block) -> None:
        """Take no notice: what is kept is what was asked for."""

    def event(self, event: Event) -> None:
        """Note that the rack was changed."""
        turned = isinstance(event, Changed) and any(name.startswith("plugin/") for name in event.values)
        if turned or isinstance(event, TableChanged):
            self._changed.set()

    async def close(self) -> None:
        """Write what is not written yet, and end."""
        self._session.remove(self)
        self._ending = True
        self._changed.set()
        await self._task  # not cut short: a thread that writes would go on, and could be the later of two

    async def _run(self) -> None:
        while True:
            last = self._ending
            try:
                await self._write()
            except Exception:  # noqa: BLE001 - whatever a plugin answers for its state, the next time is tried
                _log.exception("the rack was not kept this time")
            if last:
                return
            with contextlib.suppress(TimeoutError):  # nothing was turned here; what a plugin keeps may have changed
                async with asyncio.timeout(_STATES_EVERY_SECONDS):
                    await self._changed.wait()
                if not self._ending:
                    await asyncio.sleep(AFTER_SECONDS)  # a knob in motion is written a few times a second at most
            self._changed.clear()

    async def _write(self) -> None:
        now = replace(await rack_of(self._session), origin=self._origin)
        if now == self._last or (not now.slots and self._last is None and not self._path.exists()):
            return  # nobody has ever put anything there
        try:
            await asyncio.to_thread(preset_files.write, self._path, now)
        except FileError as error:
            if not self._told:
                _log.warning("the rack is not kept: %s", error)
            self._told = True
            return
        self._last = now
        if self._told:
            _log.warning("the rack is kept again: %r", str(self._path))
        self._told = False
