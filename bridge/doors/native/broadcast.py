"""What the listeners of one session share, so that fifty of them cost little more than one. No I/O.

    Block ─► lane (format): resampler ─► pending ─► chunks ─► codec ─► the same bytes for all who listen in it
                            only at another rate than the session's

Fifty who want the same codec, rate and length of chunk share one lane: their audio is cut and coded once, and what is
their own is the header. Samples are neither lost nor doubled at the edges of chunks; where blocks do not follow on,
what is pending goes out first, as a shorter chunk. The position at another rate is that of the nearest sample where
audio starts or breaks, plus the frames since: it never drifts.

Rules: event loop. A session tells a block to all its listeners before the next; so whoever asks first makes the chunks.
Knows neither sockets nor who listens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from bridge.audio.conversion import Resampler, resampler
from bridge.doors.native import answers
from bridge.doors.native.codecs import OPUS_SECONDS, Encoder, encoder
from bridge.doors.native.frames import CODECS, DISCONTINUITY, PROMPT_CHANGE, AudioFormat, AudioHeader, converted
from bridge.session.events import Block, Event

__all__ = ["Broadcast", "Chunk", "Lane"]

_KEPT_SECONDS = 0.5  # for who joins a lane: more than a session commits ahead

Pcm = NDArray[np.float32]


@dataclass(frozen=True)
class Chunk:
    """The audio of one frame, coded.

    Attributes:
        audio: its format.
        position: of its first frame, at the format's rate.
        frames: how many it holds.
        start_sample, end_sample: where it lies in the session.
        flags: as in a frame's header.
        time_us: when its first frame is due.
        payload: what stands behind the header.
    """

    audio: AudioFormat
    position: int
    frames: int
    start_sample: int
    end_sample: int
    flags: int
    time_us: int
    payload: bytes

    def frame(self, sequence: int, flags: int) -> bytes:
        """Return the message for one listener, who counts frames, and may have missed what came before."""
        audio = self.audio
        header = AudioHeader(
            CODECS[audio.codec], 2, flags, sequence, self.position, self.time_us, audio.sample_rate_hz, self.frames
        )
        return header.pack() + self.payload

    def since(self, sample: int) -> Chunk | None:
        """Return what of it lies behind a sample of the session; None if nothing does, or it cannot be cut, as Opus."""
        if self.start_sample >= sample:
            return self
        if self.end_sample <= sample or self.audio.codec == "opus":
            return None
        lost = self.frames * (sample - self.start_sample) // (self.end_sample - self.start_sample)
        return replace(
            self,
            position=self.position + lost,
            frames=self.frames - lost,
            start_sample=sample,
            time_us=self.time_us + lost * 1_000_000 // self.audio.sample_rate_hz,
            payload=self.payload[lost * len(self.payload) // self.frames :],
        )


@dataclass
class _Passage:
    """Audio without a break, at the lane's rate."""

    convert: Resampler
    encode: Encoder
    expected_sample: int
    position: int
    pending: Pcm
    flags: int


