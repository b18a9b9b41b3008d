"""How much anyone may take: a rate, a burst, turns of the loop, which leave it to others, and little unsent."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest

from bridge.doors import limits
from bridge.doors.limits import TURN_SECONDS, Bucket, Buckets, Turns, bound_buffers
from streamgen.testing import FakeClock


def test_a_bucket_allows_bursts_and_a_rate() -> None:
    bucket = Bucket(10, 5)
    assert [bucket.take(1, 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(1, 100.25) for _ in range(3)] == [True, True, False]
    assert sum(bucket.take(1, 200.0) for _ in range(9)) == 5


def test_a_debt_is_waited_for() -> None:
    bucket = Bucket(10, 5)
    assert [bucket.owe(5, 100.0), bucket.owe(1, 100.0)] == [0.0, 0.1]
    assert not bucket.take(0.5, 100.1)
    assert bucket.take(0.5, 100.15)


def test_hosts_have_buckets_of_their_own_and_the_oldest_is_forgotten() -> None:
    buckets = Buckets(1, 1)
    assert buckets.of("a").take(1, 0.0)
    assert not buckets.of("a").take(1, 0.0)
    assert buckets.of("b").take(1, 0.0)
    for number in range(2_000):
        buckets.of(f"host {number}")
    assert len(buckets._hosts) <= 1_024
    assert buckets.of("a").take(1, 0.0), "as new"


async def worked(pieces: int, seconds: float, turns: Turns, clock: FakeClock) -> list[int]:
    """Do pieces of work in tasks that are all ready at once; returns in which turn of the loop each was done."""
    turn, done = 0, []

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def work(number: int) -> None:
        await turns.take()
        clock.advance(seconds)
        done.append((number, turn))

    counting = asyncio.create_task(count())
    await asyncio.gather(*(work(number) for number in range(pieces)))
    counting.cancel()
    assert [number for number, _ in done] == list(range(pieces)), "in their order"
    return [turn for _, turn in done]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """What the turns go by: time passes only while somebody works, however busy the machine is."""
    fake = FakeClock()
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=fake))
    return fake


def test_no_more_is_done_in_one_turn_than_there_is_time_for(clock: FakeClock) -> None:
    turns = asyncio.run(worked(20, TURN_SECONDS / 2, Turns(), clock))
    assert max(turns.count(turn) for turn in turns) <= 3
    assert len(set(turns)) >= 7


def test_small_work_is_done_at_once_and_the_next_turn_is_a_new_one(clock: FakeClock) -> None:
    async def go() -> None:
        turns = Turns()
        for _ in range(3):
            assert len(set(await worked(20, 0.0, turns, clock))) == 1

    asyncio.run(go())


def test_what_nobody_reads_waits_here_and_not_in_the_system() -> None:
    if not hasattr(socket, "TCP_NOTSENT_LOWAT"):
        pytest.skip("this system has no TCP_NOTSENT_LOWAT")

    async def go() -> None:
        done = asyncio.Event()

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            bound_buffers(writer.transport, 4_096)
            assert writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 4_096
            assert writer.transport.get_write_buffer_limits()[1] == 4_096
            done.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.wait_for(done.wait(), 5)
        writer.close()
        server.close()

    asyncio.run(go())
