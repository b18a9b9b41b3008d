"""Nodes on a network of this test's own, on its own clock: no socket, no waiting."""

from __future__ import annotations

import heapq
import itertools
import os
import random

import pytest

from bridge.doors.link import wire
from bridge.doors.link.peer import ALIVE_SECONDS, LinkPeer
from bridge.doors.link.wire import Place

SEED = int(os.environ.get("STREAMGEN_TORMENT_SEED", "0"))


class Room:
    """A network that delivers every datagram after 0.1 … 0.3 ms, and a clock."""

    def __init__(self) -> None:
        self.now_us = 5e9
        self.peers: dict[Place, LinkPeer] = {}
        self._under_way: list[tuple[float, int, Place, Place, bytes]] = []
        self._count, self._rng = itertools.count(), random.Random(3)
        self._alive: dict[Place, float] = {}

    def enter(self, bpm: float, skew_us: float = 0.0, *, leads: bool = False) -> LinkPeer:
        """Return a new node, whose clock shows `skew_us` more; one that leads is no guest: it brings its tempo."""
        place = ("10.0.0.1", 1_000 + len(self._alive))

        def send(data: bytes, to: Place | None) -> None:
            for other in [*self.peers] if to is None else [to]:
                at = self.now_us + self._rng.uniform(100, 300)
                heapq.heappush(self._under_way, (at, next(self._count), other, place, data))

        peer = LinkPeer(lambda: self.now_us + skew_us, send, place, bpm)
        peer._answers = leads
        self.peers[place], self._alive[place] = peer, 0.0
        return peer

    def leave(self, peer: LinkPeer) -> None:
        """Let a node vanish without a word."""
        self.peers = {place: one for place, one in self.peers.items() if one is not peer}

    def run(self, seconds: float) -> None:
        end = self.now_us + 1e6 * seconds
        while self.now_us < end:
            for place, peer in list(self.peers.items()):
                peer.tick()
                if self.now_us >= self._alive[place]:
                    peer.announce()
                    self._alive[place] = self.now_us + 1e6 * ALIVE_SECONDS
            until = self.now_us + 10_000
            while self._under_way and self._under_way[0][0] <= until:
                self.now_us, _, to, source, data = heapq.heappop(self._under_way)
                if to in self.peers:
                    self.peers[to].received(data, source)
            self.now_us = until


def apart_ms(one: LinkPeer, two: LinkPeer, room: Room, skew_us: float) -> float:
    """How far two nodes are apart in what beat it is."""
    return abs(one.beat(room.now_us) - two.beat(room.now_us + skew_us)) * 60_000 / one.tempo.bpm


def test_a_guest_takes_the_tempo_that_is_there_and_counts_the_same_beats() -> None:
    room = Room()
    leader = room.enter(133.7, leads=True)
    room.run(2)
    guest = room.enter(90, skew_us=7e8)
    room.run(0.5)
    assert guest.joined
    assert (guest.session, leader.session) == (leader.node, leader.node)
    assert leader.tempo.bpm == pytest.approx(133.7, abs=0.001), "nobody brought another"
    assert apart_ms(leader, guest, room, 7e8) < 0.05
    for bpm in (60, 180, 101.5):
        leader.set_tempo(bpm)
        room.run(0.1)
        assert guest.tempo.bpm == pytest.approx(bpm, abs=0.001)
        assert apart_ms(leader, guest, room, 7e8) < 0.05
    guest.set_tempo(77)
    guest.set_playing(True)
    room.run(0.1)
    assert leader.tempo.bpm == pytest.approx(77, abs=0.001)
    assert leader.play.playing
    leader.set_playing(False)
    room.run(0.1)
    assert not guest.play.playing


def test_an_old_guest_goes_to_a_young_session_and_not_the_session_to_the_guest() -> None:
    room = Room()
    guest = room.enter(90)
    room.run(60)
    assert not guest.joined
    leader = room.enter(100, leads=True)
    room.run(1)
    assert leader.session == guest.session == leader.node
    assert guest.tempo.bpm == pytest.approx(100)


def test_two_guests_find_each_other_though_neither_would_lead() -> None:
    room = Room()
    one, two = room.enter(90), room.enter(110, skew_us=-3e6)
    room.run(4)
    assert one.joined
    assert two.joined
    assert one.session == two.session == min(one.node, two.node)
    assert apart_ms(one, two, room, -3e6) < 0.05