class Lane:
    """A session's sound in one format.

    Args:
        rate_hz: of the session.
        audio: the format.
        blocks: to begin with.

    Attributes:
        blocks: the newest, about half a second.

    Raises:
        WireError: the codec is not installed.
    """

    def __init__(self, rate_hz: int, audio: AudioFormat, blocks: Iterable[Block] = ()) -> None:
        self._audio, self._from_hz, self._to_hz = audio, rate_hz, audio.sample_rate_hz
        seconds = OPUS_SECONDS if audio.codec == "opus" else audio.chunk_ms / 1000
        self._chunk_frames = round(seconds * self._to_hz)
        self._run: _Passage | None = None
        self.blocks: deque[Block] = deque()
        self._kept: deque[Chunk] = deque()
        self._newest: object = None
        self._made: list[Chunk] = []
        for block in blocks:
            self.take(block)

    def take(self, block: Block) -> list[Chunk]:
        """Take a block, if it is another than the newest; returns the chunks that it made whole."""
        if block is not self._newest:
            self._newest, self._made = block, self._pack(block)
            self._keep(block)
        return self._made

    def flush(self, cause: object) -> list[Chunk]:
        """Return what is pending, as a last short chunk; all who are told the same cause get the same."""
        if cause is not self._newest:
            self._newest, self._made = cause, self._finish()
            self._kept.extend(self._made)
        return self._made

    def rest(self) -> list[Chunk]:
        """Return what is pending for one who leaves the lane; it stays pending for the others."""
        run = self._run
        if run is None or not run.pending.shape[1]:
            return []
        return [self._chunk(replace(run, encode=encoder(self._audio)), run.pending.shape[1])]

    @property
    def newest(self) -> list[Chunk]:
        """The newest chunks, half a second."""
        return list(self._kept)

    @property
    def end_sample(self) -> int:
        """Session sample up to which there are chunks."""
        if self._run is not None:
            return converted(self._run.position, self._to_hz, self._from_hz)
        return self.blocks[-1].end_sample if self.blocks else 0

    def _keep(self, block: Block) -> None:
        self.blocks.append(block)
        self._kept.extend(self._made)
        horizon = block.end_sample - _KEPT_SECONDS * self._from_hz
        while self.blocks[0].end_sample < horizon:
            self.blocks.popleft()
        while self._kept and self._kept[0].end_sample < horizon:
            self._kept.popleft()

    def _pack(self, block: Block) -> list[Chunk]:
        chunks = [] if self._follows(block) else self._begin(block)
        run = self._run
        assert run is not None, block.start_sample
        run.expected_sample = block.end_sample
        run.flags |= PROMPT_CHANGE if block.prompt_change else 0
        run.pending = _joined(run.pending, run.convert.process(block.samples))
        return chunks + self._full_chunks(run, block)

    def _follows(self, block: Block) -> bool:
        return self._run is not None and not block.discontinuity and block.start_sample == self._run.expected_sample

    def _begin(self, block: Block) -> list[Chunk]:
        before = self.blocks[-1] if self.blocks else None
        broken = before is not None and (block.discontinuity or block.start_sample != before.end_sample)
        chunks = self._finish()
        self._run = _Passage(
            convert=resampler(self._from_hz, self._to_hz),
            encode=encoder(self._audio),
            expected_sample=block.start_sample,
            position=converted(block.start_sample, self._from_hz, self._to_hz),
            pending=np.zeros((2, 0), np.float32),
            flags=DISCONTINUITY if broken else 0,
        )
        return chunks

    def _finish(self) -> list[Chunk]:
        """End the run: the resampler's rest goes out too, and the next block starts anew."""
        run, self._run = self._run, None
        if run is None:
            return []
        run.pending = _joined(run.pending, run.convert.process(np.zeros((2, 0), np.float32), last=True))
        chunks = self._full_chunks(run, self.blocks[-1])
        return [*chunks, self._chunk(run, run.pending.shape[1])] if run.pending.shape[1] else chunks

    def _full_chunks(self, run: _Passage, newest: Block) -> list[Chunk]:
        count = run.pending.shape[1] // self._chunk_frames
        return [self._chunk(run, self._chunk_frames, newest) for _ in range(count)]

    def _chunk(self, run: _Passage, count: int, newest: Block | None = None) -> Chunk:
        """Cut the next frames off what is pending."""
        newest = newest or self.blocks[-1]
        samples, run.pending = run.pending[:, :count], run.pending[:, count:]
        start, run.position = run.position, run.position + count
        ahead_us = (start * self._from_hz - newest.start_sample * self._to_hz) * 1_000_000
        chunk = Chunk(
            audio=self._audio,
            position=start,
            frames=count,
            start_sample=converted(start, self._to_hz, self._from_hz),
            end_sample=converted(run.position, self._to_hz, self._from_hz),
            flags=run.flags,
            time_us=max(0, newest.time_us + ahead_us // (self._from_hz * self._to_hz)),
            payload=run.encode.encode(samples),
        )
        run.flags = 0
        return chunk


def _joined(pending: Pcm, more: Pcm) -> Pcm:
    return np.concatenate((pending, more), axis=1) if pending.shape[1] else more


class Broadcast:
    """One session's lanes and messages; lives as long as one of its listeners does.

    Args:
        rate_hz: of the session.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._lanes: WeakValueDictionary[tuple[str, int, float], Lane] = WeakValueDictionary()  # kept by who is in them
        self._newest: tuple[Event, str] | None = None

    def lane(self, audio: AudioFormat, blocks: Iterable[Block]) -> Lane:
        """Return the lane of a format; a new one begins with these blocks, the newest there are.

        Raises:
            WireError: the codec is not installed.
        """
        key = audio.codec, audio.sample_rate_hz, audio.chunk_ms
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(self._rate_hz, audio, blocks)
        return lane

    def text(self, event: Event) -> str:
        """Return the message for an event; the session tells every listener the same object, one after another."""
        if self._newest is None or self._newest[0] is not event:
            self._newest = event, answers.event(event, self._rate_hz)
        return self._newest[1]
