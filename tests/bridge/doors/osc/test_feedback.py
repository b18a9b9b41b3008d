"""Echoes at most 30 times a second, the last value always; meters when they sound; one address for each statistic."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from bridge.doors.osc.codec import decode
from bridge.doors.osc.feedback import Echo, Levels, Subscriber, stats_messages
from bridge.doors.turns import TURN_SECONDS, Turns
from bridge.session.messages import Block, Stats


def test_an_echo_is_at_once_then_at_most_thirty_a_second_and_ends_with_the_last_value() -> None:
    async def main() -> list[tuple[float, bytes]]:
        loop, value = asyncio.get_running_loop(), [0]
        sent: list[tuple[float, bytes]] = []
        echo = Echo(lambda packet: sent.append((loop.time(), packet)), lambda address: b"%d" % value[0], Turns())
        for number in range(200):
            value[0] = number
            echo.mark(["/a"])
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        return sent

    sent = asyncio.run(main())
    gaps = np.diff([at for at, _ in sent])
    assert min(gaps) > 0.030
    assert sent[0][1] in (b"0", b"1")
    assert sent[-1][1] == b"199"


def test_addresses_marked_together_are_told_once_each() -> None:
    async def main() -> list[bytes]:
        sent: list[bytes] = []
        echo = Echo(sent.append, str.encode, Turns())
        echo.mark(["/a", "/b", "/a"])
        echo.mark(["/b", "/c"])
        await asyncio.sleep(0.02)
        echo.mark(["/d"])
        echo.close()
        await asyncio.sleep(0.05)
        return sent

    assert asyncio.run(main()) == [b"/a", b"/b", b"/c"]


def test_many_who_are_told_at_once_leave_the_loop_to_others_in_between() -> None:
    async def main() -> float:
        loop, turns, told = asyncio.get_running_loop(), Turns(), [0]

        def send(_packet: bytes) -> None:
            time.sleep(TURN_SECONDS / 10)
            told[0] += 1

        for _ in range(32):
            Echo(send, str.encode, turns).mark(["/a", "/b"])
        most, before, end = 0, 0, loop.time() + 5
        while told[0] < 64 and loop.time() < end:
            await asyncio.sleep(0)
            most, before = max(most, told[0] - before), told[0]
        assert told[0] == 64
        return most

    assert asyncio.run(main()) <= 14, "of 64 in one turn"


def test_levels_are_the_peaks_of_what_sounds_now() -> None:
    samples = np.zeros((2, 6400), np.float32)
    samples[0, 100], samples[1, 5000] = -0.5, 1.0
    levels = Levels(32_000)
    levels.heard(Block(samples, 0, time_us=10_000_000))
    assert levels.due(9.99) is None
    assert levels.due(10.0) == (pytest.approx(-6.02, abs=0.01), -120.0)
    assert levels.due(10.05) == (-120.0, -120.0)
    assert levels.due(10.5) == (-120.0, 0.0)
    assert levels.due(10.6) is None


def test_levels_keep_no_more_than_the_longest_lead() -> None:
    levels = Levels(32_000)
    for second in range(100):
        levels.heard(Block(np.ones((2, 32_000), np.float32), second * 32_000, time_us=second * 1_000_000))
    assert len(levels._peaks) <= 15 * 20 + 2


def test_a_meter_falls_to_the_floor_once_and_the_heart_beats_each_second() -> None:
    sent: list[bytes] = []
    subscriber = Subscriber(Echo(sent.append, str.encode, Turns()), 0.05, "owner", 1e9)
    for tick in range(100):
        subscriber.tick(100 + tick * 0.05, (-6.0, -9.0) if tick < 40 else None, True)
    messages = [decode(packet)[0] for packet in sent]
    meters = [message.arguments for message in messages if message.address == "/streamgen/meter"]
    beats = [message.arguments for message in messages if message.address == "/streamgen/heartbeat"]
    assert 38 <= len(meters) - 1 <= 40
    assert meters[-1] == (-120.0, -120.0)
    assert meters[0] == (-6.0, -9.0)
    assert len(beats) == 5
    assert set(beats) == {(1,)}


def test_statistics_have_an_address_each_and_only_numbers_of_32_bits() -> None:
    packets = stats_messages(Stats(2.5, 1.25, 3, 4, 700, 32_000 * 3600 * 40, True), 32_000)
    messages = {message.address: message.arguments[0] for packet in packets for message in decode(packet)}
    assert messages == {
        "/streamgen/stats/realtime_factor": 2.5,
        "/streamgen/stats/lead_seconds": 1.25,
        "/streamgen/stats/underruns": 3,
        "/streamgen/stats/listeners": 4,
        "/streamgen/stats/window_position": 700,
        "/streamgen/stats/position_seconds": 144_000.0,
        "/streamgen/stats/playing": 1,
    }
