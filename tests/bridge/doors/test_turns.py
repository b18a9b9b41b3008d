"""Fifty pieces of work at once leave the loop to others in between."""

from __future__ import annotations

import asyncio
import time

from bridge.doors.turns import TURN_SECONDS, Turns


async def worked(pieces: int, seconds: float, turns: Turns) -> list[int]:
    """Do pieces of work in tasks that are all ready at once; returns in which turn of the loop each was done."""
    turn, done = 0, []

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def work(number: int) -> None:
        await turns.take()
        time.sleep(seconds)
        done.append((number, turn))

    counting = asyncio.create_task(count())
    await asyncio.gather(*(work(number) for number in range(pieces)))
    counting.cancel()
    assert [number for number, _ in done] == list(range(pieces)), "in their order"
    return [turn for _, turn in done]


def test_no_more_is_done_in_one_turn_than_there_is_time_for() -> None:
    turns = asyncio.run(worked(20, TURN_SECONDS / 2, Turns()))
    assert max(turns.count(turn) for turn in turns) <= 3
    assert len(set(turns)) >= 7


def test_small_work_is_done_at_once_and_the_next_turn_is_a_new_one() -> None:
    async def go() -> None:
        turns = Turns()
        for _ in range(3):
            assert len(set(await worked(20, 0.0, turns))) <= 2  # one, unless the machine slept in between

    asyncio.run(go())
