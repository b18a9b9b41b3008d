"""The radio door: /listen.mp3, .ogg, .flac, .aac, .wav, and playlists of them, at the HTTP port.

    GET /listen.mp3 ─► origin, host, token, place ─► 200, a burst, then as it is played; ICY titles if asked for
    GET /listen.m3u ─► a playlist with the stream's address, its token included

Rules: event loop; knows requests and answers, not how sound is coded (encoders.py) or shared (station.py). `Range` is
answered with the whole, which has no end; HTTP/1.0 in kind; HEAD without a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from websockets.http11 import Request

from bridge.doors.answers import Exchange
from bridge.doors.door import Place, Service, Sessions
from bridge.doors.limits import bound_buffers
from bridge.doors.radio import icy
from bridge.doors.radio.encoders import CODECS, Codec, missing
from bridge.doors.radio.icecast import IcecastSource, mount_of
from bridge.doors.radio.listener import UNSENT_BYTES, HttpListener
from bridge.doors.radio.station import DOOR, Station

__all__ = ["PATH", "PLAYLISTS", "RadioDoor"]

PATH = "/listen."
_GOODBYE_SECONDS = 1.0
PLAYLISTS = {"m3u": (icy.m3u, "audio/x-mpegurl"), "pls": (icy.pls, "audio/x-scpls")}


class RadioDoor:
    """A door (`doors.door.Door`) at the native door's port.

    Args:
        service: settings, access, metrics, and the routes it writes itself into.

    Raises:
        UsageError: an Icecast mount that is none.
    """

    name = DOOR

    def __init__(self, service: Service) -> None:
        self._service, self._access, self._metrics = service, service.access, service.metrics
        self._mounts = [mount_of(url) for url in service.settings.icecast]  # faults are told before loading
        self._sources: dict[IcecastSource, asyncio.Task[None]] = {}
        self._station: Station | None = None
        self._streams: set[asyncio.Task[Any]] = set()

    async def open(self, sessions: Sessions) -> None:
        """Answer from now on."""
        self._station, self._session = Station(sessions.live, self._metrics), sessions.live
        self._service.routes.streams[PATH] = self._answer
        for mount in self._mounts:
            limits = self._access.limits
            source = IcecastSource(mount, self._station, self._session.rate_hz, limits, self._metrics)
            self._sources[source] = asyncio.create_task(source.run(), name=f"icecast {mount.name}")

    async def close(self, reason: str) -> None:  # noqa: ARG002 - a stream of sound has no words for it
        """Let every listener hear what it was sent, and end the streams; who reads slowly is cut off with the port."""
        self._service.routes.streams.pop(PATH, None)
        for task in self._sources.values():
            task.cancel()
        await asyncio.gather(*self._sources.values(), return_exceptions=True)
        if self._station is not None:
            await self._station.close()
        if self._streams:
            await asyncio.wait(set(self._streams), timeout=_GOODBYE_SECONDS)

    def places(self) -> Mapping[str, Place]:
        """Return the address that players open; none where nothing can be coded."""
        page = self._service.places.get("page")
        return {} if missing() or not page else {"radio": f"{page}{PATH[1:]}mp3"}

    def stats(self) -> Mapping[str, float]:
        """Return who listens, and in how many codecs."""
        running = 0 if self._station is None else len(self._station.programmes)
        on_air = sum(source.connected for source in self._sources)
        return {"listeners": len(self._streams), "encoders": running, "sources": on_air}

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _answer(self, request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(request, writer)
        suffix = exchange.address.path.removeprefix(PATH)
        if (refusal := exchange.refusal(self._access)) is not None:
            exchange.refuse(refusal, self._metrics)
        elif suffix in PLAYLISTS:
            self._playlist(exchange, suffix)
        elif suffix not in CODECS:
            there = " ".join(f"{PATH}{one}" for one in (*CODECS, *PLAYLISTS))
            exchange.write(404, f"there is no {exchange.address.path[:80]}; there are {there}\n")
        elif what := missing():
            exchange.write(503, f"{what}\n")
        elif request.method == "HEAD":
            exchange.write_head(200, self._stream_headers(exchange, CODECS[suffix]))
        elif (refusal := self._access.enter(exchange.peer)) is not None:
            exchange.refuse(refusal, self._metrics)
        else:
            try:
                await self._stream(exchange, CODECS[suffix])
            finally:
                self._access.leave(exchange.peer)

    def _playlist(self, exchange: Exchange, suffix: str) -> None:
        make, kind = PLAYLISTS[suffix]
        token = exchange.address.query.get("token")
        query = f"?token={quote(token, safe='')}" if token else ""
        exchange.write(200, make(f"{exchange.base}{PATH}mp3{query}", "streamgen"), kind)

    async def _stream(self, exchange: Exchange, codec: Codec) -> None:
        assert self._station is not None, codec
        bound_buffers(exchange.writer.transport, UNSENT_BYTES)
        exchange.write_head(200, self._stream_headers(exchange, codec))
        titles = _wants_titles(exchange.request, codec)
        listener = HttpListener(exchange.writer, titles, self._session.rate_hz, self._access.limits, self._metrics)
        stream = asyncio.current_task()
        assert stream is not None, codec
        self._streams.add(stream)
        self._station.join(codec, listener)
        try:
            with suppress(TimeoutError):  # it reads nothing: as if it had gone
                await listener.send()
        finally:
            self._streams.discard(stream)
            await self._station.leave(codec, listener)

    def _stream_headers(self, exchange: Exchange, codec: Codec) -> dict[str, str]:
        more = {"Content-Type": codec.kind, "Accept-Ranges": "none", "icy-name": "streamgen"}
        more |= {"icy-br": str(codec.kilobits)} if codec.kilobits else {}
        more |= {"icy-metaint": str(icy.METAINT)} if _wants_titles(exchange.request, codec) else {}
        if origin := exchange.headers.get("Origin"):  # an allowed one, or it would have been refused
            more |= {"Access-Control-Allow-Origin": origin, "Cross-Origin-Resource-Policy": "cross-origin"}
        return more


def _wants_titles(request: Request, codec: Codec) -> bool:
    return codec.titles and "1" in request.headers.get_all("Icy-MetaData")
