"""A client of `streamgen.v1`, as `streamgen listen` uses it: frames to samples, gaps counted, connections tried again.

    socket ─► Call ─► Received (frames to samples, gaps) ─► sink

Rules: the public protocol and nothing else of the server. A lost connection is tried again for as long as it was asked
to listen, to the session that it had, private ones included; what was missed is counted, never hidden.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from bridge.doors.native.answers import PROTOCOL
from bridge.doors.native.codecs import PayloadDecoder, decoder
from bridge.doors.native.frames import HEADER_BYTES, AudioHeader
from bridge.errors import UsageError, WireError
from streamgen import reaching
from streamgen.config import Value
from streamgen.errors import ConfigError, one_line

__all__ = ["ListenClient", "Pcm", "Received", "Sink", "Stop", "stream_url"]

_log = logging.getLogger("bridge.client")
_POLL_SECONDS = 0.2
_BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
_BIGGEST_MESSAGE = 2**22
_HELLO_SECONDS = 10.0  # in which whoever took the connection is to say who he is
_REFUSED, _FULL = 1008, 1013

Pcm = NDArray[np.float32]


def stream_url(url: str, query: dict[str, str]) -> str:
    """Make the WebSocket's address of what people type; see `reaching.stream_url`.

    Raises:
        UsageError: it has no host, or a scheme that is none of ours.
    """
    try:
        return reaching.stream_url(url, query)
    except ConfigError:
        raise UsageError(f"URL is {url!r}, must be like ws://127.0.0.1:8711") from None


# -- what comes -----------------------------------------------------------------------------------------------------


@dataclass
class Received:
    """Frames become samples; what is missing is counted.

    Attributes:
        limit_seconds: when it is enough; None is never.
        rate_hz: of the samples; 0 before the first.
        frames: sample frames so far.
        gaps, gap_frames: breaks in the positions, and how much was missing.
    """

    limit_seconds: float | None = None
    rate_hz: int = 0
    frames: int = 0
    gaps: int = 0
    gap_frames: int = 0
    _expected: int | None = None
    _decoder: PayloadDecoder | None = None

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self.frames / self.rate_hz if self.rate_hz else 0.0

    @property
    def complete(self) -> bool:
        """Whether it is enough."""
        return self.limit_seconds is not None and self.rate_hz > 0 and self._left() <= 0

    def _left(self) -> int:
        return 2**62 if self.limit_seconds is None else round(self.limit_seconds * self.rate_hz) - self.frames

    def take(self, message: bytes) -> Pcm:
        """Return a frame's samples, float32 [2, n], cut where it is enough.

        Raises:
            WireError: it is no frame of this protocol, or its rate is another than before.
        """
        header = AudioHeader.unpack(message)
        if self.rate_hz not in (0, header.sample_rate_hz):
            raise WireError("bad_audio", f"the audio was of {self.rate_hz} Hz and is of {header.sample_rate_hz} Hz now")
        self.rate_hz = header.sample_rate_hz
        self._decoder = self._decoder or decoder(header)
        self._note_gap(header)
        samples = self._decoder.decode(message[HEADER_BYTES:], header)[:, : self._left()]
        if not np.isfinite(samples).all():
            raise WireError("bad_audio", "an audio frame whose samples are no numbers")
        self.frames += samples.shape[1]
        return samples if samples.shape[0] == 2 else np.repeat(samples, 2, axis=0)

    def _note_gap(self, header: AudioHeader) -> None:
        if self._expected is not None and header.sample_position != self._expected:
            self.gaps += 1
            self.gap_frames += max(0, header.sample_position - self._expected)
        self._expected = header.sample_position + header.frame_count


class Sink(Protocol):
    """Where samples go."""

    def write(self, samples: Pcm, rate_hz: int) -> None:
        """Take float32 [2, n]."""
        ...


class Stop(Protocol):
    """What is true once it shall end."""

    def __bool__(self) -> bool:
        """Whether to end now."""
        ...


# -- the connection -------------------------------------------------------------------------------------------------


@dataclass
class ListenClient:
    """Listening to a session, over as many connections as it takes.

    Attributes:
        url: see `stream_url`; names the session once it is known.
        wanted: parameters to set once, at the first hello.
        sink: where the samples go.
        received: what came, and when it is enough.
        stop: ends it early.
        say: takes lines for people.
        hello: the newest one.
        first_audio_seconds: from the first try to the first samples; None before.
        connections, errors: how many there were.
        underruns: how often the server's engine was late: then nothing is missing, but the music came later.
    """

    url: str
    wanted: dict[str, Value]
    sink: Sink
    received: Received
    stop: Stop
    say: Callable[[str], None] = _log.info
    hello: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    first_audio_seconds: float | None = None
    connections: int = 0
    errors: int = 0
    underruns: int = 0
    _greeting: bool = False  # whether this connection's server has said who it is

    async def listen(self) -> None:
        """Listen until it is enough or interrupted.

        Raises:
            WireError: refused, or nobody answers at the first try.
        """
        tries = 0
        while not self._over:
            try:
                await self._connection()
                tries = 0
            except (OSError, InvalidHandshake, InvalidURI, TimeoutError, ConnectionClosed) as problem:
                self._raise_if_permanent(problem)
                tries = 0 if self.received.frames and isinstance(problem, ConnectionClosed) else tries + 1
                await self._wait_to_retry(_BACK_OFF_SECONDS[min(tries, len(_BACK_OFF_SECONDS) - 1)], problem)

    @property
    def _over(self) -> bool:
        return self.received.complete or bool(self.stop)

    def _raise_if_permanent(self, problem: Exception) -> None:
        if isinstance(problem, ConnectionClosed) and problem.rcvd is not None and problem.rcvd.code == _REFUSED:
            raise WireError("refused", f"the server refuses: {reaching.why_unconnected(problem)}") from None
        if not self.hello and not _try_later(problem):
            raise WireError("unreachable", reaching.unreachable(self.url, problem)) from None

    async def _wait_to_retry(self, seconds: float, problem: Exception) -> None:
        if not self._over:
            self.say(f"connection lost ({reaching.why_unconnected(problem)}); trying again in {seconds:g} s")
        until = time.monotonic() + seconds
        while not self._over and time.monotonic() < until:
            await asyncio.sleep(min(_POLL_SECONDS, seconds))

    async def _connection(self) -> None:
        options: dict[str, Any] = {"subprotocols": [Subprotocol(PROTOCOL)], "max_size": _BIGGEST_MESSAGE, "proxy": None}
        async with connect(self.url, compression=None, open_timeout=10, **options) as socket:
            self.connections += 1
            self._greeting, until = False, time.monotonic() + _HELLO_SECONDS
            while not self._over:
                try:
                    message = await asyncio.wait_for(socket.recv(), _POLL_SECONDS)
                except TimeoutError:  # nothing came; look whether to stop
                    if not self._greeting and time.monotonic() > until:
                        raise TimeoutError(f"it says nothing in {_HELLO_SECONDS:g} s") from None
                    continue
                await self._take(socket, message)

    async def _take(self, socket: ClientConnection, message: str | bytes) -> None:
        if isinstance(message, str):
            told = _object(message)
            try:
                await self._told(socket, told)
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as problem:
                raise WireError("bad_message", f"this is no streamgen: it says {one_line(message, 60)!r}") from problem
            return
        samples = self.received.take(message)
        if self.first_audio_seconds is None:
            self.first_audio_seconds = time.monotonic() - self.began
        self.sink.write(samples, self.received.rate_hz)

    async def _told(self, socket: ClientConnection, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "hello":
                await self._greeted(socket, message)
            case "error":
                self.errors += 1
                self.say(f"the server says: {one_line(message.get('message'), 1_000)}")
            case "notice" if message.get("topic") != "part":  # those come every few bars, and before they are heard
                # what it makes of the prompts, what died and begins anew, what it was not made for
                heard = "heard: " if message.get("topic") == "heard" else ""
                self.say(f"{heard}{one_line(message.get('text'), 1_000)}")
            case "gap":
                self._missed(message)
            case "goaway":
                self.say(f"the server says goodbye: {one_line(message.get('reason'))}")

    def _missed(self, gap: dict[str, Any]) -> None:
        seconds = float(gap.get("samples", 0)) / float(gap.get("rate_hz") or 1)
        self.underruns += gap.get("reason") == "underrun"
        self.say(f"{_missing(gap.get('reason'))} ({seconds:.2f} s)")

    async def _greeted(self, socket: ClientConnection, hello: dict[str, Any]) -> None:
        if not self.hello:
            self.say(f"listening to {one_line(hello.get('model'))}, session {one_line(hello.get('session'))}")
            state = hello.get("state")
            if isinstance(state, dict) and state.get("heard"):
                self.say(f"heard: {one_line(state['heard'], 1_000)}")
        self.hello, self._greeting = hello, True
        if isinstance(name := hello.get("session"), str):
            self.url = stream_url(self.url, {"session": name})  # "new" would be another music each time
        if self.wanted:
            await socket.send(json.dumps({"type": "set", "values": self.wanted, "id": "set"}))
            self.wanted = {}  # once: another hand may have changed them since


def _object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise WireError("bad_json", f"this is no streamgen: it says {one_line(text, 60)!r}")
    return message


def _missing(reason: object) -> str:
    return "the server was late, the music paused" if reason == "underrun" else f"audio is missing: {one_line(reason)}"


def _try_later(problem: Exception) -> bool:
    return isinstance(problem, ConnectionClosed) and problem.rcvd is not None and problem.rcvd.code == _FULL
