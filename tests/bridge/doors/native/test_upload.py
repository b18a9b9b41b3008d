"""Audio prompts from bytes: what is a file, and what is not."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import soundfile

from bridge.doors.native.upload import decode
from bridge.errors import WireError

from ..web_session import sine


def file_bytes(seconds: float = 0.5, rate_hz: int = 16_000, channels: int = 2, **options: str) -> bytes:
    out = io.BytesIO()
    samples = np.tile(sine(0, round(seconds * rate_hz), rate_hz)[:1].T, (1, channels))
    soundfile.write(out, samples, rate_hz, **({"format": "WAV", "subtype": "FLOAT"} | options))
    return out.getvalue()


def test_floats_come_back_bit_for_bit() -> None:
    samples, rate_hz = decode(file_bytes(channels=1), 10.0)
    assert rate_hz == 16_000
    np.testing.assert_array_equal(samples, sine(0, 8_000, 16_000)[:1])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no WAV, FLAC or Ogg"),
        (b"RIFF", "no WAV, FLAC or Ogg"),
        (file_bytes(seconds=0.05), "shorter than 0.1 s"),
        (file_bytes(seconds=2.1), "longer than 2 s"),
        (file_bytes(channels=6), "6 channels"),
        (file_bytes(rate_hz=4_000), "4000 Hz"),
        (file_bytes(format="AIFF"), "begins with b'FORM'"),
        (b"\xff\xfb\x90\x00" * 500, "no WAV, FLAC or Ogg"),
        (file_bytes(channels=1)[:8] + b"AVI " + file_bytes()[12:], "cannot|can be read"),
        (file_bytes(format="FLAC", subtype="PCM_16")[:60], "no WAV|shorter"),
    ],
)
def test_what_cannot_be_used_is_said_to_the_client_alone(
    data: bytes, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WireError, match=words) as refused:
        decode(data, 2.0)
    assert refused.value.code == "bad_audio"
    assert capfd.readouterr() == ("", ""), "libraries have nothing to add"


def test_samples_that_are_no_numbers_are_refused() -> None:
    out = io.BytesIO()
    soundfile.write(out, np.full((8_000, 2), np.nan, np.float32), 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(WireError, match="no numbers"):
        decode(out.getvalue(), 2.0)


def test_an_hour_of_silence_in_a_small_file_is_not_unpacked() -> None:
    out = io.BytesIO()
    soundfile.write(out, np.zeros((3_600 * 8_000, 1), np.int16), 8_000, format="FLAC")
    assert len(out.getvalue()) < 200_000
    with pytest.raises(WireError, match="longer than 2 s"):
        decode(out.getvalue(), 2.0)


def test_damaged_files_are_refused_or_read_but_never_more() -> None:
    draw = random.Random(0)
    files = [file_bytes(), file_bytes(format="FLAC", subtype="PCM_16"), file_bytes(format="OGG", subtype="VORBIS")]
    for _ in range(300):
        data = bytearray(draw.choice(files))
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
        try:
            samples, rate_hz = decode(bytes(data), 2.0)
        except WireError:
            continue
        assert samples.shape[1] <= 2.0 * rate_hz
        assert np.isfinite(samples).all()
