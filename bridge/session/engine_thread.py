"""The only crossing between the engine's thread and asyncio: commands in, blocks and events out.

    event loop                               engine's thread
    session.do(command) ── queue, future ──► performer.do
    listeners ◄── call_soon_threadsafe ───── performer.publish
                                             performer.tick of whoever runs dry first

One thread steps every session: they share the model. A session without listeners and recording does not run.

Rules: doors use `LiveSession` on the event loop; nothing else here is called from there. The engine's thread never
touches asyncio but through `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bridge.audio.recorder import Recorder
from bridge.session.messages import (
    AudioPrompt,
    Block,
    Changed,
    Command,
    Event,
    Gap,
    Goaway,
    Listener,
    Stats,
    Transported,
)
from bridge.session.parameters import Value
from bridge.session.player import COMMIT_SECONDS, Performer
from streamgen.errors import CapacityError, SessionClosed, StreamgenError

if TYPE_CHECKING:
    from streamgen.model import Model

__all__ = ["EngineThread", "LiveSession"]

T = TypeVar("T")
_log = logging.getLogger("bridge.engine")
_SHARE = 0.8  # of real time that sessions may use together
_COMMANDS_SECONDS = 0.02  # between two blocks of 0.1 s: a flood of commands must not keep the music from being made


class EngineThread:
    """The thread that owns the model and steps every session.

    Args:
        model: what plays.
        loop: the event loop that sessions are used on.
        realtime_factor: measured speed of one session; how many are admitted follows from it.
        step_seconds: where the wall seconds of every LM step are noted.
    """

    def __init__(
        self,
        model: Model,
        loop: asyncio.AbstractEventLoop,
        realtime_factor: float,
        step_seconds: deque[float] | None = None,
    ) -> None:
        self._step_seconds = step_seconds
        self.model, self.loop = model, loop
        self.capacity = max(1, int(realtime_factor * _SHARE))
        self._performers: list[Performer] = []
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopping = False
        self._encoding = asyncio.Lock()  # one at a time: it takes a core from the music
        self._thread = threading.Thread(target=self._run, name="streamgen engine")
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs; if it does not and nobody closed it, that is a fault."""
        return self._thread.is_alive()

    async def call(self, work: Callable[[], T]) -> T:
        """Run something on the engine's thread, between two blocks, and await its result."""
        if self._stopping:
            raise SessionClosed("the engine is stopping; connect again later")
        future: asyncio.Future[T] = self.loop.create_future()
        self._work.put(lambda: self._answer(work, future))
        self._wake.set()
        return await future

    def _answer(self, work: Callable[[], T], future: asyncio.Future[T]) -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - whoever awaits it gets it
            self._on_loop(_fail, future, error)
        else:
            self._on_loop(_succeed, future, result)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self.loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop was closed while the last block was made
            _log.debug("the event loop is gone; dropped %s", call)

    async def encoded(self, prompt: AudioPrompt) -> AudioPrompt:
        """Give an audio prompt its codes, beside the music: it takes up to a second, and longer where models are large.

        Raises:
            PromptError: it is no audio that the model can read.
        """
        async with self._encoding:
            codes = await asyncio.to_thread(self.model.prompt_codes, prompt.samples, prompt.rate_hz)
        return replace(prompt, codes=codes)

    async def open_session(self, name: str, values: Mapping[str, Value] | None = None) -> LiveSession:
        """Open a session.

        Raises:
            CapacityError: as many as this machine can keep in real time are open.
        """
        session = LiveSession(name, self)
        await self.call(lambda: self._admit(session, values))
        return session

    def _admit(self, session: LiveSession, values: Mapping[str, Value] | None) -> None:
        if len(self._performers) >= self.capacity:  # asked here: many may wait for this thread at once
            raise CapacityError(
                f"{len(self._performers)} sessions play, this machine keeps up with {self.capacity}; try later"
            )
        performer = Performer(
            self.model,
            lambda item: self._on_loop(session.deliver, item),
            values=values,
            step_seconds=self._step_seconds,
        )
        session.performer = performer  # before anything it tells can reach the session
        self._performers.append(performer)

    def dismiss(self, performer: Performer) -> None:
        """Close a session's engine side. Engine's thread."""
        self._performers.remove(performer)
        performer.close()

    def _run(self) -> None:
        while not self._stopping:
            self._obey(_COMMANDS_SECONDS)
            self._rest(self._tick())
        self._obey(math.inf)  # nobody shall wait for an answer for ever

    def _obey(self, seconds: float) -> None:
        """Carry out what waits: at least one command, and for so long."""
        until = time.monotonic() + seconds
        while not self._work.empty():
            self._work.get()()
            if time.monotonic() > until:
                return

    def _tick(self) -> float:
        """Serve everyone; make one block for whoever runs dry first. Returns seconds to rest."""
        waits = [performer.tick() for performer in self._performers]
        hungry = [performer for performer in self._performers if performer.hungry]
        if hungry:
            self._make(min(hungry, key=lambda performer: performer.lead_seconds))
            return 0.0
        return min(waits, default=0.1)

    def _make(self, performer: Performer) -> None:
        try:
            performer.make()
        except Exception as error:  # noqa: BLE001 - one session's trouble must not silence the others
            _log.warning("a session was paused: %s", error, exc_info=not isinstance(error, StreamgenError))
            performer.give_up(str(error))

    def _rest(self, seconds: float) -> None:
        if seconds > 0 and self._work.empty() and self._wake.wait(seconds):
            self._wake.clear()

    async def close(self) -> None:
        """End the thread; sessions still open are closed."""
        await self.call(self._finish)
        await asyncio.to_thread(self._thread.join)

    def _finish(self) -> None:
        for performer in list(self._performers):
            self.dismiss(performer)
        self._stopping = True


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # whoever asked may have gone
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


