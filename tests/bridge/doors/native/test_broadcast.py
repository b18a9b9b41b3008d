"""Blocks to chunks, once for all who listen; and one text for all, never another event's."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
import soxr

from bridge.audio.conversion import from_s16, to_s16
from bridge.doors.native import answers, broadcast, codecs
from bridge.doors.native.broadcast import Broadcast, Chunk, Lane
from bridge.doors.native.codecs import OpusEncoder, decoder
from bridge.doors.native.frames import DISCONTINUITY, HEADER_BYTES, PROMPT_CHANGE, AudioFormat, AudioHeader
from bridge.session.events import Block, Changed, Gap

from ..web_session import RATE_HZ, sine

FRAMES, LAG = 960, 312


def blocks(seconds: float, start: int = 0, seed: int = 0) -> list[Block]:
    """A sine in pieces of any length."""
    draw, at, end, out = np.random.default_rng(seed), start, start + round(seconds * RATE_HZ), []
    while at < end:
        stop = min(end, at + int(draw.integers(1, 4_500)))
        out.append(Block(sine(at, stop), at, time_us=at * 1_000_000 // RATE_HZ))
        at = stop
    return out


def frames_of(chunks: Iterable[Chunk]) -> list[bytes]:
    return [chunk.frame(number, chunk.flags) for number, chunk in enumerate(chunks)]


def heard(chunks: list[Chunk]) -> tuple[np.ndarray, list[AudioHeader]]:
    frames = frames_of(chunks)
    headers = [AudioHeader.unpack(frame) for frame in frames]
    decode = decoder(headers[0]).decode
    parts = [decode(frame[HEADER_BYTES:], header) for frame, header in zip(frames, headers, strict=True)]
    return np.concatenate(parts, axis=1), headers


def packed(lane: Lane, pieces: list[Block]) -> list[Chunk]:
    return [chunk for block in pieces for chunk in lane.take(block)] + lane.flush("the end")


# -- samples and their places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["s16le", "f32le"])
@pytest.mark.parametrize("chunk_ms", [20, 33, 200])
def test_any_blocks_become_chunks_without_a_sample_lost(codec: str, chunk_ms: int) -> None:
    chunks = packed(Lane(RATE_HZ, AudioFormat(codec, RATE_HZ, chunk_ms)), blocks(1.0, start=777))
    samples, headers = heard(chunks)
    expected = sine(777, 777 + RATE_HZ)
    np.testing.assert_array_equal(samples, expected if codec == "f32le" else from_s16(to_s16(expected)))
    assert {header.frame_count for header in headers[:-1]} == {chunk_ms * 48}
    for number, (one, two) in enumerate(pairwise(headers)):
        assert (one.sequence, two.sample_position) == (number, one.sample_position + one.frame_count)
        assert abs(one.server_time_us - one.sample_position * 1e6 / RATE_HZ) <= 2
    assert all(
        (chunk.start_sample, chunk.end_sample) == (chunk.position, chunk.position + chunk.frames) for chunk in chunks
    )


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 32_000, 96_000])
def test_resampled_audio_is_the_whole_resampled_and_in_its_place(rate_hz: int) -> None:
    start = 12_345
    chunks = packed(Lane(RATE_HZ, AudioFormat("f32le", rate_hz)), blocks(2.0, start))
    samples, headers = heard(chunks)
    whole = soxr.resample(sine(start, start + 2 * RATE_HZ).T, RATE_HZ, rate_hz, quality="HQ").T
    shared = min(whole.shape[1], samples.shape[1])
    assert abs(samples.shape[1] - 2 * rate_hz) <= 1
    np.testing.assert_allclose(samples[:, :shared], whole[:, :shared], atol=1e-5)
    assert headers[0].sample_position == round(start * rate_hz / RATE_HZ)
    if rate_hz > 8_000:  # both tones lie well below half of it
        at = headers[0].sample_position
        inner = slice(rate_hz // 10, -rate_hz // 10)
        expected = sine(at, at + samples.shape[1], rate_hz)
        half_a_sample = 0.5 * np.pi * 660 / rate_hz
        np.testing.assert_allclose(samples[:, inner], expected[:, inner], atol=half_a_sample + 0.002)
    last = headers[-1]
    assert last.sample_position + last.frame_count - headers[0].sample_position == samples.shape[1]
    assert abs(last.server_time_us - last.sample_position * 1e6 / rate_hz) < 1e6 / rate_hz + 1
    assert all(one.end_sample == two.start_sample for one, two in pairwise(chunks)), "they join in the session, too"
    assert abs(chunks[-1].end_sample - (start + 2 * RATE_HZ)) <= RATE_HZ / rate_hz + 1


def test_at_the_sessions_rate_nothing_is_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_soxr(*_: object) -> None:
        raise AssertionError("a resampler was made")

    monkeypatch.setattr("bridge.audio.conversion._Soxr", no_soxr)
    assert heard(packed(Lane(RATE_HZ, AudioFormat("s16le", RATE_HZ)), blocks(0.5)))[0].shape == (2, RATE_HZ // 2)


def test_a_break_is_flagged_once_and_nothing_before_it_is_lost() -> None:
    lane = Lane(RATE_HZ, AudioFormat("f32le", RATE_HZ, 20))
    first, second = Block(sine(0, 1_050), 0), Block(sine(7_000, 9_100), 7_000, prompt_change=True)
    samples, headers = heard(packed(lane, [first, second]))
    np.testing.assert_array_equal(samples, np.concatenate([sine(0, 1_050), sine(7_000, 9_100)], axis=1))
    assert [(h.sample_position, h.frame_count, h.flags) for h in headers] == [
        (0, 960, 0), (960, 90, 0), (7_000, 960, DISCONTINUITY | PROMPT_CHANGE), (7_960, 960, 0), (8_920, 180, 0)
    ]  # fmt: skip


def test_a_reset_in_place_is_a_break_too_and_a_flush_is_none() -> None:
    lane = Lane(RATE_HZ, AudioFormat("s16le", RATE_HZ, 20))
    chunks = packed(lane, [Block(sine(0, 960), 0), Block(sine(960, 1_920), 960, discontinuity=True)])
    assert [chunk.flags for chunk in chunks] == [0, DISCONTINUITY]
    assert [chunk.flags for chunk in lane.take(Block(sine(1_920, 2_880), 1_920))] == [0]


def test_a_flush_keeps_positions_and_loses_nothing_at_another_rate() -> None:
    lane = Lane(RATE_HZ, AudioFormat("f32le", 32_000, 20))
    chunks = [
        chunk for number in range(5) for chunk in lane.take(Block(sine(999 * number, 999 * (number + 1)), 999 * number))
    ]
    chunks += lane.flush("a pause")
    assert sum(chunk.frames for chunk in chunks) == 3_330
    after = lane.take(Block(sine(4_995, 9_000), 4_995))
    assert (after[0].position, after[0].flags) == (3_330, 0)


# -- who shares what ------------------------------------------------------------------------------------------------


def test_who_listens_in_one_format_gets_the_same_bytes_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(codecs, "to_s16", lambda samples: made.append(samples.shape[1]) or to_s16(samples))
    shared, pieces = Broadcast(RATE_HZ), blocks(1.0)
    lanes = [shared.lane(AudioFormat("s16le", RATE_HZ), []) for _ in range(50)]
    assert len(set(map(id, lanes))) == 1
    told: list[list[Chunk]] = [[] for _ in lanes]
    for block in pieces:
        for chunks, lane in zip(told, lanes, strict=True):
            chunks += lane.take(block)
    for chunks, lane in zip(told, lanes, strict=True):
        chunks += lane.flush(pieces)
    assert len(made) == len(told[0]) == 25
    assert all(chunks == told[0] and chunks[0].payload is told[0][0].payload for chunks in told)


def test_a_lane_goes_with_the_last_who_listened_in_it() -> None:
    shared = Broadcast(RATE_HZ)
    first = blocks(0.1)
    lane = shared.lane(AudioFormat("s16le", RATE_HZ), first)
    assert shared.lane(AudioFormat("s16le", RATE_HZ), blocks(9.0)) is lane, "what it has it does not take again"
    assert shared.lane(AudioFormat("f32le", RATE_HZ), first) is not lane
    assert shared.lane(AudioFormat("s16le", RATE_HZ, 20), first) is not lane
    del lane
    gc.collect()
    assert shared.lane(AudioFormat("s16le", RATE_HZ), []).newest == []


def test_who_joins_begins_at_its_sample_and_who_leaves_takes_what_is_pending() -> None:
    lane = Lane(RATE_HZ, AudioFormat("f32le", RATE_HZ, 40))
    whole = [chunk for block in blocks(0.3) for chunk in lane.take(block)]
    joined = [left for chunk in lane.newest if (left := chunk.since(5_000)) is not None]
    assert (joined[0].position, joined[0].start_sample, joined[0].frames) == (5_000, 5_000, 760)
    assert joined[0].time_us == whole[2].time_us + 1_160 * 1_000_000 // RATE_HZ
    rest = lane.rest()
    assert rest == lane.rest()
    assert lane.end_sample == whole[-1].end_sample == rest[0].start_sample
    np.testing.assert_array_equal(heard([*joined, *rest])[0], sine(5_000, round(0.3 * RATE_HZ)))
    assert lane.flush("the end") == rest, "it stayed pending for the others"


def test_a_chunk_is_cut_at_a_sample_of_the_session_whatever_its_rate() -> None:
    lane = Lane(RATE_HZ, AudioFormat("s16le", 32_000, 30))
    (chunk,) = [chunk for chunk in packed(lane, [Block(sine(0, 1_440), 0)]) if chunk.frames == 960]
    left = chunk.since(720)
    assert left is not None
    assert (left.position, left.frames, left.start_sample, left.end_sample) == (480, 480, 720, 1_440)
    assert left.payload == chunk.payload[1_920:]
    assert chunk.since(0) is chunk
    assert chunk.since(1_440) is None


def test_memory_is_bounded() -> None:
    lane = Lane(RATE_HZ, AudioFormat("s16le", RATE_HZ, 20))
    for number in range(500):
        lane.take(Block(sine(0, 960), 960 * number))
    kept = broadcast._KEPT_SECONDS
    assert len(lane.blocks) <= kept / 0.02 + 2
    assert sum(chunk.frames for chunk in lane.newest) <= kept * RATE_HZ + 2 * 960


# -- Opus -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was encoded: the lengths, in order."""
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    lengths: list[int] = []
    encode = OpusEncoder.encode

    def counting(self: OpusEncoder, samples: np.ndarray) -> bytes:
        lengths.append(samples.shape[1])
        return encode(self, samples)

    monkeypatch.setattr(OpusEncoder, "encode", counting)
    return lengths


