"""A guest in a Link session: who is there, whose timeline counts, and what time it is there. Sans-I/O.

    alone ─ another's session is heard ─► measured: 100 pings and pongs ─► in it, with its tempo
      ▲                                                                        │
      └──────────────── the others are gone: the beats go on as our own ◄──────┘

A guest never brings its own tempo: while alone it answers nobody's measurement, so nobody can join it, and it joins the
first session that it hears. Only where another lonely guest does the same, the one with the lesser id gives in and
answers.
Between two real sessions the older one wins, as everywhere in Link.

Rules: knows no socket and no session of ours; times are microseconds of the monotonic clock. `send` is called with what
is to go where, None being the group.
"""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.doors.link import wire
from bridge.doors.link.wire import Discovery, Measurement, NodeState, Place, PlayState, Tempo

__all__ = ["ALIVE_SECONDS", "LinkPeer"]

ALIVE_SECONDS = 0.25
_TTL_SECONDS = 5
_SAMPLES, _LEAST_SAMPLES = 100, 20
_PATIENCE_US, _RETRIES = 50_000, 5
_GIVES_IN_US = 1_000_000
_AGAIN_US = 30_000_000
_OLDER_US = 500_000  # by which a session counts as older; within that, the lesser id wins
_MOST_NODES = 256
_LONGEST_PING = 41  # bytes: what is no longer than its answer
_LEAST_BPM, _MOST_BPM = 20.0, 999.0

Send = Callable[[bytes, Place | None], None]


@dataclass
class _Measuring:
    """A measurement under way, with the offsets of ghost to host time so far."""

    session: bytes
    place: Place
    sent_us: float
    tries: int = 1
    offsets: list[float] = field(default_factory=list)


@dataclass
class _Node:
    state: NodeState
    until_us: float


