"""A client of a running `streamgen serve`, for asyncio: hear it chunk by chunk, steer it, follow what others do.

    async with connect("http://127.0.0.1:8711") as live:
        await live.set({"prompt/1/text": "solo piano, 94 bpm"}, quantize="bar")
        async for chunk in await live.chunks():
            chunk.samples                        # float32 [2, n], at chunk.sample_rate_hz

    socket ─► reader ─┬─ frames   ─► chunks()   while somebody iterates; the oldest are lost to who is slow, and counted
                      ├─ answers  ─► set(), transport(), ask()
                      └─ events   ─► values, state; events()

Rules: speaks `streamgen.v1` (docs/reference/websocket.md) and needs nothing else of this package, torch least of all;
websockets, asyncio and numpy are enough. One connection, never tried again: who needs that connects again.
"""

from __future__ import annotations

import asyncio
import json
import ssl as tls
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from streamgen.errors import ConfigError, StreamgenError, one_line
from streamgen.reaching import stream_url, unreachable, why_unconnected
from streamgen.stream_protocol import (
    PROTOCOL,
    LiveChunk,
    applied_at,
    checked_hello,
    checked_values,
    read_chunk,
)

__all__ = ["Disconnected", "Live", "LiveChunk", "NoAnswer", "Refused", "When", "WhenAndGlide", "connect"]

_KEPT_SECONDS, _EVENTS_KEPT, _EVENTS_KEPT_CHARACTERS = 10.0, 1_000, 16_000_000
_ANSWER_SECONDS = 60.0  # the service's own patience ends earlier: a plugin gets 20 s to load

T = TypeVar("T")


class Refused(StreamgenError):
    """The service did not do what was asked; nothing has changed.

    Attributes:
        code: one word for programs: docs/reference/websocket.md lists them.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Disconnected(StreamgenError):
    """There is no connection: it could not be made, or it is lost; says why."""


class NoAnswer(StreamgenError):
    """The service has not answered in time: what was asked may be done, or not, or later. The connection stands."""


class When(TypedDict, total=False):
    """When a change applies: at a sample, at a beat (both from 0), at the next "beat", "bar" …, or as soon as can be.

    `at_sample` counts at the session's rate, or at `rate_hz`: with a chunk's position goes its `sample_rate_hz`.
    """

    at_sample: int
    rate_hz: int
    at_beat: float
    quantize: str


class WhenAndGlide(When, total=False):
    """What `Live.set` takes by keyword: also over how long effects' numbers with fractions go there."""

    glide_seconds: float


@asynccontextmanager
async def connect(
    url: str,
    *,
    session: str = "live",
    token: str | None = None,
    ssl: tls.SSLContext | None = None,
    timeout_seconds: float = 10.0,
    answer_seconds: float | None = _ANSWER_SECONDS,
) -> AsyncIterator[Live]:
    """Connect to a service; disconnects on leaving the block.

    Args:
        url: the page's address, such as http://127.0.0.1:8711, or HOST:PORT; a token in it counts.
        session: "live", the one that everybody shares; "new", one of one's own; or a name.
        token: the service's secret, if it has one.
        ssl: for a certificate that the system does not trust by itself.
        timeout_seconds: for all of it.
        answer_seconds: how long each answer may take, a file's sending included; None lets it take for ever.

    Raises:
        ConfigError: the URL is none, or a time is no positive number.
        Disconnected: nobody answers there, or it was refused.
    """
    if answer_seconds is not None and not answer_seconds > 0:  # also true of NaN
        raise ConfigError(f"answer_seconds is {answer_seconds!r}, must be over 0, or None for no limit")
    address = stream_url(url, {"session": session, "enabled": "false", **({"token": token} if token else {})})
    options: dict[str, Any] = {"compression": None, "max_size": 2**22, "proxy": None, **({"ssl": ssl} if ssl else {})}
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(timeout_seconds):
                socket = await open_socket(address, subprotocols=[Subprotocol(PROTOCOL)], **options)
                stack.push_async_callback(socket.close)
                live = Live(socket, checked_hello(json.loads(await socket.recv())), answer_seconds)
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError, ConnectionClosed, ValueError) as problem:
            raise Disconnected(unreachable(url, problem)) from None
        except RecursionError:
            raise Disconnected(unreachable(url, ValueError("it says no hello"))) from None
        stack.push_async_callback(live.close)
        yield live


