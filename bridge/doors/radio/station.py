"""The shared session as streams: coded once a codec, however many listen, and never silent on the wire.

    session ─► blocks ─► kept 4 s, so that who comes gets a burst at once
                  └────► programme (a codec) ─ one thread for all ─► pieces ─┬─► tuner (a listener)
                                                  kept 4 s, for the burst    └─► tuner …

A player buffers a few seconds before it plays, and gives up on a server that sends nothing: so it is sent what has just
been, and silence while nothing comes. A programme runs while somebody listens to it.

Rules: event loop, but for coding, which is done in a thread of its own. Knows no socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.doors.radio.encoders import Codec, StreamEncoder
from bridge.metrics import Metrics
from bridge.session.events import Block, Changed, Event
from bridge.session.parameters import title_of
from bridge.session.session import Session

__all__ = ["BURST_SECONDS", "DOOR", "EncodedAudio", "Station", "Tuner"]

DOOR = "radio"
BURST_SECONDS = 4.0
_PREROLL_SECONDS = 2.0  # of silence, at least, where nothing was heard yet: a player needs something to begin with
_SILENT_AFTER_SECONDS = 0.5
_TICK_SECONDS = 0.1
_MOST_WAITING_SECONDS = 20.0  # for the coder; a machine that is as late as that cannot code in real time

_log = logging.getLogger("bridge.doors")

Pcm = NDArray[np.float32]


@dataclass(frozen=True)
class EncodedAudio:
    """What one call of the encoder gave.

    Attributes:
        data: whole frames or pages.
        seconds: of sound that went into it.
        title: of that sound.
    """

    data: bytes
    seconds: float
    title: str


class Tuner(Protocol):
    """Who listens to a programme. Called on the event loop; must return at once."""

    def begin(self, head: bytes, burst: Iterable[EncodedAudio]) -> None:
        """Take what the stream begins with, once."""
        ...

    def take(self, piece: EncodedAudio) -> None:
        """Take the next piece."""
        ...

    def end(self) -> None:
        """Take note that nothing more comes."""
        ...


class Programme:
    """The session in one codec, for as long as somebody listens.

    Args:
        codec: which.
        rate_hz: of the session.
        thread: where it is coded.
        first: what was heard last: samples and title.
        metrics: where losses are counted.

    Attributes:
        tuners: who listens.
    """

    def __init__(
        self,
        codec: Codec,
        rate_hz: int,
        thread: ThreadPoolExecutor,
        first: Iterable[tuple[Pcm, str]],
        metrics: Metrics,
    ) -> None:
        self.codec, self.tuners = codec, set[Tuner]()
        self._rate_hz, self._thread, self._metrics = rate_hz, thread, metrics
        self._waiting, self._arrived = deque(first), asyncio.Event()
        self._pieces, self._kept_seconds = deque[EncodedAudio](), 0.0
        self._encoder: StreamEncoder | None = None
        self._task = asyncio.create_task(self._run(), name=f"radio {codec.suffix}")

    def join(self, tuner: Tuner) -> None:
        """Let somebody listen: what was coded last comes at once."""
        self.tuners.add(tuner)
        if self._encoder is not None:
            tuner.begin(self._encoder.head, self._pieces)

    def take(self, samples: Pcm, title: str) -> None:
        """Let something be coded."""
        self._waiting.append((samples, title))
        self._arrived.set()
        while sum(part.shape[1] for part, _ in self._waiting) > _MOST_WAITING_SECONDS * self._rate_hz:
            self._metrics.dropped_samples[DOOR] += self._waiting.popleft()[0].shape[1]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            title = self._waiting[-1][1]
            encoder = await loop.run_in_executor(self._thread, StreamEncoder, self.codec, self._rate_hz, title)
            for piece in await self._coded(encoder):
                self._keep(piece)
            self._encoder = encoder
            for tuner in list(self.tuners):
                tuner.begin(encoder.head, self._pieces)
            while True:
                await self._arrived.wait()
                for piece in await self._coded(encoder):
                    self._keep(piece)
                    for tuner in list(self.tuners):
                        tuner.take(piece)
        except Exception:  # noqa: BLE001 - a fault of ours ends one codec's streams, and is seen
            _log.exception("the stream %s failed", self.codec.suffix)
            self._metrics.errors["internal"] += 1
            for tuner in list(self.tuners):
                tuner.end()

    async def _coded(self, encoder: StreamEncoder) -> list[EncodedAudio]:
        """Code what waits, in one visit to the thread."""
        work, self._waiting = list(self._waiting), deque()
        self._arrived.clear()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _code, encoder, work, self._rate_hz)

    def _keep(self, piece: EncodedAudio) -> None:
        self._pieces.append(piece)
        self._kept_seconds += piece.seconds
        while self._kept_seconds > BURST_SECONDS + self._pieces[0].seconds:
            self._kept_seconds -= self._pieces.popleft().seconds

    async def close(self) -> None:
        """End it, and free the codec."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._encoder is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._encoder.close)