class LinkPeer:
    """One node of Link.

    Args:
        now_us: the monotonic clock in microseconds.
        send: sends a datagram to a place, or to the group.
        place: where this node's own datagrams come from.
        bpm: of its own timeline, while it is alone.
        audio: whether it says that it takes audio messages.

    Attributes:
        node: its id.
        tempo, play: of its session.
        joined: whether there is anybody else in its session.
    """

    def __init__(
        self, now_us: Callable[[], float], send: Send, place: Place, bpm: float, *, audio: bool = False
    ) -> None:
        self._now, self._send, self._place, self._audio = now_us, send, place, audio
        self.node = bytes(secrets.choice(range(33, 127)) for _ in range(wire.NODE_BYTES))
        self.nodes: dict[bytes, _Node] = {}
        self._measuring: _Measuring | None = None
        self._measured_us = self._first_heard_us = 0.0
        self._answers = self.joined = False
        self._found(bpm)

    def _found(self, bpm: float) -> None:
        """Begin a session of its own, in which nobody else is."""
        now = self._now()
        self.session, self._offset = self.node, -now
        self.tempo, self.play = Tempo(round(60e6 / bpm), 0, 0), PlayState()
        self._answers = self.joined = False
        self._first_heard_us = 0.0

    # -- time -----------------------------------------------------------------------------------------------------

    @property
    def peers(self) -> int:
        """How many others are in its session."""
        return sum(one.state.session == self.session for one in self.nodes.values())

    @property
    def audio_places(self) -> list[Place]:
        """Where the others of its session take audio messages."""
        states = [one.state for one in self.nodes.values() if one.state.session == self.session]
        return [state.audio for state in states if state.audio is not None]

    def ghost_us(self, host_us: float) -> float:
        """Return the session's time at one of ours."""
        return host_us + self._offset

    def line(self) -> tuple[float, float, float]:
        """Return the session's beats as (our microseconds, the beat there, bpm)."""
        return self.tempo.time_us - self._offset, self.tempo.beats / 1e6, self.tempo.bpm

    def beat(self, host_us: float) -> float:
        """Return the beat at one of our times."""
        return self.tempo.beats_at(self.ghost_us(host_us))

    def set_tempo(self, bpm: float) -> None:
        """Let the session go at a tempo from now on."""
        now = self._now()
        micros = round(60e6 / min(max(bpm, _LEAST_BPM), _MOST_BPM))
        beats = max(round(1e6 * self.beat(now)), self.tempo.beats + 1)  # of two timelines the greater origin counts
        self.tempo = Tempo(micros, beats, round(self.ghost_us(now)))
        self._announce()

    def lead(self, bpm: float, beat: float) -> None:
        """Say which beat it is now while nobody else is there: what whoever joins will find."""
        if not self.joined:
            self.tempo = Tempo(round(60e6 / bpm), round(1e6 * beat), round(self.ghost_us(self._now())))

    def set_playing(self, playing: bool) -> None:
        """Tell the session that it starts or stops."""
        now = self._now()
        ghost = max(round(self.ghost_us(now)), self.play.time_us + 1)
        self.play = PlayState(playing, round(1e6 * self.beat(now)), ghost)
        self._announce()

    # -- in turn --------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due: call it every `ALIVE_SECONDS`, and more often while something is measured."""
        now = self._now()
        for node in [node for node, one in self.nodes.items() if one.until_us < now]:
            self._leave(node)
        self._go_on_measuring(now)
        if self.joined and self._measuring is None and now - self._measured_us > _AGAIN_US:
            self._measure_own(now)

    def announce(self) -> None:
        """Tell the group that this node is there."""
        self._announce()

    @property
    def busy(self) -> bool:
        """Whether something is being measured."""
        return self._measuring is not None

    def close(self) -> None:
        """Say goodbye."""
        self._send(wire.discovery_message(Discovery.BYEBYE, 0, self.node), None)

    def _announce(self, place: Place | None = None) -> None:
        kind = Discovery.ALIVE if place is None else Discovery.RESPONSE
        audio = self._place if self._audio else None
        entries = wire.state_entries(self.session, self.tempo, self.play, self._place, audio)
        self._send(wire.discovery_message(kind, _TTL_SECONDS, self.node, entries), place)

    # -- what comes -----------------------------------------------------------------------------------------------

    def received(self, data: bytes, source: Place) -> bool:
        """Take a datagram; tells whether it was one of Link's own."""
        state = wire.read_discovery(data)
        if state is not None:
            if state.node != self.node:
                self._heard(state, source)
            return True
        message = wire.read_measurement(data)
        if message is None:
            return False
        kind, entries, raw = message
        if kind is Measurement.PING:
            self._answer(raw, len(data), source)
        else:
            self._measured(entries, source)
        return True

    def _heard(self, state: NodeState, source: Place) -> None:
        if state.kind is Discovery.BYEBYE:
            self._leave(state.node)
            return
        if state.kind is Discovery.ALIVE:
            self._announce(source)
        now = self._now()
        if state.node not in self.nodes and len(self.nodes) >= _MOST_NODES:
            return
        self.nodes[state.node] = _Node(state, now + 1e6 * max(state.ttl, 1))
        if state.session == self.session:
            self.joined = True
            self._take(state)
        elif self._measuring is None:
            self._first_heard_us = self._first_heard_us or now
            self._measure(state.session, state.place, now)

    def _take(self, state: NodeState) -> None:
        """Take what is newer in one's own session."""
        if state.tempo.beats > self.tempo.beats:
            self.tempo = state.tempo
        if state.play.time_us > self.play.time_us:
            self.play = state.play

    def _leave(self, node: bytes) -> None:
        self.nodes.pop(node, None)
        if self.joined and not self.peers:
            self._found(self.tempo.bpm)

    # -- measurement ----------------------------------------------------------------------------------------------

    def _answer(self, raw: bytes, size: int, source: Place) -> None:
        if size > _LONGEST_PING or not (self.joined or self._answers):
            return
        ghost = round(self.ghost_us(self._now())).to_bytes(8, "big", signed=True)
        told = wire.entry(b"sess", self.session) + wire.entry(b"__gt", ghost)
        self._send(wire.measurement_message(Measurement.PONG, told + raw), source)

    def _measure(self, session: bytes, place: Place, now: float) -> None:
        self._measuring = _Measuring(session, place, now)
        self._ping(place, None)

    def _measure_own(self, now: float) -> None:
        others = [one.state.place for one in self.nodes.values() if one.state.session == self.session]
        self._measured_us = now
        if others and self.session != self.node:  # of a session that it founded, its own clock is the session's
            self._measure(self.session, others[0], now)

    def _ping(self, place: Place, ghost_us: int | None) -> None:
        told = wire.entry(b"__ht", round(self._now()).to_bytes(8, "big", signed=True))
        if ghost_us is not None:
            told += wire.entry(b"_pgt", ghost_us.to_bytes(8, "big", signed=True))
        self._send(wire.measurement_message(Measurement.PING, told), place)

    def _measured(self, entries: dict[bytes, bytes], source: Place) -> None:
        measuring, now = self._measuring, self._now()
        ghost, host = wire.get_i64(entries, b"__gt"), wire.get_i64(entries, b"__ht")
        if measuring is None or source != measuring.place or ghost is None or host is None:
            return
        if entries.get(b"sess") != measuring.session:
            self._measuring = None
            return
        measuring.offsets.append(ghost - (host + now) / 2)
        if (before := wire.get_i64(entries, b"_pgt")) is not None:
            measuring.offsets.append((ghost + before) / 2 - host)
        if len(measuring.offsets) >= _SAMPLES:
            self._know(measuring, now)
        else:
            measuring.sent_us, measuring.tries = now, 1
            self._ping(measuring.place, ghost)

    def _go_on_measuring(self, now: float) -> None:
        measuring = self._measuring
        if measuring is None or now - measuring.sent_us < _PATIENCE_US:
            return
        if measuring.tries < _RETRIES:
            measuring.tries, measuring.sent_us = measuring.tries + 1, now
            self._ping(measuring.place, None)
        elif len(measuring.offsets) >= _LEAST_SAMPLES:
            self._know(measuring, now)
        else:
            self._measuring = None
            if not self.joined and now - self._first_heard_us > _GIVES_IN_US and self.session < measuring.session:
                self._answers = True  # another guest, as lonely and as shy

    def _know(self, measuring: _Measuring, now: float) -> None:
        """Use what was measured: the offset of one's own session, or a session to go to."""
        self._measuring, self._measured_us = None, now
        offset = statistics.median(measuring.offsets)
        if measuring.session == self.session:
            self._offset = offset
            return
        ahead = offset - self._offset
        older = ahead > _OLDER_US or (abs(ahead) <= _OLDER_US and measuring.session < self.session)
        members = [one.state for one in self.nodes.values() if one.state.session == measuring.session]
        if not members or not (older or not self.joined):
            return
        self.session, self._offset = measuring.session, offset
        self.tempo, self.play, self.joined = members[0].tempo, members[0].play, True
        for state in members[1:]:
            self._take(state)
        self._announce()
