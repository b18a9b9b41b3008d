"""Streams are decoded again by FFmpeg's own readers, from their beginning and from a piece in the middle."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.doors.radio import encoders
from bridge.doors.radio.encoders import CODECS, StreamEncoder
from bridge.errors import WireError

from ..web_session import RATE_HZ, sine

BLOCK = 960
LOSSLESS = ("flac", "oga", "wav")


def decoded(stream: bytes) -> NDArray[np.float32]:
    """What a player makes of a stream, float32 [2, n]."""
    with av.open(io.BytesIO(stream)) as container:
        resample = av.AudioResampler(format="fltp", layout="stereo")
        frames = [part.to_ndarray() for frame in container.decode(audio=0) for part in resample.resample(frame)]
    return np.concatenate(frames, axis=1)


def pieces(suffix: str, seconds: float, rate_hz: int = RATE_HZ) -> tuple[bytes, list[bytes]]:
    encoder = StreamEncoder(CODECS[suffix], rate_hz, "a title")
    samples = sine(0, round(seconds * rate_hz), rate_hz)
    out = [encoder.encode(samples[:, at : at + BLOCK]) for at in range(0, samples.shape[1], BLOCK)]
    encoder.close()
    return encoder.head, out


def is_one_sine(samples: NDArray[np.float32], rate_hz: int) -> bool:
    """Tell whether it is 440 Hz on the left at half scale, its phase never jumping: no gap, nothing lost.

    A lost frame turns the phase by 1.3 to 2.8, by codec; AAC itself wanders by 0.6 now and then.
    """
    at = np.arange(samples.shape[1]) / rate_hz
    turned = samples[0] * np.exp(-2j * np.pi * 440 * at)
    window = rate_hz // 100
    turned = turned[: turned.size // window * window].reshape(-1, window).mean(axis=1)
    return bool(np.all(np.abs(np.abs(turned) - 0.25) < 0.1) and np.ptp(np.unwrap(np.angle(turned))) < 1)


@pytest.mark.parametrize("suffix", CODECS)
def test_a_stream_is_heard_as_it_was_from_any_piece_on(suffix: str) -> None:
    head, made = pieces(suffix, 3)
    for begin in (0, 70):
        heard = decoded(head + b"".join(made[begin:]))
        assert heard.shape[1] > (3 - begin * BLOCK / RATE_HZ) * RATE_HZ - 0.35 * RATE_HZ  # what was no full page
        assert is_one_sine(heard[:, RATE_HZ // 10 :], RATE_HZ)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_what_loses_nothing_is_the_sessions_to_the_last_of_16_bits(suffix: str) -> None:
    head, made = pieces(suffix, 0.5)
    heard = decoded(head + b"".join(made))
    assert np.abs(heard - sine(0, heard.shape[1])).max() <= 1 / 32_768


@pytest.mark.parametrize(
    ("suffix", "rate_hz", "sent_hz"), [("mp3", 44_100, 44_100), ("ogg", 44_100, 48_000), ("flac", 96_000, 96_000)]
)
def test_another_rate_is_sent_as_it_is_where_the_codec_has_it(suffix: str, rate_hz: int, sent_hz: int) -> None:
    assert CODECS[suffix].rate_hz(rate_hz) == sent_hz
    head, made = pieces(suffix, 1, rate_hz)
    assert is_one_sine(decoded(head + b"".join(made))[:, sent_hz // 10 :], sent_hz)


def test_what_is_no_number_or_too_loud_stays_within_full_scale() -> None:
    encoder = StreamEncoder(CODECS["wav"], RATE_HZ, "")
    wild = np.array([[np.nan, 3.0, -3.0, 0.0]] * 2, np.float32)
    assert np.frombuffer(encoder.encode(wild), "<i2").reshape(-1, 2)[:, 0].tolist() == [0, 32_767, -32_768, 0]
    encoder.close()


def test_without_pyav_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(WireError, match="pip install av"):
        StreamEncoder(CODECS["mp3"], RATE_HZ, "")
