"""Streams on an event loop: the same samples, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import numpy as np
import pytest

from streamgen.asynchronous import chunks
from streamgen.errors import ConfigError, SessionClosed
from streamgen.testing import FakeModel


def test_they_are_the_streams_own_and_made_beside_the_loop() -> None:
    model = FakeModel()
    threads = set()
    step = model.runtime.engine.step
    model.runtime.engine.step = lambda steps: (threads.add(threading.current_thread()), step(steps))[1]  # type: ignore[method-assign,func-returns-value]

    async def go() -> list[np.ndarray]:
        with model.open_stream("piano", seed=1) as stream:
            async with aclosing(chunks(stream, 0.05)) as found:
                return [(await anext(found)).samples for _ in range(4)]

    got = asyncio.run(go())
    assert threading.main_thread() not in threads
    with model.open_stream("piano", seed=1) as stream:
        assert np.array_equal(np.concatenate(got, axis=1), stream.read(6_400).samples)


def test_a_closed_stream_ends_them_and_wrong_lengths_are_refused() -> None:
    async def go() -> None:
        with FakeModel().open_stream("piano") as stream:
            with pytest.raises(ConfigError, match="a chunk's length"):
                await anext(chunks(stream, 0))
            found = chunks(stream, 0.1)
            await anext(found)
            stream.close()
            assert len([chunk async for chunk in found]) <= 1, "the one that was made ahead"
            with pytest.raises(SessionClosed):
                await anext(chunks(stream))

    asyncio.run(go())


def test_a_task_that_is_cancelled_leaves_nothing_under_way() -> None:
    async def go() -> None:
        with FakeModel().open_stream("piano") as stream:

            async def listen() -> None:
                async with aclosing(chunks(stream)) as found:
                    async for _ in found:
                        await asyncio.sleep(0)

            task = asyncio.create_task(listen())
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            position = stream.position_samples
            await asyncio.sleep(0.02)
            assert stream.position_samples == position

    asyncio.run(go())
