"""The child's program: loads one plugin, then processes block after block for its parent until that is gone.

    parent ─ one line of JSON: what to load ─►  child ─ one line of JSON: what it is, or why not ─►  parent
    then single bytes:   p process ─► d done, or e and a line of text in the memory
                         r reset · s save the state · Q the parent is gone or done with it

Rules: imports neither streamgen nor torch. What the plugin prints goes where the parent sent it, never into the
protocol. If the parent is gone the child goes, whatever its plugin does.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bridge.audio.plugins.engine import Engine, Reference, Unsuitable, one_line
from bridge.audio.plugins.memory import MAX_BLOCK, BlockMemory
from bridge.disk import write_whole
from bridge.errors import reason

__all__ = ["main", "read_state", "write_state"]

_MOST_CHARACTERS = 300  # of what a plugin raises
_STUCK_SECONDS = 60  # nobody can look after the parent while a plugin keeps Python itself from running


def main() -> None:
    """Connect to the parent, load, serve."""
    connection = _connected(sys.argv[1])
    reader = connection.makefile("rb")
    task: dict[str, Any] = json.loads(reader.readline())
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    try:
        _limit(task["memory_bytes"])
        memory = BlockMemory(Path(task["memory"])) if task["memory"] else None
        engine = _loaded(task)
    except Unsuitable as error:
        _say(connection, {"error": str(error)})
        return
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything; the parent tells it
        _say(connection, {"error": _words(error)})
        return
    _say(connection, {"info": engine.info.as_dict(), "values": engine.values()})
    if memory is not None:
        _Server(engine, connection, memory, Path(task["state"])).serve()


def _connected(where: str) -> socket.socket:
    """Where: a file descriptor, or `port:token` on this machine where descriptors cannot be handed over."""
    if ":" not in where:
        return socket.socket(fileno=int(where))
    port, token = where.split(":")
    connection = socket.create_connection(("127.0.0.1", int(port)))
    connection.sendall(token.encode())
    return connection


def _say(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _words(error: BaseException) -> str:
    return one_line(f"{type(error).__name__}: {error}", _MOST_CHARACTERS)


def _limit(memory_bytes: int) -> None:
    """Let no plugin eat the machine's memory, nor leave gigabytes of a core file; Windows has no such limits."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _loaded(task: dict[str, Any]) -> Engine:
    module, name = task["engine"].split(":")
    make = getattr(importlib.import_module(module), name)
    engine: Engine = make(Reference(**task["reference"]), task["rate_hz"], MAX_BLOCK)
    if task["restore"]:
        engine.set_state(read_state(Path(task["restore"]))[1])
    if task["load_preset"]:
        engine.load_preset(task["load_preset"])
    if task["save_preset"]:
        engine.save_preset(task["save_preset"])
    return engine


def _leave_with(parent: int) -> None:
    """End when the parent has: a plugin that hangs would outlive it, and its end of the socket is not being read."""
    while True:
        faulthandler.dump_traceback_later(_STUCK_SECONDS, exit=True)
        if os.getppid() != parent:
            os._exit(1)
        time.sleep(1.0)


class _Server:
    """Answers the parent's bytes."""

    def __init__(self, engine: Engine, connection: socket.socket, memory: BlockMemory, state: Path) -> None:
        self._engine, self._connection, self._memory, self._state = engine, connection, memory, state
        self._writer = ThreadPoolExecutor(1, "state")  # one, so that an older state never follows a newer one

    def serve(self) -> None:
        while True:
            command = self._connection.recv(1)
            if command == b"p":
                self._connection.sendall(self._process())
            elif command == b"r":
                self._engine.reset()
            elif command == b"s":
                self._save()
            else:  # Q, or the parent's end was closed
                return

    def _process(self) -> bytes:
        memory = self._memory
        count, start_sample, tempo_bpm, turns = memory.taken()
        try:
            self._engine.transport(tempo_bpm, start_sample)
            self._engine.process(memory.given[:, :count], memory.made[:, :count], turns)
            memory.latency_samples = self._engine.latency_samples
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything; the parent tells it
            memory.text = _words(error)
            return b"e"
        return b"d"

    def _save(self) -> None:
        """Ask the plugin here, between two blocks; write the file beside the music."""
        self._memory.saving = True
        try:
            state, values = self._engine.state(), self._engine.values()
        except BaseException as error:  # noqa: BLE001 - it plays on without a state; the parent tells it
            self._writer.submit(self._memory.note_unsaved, _words(error))
        else:
            self._writer.submit(self._write, state, values)
        finally:
            self._memory.saving = False

    def _write(self, state: bytes, values: list[float]) -> None:
        try:
            write_state(self._state, values, state)
        except OSError as error:
            self._memory.note_unsaved(f"{self._state.parent}: {reason(error)}")
        else:
            self._memory.note_saved(values)


def write_state(path: Path, values: list[float], state: bytes) -> None:
    """Write a plugin's parameters and its opaque state, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, json.dumps(values).encode() + b"\n" + state, lasting=False)


def read_state(path: Path) -> tuple[list[float], bytes]:
    """Read what `write_state` wrote: values of all parameters, opaque state."""
    values, _, state = path.read_bytes().partition(b"\n")
    return json.loads(values), state


if __name__ == "__main__":
    main()
