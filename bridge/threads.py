"""How torch's threads wait, how Python's take turns, and how early the system lets them run.

Rules: a library must not set any of this for its caller; a command line may. How many threads compute, a model decides.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = [
    "NICE",
    "TURN_SECONDS",
    "go_first",
    "take_short_turns",
    "wait_asleep",
]

TURN_SECONDS = 0.0002
NICE = -10  # PulseAudio takes -11


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, not spin, unless the user chose otherwise.

    A thread that spins uses up its share of the processor, and is then not scheduled when there is work. To be called
    before anything imports torch: its OpenMP library reads this when it is loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


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
