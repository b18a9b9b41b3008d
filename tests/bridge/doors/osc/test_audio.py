"""Packets on their grid: values, positions, times, gaps; who is sent them and for how long."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from bridge.doors.osc.admission import OscCounters
from bridge.doors.osc.audio import AudioPackets, AudioSender, packet_frames
from bridge.doors.osc.codec import OscError, decode
from bridge.session.events import Block

RATE_HZ = 32_000


def block(start: int, frames: int, began: float = 1e6, rate_hz: int = RATE_HZ) -> Block:
    at = np.arange(start, start + frames)
    samples = np.stack([at % 3000 / 3000, -(at % 1000) / 1000]).astype(np.float32)
    return Block(samples, start, time_us=round((began + start / rate_hz) * 1e6))


def expected(sequence: int, frames: int = 320) -> bytes:
    samples = block(frames * sequence, frames).samples
    return np.rint(samples * 32_767).astype("<i2").T.tobytes()


def read(packet: bytes, rate_hz: int = RATE_HZ) -> tuple[int, bytes]:
    (message,) = decode(packet)
    stream, sequence, rate, pcm = message.arguments
    assert (message.address, stream, rate) == ("/streamgen/audio", 1, rate_hz)
    assert len(packet) <= 1324
    return sequence, pcm  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("rate_hz", "milliseconds", "frames"),
    [(32_000, 10, 320), (48_000, 6, 288), (96_000, 3, 288), (64_000, 5, 320), (88_200, 3, 264), (44_100, 7, 308)],
)
def test_a_packet_is_the_longest_of_whole_milliseconds_that_fits(rate_hz: int, milliseconds: int, frames: int) -> None:
    assert packet_frames(rate_hz) == frames == rate_hz * milliseconds // 1000
    assert rate_hz * (milliseconds + 1) // 1000 > 320


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000, 96_000])
def test_position_is_the_frames_of_a_packet_times_its_sequence_at_every_rate(rate_hz: int) -> None:
    packets, frames = AudioPackets(rate_hz), packet_frames(rate_hz)
    for start in range(1_000, 41_000, 1_000):
        packets.add(block(start, 1_000, rate_hz=rate_hz))
    out = [read(packet, rate_hz) for packet in packets.take(1e6 + 0.05)[0]]
    assert len(out) > 5
    for number, (sequence, pcm) in enumerate(out):
        assert sequence == -(-1_000 // frames) + number
        assert len(pcm) == 4 * frames
        assert pcm == expected(sequence, frames)


@pytest.mark.parametrize("frames", [1, 7, 319, 320, 321, 3200, 5000])
@pytest.mark.parametrize("first", [0, 320, 1234])
def test_every_packet_holds_the_frames_its_sequence_says(frames: int, first: int) -> None:
    packets = AudioPackets(RATE_HZ)
    for start in range(first, first + max(10 * frames, 2000), frames):
        packets.add(block(start, frames))
    out = [read(packet) for packet in packets.take(1e6)[0]]
    while packets.next_due() is not None:
        due = packets.next_due()
        assert due is not None
        (packet,) = packets.take(due + 1e-6)[0]
        sequence, _ = read(packet)
        assert due == pytest.approx(1e6 + 320 * sequence / RATE_HZ - 0.05, abs=1e-5)
        out.append(read(packet))
    assert [sequence for sequence, _ in out] == list(range(-(-first // 320), -(-first // 320) + len(out)))
    assert all(pcm == expected(sequence) for sequence, pcm in out)
    assert len(out) >= 5


def test_after_a_gap_packets_begin_anew_on_the_grid() -> None:
    packets = AudioPackets(RATE_HZ)
    for start in (0, 500, 10_000, 10_500):
        packets.add(block(start, 500))
    out = [read(packet) for packet in packets.take(1e6 + 0.4)[0]]
    assert [sequence for sequence, _ in out] == [0, 1, 2, 32, 33]
    assert all(pcm == expected(sequence) for sequence, pcm in out)


def test_late_packets_are_dropped_and_counted() -> None:
    packets = AudioPackets(RATE_HZ)
    packets.add(block(0, 3200))
    out, late = packets.take(1e6 + 0.55)
    assert [read(packet)[0] for packet in out] == [5, 6, 7, 8, 9]
    assert late == 5


def test_no_more_than_the_longest_lead_is_kept() -> None:
    packets = AudioPackets(RATE_HZ)
    for start in range(0, 40 * RATE_HZ, RATE_HZ):
        packets.add(block(start, RATE_HZ))
    out, late = packets.take(1e9)
    assert (len(out), late) == (0, 12 * 100 + 1)


def test_the_sender_listens_only_while_there_are_receivers(sine_session) -> None:
    async def main() -> None:
        session, counters = sine_session(), OscCounters()
        playing = asyncio.create_task(session.run())
        sender = AudioSender(session, counters, 1)
        assert session.listeners == []
        got: list[tuple[float, bytes]] = []
        sender.subscribe("a", lambda packet: got.append((time.time(), packet)) or True, "owner", 1e12)
        assert session.listeners == [sender]
        with pytest.raises(OscError, match="the limit") as caught:
            sender.subscribe("b", lambda packet: True, "owner", 1e12)
        assert caught.value.reason == "capacity"
        await asyncio.sleep(0.6)
        sender.expire(1e13)
        assert (session.listeners, len(sender)) == ([], 0)
        count = len(got)
        await asyncio.sleep(0.1)
        assert len(got) == count > 65
        sequences = [read(packet, 48_000)[0] for _, packet in got]
        assert sequences == list(range(sequences[0], sequences[0] + count))
        due = session.timeline.unix_seconds
        early = [due(288 * sequence) - at for sequence, (at, _) in zip(sequences, got, strict=True)]
        assert np.median(early[20:]) == pytest.approx(0.05, abs=0.03)
        assert counters.audio_packets == count
        playing.cancel()

    asyncio.run(main())
