"""The live session as a client of JACK, in step with JACK's transport.

    --jack-transport follow   transport rolls, stops ─► play at the next bar, pause; its beats ─► timeline.follow
    --jack-transport lead     play, pause at any door ─► the transport; the session's beats ─► everybody

Music that is due when a beat is goes out in the period in which the transport says that beat, whatever the latency.

Rules: how it is fed, watched and opened again is `device.door`'s. Libjack is asked on that door's thread, or, for what
may wait, on another.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import suppress

from bridge.doors.device.door import DeviceDoor
from bridge.doors.device.feeder import Feeder
from bridge.doors.door import Service, Sessions, Tasks
from bridge.doors.jack.client import JackClient, Link, Position, jack_library
from bridge.errors import DeviceError
from bridge.session.beats import BAR_BEATS
from bridge.session.commands import Action, Set, Transport
from bridge.session.events import Event, Transported
from bridge.session.session import Session
from bridge.session.timeline import AT_ONCE, Moment

__all__ = ["JackDoor"]

NAME = "jack"
_LOOK_SECONDS, _CONNECT_EVERY = 0.05, 10
_SETTLED_SECONDS = 0.3  # after which a tempo counts as chosen: one that is being dragged must not begin the music anew


class JackDoor(DeviceDoor):
    """Plays the live session at JACK, if the operator wants that; see `doors.door.Door`.

    Args:
        service: its settings say whether it opens, what it connects to, and what it does with the transport.

    Raises:
        UsageError: it is wanted, and JACK-Client or JACK's library is not installed.
    """

    def __init__(self, service: Service) -> None:
        settings = service.settings
        if settings.wants_jack:
            jack_library()
        super().__init__(NAME, settings.wants_jack)
        self._mode, self._part = settings.jack_transport, settings.jack_connect
        self._client: JackClient | None = None
        self._links, self._missing = set[Link](), set[Link]()
        self._tasks, self._roll_lock = Tasks(NAME), asyncio.Lock()
        self._rolling: bool | None = None  # as last seen; None before
        self._bpm, self._settles_at = 0.0, math.inf

    # -- a device -------------------------------------------------------------------------------------------------

    @property
    def device_name(self) -> str:
        """What is told when it goes."""
        return "JACK"

    @property
    def place(self) -> str:
        """The client's own name there."""
        client = self._client
        return "" if client is None else client.name

    def open_output(self, make_feeder: Callable[[int, int], Feeder]) -> tuple[Feeder, JackClient]:
        """Join the server, connected as before."""
        client = JackClient(make_feeder, self._beat_at if self._mode == "lead" else None)
        client.__enter__()
        self._missing = set(self._links)
        self._client = client
        return client.feeder, client

    def search(self) -> None:
        """Nothing tells whether there is a server but to join it: that comes next."""
        self._client = None

    # -- a door ---------------------------------------------------------------------------------------------------

    async def open(self, sessions: Sessions) -> None:
        """Join the server and listen to the session; a server that is not there is told, and tried again and again."""
        await super().open(sessions)
        if self._session is not None:
            self._tasks.spawn(self._watch(self._session))

    async def close(self, reason: str) -> None:
        """Leave."""
        await self._tasks.close()
        if self._session is not None:
            self._session.timeline.unfollow(NAME)
        await super().close(reason)

    def stats(self) -> Mapping[str, float]:
        """See `Door.stats`; what is late, JACK calls an xrun."""
        counted = dict(super().stats())
        if counted:
            counted["jack_xruns_total"] = counted.pop("jack_late_callbacks_total")
            counted["jack_connections"] = len(self._links - self._missing)
        return counted

    def event(self, event: Event) -> None:
        """Queue what tells of silence to come; leading, let the transport go along."""
        super().event(event)
        if self._mode == "lead" and isinstance(event, Transported) and (client := self._open_client) is not None:
            self._tasks.spawn(self._roll(client, event.state.plays))

    async def _roll(self, client: JackClient, rolls: bool) -> None:
        """Let the transport go or stop, each in its turn: what was said last holds."""
        async with self._roll_lock:
            with suppress(DeviceError):  # it has left JACK meanwhile
                await asyncio.to_thread(client.roll, rolls)

    @property
    def _open_client(self) -> JackClient | None:
        client = self._client
        return client if client is not None and client.active and self._playing is not None else None

    async def _watch(self, session: Session) -> None:
        """Keep connections and transport, for ever."""
        turn = 0
        while True:
            client = self._open_client
            if client is not None and turn % _CONNECT_EVERY == 0:
                await asyncio.to_thread(self._connect, client)
            if self._mode == "follow":
                self._follow(session, None if client is None else client.position)
            turn += 1
            await asyncio.sleep(_LOOK_SECONDS)

    def _connect(self, client: JackClient) -> None:
        """Connect what was named once it is there, and again what was connected when the server went."""
        try:
            if self._part and (found := client.found(self._part)):
                self._missing, self._part = self._missing | found, ""
            linked = client.connect(self._missing)
        except DeviceError as error:
            self._log.debug("jack: connections wait for the next look: %s", error)
            return
        if client.active:
            self._missing -= linked
            self._links = linked | self._missing

    # -- transport ------------------------------------------------------------------------------------------------

    @property
    def _shift_seconds(self) -> float:
        """By how much music is due after the beginning of the period in which it goes out."""
        playing = self._playing
        return 0.0 if playing is None else playing[0].device_latency_seconds - playing[0].delay_seconds

    def _beat_at(self, seconds: float) -> tuple[float, float]:
        """Return the beat, and the tempo, of what goes out at a time. JACK's thread."""
        assert self._session is not None
        timeline = self._session.timeline
        due = timeline.due()
        if timeline.running:
            due += (seconds + self._shift_seconds - timeline.now()) * timeline.rate_hz
        return timeline.beat(due), timeline.bpm(due)

    def _follow(self, session: Session, position: Position | None) -> None:
        if position is None:
            session.timeline.unfollow(NAME)
            self._rolling = None
            return
        if position.rolling and position.beat is not None:
            session.timeline.follow(NAME, position.seconds + self._shift_seconds, position.beat, position.bpm)
            self._follow_tempo(session, position.bpm)
        else:
            session.timeline.unfollow(NAME)
        if self._rolling is not None and position.rolling != self._rolling:
            counted = Moment(every=BAR_BEATS) if position.beat is not None else AT_ONCE
            starts = Transport(Action.PLAY, NAME, counted)
            self._tasks.ask(session, starts if position.rolling else Transport(Action.PAUSE, NAME, AT_ONCE))
        self._rolling = position.rolling

    def _follow_tempo(self, session: Session, bpm: float) -> None:
        now = session.timeline.now()
        if bpm != self._bpm:
            self._bpm, self._settles_at = bpm, now + _SETTLED_SECONDS
        elif now >= self._settles_at:
            self._settles_at = math.inf
            tempo = round(session.table["tempo"].nearest(bpm), 2)
            if tempo != session.values()["tempo"]:
                self._tasks.ask(session, Set({"tempo": tempo}, NAME))
