"""The only crossing between the engine's thread and asyncio: work in, blocks and events out.

    event loop                                   engine's thread
    LiveSession.do(command) ── queue, future ──► player.do
    listeners ◄────── call_soon_threadsafe ───── player's publish
                                                 player.tick of all, a block for those who run dry first,
                                                 and between its steps playback.keep_time of all

One thread steps every session: they share the model. A session without listeners and recording does not run.

Rules: nothing here but `call` and `open_player` is used from the event loop. The engine's thread never touches asyncio
but through `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.audio.effect import Effect
from bridge.audio.faults import close as close_effect
from bridge.session.arranger import Part
from bridge.session.capacity import Capacity
from bridge.session.commands import AudioPrompt, Follow
from bridge.session.events import Block, Event, PlayerState
from bridge.session.generator import BLOCK_FRAMES
from bridge.session.playback import Playback
from bridge.session.player import Player
from bridge.session.timeline import Timeline
from streamgen.config import Value
from streamgen.errors import CapacityError, ConfigError, SessionClosed, StreamgenError

if TYPE_CHECKING:
    from streamgen import Model

__all__ = ["EngineThread", "driest_of", "share_out"]

T = TypeVar("T")
_log = logging.getLogger("bridge.engine")
_TOGETHER_SECONDS = 0.5  # apart in what they have in store, sessions still get their blocks in common passes
_FEW = 4  # sessions, beyond which all of a block is committed at once: a third less work for each
_LOADED_AT_ONCE = 2  # effects: each is a process that takes a core from the music
_TIDY_SECONDS, _TIDY_TIMES = 3.0, 2  # what nobody asked for between two times is forgotten
_COMMANDS_SECONDS = 0.02  # between two blocks: a flood of commands must not keep the music from being made


class EngineThread:
    """The thread that owns the model and steps every session.

    Args:
        model: what plays.
        loop: the event loop that sessions are used on.
        capacity: how many sessions this machine keeps up with.
        step_seconds: where the wall seconds of every step of the language model are noted.
        scene: the parts that `arrange` plays; None for those that are shipped.
    """

    def __init__(
        self,
        model: Model,
        loop: asyncio.AbstractEventLoop,
        capacity: Capacity,
        step_seconds: deque[float] | None = None,
        scene: Sequence[Part] | None = None,
    ) -> None:
        self._step_seconds, self._scene = step_seconds, scene
        self.model, self.loop = model, loop
        self._capacity = capacity
        self._players: list[Player] = []
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._handover = threading.Lock()  # nothing is handed over once the thread has looked for the last time
        self._stopping = False
        self._encoding = asyncio.Lock()  # one at a time: it takes a core from the music
        self._learning = asyncio.Lock()
        self._loading = asyncio.Semaphore(_LOADED_AT_ONCE)
        self._turns_of: dict[str, asyncio.Lock] = {}  # of an effect's name
        self._failed: dict[str, tuple[float, ConfigError]] = {}
        self._untidy, self._tidied_at = 0, -math.inf
        self._thread = threading.Thread(target=self._run, name="streamgen engine")
        self._thread.start()

    @property
    def capacity(self) -> int:
        """How many sessions this machine keeps up with, as far as is known by now."""
        return self._capacity.sessions

    @property
    def alive(self) -> bool:
        """Whether the thread runs; if it does not and nobody closed it, that is a fault."""
        return self._thread.is_alive()

    # -- from the event loop --------------------------------------------------------------------------------------

    async def call(self, work: Callable[[], T]) -> T:
        """Run something on the engine's thread, between two blocks, and await its result."""
        future: asyncio.Future[T] = self.loop.create_future()
        with self._handover:
            if self._stopping:
                raise SessionClosed("the engine is stopping; connect again later")
            self._work.put(lambda: self._answer(work, future))
        self.wake()
        return await future

    def wake(self) -> None:
        """Let the thread look at once whether there is something to do."""
        self._wake.set()

    async def encoded(self, prompt: AudioPrompt) -> AudioPrompt:
        """Give an audio prompt its codes, beside the music: it takes up to a second, and longer where models are large.

        Raises:
            PromptError: it is no audio that the model can read.
        """
        async with self._encoding:
            codes = await asyncio.to_thread(self.model.prompt_codes, prompt.samples, prompt.rate_hz)
        return replace(prompt, codes=codes)

    async def prepared(self, command: Follow) -> Follow:
        """Give a melody or style what the model makes of it, beside the music.

        Raises:
            PromptError: it cannot be used, or the checkpoint takes none.
        """
        assert command.samples is not None, command
        prepare = {"melody": self.model.melody, "style": self.model.style}[command.kind]
        async with self._encoding:
            prepared = await asyncio.to_thread(prepare, command.samples, command.rate_hz)
        return replace(command, samples=None, prepared=prepared)

    async def learn(self, texts: Sequence[str | None]) -> None:
        """Encode prompts beside the music, one caller at a time: on the engine's thread it would wait for them.

        Raises:
            PromptError: one cannot be used.
        """
        self._untidy = _TIDY_TIMES
        async with self._learning:
            await asyncio.to_thread(self.model.learn, texts)

    async def load(self, name: str, make: Callable[[], Effect]) -> Effect:
        """Make an effect beside the music, a few at a time: a plugin takes as long as it takes to load.

        Those of one name after each other: who waits for one that hangs is told with the first.

        Raises:
            ConfigError: it cannot be made.
        """
        asked = time.monotonic()
        async with self._turns_of.setdefault(name, asyncio.Lock()):
            failed_at, error = self._failed.get(name, (0.0, None))
            if error is not None and failed_at > asked:
                raise error
            try:
                return await self._load(make)
            except ConfigError as error:
                self._failed[name] = time.monotonic(), ConfigError(str(error))
                raise

    async def _load(self, make: Callable[[], Effect]) -> Effect:
        """Make it on a thread that nobody waits for at the end: one that hangs does not keep the service."""
        await self._loading.acquire()
        future: asyncio.Future[Effect] = self.loop.create_future()

        def run() -> None:
            try:
                effect = make()
            except Exception as error:  # noqa: BLE001 - whoever awaits it gets it
                self._on_loop(self._loaded, future, None, error)
            else:
                self._on_loop(self._loaded, future, effect, None)

        threading.Thread(target=run, name="effect's start", daemon=True).start()
        return await future

    def _loaded(self, future: asyncio.Future[Effect], effect: Effect | None, error: Exception | None) -> None:
        self._loading.release()
        if effect is None:
            assert error is not None
            _fail(future, error)
        elif future.done():  # whoever asked has gone
            close_effect(effect)
        else:
            future.set_result(effect)

    async def tidy(self) -> None:
        """Give back what prompts took that nobody asks for any more; to be called every second or so."""
        now = time.monotonic()
        if self._untidy and now - self._tidied_at > _TIDY_SECONDS:
            self._untidy, self._tidied_at = self._untidy - 1, now
            await asyncio.to_thread(self.model.forget_unused)

    async def open_player(
        self,
        deliver: Callable[[Block | Event], None],
        timeline: Timeline,
        values: Mapping[str, Value] | None,
        options: Mapping[str, Any] | None,
        attach: Callable[[Player], None],
    ) -> None:
        """Open a session's engine side, whose blocks and events are delivered on the event loop.

        `attach` takes the player on the engine's thread, before anything it tells can be delivered.

        Raises:
            CapacityError: as many as this machine can keep in real time are open.
        """
        await self.call(lambda: self._admit(deliver, timeline, values, options, attach))

    async def close(self) -> None:
        """End the thread; sessions still open are closed."""
        with contextlib.suppress(SessionClosed):  # a fault has ended it already
            await self.call(self._finish)
        await asyncio.to_thread(self._thread.join)

    # -- the engine's thread --------------------------------------------------------------------------------------

    def _admit(
        self,
        deliver: Callable[[Block | Event], None],
        timeline: Timeline,
        values: Mapping[str, Value] | None,
        options: Mapping[str, Any] | None,
        attach: Callable[[Player], None],
    ) -> None:
        if len(self._players) >= self.capacity:  # asked here: many may wait for this thread at once
            raise CapacityError(f"{len(self._players)} sessions play, this machine keeps up with {self.capacity}")
        player = Player(
            self.model,
            lambda item: self._on_loop(deliver, item),
            timeline,
            values=values,
            options={**(options or {}), "between_steps": self._keep_playing},
            step_seconds=self._step_seconds,
            scene=self._scene,
        )
        attach(player)
        player.meanwhile = self._keep_playing
        self._players.append(player)
        share_out(self._players)

    def dismiss(self, player: Player) -> None:
        """Close a session's engine side. Engine's thread."""
        self._players.remove(player)
        player.close()
        share_out(self._players)

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

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._carry_out(_COMMANDS_SECONDS)
                self._rest(self._tick())
        finally:
            with self._handover:
                self._stopping = True
                self._carry_out(math.inf)  # nobody must wait for an answer for ever

    def _carry_out(self, seconds: float) -> None:
        """Do what waits: at least one piece of work, and for so long."""
        until = time.monotonic() + seconds
        while not self._work.empty():
            self._work.get()()
            if time.monotonic() > until:
                return

    def _tick(self) -> float:
        """Serve everyone; make one block for those who run dry first. Returns seconds to rest."""
        began = time.monotonic()
        waits = [player.tick() for player in self._players]
        driest = driest_of(self._players)
        if driest:
            self._make(driest)
        self._note_work(time.monotonic() - began, driest)
        return 0.0 if driest else min(waits, default=0.1)

    def _note_work(self, seconds: float, made: Sequence[Player]) -> None:
        """Let what sessions cost be known before another one is let in."""
        playing = max(sum(player.playback.engaged for player in self._players), len(made))
        self._capacity.note(seconds, sum(player.generator.block_seconds for player in made), playing)

    def _make(self, players: Sequence[Player], *, turn: bool = True) -> None:
        try:
            Player.make_together(players, self._keep_time, turn=turn)
        except Exception as error:  # noqa: BLE001 - one session's trouble must not silence the others
            if len(players) > 1:  # whose it was shows when each goes on alone
                for player in players:
                    self._make([player], turn=turn)
                return
            _log.warning("a session was paused: %s", error, exc_info=not isinstance(error, StreamgenError))
            players[0].fail(str(error))

    def _keep_time(self) -> None:
        for player in self._players:
            player.playback.keep_time()

    def _keep_playing(self) -> None:
        """Serve everyone while one session tries openings: what falls due, and a block for who would run dry."""
        self._keep_time()
        if dry := [player for player in self._players if player.playback.runs_dry]:
            self._make(dry, turn=False)

    def _rest(self, seconds: float) -> None:
        if seconds > 0 and self._work.empty() and self._wake.wait(seconds):
            self._wake.clear()

    def _finish(self) -> None:
        for player in list(self._players):
            self.dismiss(player)
        self._stopping = True


def share_out(players: Sequence[Player]) -> None:
    """Let few players commit small pieces, and many whole blocks."""
    frames = Playback.commit_frames if len(players) <= _FEW else BLOCK_FRAMES
    for player in players:
        player.playback.commit_frames = frames


def driest_of(players: Sequence[Player]) -> list[Player]:
    """Whoever lacks audio most, and those who lack about as much: the weights are read once for all of them.

    Whoever will lack a block within one goes along, so that all come to be served in the same passes. Who has much more
    in store waits: beside it the driest would come to its own later. `live`, the first, goes along always, and so does
    who is late: it is silent until it has its lead again.
    """
    lacking = [player.playback.lead_seconds for player in players if player.playback.needs_audio]
    if not lacking:
        return []
    limit = min(lacking) + _TOGETHER_SECONDS
    return [player for player in players if player.playback.goes_along and _is_due(player, players, limit)]


def _is_due(player: Player, players: Sequence[Player], limit: float) -> bool:
    late = player.playback.state is PlayerState.LATE
    return player is players[0] or late or player.playback.lead_seconds <= limit


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # whoever asked may have gone
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