def _code(encoder: StreamEncoder, work: list[tuple[Pcm, str]], rate_hz: int) -> list[EncodedAudio]:
    pieces = []
    for samples, title in work:
        data = encoder.encode(samples)
        pieces.append(EncodedAudio(data, samples.shape[1] / rate_hz, title))
    return pieces


class Station:
    """The session `live` in every codec that somebody listens in.

    Args:
        session: what is heard.
        metrics: where losses are counted.

    Attributes:
        programmes: those that run, by the codec's suffix.
    """

    wants_audio = False  # it hears what is made for others, and so has a burst ready; each listener adds its own demand

    def __init__(self, session: Session, metrics: Metrics) -> None:
        self._session, self._metrics = session, metrics
        self.programmes: dict[str, Programme] = {}
        self._demands: dict[Tuner, _AudioDemand] = {}
        self._recent, self._recent_frames, self._silent_frames = deque[tuple[Pcm, str]](), 0, 0
        self._title, self._titles = title_of(session.values()), deque[tuple[int, str]]()
        self._thread = ThreadPoolExecutor(1, "radio")
        self._now = asyncio.get_running_loop().time
        self._until = self._now()  # when all that was sent has been heard
        for block in session.add(self):
            self.audio(block)
        self._filling = asyncio.create_task(self._fill_silence(), name="radio silence")

    # -- who listens --------------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What plays now, as players show it."""
        return self._titles[-1][1] if self._titles else self._title

    def join(self, codec: Codec, tuner: Tuner) -> None:
        """Let somebody listen until `leave`."""
        self._demands[tuner] = demand = _AudioDemand()
        self._session.add(demand)
        programme = self.programmes.get(codec.suffix)
        if programme is None:
            rate_hz = self._session.rate_hz
            programme = Programme(codec, rate_hz, self._thread, self._beginning(), self._metrics)
            self.programmes[codec.suffix] = programme
        programme.join(tuner)

    async def leave(self, codec: Codec, tuner: Tuner) -> None:
        """Let somebody go; a codec that nobody listens in any more is no longer coded."""
        if (demand := self._demands.pop(tuner, None)) is not None:
            self._session.remove(demand)
        programme = self.programmes.get(codec.suffix)
        if programme is None or tuner not in programme.tuners:
            return
        programme.tuners.discard(tuner)
        if not programme.tuners:
            del self.programmes[codec.suffix]
            await programme.close()

    def _beginning(self) -> list[tuple[Pcm, str]]:
        """Return what was heard last, with silence before it if that is too little to begin with."""
        lacking = round(_PREROLL_SECONDS * self._session.rate_hz) - self._recent_frames
        return [(_silence(lacking), self._title), *self._recent] if lacking > 0 else list(self._recent)

    # -- what the session tells ---------------------------------------------------------------------------------------

    def audio(self, block: Block) -> None:
        """Take a block."""
        while self._titles and self._titles[0][0] < block.end_sample:
            self._title = self._titles.popleft()[1]
        self._silent_frames = 0
        self._send(block.samples, self._title)

    def event(self, event: Event) -> None:
        """Note what sounds from where on."""
        if isinstance(event, Changed):
            title = title_of(self._session.values())
            if title != self.title:
                self._titles.append((event.applied_at_sample, title))

    def _send(self, samples: Pcm, title: str) -> None:
        seconds = samples.shape[1] / self._session.rate_hz
        self._until = max(self._until, self._now()) + seconds
        self._recent.append((samples, title))
        self._recent_frames += samples.shape[1]
        while self._recent_frames - self._recent[0][0].shape[1] > BURST_SECONDS * self._session.rate_hz:
            self._recent_frames -= self._recent.popleft()[0].shape[1]
        for programme in self.programmes.values():
            programme.take(samples, title)

    async def _fill_silence(self) -> None:
        """Send silence while nothing comes: the session pauses, or the engine is late."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            lacking = self._now() - self._until
            if lacking > _SILENT_AFTER_SECONDS:
                silence = _silence(round(lacking * self._session.rate_hz))
                self._silent_frames += silence.shape[1]
                self._send(silence, self._title)
                if self._silent_frames > _PREROLL_SECONDS * self._session.rate_hz:
                    self._recent.clear()  # who comes now would wait for the end of a long silence
                    self._recent_frames = 0

    async def close(self) -> None:
        """Send everybody home."""
        self._session.remove(self)
        self._filling.cancel()
        for programme in list(self.programmes.values()):
            for tuner in list(programme.tuners):
                tuner.end()
                await self.leave(programme.codec, tuner)
        self._thread.shutdown()


class _AudioDemand:
    """A listener that wants there to be audio, and leaves taking it to the station."""

    wants_audio = True

    def audio(self, block: Block) -> None:
        """The station has it already."""

    def event(self, event: Event) -> None:
        """So it has what happens."""


def _silence(frames: int) -> Pcm:
    return np.zeros((2, max(0, frames)), np.float32)
