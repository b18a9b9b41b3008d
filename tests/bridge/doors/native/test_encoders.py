"""Blocks to frames and back, in values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soxr

from bridge.doors.native import opus
from bridge.doors.native.encoders import Packer, available, decoder, fitting, from_s16, to_s16
from bridge.doors.native.frames import DISCONTINUITY, HEADER_BYTES, PROMPT_CHANGE, AudioFormat, AudioHeader
from bridge.errors import WireError
from bridge.session.messages import Block

from ..web_session import RATE_HZ, sine


def blocks(seconds: float, start: int = 0, seed: int = 0) -> list[Block]:
    """A sine in pieces of any length."""
    draw, at, end, out = np.random.default_rng(seed), start, start + round(seconds * RATE_HZ), []
    while at < end:
        stop = min(end, at + int(draw.integers(1, 3_000)))
        out.append(Block(sine(at, stop), at, time_us=at * 1_000_000 // RATE_HZ))
        at = stop
    return out


def heard(frames: list[bytes]) -> tuple[np.ndarray, list[AudioHeader]]:
    headers = [AudioHeader.unpack(frame) for frame in frames]
    decode = decoder(headers[0]).decode
    parts = [decode(frame[HEADER_BYTES:], header) for frame, header in zip(frames, headers, strict=True)]
    return np.concatenate(parts, axis=1), headers


def packed(packer: Packer, pieces: list[Block]) -> list[bytes]:
    return [frame for block in pieces for frame in packer.pack(block)] + packer.flush()


def test_sixteen_bits_are_rounded_and_clipped() -> None:
    step = 1 / 32_768
    values = np.array([[0, 0.49 * step, 0.51 * step, -0.51 * step, 1.0, -1.0, 2.0, -2.0, np.nan, np.inf]], np.float32)
    assert to_s16(values).tolist() == [[0, 0, 1, -1, 32_767, -32_768, 32_767, -32_768, 0, 32_767]]
    every = np.arange(-32_768, 32_768, dtype=np.int16)[None]
    np.testing.assert_array_equal(to_s16(from_s16(every)), every)


@pytest.mark.parametrize("codec", ["s16le", "f32le"])
@pytest.mark.parametrize("chunk_ms", [20, 33, 200])
def test_any_blocks_become_chunks_without_a_sample_lost(codec: str, chunk_ms: int) -> None:
    samples, headers = heard(packed(Packer(RATE_HZ, AudioFormat(codec, RATE_HZ, chunk_ms)), blocks(1.0, start=777)))
    expected = sine(777, 777 + RATE_HZ)
    np.testing.assert_array_equal(samples, expected if codec == "f32le" else from_s16(to_s16(expected)))
    assert {header.frame_count for header in headers[:-1]} == {chunk_ms * 32}
    for number, (one, two) in enumerate(pairwise(headers)):
        assert (one.sequence, two.sample_position) == (number, one.sample_position + one.frame_count)
        assert abs(one.server_time_us - one.sample_position * 1e6 / RATE_HZ) <= 2


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_resampled_audio_is_the_whole_resampled_and_in_its_place(rate_hz: int) -> None:
    start = 12_345
    samples, headers = heard(packed(Packer(RATE_HZ, AudioFormat("f32le", rate_hz)), blocks(2.0, start)))
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


def test_a_break_is_flagged_once_and_nothing_before_it_is_lost() -> None:
    packer = Packer(RATE_HZ, AudioFormat("f32le", RATE_HZ, 20))
    first, second = Block(sine(0, 700), 0), Block(sine(5_000, 6_400), 5_000, prompt_change=True)
    samples, headers = heard(packed(packer, [first, second]))
    np.testing.assert_array_equal(samples, np.concatenate([sine(0, 700), sine(5_000, 6_400)], axis=1))
    assert [(h.sample_position, h.frame_count, h.flags) for h in headers] == [
        (0, 640, 0), (640, 60, 0), (5_000, 640, DISCONTINUITY | PROMPT_CHANGE), (5_640, 640, 0), (6_280, 120, 0)
    ]  # fmt: skip


def test_a_reset_in_place_is_a_break_too_and_a_flush_is_none() -> None:
    packer = Packer(RATE_HZ, AudioFormat("s16le", RATE_HZ, 20))
    frames = packed(packer, [Block(sine(0, 640), 0), Block(sine(640, 1_280), 640, discontinuity=True)])
    assert [AudioHeader.unpack(frame).flags for frame in frames] == [0, DISCONTINUITY]
    assert [AudioHeader.unpack(frame).flags for frame in packer.pack(Block(sine(1_280, 1_920), 1_280))] == [0]


def test_opus_is_twenty_milliseconds_a_packet_and_sounds_the_same() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    packer = Packer(RATE_HZ, AudioFormat("opus", 48_000))
    frames = packed(packer, blocks(2.0))
    samples, headers = heard(frames)
    assert {header.frame_count for header in headers[:-1]} == {960}
    assert [header.sample_position for header in headers] == [960 * number for number in range(len(headers))]
    assert len(b"".join(frames)) < 52_000  # 128 kbit/s and headers; PCM is 384,000 bytes
    lag = packer.pre_skip
    assert lag == 312
    part, inner = sine(0, 2 * 48_000, 48_000), slice(4_800, 90_000)
    shifted = samples[:, lag : lag + part.shape[1]]
    error = shifted[:, inner] - part[:, inner]
    assert 10 * np.log10(np.mean(part[:, inner] ** 2) / np.mean(error**2)) > 25


def test_opus_has_five_rates() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    assert fitting(AudioFormat("opus", 32_000, 60, True, False), False) == AudioFormat("opus", 48_000, 60, True, False)
    assert fitting(AudioFormat("opus", 24_000), True).sample_rate_hz == 24_000
    with pytest.raises(WireError, match="Opus has 8000, 12000"):
        fitting(AudioFormat("opus", 44_100), True)


def test_without_pyav_opus_is_not_offered_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opus.importlib.util, "find_spec", lambda _name: None)
    assert available() == ["s16le", "f32le"]
    with pytest.raises(WireError, match="pip install av") as refused:
        fitting(AudioFormat("opus", 48_000), True)
    assert refused.value.code == "codec_unavailable"


@pytest.mark.parametrize("payload", [b"", b"\x00" * 7])
def test_a_payload_of_another_length_is_refused(payload: bytes) -> None:
    header = AudioHeader(0, 2, 0, 0, 0, 0, 32_000, 2)
    with pytest.raises(WireError, match="for 2 frames"):
        decoder(header).decode(payload, header)


def test_bytes_that_are_no_opus_are_refused() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    header = AudioHeader(2, 2, 0, 0, 0, 0, 48_000, 960)
    with pytest.raises(WireError, match="cannot be decoded"):
        decoder(header).decode(b"\xff\xff\xff", header)