def block(number: int, length: int = 4_800) -> Block:
    start = number * length
    return Block(sine(start, start + length), start, time_us=start)


def opus(rate_hz: int = 48_000) -> AudioFormat:
    return AudioFormat("opus", rate_hz)


def error(chunks: list[Chunk], skip: int) -> float:
    """Root mean square of what differs from the sine, `skip` frames after the beginning."""
    samples, headers = heard(chunks)
    position, rate_hz = headers[0].sample_position, headers[0].sample_rate_hz
    expected = sine(position, position + samples.shape[1] - LAG, rate_hz)
    return float(np.sqrt(np.mean((samples[:, LAG:] - expected)[:, skip:-FRAMES] ** 2)))


def test_opus_is_twenty_milliseconds_a_packet_and_sounds_the_same(encoded: list[int]) -> None:
    chunks = packed(Lane(RATE_HZ, opus()), blocks(2.0))
    samples, headers = heard(chunks)
    assert {header.frame_count for header in headers[:-1]} == {960}
    assert [header.sample_position for header in headers] == [960 * number for number in range(len(headers))]
    assert len(b"".join(frames_of(chunks))) < 52_000  # 128 kbit/s and headers; PCM is 384,000 bytes
    part, inner = sine(0, 2 * 48_000), slice(4_800, 90_000)
    shifted = samples[:, LAG : LAG + part.shape[1]]
    difference = shifted[:, inner] - part[:, inner]
    assert 10 * np.log10(np.mean(part[:, inner] ** 2) / np.mean(difference**2)) > 25


