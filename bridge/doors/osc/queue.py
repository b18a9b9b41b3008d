"""Wishes in each peer's order, now or at a time. Event loop.

Rules: peers do not wait for each other; a peer's changes that follow each other while the session is busy become one;
what waits is bounded, by peer and in all. What a wish means is given as a function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bridge.doors.osc.namespace import Assign, Ignored, Wish
from bridge.doors.osc.peer import Peer
from bridge.doors.turns import Turns

__all__ = ["WishQueue"]

_SET_SECONDS = 0.02  # between two changes by one peer: what comes meanwhile becomes one
_TURN_SECONDS = 0.001  # of one peer's queries, before others have their turn

CarryOut = Callable[[Peer, Wish], Coroutine[Any, Any, None]]


class WishQueue:
    """The wishes that wait.

    Args:
        carry_out: does what a wish wants; raises nothing.
        turns: with all else that this door does: a hundred peers may ask at once.
        pending: how many may wait for one peer.
        scheduled: how many may wait for their time.
    """

    def __init__(self, carry_out: CarryOut, turns: Turns, pending: int, scheduled: int) -> None:
        self._carry_out, self._turns, self._pending, self._scheduled = carry_out, turns, pending, scheduled
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._scheduled_so_far = 0

    @property
    def full(self) -> bool:
        """Whether as many wait for their time as may."""
        return len(self._timers) >= self._scheduled

    def put(self, peer: Peer, wishes: Sequence[Wish]) -> int:
        """Carry out as soon as can be, in the peer's order; returns how many were lost for too many wait."""
        wanted = [wish for wish in wishes if not isinstance(wish, Ignored)]
        lost = sum(not peer.wait_for(wish, self._pending) for wish in wanted)
        if peer.wishes and peer.worker is None:
            peer.worker = self.spawn(self._work(peer))
        return lost

    def put_later(self, seconds: float, peer: Peer, wishes: Sequence[Wish]) -> None:
        """Carry out after a time; without wishes, count as waiting for that time (the session holds the change)."""
        self._scheduled_so_far += 1
        number = self._scheduled_so_far
        self._timers[number] = asyncio.get_running_loop().call_later(seconds, self._due, number, peer, wishes)

    def _due(self, number: int, peer: Peer, wishes: Sequence[Wish]) -> None:
        del self._timers[number]
        self.put(peer, wishes)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside all queues until it ends or the queue is closed."""
        task = asyncio.create_task(work, name="osc")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + _TURN_SECONDS
        try:
            while peer.wishes:
                wait = self._too_early(peer, loop.time())
                if wait or loop.time() > turn_ends:  # answers do not yield by themselves
                    await asyncio.sleep(wait)
                    turn_ends = loop.time() + _TURN_SECONDS
                await self._turns.take()
                await self._carry_out(peer, peer.wishes.popleft())
        finally:
            peer.worker = None

    def _too_early(self, peer: Peer, now: float) -> float:
        """Return the seconds to wait with the change that is next: it may still grow meanwhile."""
        if not isinstance(peer.wishes[0], Assign):
            return 0.0
        wait, peer.next_set = max(0.0, peer.next_set - now), max(now, peer.next_set) + _SET_SECONDS
        return wait

    async def close(self) -> None:
        """Forget what waits, end what runs."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