class LiveSession:
    """A session on the event loop: `bridge.session.interface.Session`."""

    performer: Performer

    def __init__(self, name: str, engine: EngineThread) -> None:
        self.name, self._engine = name, engine
        self.model, self.sample_rate_hz = engine.model.name, engine.model.sample_rate_hz
        self._listeners: list[Listener] = []
        self._recent: deque[Block] = deque()
        self._recorder: Recorder | None = None
        self._values: dict[str, Value] | None = None
        self._playing, self._position = True, 0
        self._closed = False

    # -- what doors ask -------------------------------------------------------------------------------------------

    def values(self) -> Mapping[str, Value]:
        """Every parameter's value, as last set."""
        return dict(self.performer.values) if self._values is None else dict(self._values)

    def playing(self) -> bool:
        """Whether the transport plays."""
        return self._playing

    def position_samples(self) -> int:
        """First sample that is not final yet."""
        return self._position

    async def do(self, command: Command) -> int:
        """Carry a command out; see `Session.do`."""
        if self._closed:
            raise SessionClosed("this session has ended; open a new one")
        if isinstance(command, AudioPrompt):
            command = await self._engine.encoded(command)
        return await self._engine.call(lambda: self.performer.do(command))

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
        self.performer.wanted = self._hearing() > 0 or self._recorder is not None
        self._engine._wake.set()

    def _hearing(self) -> int:
        """How many listeners take audio: doors that only steer say so with `wants_audio = False`."""
        return sum(getattr(listener, "wants_audio", True) for listener in self._listeners)

    @property
    def deserted(self) -> bool:
        """Whether nobody is there, not even a listener that only steers, and nothing records."""
        return not self._listeners and self._recorder is None

    @property
    def recording(self) -> Path | None:
        """The file being written, whose name may differ from the one asked for: none is written over."""
        return None if self._recorder is None else self._recorder.path

    def stats(self) -> Stats:
        """How the session is doing now."""
        return self.performer.stats(self._hearing())

    async def record(self, path: Path | None) -> None:
        """Write the output to a file from now on; None ends it."""
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            await asyncio.to_thread(recorder.close)
        if path is not None:
            self._recorder = await asyncio.to_thread(Recorder, path, self.sample_rate_hz)
        self._want()

    async def close(self, reason: str) -> None:
        """Say goodbye to the listeners, finish a recording, free the engine's side."""
        if self._closed:
            return
        self._closed = True
        for listener in list(self._listeners):
            listener.event(Goaway(reason))
        self._listeners.clear()
        await self.record(None)
        await self._engine.call(lambda: self._engine.dismiss(self.performer))

    # -- what the engine says -------------------------------------------------------------------------------------

    def deliver(self, item: Block | Event) -> None:
        """Hand a block or an event to every listener. Event loop."""
        if isinstance(item, Block):
            self._take(item)
            return
        if isinstance(item, Changed):
            self._values = {**self.values(), **item.values}
        elif isinstance(item, Transported):
            self._playing = {"pause": False, "stop": False, "play": True}.get(item.action, self._playing)
        elif isinstance(item, Stats):
            item = self.stats()
        elif isinstance(item, Gap):
            _log.warning("the engine was %.2f s late: the music paused", item.samples / self.sample_rate_hz)
        for listener in list(self._listeners):
            listener.event(item)

    def _take(self, block: Block) -> None:
        self._position = block.end_sample
        self._recent.append(block)
        horizon = block.end_sample - COMMIT_SECONDS * self.sample_rate_hz
        while len(self._recent) > 1 and self._recent[0].end_sample <= horizon:
            self._recent.popleft()
        if self._recorder is not None:
            self._recorder.audio(block)
        for listener in list(self._listeners):
            listener.audio(block)