def test_of_two_sessions_the_older_wins() -> None:
    room = Room()
    first = room.enter(100, leads=True)
    room.run(5)
    second = room.enter(140, leads=True)
    second.joined = True  # somebody plays with it already: it does not go to the first that it hears
    room.run(1)
    assert first.session == second.session == first.node
    assert second.tempo.bpm == pytest.approx(100)


def test_who_falls_silent_is_gone_and_the_beats_are_one_s_own_again() -> None:
    room = Room()
    leader = room.enter(120, leads=True)
    guest = room.enter(90)
    room.run(1)
    room.leave(leader)
    room.run(4)
    assert guest.joined
    room.run(3)
    assert not guest.joined
    assert guest.peers == 0
    assert guest.tempo.bpm == pytest.approx(120), "it goes on as it went"


def test_a_farewell_is_at_once() -> None:
    room = Room()
    leader, guest = room.enter(120, leads=True), room.enter(90)
    room.run(1)
    leader.close()
    room.leave(leader)
    room.run(0.02)
    assert not guest.joined


def test_what_was_measured_is_measured_again_after_half_a_minute() -> None:
    room = Room()
    leader, guest = room.enter(120, leads=True), room.enter(90)
    room.run(1)
    guest._offset += 40_000.0
    room.run(31)
    assert apart_ms(leader, guest, room, 0) < 0.05


def test_a_flood_of_nodes_is_bounded_and_a_lonely_guest_answers_no_measurement() -> None:
    room = Room()
    guest = room.enter(120)
    sent: list[bytes] = []
    guest._send = lambda data, place: sent.append(data)
    ping = wire.measurement_message(wire.Measurement.PING, wire.entry(b"__ht", bytes(8)))
    assert guest.received(ping, ("10.0.0.9", 9))
    assert sent == []
    assert not guest.received(b"anything", ("10.0.0.9", 9))
    for number in range(1_000):
        node = number.to_bytes(8, "big")
        told = wire.state_entries(node, guest.tempo, guest.play, ("10.0.0.9", 9), None)
        guest.received(wire.discovery_message(wire.Discovery.ALIVE, 5, node, told), ("10.0.0.9", 9))
    assert len(guest.nodes) == 256


EXTREMES = (0, 1, -1, 2**52, -(2**52), 2**62, 2**63 - 1, -(2**63))


def test_whatever_numbers_a_room_tells_this_node_goes_on() -> None:
    """Beats and times of eight bytes: those that no session comes to once ended the door, by a sum that had no room."""
    draw = random.Random(SEED)
    for _ in range(100):
        clock = [5e9]
        peer = LinkPeer(lambda clock=clock: clock[0], lambda *_: None, ("10.0.0.1", 1_000), 120.0)  # type: ignore[misc]
        for _ in range(12):
            session = draw.choice([peer.session, b"AAAAAAAA"])
            tempo = wire.Tempo(draw.choice([60_000, 500_000, 3_000_000]), draw.choice(EXTREMES), draw.choice(EXTREMES))
            play = wire.PlayState(draw.random() < 0.5, draw.choice(EXTREMES), draw.choice(EXTREMES))
            entries = wire.state_entries(session, tempo, play, ("10.0.0.2", 2), None)
            peer.received(wire.discovery_message(wire.Discovery.ALIVE, 5, b"BBBBBBBB", entries), ("10.0.0.2", 2))
            ghost = draw.choice(EXTREMES).to_bytes(8, "big", signed=True)
            times = wire.entry(b"sess", session) + wire.entry(b"__gt", ghost) + wire.entry(b"__ht", ghost)
            pong = wire.measurement_message(wire.Measurement.PONG, times)
            for _ in range(draw.choice([1, 110])):
                peer.received(pong, ("10.0.0.2", 2))
            clock[0] += 1e5
            peer.tick()
            peer.set_tempo(130.0)
            peer.set_playing(True)
            peer.announce()
            at_us, beat, bpm = peer.line()
            assert abs(at_us) < 1e17
            assert abs(beat) < 1e13
            assert 19 < bpm < 1_001
