"""A stream for programs on an event loop: `read` computes, so it runs in a thread, a chunk ahead of who listens.

    thread    ├─ read 1 ─┤├─ read 2 ─┤          ├─ read 3 ─┤
    loop                  ├─ chunk 1: yours ────┤├─ chunk 2: yours ─ …

Rules: the only file that brings streams and asyncio together; a stream itself knows neither thread nor loop. The chunk
ahead is made under the controls of its time: a change is heard behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from streamgen.audio import AudioChunk
from streamgen.stream.stream import Stream

__all__ = ["chunks"]


async def chunks(stream: Stream, seconds: float = 0.1) -> AsyncGenerator[AudioChunk, None]:
    """Yield a stream until it is closed, as `Stream.chunks` does, without holding up the event loop.

    Leaving the loop, or being cancelled, waits for the chunk under way: then the stream may be closed.

    Args:
        stream: which; nobody else reads it meanwhile.
        seconds: of each chunk.

    Raises:
        ConfigError: a chunk shorter than one sample or longer than 60 s.
        SessionClosed: the stream was closed before.
    """
    source = stream.chunks(seconds)
    coming = asyncio.ensure_future(asyncio.to_thread(next, source, None))
    try:
        while (chunk := await asyncio.shield(coming)) is not None:
            coming = asyncio.ensure_future(asyncio.to_thread(next, source, None))
            yield chunk
    finally:
        while not coming.done():
            with suppress(asyncio.CancelledError):  # once more: the first is on its way already
                await asyncio.wait({coming})
        if not coming.cancelled():
            coming.exception()  # read: who leaves wants no more of it
