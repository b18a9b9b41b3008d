"""A child as its parent sees it: started, asked within a deadline, ended by its id.

Rules: `start` takes as long as the plugin takes to load, at most its time-out: not for the engine's thread. All else
returns within its deadline. Nothing is inherited but the one socket; no fork without exec, for torch has threads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import bridge
from bridge.audio.plugins.engine import Pcm, PluginInfo, Reference, Turn
from bridge.audio.plugins.memory import BlockMemory
from bridge.audio.slot import EffectFault
from bridge.errors import BridgeError

__all__ = ["HostSettings", "Loaded", "PluginProcess", "PluginTrouble"]

_log = logging.getLogger("bridge.plugins")

LOUDEST = 64.0  # +36 dBFS: no effect means that; one that runs away gets there
_DENORMAL = np.float32(1e-25)  # far below hearing; still smaller numbers cost a hundred times the time
_SAVING_SECONDS = 0.1  # longer a deadline while the child asks its plugin for the state
_STARVED_TIMES = 5  # as long at most, where the child waits for a core
_WORTH_SECONDS = 0.002  # less is no reason to go on waiting


class PluginTrouble(BridgeError):
    """A plugin could not be loaded: says why."""


@dataclass(frozen=True)
class HostSettings:
    """How plugins are kept.

    Attributes:
        folder: where their states are written; the operator's, and nobody else's.
        engine: module and class of the host for plugins, imported in the child.
        deadline_seconds: for one block; late is failed. Shorter than what is committed ahead of the listeners.
        load_seconds: to start and load.
        memory_bytes: address space of a child; 0 for no limit.
        save_seconds: between two saves of a state; a crash loses no more.
        strikes: faults after which a plugin is given up.
        forgiven_seconds: after which a fault no longer counts.
        python_path: where else the child looks for modules.
    """

    folder: Path
    engine: str = "bridge.audio.plugins.minihost_engine:MinihostEngine"
    deadline_seconds: float = 0.08
    load_seconds: float = 30.0
    memory_bytes: int = 4 << 30
    save_seconds: float = 3.0
    strikes: int = 3
    forgiven_seconds: float = 300.0
    python_path: tuple[str, ...] = field(default=())


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
            raise PluginTrouble(f"there is no memory to share with it: {error.strerror}") from None
        try:
            process = cls(*_spawn(settings, by_port), memory)
            process._load(task | {"memory": "" if memory is None else str(memory.path)}, settings.load_seconds)
        except OSError as error:
            raise PluginTrouble(f"its process cannot be started: {error.strerror}") from None
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
            return Loaded(PluginInfo.from_dict(answer["info"]), [float(value) for value in answer["values"]])
        except TimeoutError:
            raise PluginTrouble(f"it was not loaded within {seconds:g} s") from None
        except (OSError, ValueError):
            raise PluginTrouble(f"it ended while it was loaded: {self._end()}") from None
        except (KeyError, TypeError) as error:
            raise PluginTrouble(f"its process answered what is no answer: {error!r}") from None

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

    def _asked(self, deed: bytes, seconds: float) -> bytes:
        """Send a byte and wait for one; b"" when the other end is closed.

        A child that waits for a core is not one that hangs: that time is given back to it, up to a limit. So is the
        time that its plugin takes over its state.
        """
        connection, began, queued = self._connection, time.monotonic(), self._queued_seconds()
        patience = seconds
        try:
            connection.sendall(deed)
            while True:
                connection.settimeout(max(began + patience - time.monotonic(), 1e-3))
                try:
                    return connection.recv(1)
                except TimeoutError:
                    more = self._queued_seconds() - queued + (_SAVING_SECONDS if self.memory.saving else 0.0)
                    longer = min(seconds + more, _STARVED_TIMES * seconds + _SAVING_SECONDS)
                    if longer - patience < _WORTH_SECONDS:
                        raise
                    patience = longer
        except TimeoutError:
            raise EffectFault(f"it hangs: no answer within {seconds * 1e3:g} ms") from None
        except OSError:  # the other end is closed
            return b""

    def _queued_seconds(self) -> float:
        """How long the child has waited for a core so far, where the system tells; see proc(5), schedstat."""
        if self._schedstat is None:
            return 0.0
        try:
            return int(os.pread(self._schedstat, 100, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):  # it has ended
            return 0.0

    def tell(self, deed: bytes) -> None:
        """Ask for something that is not answered: `r` forgets the audio, `s` saves the state.

        Raises:
            EffectFault: the child is gone.
        """
        try:
            self._connection.sendall(deed)
        except OSError:
            raise EffectFault(f"it died: {self._end()}") from None

    def _end(self) -> str:
        """How the child ended, in words."""
        try:
            code = self._child.wait(0.5)
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


def _spawn(settings: HostSettings, by_port: bool) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a child that is connected: by a socket it inherits, or over a port and a token nobody can guess."""
    if by_port:
        return _spawn_by_port(settings)
    ours, theirs = socket.socketpair()
    with theirs:
        child = _popen(settings, str(theirs.fileno()), pass_fds=(theirs.fileno(),), process_group=0)
    return child, ours


def _spawn_by_port(settings: HostSettings) -> tuple[subprocess.Popen[bytes], socket.socket]:
    token = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(settings.load_seconds)
        child = _popen(settings, f"{server.getsockname()[1]}:{token}")
        try:
            while True:
                connection, _ = server.accept()
                connection.settimeout(1.0)
                with contextlib.suppress(OSError):
                    if secrets.compare_digest(connection.recv(len(token)), token.encode()):
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        return child, connection
                connection.close()
        except TimeoutError:
            child.kill()
            raise PluginTrouble(f"its process did not start within {settings.load_seconds:g} s") from None


def _popen(settings: HostSettings, where: str, **more: Any) -> subprocess.Popen[bytes]:
    """Start Python on child.py; out of the terminal's process group, so that Ctrl-C ends the music in its own order."""
    house = str(Path(bridge.__file__).parents[1])
    paths = [house, *settings.python_path, os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OPENBLAS_NUM_THREADS": "1",  # it would reserve memory for threads that have nothing to do
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bridge.audio.plugins.child", where],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **more,
    )
