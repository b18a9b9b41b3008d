"""Packets that listeners share, decoded and compared with the sound."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.doors.native import opus
from bridge.doors.native.encoders import Packer
from bridge.doors.native.frames import HEADER_BYTES, AudioFormat, AudioHeader
from bridge.doors.native.opus import OpusDecoder, OpusEncoder, OpusPackets
from bridge.session.messages import Block

from ..web_session import RATE_HZ, sine

pytest.importorskip("av", reason="PyAV is not installed: pip install av")

FRAMES, LAG = 960, 312


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was encoded: the lengths, in order."""
    lengths: list[int] = []
    encode = OpusEncoder.encode

    def counting(self: OpusEncoder, samples: np.ndarray) -> bytes:
        lengths.append(samples.shape[1])
        return encode(self, samples)

    monkeypatch.setattr(OpusEncoder, "encode", counting)
    return lengths


def block(number: int, length: int = 3_200) -> Block:
    start = number * length
    return Block(sine(start, start + length), start, time_us=start)


def decoded(frames: list[bytes]) -> tuple[int, np.ndarray]:
    headers = [AudioHeader.unpack(frame) for frame in frames]
    decoder = OpusDecoder(48_000)
    parts = [decoder.decode(f[HEADER_BYTES:], h.frame_count) for f, h in zip(frames, headers, strict=True)]
    return headers[0].sample_position, np.concatenate(parts, axis=1)


def error(frames: list[bytes], skip: int) -> float:
    """Root mean square of what differs from the sine, `skip` frames after the beginning."""
    position, samples = decoded(frames)
    expected = sine(position, position + samples.shape[1] - LAG, 48_000)
    return float(np.sqrt(np.mean((samples[:, LAG:] - expected)[:, skip:-FRAMES] ** 2)))


def payloads(frames: list[bytes]) -> dict[int, bytes]:
    return {AudioHeader.unpack(frame).sample_position: frame[HEADER_BYTES:] for frame in frames}


def packer(packets: OpusPackets, rate_hz: int = 48_000) -> Packer:
    return Packer(RATE_HZ, AudioFormat("opus", rate_hz), packets=packets)


def test_fifty_listeners_cost_one_encoder_and_each_counts_its_own_frames(encoded: list[int]) -> None:
    packets = OpusPackets()
    packers = [packer(packets) for _ in range(50)]
    frames = [[frame for number in range(10) for frame in one.pack(block(number))] for one in packers]
    assert len(encoded) == len(frames[0]) == 49
    assert all(payloads(one) == payloads(frames[0]) for one in frames)
    assert [AudioHeader.unpack(frame).sequence for frame in frames[7]] == list(range(49))
    assert error(frames[7], FRAMES) < 0.02


def test_who_joins_later_shares_at_once_and_hears_the_sound_after_50_ms(encoded: list[int]) -> None:
    packets = OpusPackets()
    early, late = packer(packets), packer(packets)
    first = [frame for number in range(10) for frame in early.pack(block(number))]
    count = len(encoded)
    second = [frame for number in range(4, 10) for frame in late.pack(block(number))]
    assert len(encoded) == count
    assert payloads(second).items() <= payloads(first).items()
    assert error(second, 3 * FRAMES) < 0.02


def test_other_grids_and_rates_have_encoders_of_their_own(encoded: list[int]) -> None:
    packets = OpusPackets()
    even, odd, slow = packer(packets), packer(packets), packer(packets, 24_000)
    one = [frame for number in range(5) for frame in even.pack(block(number))]
    count = len(encoded)
    two = [f for n in range(5) for f in odd.pack(Block(sine(320 + 3_200 * n, 3_520 + 3_200 * n), 320 + 3_200 * n))]
    assert len(encoded) == 2 * count
    assert not payloads(one).keys() & payloads(two).keys()
    assert max(error(one, FRAMES), error(two, FRAMES)) < 0.02
    assert len(slow.pack(block(0))) == len(encoded) - 2 * count > 0


def test_fifty_listeners_at_a_pause_cost_one_encoder_too(encoded: list[int]) -> None:
    packets = OpusPackets()
    packers = [packer(packets) for _ in range(50)]
    ends = []
    for one in packers:
        one.pack(block(0, 1_000))
        ends.append(payloads(one.flush()))
    assert encoded == [960, 540]
    assert all(end == ends[0] for end in ends)


def test_one_listeners_change_of_format_or_gap_is_not_heard_by_the_others(encoded: list[int]) -> None:
    packets = OpusPackets()
    one, other, alone = packer(packets), packer(packets), packer(OpusPackets())
    heard, reference = [], []
    for number in range(20):
        piece = block(number, 1_000)
        one.pack(piece)
        if number % 5 == 2:
            one.flush()  # it leads: nobody else has asked for what comes next
        heard += other.pack(piece)
        reference += alone.pack(piece)
    assert 960 > min(encoded) > 0, "the rests were encoded, apart"
    assert payloads(heard) == payloads(reference)


def test_what_everybody_skipped_is_encoded_apart_for_the_one_who_did_not(encoded: list[int]) -> None:
    packets = OpusPackets()
    at = {number: sine(FRAMES * number, FRAMES * (number + 1), 48_000) for number in range(4)}
    ahead = [packets.packet(48_000, FRAMES * number, at[number]) for number in (0, 1, 3)]
    count = len(encoded)
    behind = packets.packet(48_000, FRAMES * 2, at[2])
    assert len(encoded) == count + 1
    assert behind not in ahead
    assert packets.packet(48_000, FRAMES * 3, at[3]) == ahead[2]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opus, "_KEPT_PACKETS", 5)
    packets = OpusPackets()
    silence = np.zeros((2, FRAMES), np.float32)
    for number in range(20):
        packets.packet(48_000, FRAMES * number, silence)
    for phase in range(1, 20):
        packets.packet(48_000, phase, silence)
    assert len(packets._lanes) == opus._LANES
    assert max(len(lane._packets) for lane in packets._lanes.values()) <= 5


def test_a_rest_is_filled_with_silence() -> None:
    decoder = OpusDecoder(48_000)
    tone = sine(0, FRAMES, 48_000)
    packets = OpusPackets()
    parts = [packets.packet(48_000, 0, tone), packets.last(48_000, FRAMES, tone[:, :100])]
    lengths = [decoder.decode(part, count).shape[1] for part, count in zip(parts, (FRAMES, 100), strict=True)]
    assert lengths == [FRAMES, 100]


def test_the_look_ahead_grows_with_the_rate() -> None:
    assert [opus.pre_skip(rate) for rate in (48_000, 24_000, 8_000)] == [312, 156, 52]
