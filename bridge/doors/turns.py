"""Work of many tasks, spread over turns of the event loop.

    turn    │ A B C D ▌ E F G ▌ H …                 fifty listeners get a block at once: whoever comes after the first
            └─ 5 ms ──┘                             5 ms waits for the next turn, and timers and sockets come between

Rules: event loop; knows nothing of the work. Apart from limits.py, which what does no I/O imports too.
"""

from __future__ import annotations

import asyncio
import time

__all__ = ["TURN_SECONDS", "Turns"]

TURN_SECONDS = 0.005


class Turns:
    """One for all tasks that share the loop."""

    def __init__(self) -> None:
        self._ends: float | None = None  # of this turn; None before its first piece of work

    async def take(self) -> None:
        """Wait until there is time for a piece of work in this turn; do it without awaiting anything."""
        while self.spent:
            await asyncio.sleep(0)

    @property
    def spent(self) -> bool:
        """Whether there is no time left in this turn; who asks first in a turn begins it."""
        if self._ends is not None:
            return time.monotonic() > self._ends
        self._ends = time.monotonic() + TURN_SECONDS
        asyncio.get_running_loop().call_soon(self._over)  # before all who wait, which queue behind it
        return False

    def _over(self) -> None:
        self._ends = None
