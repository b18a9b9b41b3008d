"""Meters, heartbeat and statistics on their own clocks; subscriptions are tried in test_handler and test_door."""

from __future__ import annotations

import pytest

from bridge.audio.faults import SlotState
from bridge.doors.limits import Turns
from bridge.doors.osc.clients import Echo
from bridge.doors.osc.codec import decode
from bridge.doors.osc.feedback import Subscriber, stats_packets
from bridge.session.events import PlayerState, Stats


def test_a_meter_falls_to_the_floor_once_and_the_heart_beats_each_second() -> None:
    sent: list[bytes] = []
    subscriber = Subscriber(Echo(sent.append, str.encode, Turns()), 0.05, "owner", 1e9)
    for tick in range(100):
        sounds = tick < 40
        subscriber.tick(100 + tick * 0.05, (-6.0, -9.0) if sounds else None, (-20.0,) * 8 if sounds else None, True)
    messages = [decode(packet)[0] for packet in sent]
    meters = [message.arguments for message in messages if message.address == "/streamgen/meter"]
    beats = [message.arguments for message in messages if message.address == "/streamgen/heartbeat"]
    bands = [message.arguments for message in messages if message.address == "/streamgen/bands"]
    assert 38 <= len(meters) - 1 <= 40
    assert (len(bands), bands[0], bands[-1]) == (len(meters), (-20.0,) * 8, (-120.0,) * 8)
    assert meters[-1] == (-120.0, -120.0)
    assert meters[0] == (-6.0, -9.0)
    assert len(beats) == 5
    assert set(beats) == {(1,)}


def test_statistics_have_an_address_each_and_no_number_beyond_32_bits() -> None:
    packets = stats_packets(Stats(2.5, 1.25, 3, 4, 700, 48_000 * 3600 * 40, True, PlayerState.PLAYING), 48_000)
    messages = {message.address: message.arguments[0] for packet in packets for message in decode(packet)}
    assert messages == {
        "/streamgen/stats/realtime_factor": 2.5,
        "/streamgen/stats/lead_seconds": 1.25,
        "/streamgen/stats/underruns": 3,
        "/streamgen/stats/listeners": 4,
        "/streamgen/stats/window_position": 700,
        "/streamgen/stats/position_seconds": 144_000.0,
        "/streamgen/stats/playing": 1,
        "/streamgen/stats/state": "playing",
        "/streamgen/stats/rack_latency_seconds": 0.0,
        "/streamgen/stats/rack_faults": 0,
    }


def test_every_slot_of_the_rack_has_statistics_of_its_own() -> None:
    slot = SlotState(3, "reverb", 480, True, 2, 0.25)
    stats = Stats(2.5, 1.25, 3, 4, 700, 0, True, PlayerState.PLAYING, 0.01, 5, (slot,))
    messages = [message for packet in stats_packets(stats, 48_000) for message in decode(packet)]
    (about,) = [message.arguments for message in messages if message.address == "/streamgen/stats/slot/3"]
    assert about == (0.25, pytest.approx(0.01), 2, 1)