def test_fifty_listeners_cost_one_encoder(encoded: list[int]) -> None:
    shared = Broadcast(RATE_HZ)
    lanes = [shared.lane(opus(), []) for _ in range(50)]
    told: list[list[Chunk]] = [[] for _ in lanes]
    for number in range(10):
        piece = block(number)
        for chunks, lane in zip(told, lanes, strict=True):
            chunks += lane.take(piece)
    assert len(encoded) == len(told[0]) == 50
    assert all(chunks == told[0] for chunks in told)
    pause, piece = object(), block(48, 1_000)
    for lane in lanes:
        lane.take(piece)
    ends = [lane.flush(pause) for lane in lanes]
    assert encoded[50:] == [960, 40]
    assert all(end == ends[0] for end in ends)
    assert error(told[7], FRAMES) < 0.02


def test_who_joins_later_shares_at_once_and_hears_the_sound_after_50_ms(encoded: list[int]) -> None:
    lane = Lane(RATE_HZ, opus())
    first = [chunk for number in range(10) for chunk in lane.take(block(number))]
    second = [left for chunk in first if (left := chunk.since(4 * 4_800 + 1)) is not None]
    assert len(encoded) == len(first)
    assert second == first[-len(second) :]
    assert second[0].position % FRAMES == 0, "a packet cannot be cut: the next one is the first"
    assert error(second, 3 * FRAMES) < 0.02


