"""The operator's folder of presets, as one session uses it: everything by name, no path from the network.

    SavePreset ───► captured ──► NAME.toml           slot N: the plugin's own state ──► NAME.vstpreset
    RecallPreset ─► NAME.toml ─► recall, or morph    slot N: NAME.vstpreset ─► the same plugin, made anew

Rules: the event loop; files and plugins in threads beside it. One recall at a time: the next one ends a morph, and one
that waits for its beat.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from bridge.audio.rack import MAX_SLOTS
from bridge.errors import BridgeError, cannot_be, without_folder
from bridge.session import preset_files
from bridge.session.commands import EditRack, RackAction, RecallPreset, SavePreset
from bridge.session.learning import check_learning
from bridge.session.preset_files import Preset
from bridge.session.presets import Racked, captured, morph, plugin_of, recall
from bridge.session.timeline import Moment
from streamgen.errors import CapacityError, ConfigError, StreamgenError

__all__ = ["PresetFolder"]

_log = logging.getLogger("bridge.presets")

_MOST_FILES = 500  # saved from the network: a disk shall not fill up with names


class PresetFolder:
    """The presets of a session.

    Args:
        session: whose.
        path: the folder; None for a session that has none.
    """

    def __init__(self, session: Racked, path: Path | None) -> None:
        self._session, self.path = session, path
        self._one_at_a_time = asyncio.Lock()
        self._on_its_way: asyncio.Task[None] | None = None

    def names(self) -> list[str]:
        """Return the names of the sets there are."""
        return [] if self.path is None else preset_files.names(self.path)

    async def do(self, command: SavePreset | RecallPreset) -> None:
        """Save, or recall; of a morph that has begun, what goes wrong later is in the log.

        Raises:
            StreamgenError: it cannot be done; one line says why.
        """
        try:
            async with self._one_at_a_time:
                await (self._save(command) if isinstance(command, SavePreset) else self._recall(command))
        except BridgeError as error:  # doors tell what a session refuses, whatever it is about
            raise ConfigError(without_folder(error, self.path)) from None
        except OSError as error:
            raise ConfigError(cannot_be("used", "the folder of presets", error)) from None

    async def close(self) -> None:
        """End what is on its way where it is."""
        task, self._on_its_way = self._on_its_way, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- in and out -----------------------------------------------------------------------------------------------

    def _file(self, name: str, ending: str = ".toml") -> Path:
        if self.path is None:
            raise ConfigError("presets have no folder here: start with --presets FOLDER")
        return preset_files.path_of(self.path, name).with_suffix(ending)

    async def _save(self, command: SavePreset) -> None:
        path = self._file(command.name, ".vstpreset" if command.slot else ".toml")
        if not path.exists() and len(list(path.parent.glob("*"))) >= _MOST_FILES:
            raise CapacityError(f"the folder of presets holds {_MOST_FILES}, the limit: remove some there")
        if command.slot:
            await self._session.saved_states()
            _, plugin = plugin_of(await self._session.racked(), command.slot)
            path.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(plugin.save_preset, path)
        else:
            preset = await captured(self._session)
            await asyncio.to_thread(preset_files.write, path, preset)

    async def _recall(self, command: RecallPreset) -> None:
        if command.slot:
            await self._recall_slot(command)
            return
        path = self._file(command.name)
        if not path.exists():
            raise ConfigError.unknown("preset", command.name, self.names())
        preset = await asyncio.to_thread(preset_files.read, path)
        self._check(preset)
        await self.close()
        moment = await self._session.when(command.at)
        if not command.seconds and moment is None:
            await recall(self._session, preset, command.by)
            return
        self._on_its_way = asyncio.create_task(self._go_to(preset, command, moment))

    async def _recall_slot(self, command: RecallPreset) -> None:
        path, session = self._file(command.name, ".vstpreset"), self._session
        if not path.exists():
            remedy = f"save one first, or put {path.name} into the folder of presets"
            raise ConfigError(f"there is no preset {command.name!r} of a plugin: {remedy}")
        name, _ = plugin_of(await session.racked(), command.slot)
        made = await session.load(name, lambda: session.catalogue.make(name, session.rate_hz, None, path))
        await session.do(EditRack(RackAction.REPLACE, command.by, command.slot, name, made=made, at=command.at))

    def _check(self, preset: Preset) -> None:
        """Refuse before it begins what could only fail half-way."""
        for slot in preset.slots:
            self._session.catalogue.check(slot.effect)
        if len(preset.slots) > MAX_SLOTS:
            raise CapacityError(
                f"it has {len(preset.slots)} slots, the rack has {MAX_SLOTS}: take some out of its file"
            )
        for name, value in preset.values.items():
            if name in self._session.table:
                self._session.table[name].check(value)
        check_learning(preset.values, self._session.table)

    async def _go_to(self, preset: Preset, command: RecallPreset, moment: Moment | None) -> None:
        try:
            if not command.seconds:
                await recall(self._session, preset, command.by, moment)
                return
            if moment is not None:
                await self._session.until(moment)
            await morph(self._session, preset, command.seconds, command.by)
        except StreamgenError as error:
            _log.warning("the way to preset %r ended: %s", command.name, error)
        except Exception:  # noqa: BLE001 - nobody awaits this task: whoever recalls next would be told
            _log.exception("the way to preset %r ended", command.name)
