"""One encoder a codec, a burst for who comes, silence in a pause, titles where they sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.doors.radio import station as station_module
from bridge.doors.radio.encoders import CODECS
from bridge.doors.radio.station import BURST_SECONDS, EncodedAudio, Station
from bridge.metrics import Metrics
from bridge.session.commands import Set

from ..web_session import BLOCK, RATE_HZ, SineSession, sine

WAV = CODECS["wav"]
PREROLL = round(station_module._PREROLL_SECONDS * RATE_HZ)


@dataclass(eq=False)
class Ear:
    """A tuner that keeps what it is told."""

    heads: list[bytes] = field(default_factory=list)
    pieces: list[EncodedAudio] = field(default_factory=list)
    ended: bool = False

    def begin(self, head: bytes, burst: Iterable[EncodedAudio]) -> None:
        self.heads.append(head)
        self.pieces += burst

    def take(self, piece: EncodedAudio) -> None:
        self.pieces.append(piece)

    def end(self) -> None:
        self.ended = True

    @property
    def pcm(self) -> NDArray[np.int16]:
        return np.frombuffer(b"".join(piece.data for piece in self.pieces), "<i2").reshape(-1, 2).T

    @property
    def frames(self) -> int:
        return sum(len(piece.data) for piece in self.pieces) // 4

    async def until(self, frames: int) -> None:
        async with asyncio.timeout(10):
            while self.frames < frames:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def on_air() -> AsyncIterator[tuple[SineSession, Station]]:
    session = SineSession()
    station = Station(session, Metrics())
    try:
        yield session, station
    finally:
        await station.close()
        assert session.listeners == []


def heard(ear: Ear) -> NDArray[np.float64]:
    return ear.pcm / 32_768


def test_who_comes_gets_a_burst_and_then_every_sample() -> None:
    async def go() -> None:
        async with on_air() as (session, station):
            session.play(300)  # six seconds, heard by somebody else
            first, second = Ear(), Ear()
            station.join(WAV, first)
            await first.until(round(BURST_SECONDS * RATE_HZ))
            session.play(50)
            await first.until(round((BURST_SECONDS + 1) * RATE_HZ))
            station.join(WAV, second)
            session.play(10)
            await second.until(round((BURST_SECONDS + 0.2) * RATE_HZ))
            for ear in (first, second):
                frames = ear.pcm.shape[1]
                expected = sine(session.position - frames, session.position)
                assert np.abs(heard(ear) - expected).max() <= 1 / 32_768
            assert first.heads == second.heads  # one encoder
            assert list(station.programmes) == ["wav"]

    asyncio.run(go())


def test_a_codec_is_coded_only_while_somebody_listens_and_each_listener_counts() -> None:
    async def go() -> None:
        async with on_air() as (session, station):
            ears = [Ear(), Ear(), Ear()]
            for ear, suffix in zip(ears, ("wav", "wav", "mp3"), strict=True):
                station.join(CODECS[suffix], ear)
            wishes = [one for one in session.listeners if getattr(one, "wants_audio", True)]
            assert (len(wishes), sorted(station.programmes)) == (3, ["mp3", "wav"])
            await station.leave(CODECS["mp3"], ears[2])
            await station.leave(WAV, ears[0])
            assert list(station.programmes) == ["wav"]
            await station.leave(WAV, ears[1])
            assert station.programmes == {}
            assert session.listeners == [station]

    asyncio.run(go())


@pytest.mark.slow
def test_before_and_while_nothing_plays_there_is_silence_and_then_the_music_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(station_module, "_SILENT_AFTER_SECONDS", 0.05)
    monkeypatch.setattr(station_module, "_TICK_SECONDS", 0.02)

    async def go() -> None:
        async with on_air() as (session, station):
            ear = Ear()
            station.join(WAV, ear)
            await ear.until(PREROLL)  # at once: a player needs something to begin with
            await ear.until(PREROLL + RATE_HZ // 5)  # and then as time goes by
            session.play(20)
            await ear.until(ear.frames + 20 * BLOCK + RATE_HZ // 5)
            music = heard(ear)[:, np.flatnonzero(heard(ear)[1])[0] - 1 :][:, : 20 * BLOCK]
            assert np.abs(music - sine(0, 20 * BLOCK)).max() <= 1 / 32_768
            assert not heard(ear)[:, -RATE_HZ // 20 :].any()

    asyncio.run(go())


def test_a_title_begins_where_its_music_does() -> None:
    async def go() -> None:
        async with on_air() as (session, station):
            ear = Ear()
            station.join(WAV, ear)
            session.play(5)
            await session.do(Set({"prompt/1/text": "rain"}, "test"))
            assert station.title == "rain"
            station._send(np.zeros((2, BLOCK), np.float32), station._title)  # silence is not the new music yet
            session.play(5)
            await ear.until(PREROLL + 11 * BLOCK)
            assert [piece.title for piece in ear.pieces] == ["streamgen"] * 7 + ["rain"] * 5

    asyncio.run(go())


def test_the_end_is_told_and_a_codec_that_fails_ends_its_own_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        session, metrics = SineSession(), Metrics()
        station = Station(session, metrics)
        good, bad = Ear(), Ear()
        station.join(WAV, good)
        await good.until(1)
        monkeypatch.setattr(station_module, "StreamEncoder", lambda *_: 1 / 0)
        station.join(CODECS["mp3"], bad)
        async with asyncio.timeout(20):
            while not bad.ended:
                await asyncio.sleep(0.01)
        assert (good.ended, metrics.errors["internal"]) == (False, 1)
        await station.close()
        assert good.ended

    asyncio.run(go())
