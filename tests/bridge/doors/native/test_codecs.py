"""Samples to bytes and back, in values."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from bridge.audio.conversion import from_s16, to_s16
from bridge.doors.native.codecs import available, decoder, encoder, fitting, pre_skip
from bridge.doors.native.frames import AudioFormat, AudioHeader
from bridge.errors import WireError

from ..web_session import sine

FRAMES = 960


def test_sixteen_bits_are_rounded_and_clipped() -> None:
    step = 1 / 32_768
    values = np.array([[0, 0.49 * step, 0.51 * step, -0.51 * step, 1.0, -1.0, 2.0, -2.0, np.nan, np.inf]], np.float32)
    assert to_s16(values).tolist() == [[0, 0, 1, -1, 32_767, -32_768, 32_767, -32_768, 0, 32_767]]
    every = np.arange(-32_768, 32_768, dtype=np.int16)[None]
    np.testing.assert_array_equal(to_s16(from_s16(every)), every)


@pytest.mark.parametrize(("codec", "number"), [("s16le", 0), ("f32le", 1)])
def test_pcm_is_interleaved_and_comes_back(codec: str, number: int) -> None:
    samples = sine(0, 100)
    payload = encoder(AudioFormat(codec, 48_000)).encode(samples)
    heard = decoder(AudioHeader(number, 2, 0, 0, 0, 0, 48_000, 100)).decode(
        payload, AudioHeader(number, 2, 0, 0, 0, 0, 48_000, 100)
    )
    np.testing.assert_array_equal(heard, samples if codec == "f32le" else from_s16(to_s16(samples)))
    kind = "<f4" if codec == "f32le" else "<i2"
    np.testing.assert_array_equal(np.frombuffer(payload, kind)[1::2], (samples if number else to_s16(samples))[1])


def test_opus_has_five_rates() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    assert fitting(AudioFormat("opus", 32_000, 60, False), False) == AudioFormat("opus", 48_000, 60, False)
    assert fitting(AudioFormat("opus", 24_000), True).sample_rate_hz == 24_000
    with pytest.raises(WireError, match="Opus has 8000, 12000"):
        fitting(AudioFormat("opus", 44_100), True)


def test_the_look_ahead_grows_with_the_rate() -> None:
    assert [pre_skip(AudioFormat("opus", rate)) for rate in (48_000, 24_000, 8_000)] == [312, 156, 52]
    assert pre_skip(AudioFormat("s16le", 48_000)) == 0


def test_without_pyav_opus_is_not_offered_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert available() == ["s16le", "f32le"]
    with pytest.raises(WireError, match="pip install av") as refused:
        fitting(AudioFormat("opus", 48_000), True)
    assert refused.value.code == "codec_unavailable"


def test_an_opus_rest_is_filled_with_silence() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    code, tone = encoder(AudioFormat("opus", 48_000)), sine(0, FRAMES)
    parts = [code.encode(tone), code.encode(tone[:, :100])]
    headers = [AudioHeader(2, 2, 0, 0, 0, 0, 48_000, count) for count in (FRAMES, 100)]
    decode = decoder(headers[0]).decode
    lengths = [decode(part, header).shape[1] for part, header in zip(parts, headers, strict=True)]
    assert lengths == [FRAMES, 100]


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
