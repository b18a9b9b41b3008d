"""How many threads torch computes with, how Python's threads take turns, and how early the system lets them run.

Rules: decided before the model is loaded, by its size alone, so that the same command gives the same bits every time:
sums depend on how they are split. A library must not set this for its caller; a command line may.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = [
    "NICE",
    "SMALL_BYTES",
    "TURN_SECONDS",
    "go_first",
    "set_threads",
    "take_short_turns",
    "wait_asleep",
]

TURN_SECONDS = 0.0002
NICE = -10  # PulseAudio takes -11
SMALL_BYTES = 200_000_000  # its products fit into one core's cache: a second core gains less than its waiting costs


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, not spin, unless the user chose otherwise.

    A thread that spins uses up its share of the processor, and is then not scheduled when there is work. To be called
    before anything imports torch: its OpenMP library reads this when it is loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def set_threads(wanted: int | None, folder: Path) -> int:
    """Set torch's threads; returns how many there are now.

    Args:
        wanted: what the user said; None decides by size: one for a small checkpoint, else torch's own choice.
        folder: where the checkpoint lies.
    """
    import torch

    if wanted is None and _size_bytes(folder) < SMALL_BYTES:
        wanted = 1
    if wanted is not None:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def take_short_turns() -> None:
    """Let no thread of Python wait longer than TURN_SECONDS for another's turn to end.

    The engine's thread gives the interpreter up around every torch operation, but takes it back before a thread that
    was woken by that has come to run: only the end of a turn, long by Python's default, makes it wait. The event loop
    gives it up too, with every send(), so that telling three listeners of a block takes ten turns.
    """
    sys.setswitchinterval(TURN_SECONDS)


def go_first() -> None:
    """Ask to run before other programs, this thread and those it starts later, as sound servers do.

    Root may; so may whom /etc/security/limits.d lets, as musicians' systems let the group audio. Everyone else stays
    where they are, as does who chose a place with `nice`. Otherwise a browser that starts delays the event loop by more
    than any listener has in store.
    """
    if hasattr(os, "setpriority") and os.getpriority(os.PRIO_PROCESS, 0) == 0:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, NICE)
