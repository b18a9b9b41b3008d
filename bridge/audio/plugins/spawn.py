"""Starting a child: Python on child.py, connected by one socket, limited as the operator set.

Rules: nothing is inherited but that socket; no fork without exec, for torch has threads.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bridge
from bridge.errors import BridgeError

__all__ = ["HostSettings", "PluginTrouble", "engine_missing", "spawn"]


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


def engine_missing(settings: HostSettings | None = None) -> str:
    """Return what to install, if the host for plugins is not here; "" if it is. Nothing is imported for that."""
    ours = settings is None or settings.engine == HostSettings.engine
    if ours and importlib.util.find_spec("minihost") is None:
        return "plugins need minihost, which is not installed: pip install minihost"
    return ""


def spawn(settings: HostSettings, by_port: bool) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a child that is connected: by a socket it inherits, or over a port and a token nobody can guess.

    Raises:
        PluginTrouble: there is no host for plugins, or its process does not start.
    """
    if missing := engine_missing(settings):
        raise PluginTrouble(missing)
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