def test_another_rate_has_an_encoder_of_its_own(encoded: list[int]) -> None:
    shared = Broadcast(RATE_HZ)
    even, slow = shared.lane(opus(), []), shared.lane(opus(24_000), [])
    one = [chunk for number in range(10) for chunk in even.take(block(number))]
    two = [chunk for number in range(10) for chunk in slow.take(block(number))]
    assert len(encoded) == len(one) + len(two)
    assert set(encoded) == {960, 480}
    assert error(one, FRAMES) < 0.02


def test_what_is_pending_for_one_who_leaves_is_not_heard_by_the_others(encoded: list[int]) -> None:
    left, alone = Lane(RATE_HZ, opus()), Lane(RATE_HZ, opus())
    told, reference = [], []
    for number in range(20):
        piece = block(number, 1_000)
        told += left.take(piece)
        if number % 5 == 2:
            assert 0 < left.rest()[0].frames < 960
        reference += alone.take(piece)
    assert 960 > min(encoded) > 0, "the rests were encoded, apart"
    assert [chunk.payload for chunk in told] == [chunk.payload for chunk in reference]


# -- texts ----------------------------------------------------------------------------------------------------------


def test_an_event_is_written_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(answers, "event", lambda event, _rate: written.append(event) or json.dumps(event.from_sample))
    shared, one, other = Broadcast(RATE_HZ), Gap(1, 2, "underrun"), Gap(3, 2, "underrun")
    assert [shared.text(event) for event in (one, one, other, other, one)] == ["1", "1", "3", "3", "1"]
    assert written == [one, other, one]


def test_an_equal_event_that_is_another_is_written_anew() -> None:
    shared = Broadcast(RATE_HZ)
    values = {"top_k": 1}
    first = shared.text(Changed(values, "a", 5))
    values["top_k"] = 2
    assert json.loads(first)["values"] == {"top_k": 1}
    assert json.loads(shared.text(Changed(values, "a", 5)))["values"] == {"top_k": 2}
