"""The effect that a plugin is: its child is asked block by block, and started again when it fails.

    process ─► child ─► block          failed: EffectFault, the slot fades to its input; meanwhile, in the background:
                 │                     child killed by its id ─ wait ─ started again with its last state ─► recovered
                 └─ every few seconds its state is written          three faults in five minutes: given up

Rules: `open` and restarts take as long as the plugin takes to load, on threads of their own; all else returns within
the deadline. What was set since the state was written is set again after a restart.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bridge.audio.effect import ParameterChange, Pcm
from bridge.audio.faults import EffectFault
from bridge.audio.plugins.engine import PluginInfo, Reference, Turn
from bridge.audio.plugins.memory import MAX_BLOCK, MAX_TURNS
from bridge.audio.plugins.parameters import PluginParameter, plugin_parameters
from bridge.audio.plugins.process import PluginProcess
from bridge.audio.plugins.spawn import HostSettings, PluginTrouble
from bridge.errors import cannot_be
from streamgen.config import ControlSpec, Value

__all__ = ["Plugin"]

_log = logging.getLogger("bridge.plugins")

RESERVE_SECONDS = 0.01  # kept back, to fade with
_LATEST_SECONDS = 10.0
_SAME = 1e-4  # of a parameter's range: plugins round
_STEADY_SECONDS, _STEADY_TIMES = 60.0, 3  # latency may change so often without a wait before it joins again
_RESTLESS_SECONDS = 5.0  # the longest of these waits; else one that changes with every block would come and go with it
_FIRST_WAIT_SECONDS = 0.1  # before a restart; four times as long after every further strike


class Plugin:
    """An effect in a process of its own. Made by `open`; see `Effect` and `Fallible`.

    Attributes:
        reference, info: which plugin, and what it tells of itself.
        reserve_samples, strikes, given_up: see `Fallible`.
    """

    listens = frozenset({"tempo"})

    def __init__(
        self, process: PluginProcess, reference: Reference, settings: HostSettings, rate_hz: int, state: Path
    ) -> None:
        self.reference, self._settings, self._rate_hz, self._state = reference, settings, rate_hz, state
        self.info: PluginInfo = process.loaded.info
        self.latency_samples = process.loaded.info.latency_samples
        self.reserve_samples = round(RESERVE_SECONDS * rate_hz)
        self._named: dict[str, PluginParameter] = plugin_parameters(self.info.parameters)
        self.parameters: Mapping[str, ControlSpec] = {name: one.spec for name, one in self._named.items()}
        self._process: PluginProcess | None = process
        self._fresh: PluginProcess | None = None  # handed over by the thread that started it
        self._faults: deque[float] = deque(maxlen=settings.strikes)
        self._relocated: deque[float] = deque(maxlen=12)  # when its latency changed
        self._joins_at = 0.0
        self._lock = threading.Lock()  # around _fresh and _closed, which the starting thread looks at
        self._closed = False
        self.given_up = False
        self._tempo_bpm = 0.0
        self._saves_at = time.monotonic() + settings.save_seconds
        self._since_save: dict[int, float] = {}  # turned since the state was last asked for
        self._being_saved: dict[int, float] = {}  # … and before that, until the file is written
        self._again: list[Turn] = []  # what a restored state lacks
        self._saved = self._unsaved = 0  # as last seen in the child's memory
        self._unsaved_why = ""
        self._asked = self._settled = 0  # states asked for; of these, by children before this one
        self._known = {one.index: value for one, value in zip(self._named.values(), process.loaded.values, strict=True)}
        self._moves: dict[str, Value] = {}

    @classmethod
    def open(
        cls,
        reference: Reference,
        settings: HostSettings,
        rate_hz: int,
        name: str,
        restore: Path | None = None,
        preset: Path | None = None,
    ) -> Plugin:
        """Start a child and load a plugin; takes as long as that takes.

        Args:
            reference: which.
            settings: how it is kept.
            rate_hz: of the audio.
            name: of the file its state is written to, in `settings.folder`, while it is open.
            restore: a state to begin with.
            preset: or a file of the plugin's own format, such as `.vstpreset`.

        Raises:
            PluginTrouble: it cannot be loaded.
        """
        state = settings.folder / f"{name}.state"
        try:
            settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            state.unlink(missing_ok=True)
            if restore is not None:  # a crash before the first save must lose nothing of it
                shutil.copyfile(restore, state)
        except OSError as error:
            raise PluginTrouble(cannot_be("kept", f"its state in {str(settings.folder)!r}", error)) from None
        process = PluginProcess.start(reference, settings, rate_hz, state, restore, load_preset=preset)
        try:
            return cls(process, reference, settings, rate_hz, state)
        except Exception as error:
            process.kill()
            _log.exception("what %s tells of itself cannot be understood", reference.path)
            raise PluginTrouble(f"what it tells of itself cannot be understood: {error}") from error

    # -- the effect -----------------------------------------------------------------------------------------------

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:  # noqa: ARG002 - any block will do
        """See `Effect.prepare`; the plugin was loaded for its rate."""
        assert rate_hz == self._rate_hz, (rate_hz, self._rate_hz)

    def process(self, block: Pcm, start_sample: int, changes: Sequence[ParameterChange]) -> Pcm:
        """See `Effect.process`.

        Raises:
            EffectFault: the plugin failed; it is being started again.
        """
        if self._process is None:
            raise EffectFault("it is not there")
        turns = self._turns(changes, start_sample)
        if not block.shape[1]:
            self._again = turns
            return block
        try:
            starts = range(0, block.shape[1], MAX_BLOCK)
            made = [self._piece(self._process, block, at, start_sample, turns) for at in starts]
            self._look_after(self._process)
        except EffectFault:
            self._fail()
            raise
        return made[0] if len(made) == 1 else np.concatenate(made, axis=1)

    def _piece(self, process: PluginProcess, block: Pcm, at: int, start_sample: int, turns: list[Turn]) -> Pcm:
        piece = block[:, at : at + MAX_BLOCK]
        own = [(sample - at, index, value) for sample, index, value in turns if 0 <= sample - at < MAX_BLOCK]
        return process.process(piece, start_sample + at, self._tempo_bpm, own, self._settings.deadline_seconds)

    def _turns(self, changes: Sequence[ParameterChange], start_sample: int) -> list[Turn]:
        turns, self._again = self._again, []
        for change in changes[-(MAX_TURNS - len(turns)) :]:
            if change.name == "tempo":
                self._tempo_bpm = float(change.value)
                continue
            parameter = self._named[change.name]
            value = parameter.to_unit(change.value)
            turns.append((max(change.at_sample - start_sample, 0), parameter.index, value))
            self._since_save[parameter.index] = self._known[parameter.index] = value
        return turns

    def _look_after(self, process: PluginProcess) -> None:
        """After a block: has the state been written, should it be, has the latency changed?"""
        if process.memory.saved != self._saved:
            self._saved = process.memory.saved
            if self.saves >= self._asked:  # else what was turned meanwhile is in a state that is still being written
                self._being_saved = {}
                self._compare(process.memory.values(len(self._named)))
        if process.memory.unsaved != self._unsaved:
            self._unsaved = process.memory.unsaved
            self._tell_unsaved(process.memory.unsaved_text)
        if time.monotonic() > self._saves_at:
            self.save()
        latency = process.memory.latency_samples
        if not 0 <= latency <= _LATEST_SECONDS * self._rate_hz:
            raise EffectFault(f"it says that it is {latency:,} samples late")
        if latency != self.latency_samples:
            self._join_anew(process, latency)

    def _join_anew(self, process: PluginProcess, latency: int) -> None:
        before, self.latency_samples = self.latency_samples, latency
        now = time.monotonic()
        self._relocated.append(now)
        often = sum(at > now - _STEADY_SECONDS for at in self._relocated) - _STEADY_TIMES
        wait = min(_FIRST_WAIT_SECONDS * 2**often, _RESTLESS_SECONDS) if often > 0 else 0.0
        self._joins_at = now + wait
        with self._lock:
            self._process, self._fresh = None, process
        when = f"in {wait:.1f} s, for it changes often" if wait else "anew"
        raise EffectFault(f"its latency changed from {before:,} to {latency:,} samples: it joins {when}")

    def reset(self) -> None:
        """See `Effect.reset`. A child that is gone is noticed with the next block."""
        self._told(b"r")

    def _told(self, command: bytes) -> bool:
        """Tell the child; whether that could be done."""
        try:
            if self._process is not None:
                self._process.tell(command)
        except EffectFault:  # the next block says it, at every door
            return False
        return True

    # -- what it is set to ----------------------------------------------------------------------------------------

    def save(self) -> int:
        """Ask for the state to be written; returns what `saves` is once that is done."""
        self._saves_at = time.monotonic() + self._settings.save_seconds
        self._being_saved |= self._since_save
        self._since_save = {}
        if self._process is not None and self._told(b"s"):
            self._asked += 1
        return self._asked

    def _tell_unsaved(self, why: str) -> None:
        if why != self._unsaved_why:
            _log.warning("the state of %s is not kept: %s; a restart goes on with an older one", self.info.name, why)
        self._unsaved_why = why

    def save_preset(self, path: Path) -> None:
        """Write the newest state that was saved as a file of the plugin's own format, in another child.

        Raises:
            PluginTrouble: it cannot be written; what was there before is there still.
        """
        if not self._state.exists():
            raise PluginTrouble(f"{self.info.name} has not given its state: {self._unsaved_why or 'try again later'}")
        new = path.with_name(f".{os.getpid()}-{threading.get_ident()}.{path.name}")  # its ending may count
        settings = self._settings
        try:
            PluginProcess.start(self.reference, settings, self._rate_hz, None, self._state, save_preset=new).kill()
            os.replace(new, path)
        except OSError as error:
            raise PluginTrouble(cannot_be("written", f"{path.name!r} of {self.info.name}", error)) from None
        finally:
            new.unlink(missing_ok=True)

    @property
    def saves(self) -> int:
        """How many of the states that were asked for are written, or will never be."""
        process = self._process
        return self._asked if process is None else self._settled + process.memory.saved + process.memory.unsaved

    @property
    def state_path(self) -> Path:
        """The file that the state is written to; see `child.read_state`."""
        return self._state

    def values(self) -> dict[str, Value]:
        """Return what its parameters are, as far as is known here."""
        return {name: one.from_unit(self._known[one.index]) for name, one in self._named.items()}

    def take_moves(self) -> dict[str, Value]:
        """Take out what it turned by itself since the last call, as seen when its state was last written."""
        moves, self._moves = self._moves, {}
        return moves

    def _compare(self, values: list[float]) -> None:
        for (name, one), value in zip(self._named.items(), values, strict=True):
            if one.index not in self._since_save and abs(value - self._known[one.index]) > _SAME:
                self._known[one.index] = value
                self._moves[name] = one.from_unit(value)

    # -- faults ---------------------------------------------------------------------------------------------------

    @property
    def strikes(self) -> int:
        """How often it failed lately."""
        since = time.monotonic() - self._settings.forgiven_seconds
        return sum(at > since for at in tuple(self._faults))  # other threads look, and add

    def forgive(self) -> None:
        """Try again what was given up."""
        if self.given_up:
            self.given_up = False
            self._faults.clear()
            self._restart()

    def give_up(self) -> None:
        """See `Fallible.give_up`."""
        with self._lock:
            processes, self._process, self._fresh = (self._process, self._fresh), None, None
        for process in processes:
            if process is not None:
                process.kill()
        self.latency_samples, self.given_up = 0, True

    def recovered(self) -> bool:
        """Whether a fresh child is there; it plays from now on."""
        if time.monotonic() < self._joins_at:
            return False
        with self._lock:
            fresh, self._fresh = self._fresh, None
        if fresh is None:
            return False
        self._process, self._saved, self._unsaved = fresh, fresh.memory.saved, fresh.memory.unsaved
        self._settled = self._asked - self._saved - self._unsaved
        self.latency_samples = fresh.memory.latency_samples or fresh.loaded.info.latency_samples
        return True

    def _fail(self) -> None:
        """Count a fault, and start again; what was set since the state was written comes again, but once only.

        If that is what the plugin dies of, it would do so three times.
        """
        if self._process is None:  # it lives, with another latency
            return
        self._process.kill()
        self._process = None
        first = not self.strikes
        self._again = [(0, index, value) for index, value in (self._being_saved | self._since_save).items() if first]
        if self._struck():
            self._restart()

    def _struck(self) -> bool:
        """Note a fault; tells whether it may be tried again."""
        self._faults.append(time.monotonic())
        self.given_up = self.strikes >= self._settings.strikes
        return not self.given_up

    def _restart(self) -> None:
        threading.Thread(target=self._revive, name=f"plugin {self.info.name}", daemon=True).start()

    def _revive(self) -> None:
        """Start a child with the last state; if that cannot be loaded, without."""
        restore = self._state if self._state.exists() else None
        while not (self._closed or self.given_up):
            time.sleep(_FIRST_WAIT_SECONDS * 4 ** max(self.strikes - 1, 0))
            try:
                fresh = PluginProcess.start(self.reference, self._settings, self._rate_hz, self._state, restore)
            except PluginTrouble as trouble:
                _log.warning("%s could not be started again: %s", self.info.name, trouble)
                restore = None
                if not self._struck():
                    return
            else:
                self._hand_over(fresh)
                return

    def _hand_over(self, fresh: PluginProcess) -> None:
        with self._lock:
            stale: PluginProcess | None = fresh
            if not (self._closed or self.given_up):
                stale, self._fresh = self._fresh, fresh
        if stale is not None:
            stale.kill()

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._closed = True
        self.give_up()
        self._state.unlink(missing_ok=True)
