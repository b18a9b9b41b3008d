"""The session as the source of an Icecast server, which hands it on to a crowd.

    http://source:PASSWORD@HOST:8000/live.ogg      the mount's suffix is the codec

    PUT, 100-continue ─► the stream, as it is played ─► lost? again, after 1, 2, 4 … 30 s
    another title ─► GET /admin/metadata             MP3 and AAC; Ogg has the title of its beginning

Rules: event loop. A tuner of the station as any listener is; what it cannot send is dropped there, the oldest first.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode, urlsplit

from bridge.doors.access import Limits
from bridge.doors.radio.encoders import CODECS, Codec, missing
from bridge.doors.radio.listener import HttpListener
from bridge.doors.radio.station import EncodedAudio, Station
from bridge.errors import UsageError
from bridge.metrics import Metrics
from streamgen.errors import one_line
from streamgen.reaching import why_unconnected

__all__ = ["IcecastSource", "Mount", "mount_of"]

_log = logging.getLogger("bridge.doors")
_ANSWER_SECONDS = 10.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
_STEADY_SECONDS = 60.0
_MOUNTS = ("mp3", "ogg", "oga", "aac")  # Icecast knows neither FLAC outside Ogg nor WAV


@dataclass(frozen=True)
class Mount:
    """Where a stream goes.

    Attributes:
        host, port, tls: of the server.
        user, password: of the source.
        path: of the mount.
        codec: by the path's suffix.
    """

    host: str
    port: int
    tls: bool
    user: str
    password: str
    path: str
    codec: Codec

    @property
    def name(self) -> str:
        """For people, without the password."""
        return f"{self.host}:{self.port}{self.path}"


def mount_of(url: str) -> Mount:
    """Read where a stream goes.

    Raises:
        UsageError: that is no mount, or nothing can be coded here.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 8000)
    except ValueError:
        parts, port = urlsplit(""), 0
    suffix = parts.path.rpartition(".")[2]
    if parts.scheme not in ("http", "https", "icecast") or not parts.hostname or suffix not in _MOUNTS:
        shown = url.rpartition("@")[2][:100]
        raise UsageError(
            f"--icecast is {shown!r}, must be like http://source:PASSWORD@HOST:8000/live.ogg, ending in "
            f"{', '.join('.' + one for one in _MOUNTS)}"
        )
    if what := missing():
        raise UsageError(f"--icecast: {what}")
    user, password = unquote(parts.username or "source"), unquote(parts.password or "")
    return Mount(parts.hostname, port, parts.scheme == "https", user, password, parts.path, CODECS[suffix])


class IcecastSource:
    """A session's way to one mount, for as long as `run` runs.

    Args:
        mount: where.
        station: what.
        session_hz: rate of the session.
        limits: of the service.
        metrics: where it is counted.

    Attributes:
        connected: whether it streams now.
    """

    def __init__(self, mount: Mount, station: Station, session_hz: int, limits: Limits, metrics: Metrics) -> None:
        self.mount, self._station, self._session_hz = mount, station, session_hz
        self._limits, self._metrics = limits, metrics
        self.connected = False

    async def run(self) -> None:
        """Stream, and begin again whenever the server goes, for ever."""
        loop, wait, told = asyncio.get_running_loop(), _FIRST_WAIT_SECONDS, ""
        while True:
            began = loop.time()
            try:
                await self._stream()
                why = "it was closed"
            except (OSError, TimeoutError, asyncio.IncompleteReadError, _Refused) as problem:
                why = why_unconnected(problem)
            finally:
                self.connected = False
            if loop.time() - began > _STEADY_SECONDS:
                wait, told = _FIRST_WAIT_SECONDS, ""
            if why != told:  # a server that is away for days is no news twice a minute
                every = _LONGEST_WAIT_SECONDS
                _log.warning("icecast %s: %s; trying again, at least every %.0f s", self.mount.name, why, every)
                told = why
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    async def _stream(self) -> None:
        mount = self.mount
        reader, writer = await self._connected()
        titles: set[asyncio.Task[None]] = set()
        listener = _SourceListener(
            lambda title: self._tell(title, titles), writer, self._session_hz, self._limits, self._metrics
        )
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                writer.write(self._head())
                status = (await _line(reader)).split(maxsplit=1)
            if len(status) < 2 or not status[1].startswith(("100", "200")):
                raise _Refused(f"it refuses: {' '.join(status[1:]) or 'no answer'}")
            self.connected = True
            _log.info("icecast %s: on air", mount.name)
            self._station.join(mount.codec, listener)
            await listener.send()
        finally:
            await self._station.leave(mount.codec, listener)
            for task in titles:
                task.cancel()
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context() if self.mount.tls else None
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await asyncio.open_connection(self.mount.host, self.mount.port, ssl=context)

    def _head(self) -> bytes:
        codec = self.mount.codec
        about = f"ice-samplerate={codec.rate_hz(self._session_hz)};ice-bitrate={codec.kilobits};ice-channels=2"
        lines = (
            f"PUT {quote(self.mount.path)} HTTP/1.1",
            f"Host: {self.mount.host}:{self.mount.port}",
            f"Authorization: {self._authorization}",
            f"Content-Type: {codec.kind}",
            "Ice-Name: streamgen",
            "Ice-Public: 0",
            f"Ice-Audio-Info: {about}",
            "Expect: 100-continue",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    @property
    def _authorization(self) -> str:
        pair = f"{self.mount.user}:{self.mount.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    # -- titles -------------------------------------------------------------------------------------------------------

    def _tell(self, title: str, tasks: set[asyncio.Task[None]]) -> None:
        if self.mount.codec.titles:
            task = asyncio.create_task(self._update(title))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _update(self, title: str) -> None:
        query = urlencode({"mode": "updinfo", "mount": self.mount.path, "song": title, "charset": "UTF-8"})
        lines = (
            f"GET /admin/metadata?{query} HTTP/1.0",
            f"Host: {self.mount.host}:{self.mount.port}",
            f"Authorization: {self._authorization}",
        )
        try:
            reader, writer = await self._connected()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
                    answer = await _line(reader)
            finally:
                writer.close()
        except (OSError, TimeoutError, _Refused) as problem:
            _log.warning("icecast %s: the title was not told: %s", self.mount.name, one_line(problem))
            return
        if " 200 " not in answer:
            _log.warning("icecast %s: the title was refused: %s", self.mount.name, one_line(answer))


async def _line(reader: asyncio.StreamReader) -> str:
    """Read the first line of an answer.

    Raises:
        _Refused: it has no end.
    """
    try:
        return (await reader.readline()).decode(errors="replace")
    except ValueError:  # asyncio's, of a line beyond 64 KiB
        raise _Refused("what answers there is no Icecast: its answer has no end") from None


class _Refused(Exception):
    """The server does not take the stream."""


class _SourceListener(HttpListener):
    """A listener that tells when the title of what it sends is another, and takes no burst: nobody waits for one."""

    def __init__(
        self,
        tell: Callable[[str], None],
        writer: asyncio.StreamWriter,
        session_hz: int,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        super().__init__(writer, titles=False, session_hz=session_hz, limits=limits, metrics=metrics)
        self._tell, self._title = tell, ""

    def begin(self, head: bytes, burst: Iterable[EncodedAudio]) -> None:
        """Begin with the newest of what was heard."""
        super().begin(head, list(burst)[-1:])

    def take(self, piece: EncodedAudio) -> None:
        """Queue the next piece."""
        if piece.title != self._title:
            self._title = piece.title
            self._tell(piece.title)
        super().take(piece)
