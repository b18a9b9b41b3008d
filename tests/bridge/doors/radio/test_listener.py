"""A listener that does not read loses the oldest pieces, whole, and is let go in the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.doors.access import Limits
from bridge.doors.radio.listener import HttpListener
from bridge.doors.radio.station import EncodedAudio
from bridge.metrics import Metrics

from ..web_session import RATE_HZ


class Writer:
    """A socket's writing end, which takes what it is given when `open` is set."""

    def __init__(self, *, takes: bool) -> None:
        self.written: list[bytes] = []
        self.open = asyncio.Event()
        if takes:
            self.open.set()

    def write(self, data: bytes) -> None:
        self.written.append(data)

    async def drain(self) -> None:
        await self.open.wait()


def listener(writer: Any, metrics: Metrics, *, titles: bool = False, **limits: float) -> HttpListener:
    return HttpListener(writer, titles, RATE_HZ, Limits(**limits), metrics)  # type: ignore[arg-type]


def test_what_comes_goes_out_in_order_with_its_titles() -> None:
    async def go() -> None:
        writer, metrics = Writer(takes=True), Metrics()
        ear = listener(writer, metrics, titles=True)
        ear.begin(b"head", [EncodedAudio(b"a" * 16_000, 0.5, "one")])
        ear.take(EncodedAudio(b"b", 0.1, "two"))
        ear.end()
        await ear.send()
        sent = b"".join(writer.written)
        assert sent[:16_000] == b"head" + b"a" * 15_996
        assert sent.endswith(b"aaaab")
        assert b"StreamTitle='one';" in sent
        assert metrics.sent_bytes["radio"] == len(sent)

    asyncio.run(go())


def test_who_does_not_read_hears_the_newest_when_it_does_again() -> None:
    async def go() -> None:
        writer, metrics = Writer(takes=False), Metrics()
        ear = listener(writer, metrics)
        sending = asyncio.create_task(ear.send())
        for number in range(300):
            ear.take(EncodedAudio(bytes([number % 256]) * 20_000, 0.1, ""))
            await asyncio.sleep(0)
        assert metrics.dropped_samples["radio"] == round((300 - 1 - 100) * 0.1 * RATE_HZ)
        writer.open.set()
        ear.end()
        await sending
        assert [data[0] for data in writer.written] == [0, *(number % 256 for number in range(200, 300))]

    asyncio.run(go())


def test_who_never_reads_is_let_go() -> None:
    async def go() -> None:
        ear = listener(Writer(takes=False), Metrics(), stall_seconds=0.05)
        ear.take(EncodedAudio(b"x", 0.1, ""))
        with pytest.raises(TimeoutError):
            await ear.send()

    asyncio.run(go())
