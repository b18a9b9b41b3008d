"""The channel against a receiver of this test's own, made from the bytes that Ableton's library sends and takes."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
import pytest

from bridge.doors.link.channel import Channel

RATE_HZ, BLOCK = 48_000, 960
NODE, SESSION = b"J`>[A~/#", b"@~tPG$E4"
HERE = ("10.0.0.2", 36_726)


class Receiver:
    """Finds the channel in an announcement, asks for it, and puts together what comes."""

    def __init__(self) -> None:
        self.channel, self.counts, self.beats = b"", list[int](), list[float]()
        self.pcm: list[np.ndarray] = []

    def request(self, announcement: bytes) -> bytes:
        name = announcement.index(b"streamgen", announcement.index(b"auca"))
        self.channel = announcement[name + 9 : name + 17]
        return b"chnnlsv\x01\x04\x05\x00\x00" + SESSION + b"chid" + struct.pack(">I", 8) + self.channel

    def hear(self, data: bytes) -> None:
        assert len(data) <= 1_200
        assert data[:20] == b"chnnlsv\x01\x06\x00\x00\x00" + NODE
        assert (data[20:28], data[28:36]) == (self.channel, SESSION)
        chunks, count, frames, beats, beat_us = struct.unpack_from(">IQHqq", data, 36)
        codec, rate_hz, channels, size = struct.unpack_from(">BIBH", data, 66)
        assert (chunks, codec, rate_hz, channels, size) == (1, 1, RATE_HZ, 2, 4 * frames)
        assert beat_us == 512_821  # 117 bpm
        self.counts.append(count)
        self.beats.append(beats / 1e6)
        self.pcm.append(np.frombuffer(data[74:], ">i2").reshape(-1, 2).T)


def made() -> Channel:
    """Return a channel at 117 bpm whose sample 0 is due at 5 s, on beat 3."""
    return Channel(
        NODE,
        RATE_HZ,
        beat_at=lambda sample: (3 + sample / RATE_HZ * 117 / 60, 117.0),
        due_us=lambda sample: 5e6 + sample / RATE_HZ * 1e6,
    )


def asked(channel: Channel, now_us: float) -> Receiver:
    receiver = Receiver()
    assert channel.received(receiver.request(channel.announcement(SESSION, now_us)), HERE, now_us) is None
    return receiver


def test_twenty_seconds_arrive_without_a_gap_equal_to_the_stream_each_piece_on_its_beat() -> None:
    channel, rng, receiver, sent = made(), np.random.default_rng(3), None, []
    for step in range(20 * RATE_HZ // BLOCK):
        now_us = 4.8e6 + step * BLOCK / RATE_HZ * 1e6
        if step % 200 == 0:  # every four seconds: a request counts for five
            receiver = receiver or asked(channel, now_us)
            channel.received(receiver.request(channel.announcement(SESSION, now_us)), HERE, now_us)
        assert receiver is not None
        assert channel.listeners(now_us) == [HERE]
        block = rng.uniform(-1.1, 1.1, (2, BLOCK)).astype(np.float32)
        sent.append(block)
        channel.take(block, step * BLOCK)
        for message in channel.due(SESSION, now_us):
            receiver.hear(message)
    assert receiver is not None
    for message in channel.due(SESSION, 1e12):
        receiver.hear(message)
    heard = np.concatenate(receiver.pcm, axis=1)
    assert heard.shape[1] == 20 * RATE_HZ // 125 * 125
    assert receiver.counts == list(range(1, len(receiver.counts) + 1))
    whole = np.clip(np.rint(np.concatenate(sent, axis=1) * 32_768), -32_768, 32_767)
    np.testing.assert_array_equal(heard, whole)
    steps = [after - before for before, after in pairwise(receiver.beats)]
    assert receiver.beats[0] == 3
    assert max(abs(step - 125 / RATE_HZ * 117 / 60) for step in steps) < 2e-6


def test_nothing_is_sent_before_it_is_due_nor_to_who_does_not_ask_any_more() -> None:
    channel = made()
    receiver = asked(channel, 0)
    channel.take(np.zeros((2, BLOCK), np.float32), 0)
    assert channel.due(SESSION, 5e6 - 1) == []
    assert len(channel.due(SESSION, 5e6)) == 1
    assert channel.listeners(4.9e6) == [HERE]
    assert channel.listeners(5.1e6) == [], "a request counts for five seconds"
    asked(channel, 6e6)
    stop = receiver.request(channel.announcement(SESSION, 0)).replace(b"\x01\x04\x05", b"\x01\x05\x05", 1)
    channel.received(stop, HERE, 6e6)
    assert channel.listeners(6e6) == []
    mine = receiver.request(channel.announcement(SESSION, 0))
    stranger = mine[:-1] + bytes([mine[-1] ^ 1])
    channel.received(stranger, HERE, 6e6)
    assert channel.listeners(6e6) == [], "that is somebody else's channel"


def test_where_the_music_leaps_a_shorter_piece_ends_it() -> None:
    channel = made()
    receiver = asked(channel, 0)
    channel.take(np.full((2, 300), 0.25, np.float32), 0)
    channel.take(np.full((2, 125), 0.5, np.float32), 1_000)
    for message in channel.due(SESSION, 1e12):
        receiver.hear(message)
    assert [piece.shape[1] for piece in receiver.pcm] == [125, 125, 50, 125]
    assert receiver.beats[-1] == pytest.approx(3 + 1_000 / RATE_HZ * 117 / 60, abs=1e-6)


def test_an_announcement_is_answered_and_junk_is_not() -> None:
    channel = made()
    told = channel.announcement(SESSION, 77)
    answer = channel.received(told, HERE, 0)
    assert answer == b"chnnlsv\x01\x03\x05\x00\x00" + NODE + b"__ht" + struct.pack(">Iq", 8, 77)
    assert channel.received(answer, HERE, 0) is None
    assert channel.received(b"anything", HERE, 0) is None
    assert channel.farewell()[8] == 2
