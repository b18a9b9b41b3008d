"""A session on the event loop: what doors ask goes to the engine's thread, what its player tells to every listener.

Rules: event loop only; implements `session.Session`. It waits for the engine in `do`, never in what listeners call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bridge.audio.catalogue import Catalogue
from bridge.audio.effect import Effect
from bridge.audio.faults import SlotState
from bridge.audio.faults import close as close_effect
from bridge.audio.plugins.child import read_state
from bridge.audio.plugins.plugin import Plugin
from bridge.session.commands import (
    KEEP_SECONDS,
    AudioPrompt,
    Command,
    EditRack,
    Follow,
    KeepTake,
    RackAction,
    RecallPreset,
    SavePreset,
    Set,
)
from bridge.session.engine_thread import EngineThread
from bridge.session.events import (
    COMMIT_SECONDS,
    Block,
    Changed,
    Event,
    Gap,
    Goaway,
    Notice,
    PlayerState,
    PresetsChanged,
    Stats,
    TableChanged,
    Transported,
)
from bridge.session.parameters import stream_controls
from bridge.session.player import Player
from bridge.session.preset_folder import PresetFolder
from bridge.session.presets import RackedSlot
from bridge.session.session import Listener
from bridge.session.takes import Takes
from bridge.session.timeline import AT_ONCE, Moment, Timeline
from streamgen.config import ControlSpec, Value
from streamgen.errors import SessionClosed

__all__ = ["LiveSession"]

_log = logging.getLogger("bridge.session")
_LATE_EVERY_SECONDS = 10.0  # between two lines about that


class LiveSession:
    """A session that any number of doors listen to and steer. Made by `open`.

    Args:
        name: "live" for the shared one.
        engine: whose thread its player runs on.
        timeline: of its player.
        catalogue: what its rack may be made of; None is the built-in effects.
        presets: the operator's folder of presets; None is none.
        takes: the operator's folder of takes; None is none.
    """

    player: Player
    table: Mapping[str, ControlSpec]

    def __init__(
        self,
        name: str,
        engine: EngineThread,
        timeline: Timeline,
        catalogue: Catalogue | None = None,
        presets: Path | None = None,
        takes: Path | None = None,
    ) -> None:
        self.name, self._engine, self.timeline = name, engine, timeline
        itself = weakref.proxy(self)  # in a ring, what ended would wait for Python to find it, with hundreds of others
        self.catalogue, self.preset_folder = catalogue or Catalogue(), PresetFolder(itself, presets)
        self.model, self.model_rate_hz = engine.model.name, engine.model.sample_rate_hz
        self.follows, self.rate_hz = engine.model.follows, timeline.rate_hz
        self._listeners: list[Listener] = []
        self._recent: deque[Block] = deque()
        self._takes = Takes(itself, takes)
        self._late: list[float] = []  # seconds, of what is not told yet
        self._late_told = -_LATE_EVERY_SECONDS
        self._position = 0
        self._closed = False

    @classmethod
    async def open(
        cls,
        name: str,
        engine: EngineThread,
        rate_hz: int,
        values: Mapping[str, Value] | None = None,
        options: Mapping[str, Any] | None = None,
        catalogue: Catalogue | None = None,
        presets: Path | None = None,
        takes: Path | None = None,
    ) -> LiveSession:
        """Open a session; see `Player` for values and options, the class for the others.

        Raises:
            CapacityError: as many as this machine can keep in real time are open.
            StreamgenError: the model cannot play that.
        """
        session = cls(name, engine, Timeline(rate_hz), catalogue, presets, takes)
        deliver = weakref.WeakMethod(session.deliver)

        def deliver_if_there(item: Block | Event) -> None:
            if (to := deliver()) is not None:
                to(item)

        await engine.open_player(deliver_if_there, session.timeline, values, options, session._attach)
        return session

    def _attach(self, player: Player) -> None:
        self.player, self.table = player, player.parameters.table
        self._values, self._state = dict(player.parameters.values), player.playback.state
        self._heard = player.heard

    # -- what doors ask -------------------------------------------------------------------------------------------

    def values(self) -> Mapping[str, Value]:
        """Every parameter's value, as last set."""
        return dict(self._values)

    def state(self) -> PlayerState:
        """What the player does, as last told."""
        return self._state

    def slots(self) -> Sequence[SlotState]:
        """The rack, in the order of the signal."""
        return self.player.output.rack.state()

    def effects(self) -> Sequence[str]:
        """Names of what can be put into the rack."""
        return self.catalogue.names

    def presets(self) -> Sequence[str]:
        """Names of what can be recalled."""
        return self.preset_folder.names()

    def position_samples(self) -> int:
        """First sample that is not final yet."""
        return self._position

    def heard(self) -> str:
        """What the model understands of the prompts, as last told."""
        return self._heard

    async def do(self, command: Command) -> int:
        """Carry a command out, or schedule it; see `session.Session.do`."""
        if self._closed:
            raise SessionClosed("this session has ended; open a new one")
        if isinstance(command, AudioPrompt):
            command = await self._engine.encoded(command)
        if isinstance(command, Follow) and command.samples is not None:
            command = await self._engine.prepared(command)
        if isinstance(command, Set) and (texts := self._texts(command.values)):
            await self._engine.learn(texts)
        if isinstance(command, SavePreset | RecallPreset):
            return await self._use_preset(command)
        if isinstance(command, KeepTake):
            return await self._keep(command)
        if isinstance(command, EditRack) and command.action in (RackAction.ADD, RackAction.REPLACE):
            return await self._put(command)
        return await self._engine.call(lambda: self.player.do(command))

    def _texts(self, values: Mapping[str, Value]) -> list[str | None]:
        """Return the prompts that a change would let sound.

        Raises:
            StreamgenError: it cannot be done, as the player would say.
        """
        checked = self.player.parameters.checked(values)
        controls = stream_controls({**self._values, **checked}, checked)
        negative = [controls["negative_prompt"]] if "negative_prompt" in controls else []
        return [text for text, _ in controls.get("prompts", ())] + negative

    async def racked(self) -> list[RackedSlot]:
        """Return what is in the rack at one moment, in the order of the signal; see `Racked`."""
        player = self.player

        def look() -> list[RackedSlot]:
            rack, values = player.output.rack, player.parameters.values
            return [RackedSlot.of(slot.slot, slot.name, rack.effect(slot.slot), values) for slot in rack.state()]

        return await self._engine.call(look)

    async def saved_states(self, seconds: float = 5.0) -> dict[Effect, bytes]:
        """Let every plugin write its state; see `Racked`."""
        plugins = [slot.effect for slot in await self.racked() if isinstance(slot.effect, Plugin)]
        wanted = {plugin: await self._engine.call(plugin.save) for plugin in plugins}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(plugin.saves < count for plugin, count in wanted.items()):
                    await asyncio.sleep(0.01)
        states: dict[Effect, bytes] = {}
        for plugin in plugins:
            with contextlib.suppress(FileNotFoundError):  # it has given none yet, or was taken out meanwhile
                states[plugin] = (await asyncio.to_thread(read_state, plugin.state_path))[1]
        return states

    async def load(self, name: str, make: Callable[[], Effect]) -> Effect:
        """Make an effect, beside the music if it is a plugin; see `Racked`."""
        return await self._engine.load(name, make) if name in self.catalogue.plugins else make()

    async def when(self, at: Moment | None) -> Moment | None:
        """Return the moment at which something asked for now shall begin; None is at once."""
        landing = self.player.landing
        moment = await self._engine.call(lambda: landing.moment(at, True, landing.soonest))
        return None if moment == AT_ONCE else moment

    async def until(self, moment: Moment) -> None:
        """Wait until all before a moment is final."""
        come = asyncio.Event()
        loop, waiting = asyncio.get_running_loop(), self.player.waiting
        await self._engine.call(lambda: waiting.call_at(moment, lambda: loop.call_soon_threadsafe(come.set)))
        await come.wait()

    async def _use_preset(self, command: SavePreset | RecallPreset) -> int:
        await self.preset_folder.do(command)
        if isinstance(command, SavePreset):
            self.deliver(PresetsChanged(self.presets(), command.by))
        return self._position

    async def _keep(self, command: KeepTake) -> int:
        kept, seconds = await self._takes.keep(KEEP_SECONDS.check_number(command.seconds))
        _log.info("the last %.3g s are kept in %s", seconds, kept)  # where, is the operator's to know
        self.deliver(Notice("kept", f"the last {seconds:.3g} s are {kept.name}", self._position))
        return self._position

    async def _put(self, command: EditRack) -> int:
        """Make an effect, beside the music, and put it into the rack."""
        made = command.made or await self._made(command)
        try:
            return await self._engine.call(lambda: self.player.do(replace(command, made=made)))
        except Exception:  # one who hangs up meanwhile has it all the same
            close_effect(made)
            raise

    async def _made(self, command: EditRack) -> Effect:
        """Make what is asked for, once it is sure that there is a place for it."""
        self.catalogue.check(command.effect)
        await self._engine.call(lambda: self.player.check_edit(command))
        # holds nothing of the session: what hangs while it loads would keep it until the program ends
        return await self.load(command.effect, partial(self.catalogue.make, command.effect, self.rate_hz))

    def add(self, listener: Listener) -> Sequence[Block]:
        """Start telling a listener everything; returns the blocks that are not yet due."""
        self._listeners.append(listener)
        self._want()
        return list(self._recent)

    def remove(self, listener: Listener) -> None:
        """Stop telling a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            self._want()

    def _want(self) -> None:
        # one bool, written here and read there: no lock is needed
        self.player.playback.wanted = self._hearing() > 0 or self.recording is not None
        self._engine.wake()

    def _hearing(self) -> int:
        """How many listeners take audio: doors that only steer say so with `wants_audio = False`."""
        return sum(getattr(listener, "wants_audio", True) for listener in self._listeners)

    @property
    def deserted(self) -> bool:
        """Whether nobody is there, not even a listener that only steers, and nothing records."""
        return not self._listeners and self.recording is None

    @property
    def recording(self) -> Path | None:
        """The file being written, whose name may differ from the one asked for: none is written over."""
        return self._takes.recording

    def stats(self) -> Stats:
        """How the session is doing now."""
        return self.player.playback.stats(self._hearing())

    async def record(self, path: Path | None) -> None:
        """Write the output to a file from now on; None ends it."""
        try:
            await self._takes.record(path)
        finally:
            self._want()

    async def close(self, reason: str) -> None:
        """Say goodbye to the listeners, finish a recording, free the engine's side."""
        if self._closed:
            return
        self._closed = True
        for listener in list(self._listeners):
            listener.event(Goaway(reason))
        self._listeners.clear()
        await self.preset_folder.close()
        await self.record(None)
        await self._engine.call(lambda: self._engine.dismiss(self.player))

    # -- what the player tells ------------------------------------------------------------------------------------

    def deliver(self, item: Block | Event) -> None:
        """Hand a block or an event to every listener."""
        if isinstance(item, Block):
            self._take(item)
            return
        if isinstance(item, Changed):
            self._values |= item.values
        elif isinstance(item, TableChanged):
            self.table, self._values = item.table, dict(item.values)
        elif isinstance(item, Transported):
            self._state = item.state
        elif isinstance(item, Stats):
            self._state = item.state
            item = self.stats()
        elif isinstance(item, Notice):
            self._take_notice(item)
        elif isinstance(item, Gap):
            self._tell_late(item.samples / self.rate_hz)
        self._takes.note(item)
        for listener in list(self._listeners):
            listener.event(item)

    def _tell_late(self, seconds: float) -> None:
        """Say that the music paused: at once, then every ten seconds at most, with what came since."""
        self._late.append(seconds)
        now = self.timeline.wall()
        if now - self._late_told >= _LATE_EVERY_SECONDS:
            times, total = len(self._late), sum(self._late)
            late = f"{total:.2f} s late" if times == 1 else f"late {times} times, {total:.2f} s in all"
            _log.warning("the engine was %s: the music paused", late)
            self._late_told = now
            self._late.clear()

    def _take_notice(self, notice: Notice) -> None:
        if notice.topic == "heard":
            self._heard = notice.text
        elif notice.topic == "guard":
            _log.warning("at %.1f s %s", notice.applied_at_sample / self.rate_hz, notice.text)

    def _take(self, block: Block) -> None:
        self._position = block.end_sample
        self._recent.append(block)
        horizon = block.end_sample - COMMIT_SECONDS * self.rate_hz
        while len(self._recent) > 1 and self._recent[0].end_sample <= horizon:
            self._recent.popleft()
        self._takes.take(block)
        for listener in list(self._listeners):
            listener.audio(block)