class Live:
    """A connection to a session. Made by `connect`.

    Attributes:
        hello: the service's first message: model, session, parameters and more.
        values: every parameter's value, kept up to date, whoever changes it.
        state: what the player does: playing, paused, …
        missed_samples: of chunks that were not taken in time, at their rate.
        news: notified whenever something came.
        over: why the connection ended; "" while it stands.
    """

    def __init__(
        self, socket: ClientConnection, hello: Mapping[str, Any], answer_seconds: float | None = _ANSWER_SECONDS
    ) -> None:
        self._socket, self.hello, self._answer_seconds = socket, dict(hello), answer_seconds
        self.values: dict[str, Any] = dict(hello["state"]["values"])
        self.state: str = hello["state"]["state"]
        self.missed_samples = 0
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        # who breaks out of a loop drops its stream, and is known by that to hear no more
        self._hearing: Callable[[], _Inbox[LiveChunk] | None] = lambda: None
        self._followers: weakref.WeakSet[_Inbox[dict[str, Any]]] = weakref.WeakSet()
        self._sends_audio, self._sending = False, asyncio.Lock()
        self._quieting: asyncio.Task[None] | None = None
        self.news, self.over = asyncio.Condition(), ""
        self._reader = asyncio.create_task(self._read())

    @property
    def sample_rate_hz(self) -> int:
        """The session's rate, in which `at_sample` and every position in a message count."""
        return int(self.hello["sample_rate_hz"])

    # -- steer --------------------------------------------------------------------------------------------------------

    async def set(self, values: Mapping[str, Any], **when: Unpack[WhenAndGlide]) -> int:
        """Change parameters, all of them or none.

        Args:
            values: by name: `{"prompt/1/text": "rain", "temperature": 0.9}`.
            when: see `WhenAndGlide`.

        Returns:
            The sample of the session at which it applies.

        Raises:
            ConfigError: a keyword that there is not, or a value that JSON has not: NaN, or an array.
            Refused: a value outside its range, or a parameter that is not there.
            NoAnswer: see `connect`'s `answer_seconds`.
            Disconnected: there is no connection any more.
        """
        _check_names(when, WhenAndGlide)
        return _applied(await self.ask("set", values=dict(values), **when))

    async def transport(self, action: str, **when: Unpack[When]) -> int:
        """Tell the player: `play`, `pause`, `stop` or `reset`; returns the sample at which it does. See `set`."""
        _check_names(when, When)
        return _applied(await self.ask("transport", action=action, **when))

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send any message of the protocol, such as `rack` or `preset`; returns its answer.

        Raises:
            ConfigError: JSON has no such value: NaN, or an array.
            Refused: it was not done.
            NoAnswer: see `connect`'s `answer_seconds`.
            Disconnected: there is no connection any more.
        """
        self._last_id += 1
        id_ = self._last_id
        try:  # the service cannot read NaN, nor say whose message it was
            message = json.dumps({"type": kind, "id": id_, **fields}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{kind} cannot be sent: {error}; send texts, switches and finite numbers") from None
        return await self._answer(kind, id_, message)

    async def send_audio(self, kind: str, file: bytes, **when: Unpack[When]) -> int:
        """Give the music audio of a kind.

        Args:
            kind: "audio_prompt", which it goes on from; or of those that `hello["follows"]` lists, "melody" or "style".
            file: a WAV, FLAC or Ogg file, its bytes; of none, a melody or style ends.
            when: for melody and style, see `When`.

        Returns:
            The sample of the session at which it applies.

        Raises:
            Refused: no audio that can be used, or of a kind that the checkpoint does not take.
            NoAnswer: see `connect`'s `answer_seconds`.
            Disconnected: there is no connection any more.
        """
        _check_names(when, When)
        async with self._sending:  # the service takes one at a time
            answer = await self.ask(kind, bytes=len(file), **when)
            if answer.get("ready"):
                answer = await self._answer(kind, answer["id"], file)
        return _applied(answer)

    async def _answer(self, kind: str, id_: int, message: str | bytes) -> dict[str, Any]:
        if self.over:
            raise Disconnected(self.over)
        answer = self._asked[id_] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._socket.send(message)
                return dict(await answer)
        except TimeoutError:
            late = f"the service has not answered {kind!r} within {self._answer_seconds:g} s"
            raise NoAnswer(f"{late}: it hangs, or has much to do; connect(answer_seconds=…) waits longer") from None
        except ConnectionClosed as problem:
            raise Disconnected(why_unconnected(problem)) from None
        finally:
            self._asked.pop(id_, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # the reader tells every question of the end, also one whose sending was refused

    # -- hear and follow ----------------------------------------------------------------------------------------------

    async def chunks(
        self, sample_rate_hz: int | None = None, chunk_ms: int = 40, codec: str = "s16le"
    ) -> AsyncIterator[LiveChunk]:
        """Hear the session from now on, in real time; calling it again ends what an earlier call gave.

        Args:
            sample_rate_hz: of the chunks; None is the session's.
            chunk_ms: length of a chunk, 20 … 200.
            codec: on the wire: "s16le", or "f32le" for every bit.

        Raises:
            Refused: the service cannot send that.
            Disconnected: the connection is lost.
        """
        if (before := self._hearing()) is not None:
            before.ended = True
        stream = _Inbox[LiveChunk](self)
        self._hearing = weakref.ref(stream)
        rate_hz = sample_rate_hz or self.sample_rate_hz
        await self.ask("audio", enabled=True, codec=codec, sample_rate_hz=rate_hz, chunk_ms=chunk_ms)
        self._sends_audio = True
        return stream

    def events(self) -> AsyncIterator[dict[str, Any]]:
        """Follow what happens from now on: `changed`, `transport`, `stats`, `gap`, … as the protocol has them.

        Raises:
            Disconnected: the connection is lost.
        """
        stream = _Inbox[dict[str, Any]](self)
        self._followers.add(stream)
        return stream

    # -- the reader ---------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        why = "the connection was closed"
        try:
            async for message in self._socket:
                if isinstance(message, bytes):
                    self._heard(message)
                else:
                    self._told(json.loads(message), len(message))
                async with self.news:
                    self.news.notify_all()
        except ConnectionClosed as problem:
            why = why_unconnected(problem)
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as problem:
            why = f"what came is not of {PROTOCOL}: {one_line(problem)}"
        finally:
            self.over = why
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(Disconnected(why))
            async with self.news:
                self.news.notify_all()

    def _heard(self, message: bytes) -> None:
        stream = self._hearing()
        if stream is not None:
            stream.waiting.append(read_chunk(message))
            while sum(chunk.samples.shape[1] for chunk in stream.waiting) > _KEPT_SECONDS * self.sample_rate_hz:
                self.missed_samples += stream.waiting.popleft().samples.shape[1]
        elif self._sends_audio:
            self._sends_audio = False
            self._quieting = asyncio.create_task(self._quiet())

    async def _quiet(self) -> None:
        with suppress(Disconnected, NoAnswer):
            await self.ask("audio", enabled=self._hearing() is not None)  # unless somebody listens again meanwhile

    def _told(self, message: dict[str, Any], characters: int) -> None:
        kind, answer = message.get("type"), self._asked.get(message.get("id", 0))
        if kind in ("ack", "error") and answer is not None and not answer.done():
            if kind == "ack":
                answer.set_result(message)
            else:
                code, text = one_line(message.get("code"), 60), one_line(message.get("message"), 4_000)
                answer.set_exception(Refused(code, text))
            return
        if kind in ("changed", "table"):
            self.values = dict(checked_values({**self.values, **message["values"]}))
        elif kind == "transport":
            self.state = str(message["state"])
        for follower in self._followers:
            follower.follow(message, characters)

    async def close(self) -> None:
        """Disconnect."""
        await self._socket.close()
        await self._reader
        if self._quieting is not None:  # nobody else takes its answer, which will not come any more
            await self._quieting


class _Inbox(Generic[T]):
    """What came and was not taken yet, as an asynchronous iterator."""

    def __init__(self, live: Live) -> None:
        self._live, self.waiting, self.ended = live, deque[T](), False
        self._lengths = deque[int]()  # of the newest messages, in characters

    def follow(self, message: T, length: int) -> None:
        """Keep a message, at the cost of the oldest where they are too many or too long."""
        self.waiting.append(message)
        self._lengths.append(length)
        while len(self._lengths) > len(self.waiting):  # what was taken
            self._lengths.popleft()
        while len(self.waiting) > _EVENTS_KEPT or sum(self._lengths) > _EVENTS_KEPT_CHARACTERS:
            self.waiting.popleft()
            self._lengths.popleft()

    def __aiter__(self) -> _Inbox[T]:
        return self

    async def __anext__(self) -> T:
        live = self._live
        async with live.news:
            await live.news.wait_for(lambda: self.waiting or live.over or self.ended)
        if self.ended:
            raise StopAsyncIteration
        if not self.waiting:
            raise Disconnected(live.over)
        return self.waiting.popleft()


def _check_names(when: Mapping[str, object], known: type) -> None:
    """Refuse a keyword that the service would not look at."""
    for name in when.keys() - known.__annotations__.keys():
        raise ConfigError.unknown("keyword", name, known.__annotations__)


def _applied(answer: Mapping[str, Any]) -> int:
    try:
        return applied_at(answer)
    except ValueError as problem:
        raise Disconnected(f"what came is not of {PROTOCOL}: {problem}") from None
