"""A child as its parent sees it: started, asked within a deadline, ended by its id.

Rules: `start` takes as long as the plugin takes to load, at most its time-out: not for the engine's thread. All else
returns within its deadline.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.audio.faults import EffectFault
from bridge.audio.plugins.engine import Pcm, PluginInfo, Reference, Turn, one_line, place
from bridge.audio.plugins.memory import MAX_PARAMETERS, BlockMemory
from bridge.audio.plugins.spawn import HostSettings, PluginTrouble, spawn
from bridge.errors import cannot_be, reason

__all__ = ["Loaded", "PluginProcess"]

_log = logging.getLogger("bridge.plugins")

LOUDEST = 64.0  # +36 dBFS: no effect means that; one that runs away gets there
_DENORMAL = np.float32(1e-25)  # far below hearing; still smaller numbers cost a hundred times the time
_SAVING_SECONDS = 0.1  # longer a deadline while the child asks its plugin for the state
_STARVED_TIMES = 5  # as long at most, where the child waits for a core
_WORTH_SECONDS = 0.002  # less is no reason to go on waiting
_END_SECONDS = 0.05  # for a child that hung up to end, so that it can be said how: the music waits


@dataclass(frozen=True)
class Loaded:
    """What a child said once its plugin was loaded: the plugin, and the values of its parameters, 0 … 1."""

    info: PluginInfo
    values: list[float]


class PluginProcess:
    """A running child with one plugin. Made by `start`.

    Attributes:
        loaded: what it said.
        memory: the block that both see.
    """

    def __init__(self, child: subprocess.Popen[bytes], connection: socket.socket, memory: BlockMemory | None) -> None:
        self._child, self._connection = child, connection
        self._memory = memory
        self._schedstat: int | None = None
        with contextlib.suppress(OSError):
            self._schedstat = os.open(f"/proc/{child.pid}/schedstat", os.O_RDONLY)
        self.loaded: Loaded

    @classmethod
    def start(
        cls,
        reference: Reference,
        settings: HostSettings,
        rate_hz: int,
        state: Path | None,
        restore: Path | None = None,
        *,
        load_preset: Path | None = None,
        save_preset: Path | None = None,
        by_port: bool = os.name != "posix",
    ) -> PluginProcess:
        """Start a child and let it load a plugin.

        Args:
            reference: which.
            settings: limits.
            rate_hz: of the audio.
            state: where it writes its state; None only asks what the plugin is, and the child ends.
            restore: state to begin with.
            load_preset: a file of the plugin's own format to begin with.
            save_preset: a file of that format to write then.
            by_port: connect over this machine's own network instead of handing a socket over.

        Raises:
            PluginTrouble: it cannot be loaded, died of it, or took too long.
        """
        task = {
            "engine": settings.engine,
            "reference": vars(reference),
            "rate_hz": rate_hz,
            "memory_bytes": settings.memory_bytes,
            "state": str(state or ""),
            "restore": str(restore or ""),
            "load_preset": str(load_preset or ""),
            "save_preset": str(save_preset or ""),
        }
        try:
            memory = None if state is None else BlockMemory.create()
        except OSError as error:
            raise PluginTrouble(f"there is no memory to share with it: {reason(error)}") from None
        try:
            process = cls(*spawn(settings, by_port), memory)
            process._load(task | {"memory": "" if memory is None else str(memory.path)}, settings.load_seconds)
        except OSError as error:
            raise PluginTrouble(cannot_be("started", "its process", error)) from None
        finally:
            if memory is not None:
                memory.forget_name()  # both have it, or nobody will
        return process

    def _load(self, task: dict[str, Any], seconds: float) -> None:
        try:
            self.loaded = self._answer(task, seconds)
        except BaseException:
            self.kill()
            raise

    def _answer(self, task: dict[str, Any], seconds: float) -> Loaded:
        try:
            self._connection.sendall(json.dumps(task).encode() + b"\n")
            answer = json.loads(_line(self._connection, time.monotonic() + seconds))
            if "error" in answer:
                raise PluginTrouble(answer["error"])
            info, values = PluginInfo.from_dict(answer["info"]), [place(value) for value in answer["values"]]
            if len(values) != len(info.parameters) or len(values) > MAX_PARAMETERS:
                raise PluginTrouble(
                    f"it tells of {len(info.parameters):,} parameters and of the values of {len(values):,}; these must "
                    f"be as many, at most {MAX_PARAMETERS:,}"
                )
            return Loaded(info, values)
        except TimeoutError:
            raise PluginTrouble(f"it was not loaded within {seconds:g} s") from None
        except (OSError, ValueError):
            raise PluginTrouble(f"it ended while it was loaded: {self._end()}") from None
        except (KeyError, TypeError) as error:
            raise PluginTrouble(f"its process answered what is no answer: {one_line(repr(error))}") from None

    @property
    def memory(self) -> BlockMemory:
        """The block that both see."""
        assert self._memory is not None, "a child that was only asked what its plugin is"
        return self._memory

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def process(self, block: Pcm, start_sample: int, tempo_bpm: float, turns: Sequence[Turn], seconds: float) -> Pcm:
        """Let the child process float32 [2, n], n up to MAX_BLOCK; returns as much.

        Raises:
            EffectFault: it raised, died, was late or gave what is no audio. It must then be killed.
        """
        count, memory = block.shape[1], self.memory
        memory.give(block, start_sample, tempo_bpm, turns)
        answer = self._asked(b"p", seconds)
        if answer == b"e":
            raise EffectFault(memory.text)
        if answer != b"d":
            raise EffectFault(f"it died: {self._end()}")
        return _sane(memory.made[:, :count])

    def _asked(self, command: bytes, seconds: float) -> bytes:
        """Send a byte and wait for one; b"" when the other end is closed.

        A child that waits for a core is not one that hangs: that time is given back to it, up to a limit. So is the
        time that its plugin takes over its state.
        """
        connection, began, before = self._connection, time.monotonic(), self._scheduled()
        patience = seconds
        try:
            connection.sendall(command)
            while True:
                connection.settimeout(max(began + patience - time.monotonic(), 1e-3))
                try:
                    return connection.recv(1)
                except TimeoutError:
                    more = self._starved_seconds(before, time.monotonic() - began)
                    more += _SAVING_SECONDS if self.memory.saving else 0.0
                    longer = min(seconds + more, _STARVED_TIMES * seconds + _SAVING_SECONDS)
                    if longer - patience < _WORTH_SECONDS:
                        raise
                    patience = longer
        except TimeoutError:
            raise EffectFault(f"it hangs: no answer within {seconds * 1e3:g} ms") from None
        except OSError:  # the other end is closed
            return b""

    def _scheduled(self) -> tuple[float, float]:
        """Seconds that the child has run and has waited for a core so far, where the system tells; see proc(5)."""
        if self._schedstat is None:
            return 0.0, 0.0
        try:
            ran, queued, *_ = os.pread(self._schedstat, 100, 0).split()
        except (OSError, ValueError):  # it has ended
            return 0.0, 0.0
        return int(ran) / 1e9, int(queued) / 1e9

    def _starved_seconds(self, before: tuple[float, float], elapsed: float) -> float:
        """How long of the time since `before` the child could have run and had no core.

        The system counts a wait when it is over; one that lasts shows as a child that is runnable and has not run.
        """
        ran, queued = (now - then for now, then in zip(self._scheduled(), before, strict=True))
        with contextlib.suppress(OSError, IndexError):
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return max(elapsed - ran, 0.0) if state == "R" else max(queued, 0.0)
        return 0.0

    def tell(self, command: bytes) -> None:
        """Ask for something that is not answered: `r` forgets the audio, `s` saves the state.

        Raises:
            EffectFault: the child is gone.
        """
        try:
            self._connection.sendall(command)
        except OSError:
            raise EffectFault(f"it died: {self._end()}") from None

    def _end(self) -> str:
        """How the child ended, in words."""
        try:
            code = self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "its connection is closed"
        if code >= 0:
            return f"exit code {code}"
        return f"signal {-code} ({signal.Signals(-code).name})"

    def kill(self) -> None:
        """End the child by its id, now; another thread waits for it."""
        with contextlib.suppress(OSError):
            self._connection.close()
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._schedstat = None
        self._child.kill()
        threading.Thread(target=self._child.wait, name="plugin's end", daemon=True).start()


def _sane(made: Pcm) -> Pcm:
    """Copy what a plugin made, or say why it is no audio; numbers too small to hear become silence."""
    sizes = np.abs(made)
    loudest = float(sizes.max(initial=0.0))
    if not loudest <= LOUDEST:  # NaN fails it too
        if np.isfinite(loudest):
            raise EffectFault(f"it runs away: {20 * np.log10(loudest):.0f} dBFS")
        raise EffectFault("it gave what is no number")
    return np.where(sizes < _DENORMAL, np.float32(0), made)


def _line(connection: socket.socket, until: float) -> bytes:
    """Read up to a line's end.

    Raises:
        TimeoutError: it did not come in time.
        EOFError, as ValueError of JSON: the other end is closed.
    """
    pieces = []
    while True:
        connection.settimeout(max(until - time.monotonic(), 1e-3))
        piece = connection.recv(65_536)
        pieces.append(piece)
        if not piece or piece.endswith(b"\n"):
            return b"".join(pieces)
