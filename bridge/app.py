"""The application: from settings to doors that are open, and back.

    Settings ─► Service ─► doors, made ─► the model ─► engine's thread ─► live, as it was kept ─► doors, open
                             │                                                                       │
                 what cannot be is told here, before seconds of loading                  ended in reverse order

Rules: puts parts together and ends them in order; no protocol, no audio arithmetic. A new door is one folder, and one
line in DOORS. Importing this file imports no torch: what cannot be is told at once, and threads are set before.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.doors.access import Access
from bridge.doors.door import Door, Place, Service, cannot_listen
from bridge.errors import BridgeError
from bridge.metrics import Metrics, WatchedSelector
from bridge.session.capacity import MeasuredCapacity
from bridge.session.commands import Action, Transport
from bridge.session.parameters import PROMPT_NAMES, session_table
from bridge.session.rack_keeper import Beginning, RackKeeper, keep_aside, kept_file, kept_rack, presets_folder, put_in
from bridge.session.state import Keeper, Kept, held, restore
from bridge.session.takes import takes_folder
from bridge.settings import OPTIONS, Settings
from bridge.speed import measure_cost
from bridge.threads import take_short_turns
from streamgen.config import Value
from streamgen.errors import StreamgenError

if TYPE_CHECKING:
    from bridge.session.engine_thread import EngineThread
    from bridge.session.live_session import LiveSession
    from bridge.session.registry import SessionRegistry
    from streamgen import Model

__all__ = [
    "DOORS",
    "SOUND_CARD",
    "App",
    "Running",
    "check_ports",
    "make_doors",
    "service_of",
]

_log = logging.getLogger("bridge.app")
_GOODBYE = "the server is stopping"
_HEAD_START_SECONDS, _HEAD_START_PATIENCE_SECONDS = 1.0, 2.0
_PROTOCOLS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


# -- doors -------------------------------------------------------------------------------------------------------------


def _door(
    module: str, name: str, wanted: Callable[[Settings], bool] = lambda _: True
) -> Callable[[Service], Door | None]:
    """Return what makes a door; its module is imported then, for `play` needs no WebSockets."""

    def make(service: Service) -> Door | None:
        if not wanted(service.settings):
            return None
        door: Door = getattr(import_module(f"bridge.doors.{module}.door"), name)(service)
        return door

    return make


SOUND_CARD = _door("sound_card", "SoundCardDoor")
DOORS: list[Callable[[Service], Door | None]] = [
    _door("osc", "OscDoor"),
    _door("native", "NativeDoor"),
    _door("link", "LinkDoor"),
    _door("midi", "MidiDoor"),
    _door("radio", "RadioDoor"),  # at the port of the WebSocket, and so closed before it
    _door("lyria", "LyriaDoor"),  # likewise
    SOUND_CARD,
    _door("jack", "JackDoor", lambda settings: settings.wants_jack),
    _door("udp", "UdpDoor", lambda settings: bool(settings.reastream or settings.rtp)),  # as the radio, for its SDP
    _door("discovery", "DiscoveryDoor", lambda settings: settings.announce),  # the last: it tells of the others
]
"""What makes each door of `serve`, in the order in which they open; None is a door that is not wanted."""


def service_of(settings: Settings) -> Service:
    """Return what doors are made with.

    Raises:
        UsageError: others could come in without a token.
    """
    access = Access(
        settings.host, token=settings.token, insecure=settings.insecure, allowed_origins=settings.allow_origin
    )
    return Service(settings, access, Metrics())


def make_doors(service: Service, makers: Iterable[Callable[[Service], Door | None]] | None = None) -> list[Door]:
    """Make the doors, open none.

    Raises:
        BridgeError: one of them cannot be what the settings ask for.
    """
    made = [make(service) for make in (DOORS if makers is None else makers)]
    return [door for door in made if door is not None]


def check_ports(settings: Settings) -> None:
    """Try every port that a door will listen at, before the model is loaded.

    Raises:
        BridgeError: one is taken, or not ours to take, or two doors want it; names the option.
    """
    wanted: dict[tuple[str, int], str] = {}
    for name, option in OPTIONS.items():
        port = getattr(settings, name)
        for protocol in option.protocols:
            other = wanted.setdefault((protocol, port), option.listens)
            if port and other != option.listens:
                why = f"{other} listens there; choose another with {option.flag}"
                raise BridgeError(f"{option.listens} cannot listen at {settings.host}:{port}: {why}")
            try:
                _try_port(settings.host, port, _PROTOCOLS[protocol])
            except OSError as error:
                raise cannot_listen(option.listens, settings.host, port, error, option.flag) from error


def _try_port(host: str, port: int, kind: socket.SocketKind) -> None:
    for family, *_, place in socket.getaddrinfo(host or None, port, type=kind, flags=socket.AI_PASSIVE):
        with closing(socket.socket(family, kind)) as tried:
            if kind is socket.SOCK_STREAM and os.name == "posix":  # as asyncio's servers do
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(place)


# -- the application ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """An application whose doors are open.

    Attributes:
        live: the session that they share.
        doors: open.
        restored: what was restored, in words; "" for nothing.
        stop: set it, and the application ends; event loop.
    """

    live: LiveSession
    doors: Sequence[Door]
    restored: str
    stop: asyncio.Event

    def places(self) -> dict[str, Place]:
        """Return where everything is to be found now: a device that went away is nowhere."""
        found = {name: place for door in self.doors for name, place in door.places().items()}
        return {**found, "recording": str(self.live.recording) if self.live.recording else None}


@dataclass
class App:
    """What is to run.

    Attributes:
        service: settings, access and metrics.
        doors: made with it.
        values: what `live` begins with.
        options: further arguments of `Model.open_stream`, such as a melody.
        state: the file that `live` is kept in, its rack beside it; None keeps nothing, as where another service has it.
        rack: what effects there are, and which `live` begins with.
    """

    service: Service
    doors: Sequence[Door]
    values: Mapping[str, Value]
    options: Mapping[str, Any] = field(default_factory=dict)
    state: Path | None = None
    rack: Beginning = field(default_factory=Beginning)

    def run(self, model: Model, realtime_factor: float, scene: Callable[[Running], Awaitable[None]]) -> None:
        """Open everything, let the scene play, and end everything: on an event loop of its own, in the main thread.

        Args:
            model: what plays.
            realtime_factor: its speed here; how many sessions are admitted follows from it.
            scene: awaited while the doors are open; Ctrl-C and SIGTERM set its `stop`.

        Raises:
            BridgeError, StreamgenError: a door does not open, or the model cannot play that.
        """
        # what is here to stay is never looked through again: a full collection would hold the event loop too long
        gc.collect()
        gc.freeze()
        take_short_turns()
        metrics = self.service.metrics
        try:
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(WatchedSelector(metrics))) as runner:
                runner.run(self._run(model, realtime_factor, scene))
        finally:
            gc.unfreeze()  # what ended here is given back, native parts too

    async def _run(self, model: Model, realtime_factor: float, scene: Callable[[Running], Awaitable[None]]) -> None:
        stop = asyncio.Event()
        _on_signals(asyncio.get_running_loop(), stop.set)
        async with self._opened(model, realtime_factor, stop) as running:
            gc.freeze()
            self.service.metrics.loop_held_seconds = 0.0  # opening the doors kept nobody waiting
            await scene(running)

    @asynccontextmanager
    async def _opened(self, model: Model, realtime_factor: float, stop: asyncio.Event) -> AsyncIterator[Running]:
        from bridge.session.engine_thread import EngineThread
        from bridge.session.registry import SessionRegistry

        metrics, record = self.service.metrics, self.service.settings.record
        async with AsyncExitStack() as stack:
            if self.state is not None and not stack.enter_context(held(self.state)):
                self.state = None
            capacity = MeasuredCapacity(measure_cost(model, realtime_factor))
            engine = EngineThread(model, asyncio.get_running_loop(), capacity, metrics.step_seconds, self.rack.scene)
            stack.push_async_callback(engine.close)
            live, restored = await self._open_live(engine)
            sessions = SessionRegistry(engine, live)
            stack.push_async_callback(sessions.close, _GOODBYE)
            restored += await self._fill_rack(live, restored)
            self._keep(live, stack)
            for work in (sessions.reap(), metrics.watch_loop()):
                stack.push_async_callback(_ended, asyncio.create_task(work))
            await _music_ahead(live)
            if record is not None:  # before any door opens, so that the file begins with sample 0
                await live.record(record)
            metrics.sources.append(lambda: self._note_health(engine, sessions))
            for door in self.doors:
                stack.push_async_callback(door.close, _GOODBYE)
                await door.open(sessions)
                metrics.doors[door.name] = door.stats
                self.service.places.update(door.places())
            yield Running(live, self.doors, restored, stop)

    async def _open_live(self, engine: EngineThread) -> tuple[LiveSession, str]:
        """Open the shared session as it was kept, or as it begins; tells what was restored."""
        kept, table = None, session_table(engine.model)
        if self.state is not None and not self.service.settings.fresh:
            kept = restore(self.state, table)
        if kept is None:
            return await self._open(engine, self.values), ""
        try:
            live = await self._open(engine, self._with(kept))
        except StreamgenError as error:  # a model that was changed may read what it could, and no longer play it
            _log.warning("what was kept in %r cannot be played: %s; starting anew", str(self.state), error)
            return await self._open(engine, self.values), ""
        if kept.transport != "playing":
            await live.do(Transport(Action.PAUSE if kept.transport == "paused" else Action.STOP, "state"))
        return live, Kept(live.values(), kept.transport).in_words(table)

    async def _open(self, engine: EngineThread, values: Mapping[str, Value]) -> LiveSession:
        from bridge.session.live_session import LiveSession

        settings = self.service.settings
        presets, takes = settings.presets or presets_folder(), settings.takes or takes_folder()
        return await LiveSession.open(
            "live", engine, settings.session_rate, values, self.options, self.rack.catalogue, presets, takes
        )

    async def _fill_rack(self, live: LiveSession, restored: str) -> str:
        """Put into the rack what was kept of it, or what it begins with; returns what to add to what was restored."""
        if self.state is not None and not self.service.settings.fresh:
            kept = kept_rack(kept_file(self.state), self.rack.origin)
            if kept is not None:
                if left_out := await put_in(live, kept, "state", strict=False):
                    keep_aside(kept_file(self.state), left_out)
                names = ", ".join(slot.name for slot in live.slots())
                return f"{', ' * bool(restored)}rack of {names}" if names else ""
        await put_in(live, self.rack.preset, "rack", strict=True)
        return ""

    def _with(self, kept: Kept) -> dict[str, Value]:
        """Return the first values as kept, but for what the command line says: another prompt, another mix."""
        said = self.service.settings.said
        mine = said | (set(PROMPT_NAMES) if "prompt" in said else set())
        return {**self.values, **{name: value for name, value in kept.values.items() if name not in mine}}

    def _keep(self, live: LiveSession, stack: AsyncExitStack) -> None:
        if self.state is None:
            return
        settings = self.service.settings
        new_seed = "seed" not in settings.music and live.values()["seed"] == self.values.get("seed")
        keeper = Keeper(self.state, live, drawn=["seed"] * new_seed, named=self.values)
        anew = settings.fresh and self.state.exists()  # what was kept is over, though nobody should touch a knob
        if anew or settings.said.intersection(["prompt", *settings.music]):
            keeper.note()
        stack.push_async_callback(keeper.close)
        stack.push_async_callback(RackKeeper(kept_file(self.state), live, self.rack.origin).close)

    def _note_health(self, engine: EngineThread, sessions: SessionRegistry) -> None:
        metrics = self.service.metrics
        metrics.unhealthy = "" if engine.alive else "the engine's thread has ended: start the service again"
        metrics.sessions = len(sessions)


def _on_signals(loop: asyncio.AbstractEventLoop, do: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, do)
        except NotImplementedError:  # Windows: the loop, which wakes up many times a second, sees what was asked
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(do))


async def _music_ahead(live: LiveSession) -> None:
    """Let some music be made before the first sound: opening the doors, and a browser that follows, take both cores."""
    patience = time.monotonic() + _HEAD_START_PATIENCE_SECONDS
    enough = min(_HEAD_START_SECONDS, float(live.values()["lead_seconds"]))
    while live.state().plays and live.stats().lead_seconds < enough and time.monotonic() < patience:
        await asyncio.sleep(0.02)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
