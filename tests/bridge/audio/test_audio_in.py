"""Audio prompts: what is read, and what is refused with its reason."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.audio.audio_in import decode_audio, read_audio
from bridge.errors import FileError, UsageError


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (44_100, 2), (96_000, 6)])
def test_any_rate_and_channels_come_as_they_are(tmp_path: Path, suffix: str, rate_hz: int, channels: int) -> None:
    source = np.random.default_rng(0).uniform(-0.9, 0.9, (1_000, channels)).astype(np.float32)
    soundfile.write(tmp_path / f"a.{suffix}", source, rate_hz, subtype="PCM_16")
    samples, got_hz = read_audio(tmp_path / f"a.{suffix}", "--audio-prompt")
    assert (got_hz, samples.shape, samples.dtype) == (rate_hz, (channels, 1_000), np.float32)
    np.testing.assert_allclose(samples.T, source, atol=1 / 32_000)


def test_a_missing_file_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--melody is '.*no\.wav': there is no such file"):
        read_audio(tmp_path / "no.wav", "--melody")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"this is text, not music\n" * 50])
def test_a_file_that_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(UsageError, match=r"--melody is '.*a\.wav': .*; wav, flac, ogg and mp3 are read"):
        read_audio(tmp_path / "a.wav", "--melody")


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), 32_000)
    with pytest.raises(UsageError, match="holds no audio"):
        read_audio(tmp_path / "a.wav", "--melody")


def test_an_hour_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(8_000 * 700, np.int16), 8_000)
    with pytest.raises(UsageError, match="longer than the 600 s that are read"):
        read_audio(tmp_path / "a.flac", "--audio-prompt", newest=True)
    samples, _ = read_audio(tmp_path / "a.flac", "--melody")
    assert samples.shape == (1, 60 * 8_000), "of a melody the beginning counts, and no more is looked at"


def test_of_a_long_file_that_part_is_held_that_counts(tmp_path: Path) -> None:
    source = (np.arange(8_000 * 70 + 123) % 20_011).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", source, 8_000)
    first, _ = read_audio(tmp_path / "a.wav", "--style")
    newest, _ = read_audio(tmp_path / "a.wav", "--audio-prompt", newest=True)
    np.testing.assert_array_equal(first[0] * 32_768, source[: 60 * 8_000])
    np.testing.assert_array_equal(newest[0] * 32_768, source[-newest.shape[1] :])
    assert 59 * 8_000 < newest.shape[1] <= 60 * 8_000


def test_many_channels_and_impossible_rates_are_refused_before_they_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "many.wav", np.zeros((1_000, 64), np.int16), 48_000)
    with pytest.raises(UsageError, match=r"--audio-prompt is '.*many\.wav': it has 64 channels: mix it to 8 or fewer"):
        read_audio(tmp_path / "many.wav", "--audio-prompt")
    soundfile.write(tmp_path / "fast.wav", np.zeros(1_000, np.int16), 900_000_000)
    with pytest.raises(UsageError, match=r"--style fast\.wav's sample rate is 900,000,000, outside its limits"):
        read_audio(tmp_path / "fast.wav", "--style")


# -- lengths that say nothing, and what DAWs and taggers write -------------------------------------------------------


def in_a_pipe(kind: str) -> bytes:
    """Half a second of sound as one gets it whose writer could not go back to its header."""
    flac = bytearray(file_bytes(format="FLAC", subtype="PCM_16"))
    flac[21] &= 0xF0  # STREAMINFO's number of samples, 36 bits: 0 is "unknown", RFC 9639, section 8.2
    flac[22:26] = bytes(4)
    wav = bytearray(file_bytes(subtype="PCM_16"))
    at = wav.index(b"data") + 4
    tag = b"ID3\x03\0\0\0\0\x01\x0a" + bytes(138)
    return {
        "flac": bytes(flac),
        "flac behind a tag": tag + bytes(flac),
        "wav of 0": bytes(wav[:4] + bytes(4) + wav[8:at] + bytes(4) + wav[at + 4 :]),
        "wav of all ones": bytes(wav[:4] + b"\xff" * 4 + wav[8:at] + b"\xff" * 4 + wav[at + 4 :]),
        "ogg": file_bytes(format="OGG", subtype="VORBIS"),
        "RF64": file_bytes(format="RF64", subtype="PCM_16"),
    }[kind]


@pytest.mark.parametrize("kind", ["flac", "flac behind a tag", "wav of 0", "wav of all ones", "ogg", "RF64"])
def test_files_that_do_not_know_their_length_are_read_at_both_doors(tmp_path: Path, kind: str) -> None:
    data = in_a_pipe(kind)
    (tmp_path / "piped").write_bytes(data)
    for samples, rate_hz in (decode_audio(data, 10.0), read_audio(tmp_path / "piped", "--audio-prompt")):
        assert (rate_hz, samples.shape) == (16_000, (2, 8_000))
        assert abs(samples).max() == pytest.approx(0.5, abs=0.02)


# -- bytes from the network -----------------------------------------------------------------------------------------


def sine(seconds: float, rate_hz: int) -> np.ndarray:
    """440 Hz, float32 [samples, 1]."""
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)[:, None]


def file_bytes(seconds: float = 0.5, rate_hz: int = 16_000, channels: int = 2, **options: str) -> bytes:
    out = io.BytesIO()
    samples = np.tile(sine(seconds, rate_hz), (1, channels))
    soundfile.write(out, samples, rate_hz, **({"format": "WAV", "subtype": "FLOAT"} | options))
    return out.getvalue()


def test_floats_come_back_bit_for_bit() -> None:
    samples, rate_hz = decode_audio(file_bytes(channels=1), 10.0)
    assert rate_hz == 16_000
    np.testing.assert_array_equal(samples, sine(0.5, 16_000).T)


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
    with pytest.raises(FileError, match=words):
        decode_audio(data, 2.0)
    assert capfd.readouterr() == ("", ""), "libraries have nothing to add"


def test_messages_name_what_it_was_to_be() -> None:
    for data in (b"rubbish", file_bytes(seconds=2.1), file_bytes(channels=6)):
        with pytest.raises(FileError, match=r"^the melody "):
            decode_audio(data, 2.0, "melody")


def test_samples_that_are_no_numbers_are_refused() -> None:
    out = io.BytesIO()
    soundfile.write(out, np.full((8_000, 2), np.nan, np.float32), 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(FileError, match="no numbers"):
        decode_audio(out.getvalue(), 2.0)


def test_an_hour_of_silence_in_a_small_file_is_not_unpacked() -> None:
    out = io.BytesIO()
    soundfile.write(out, np.zeros((3_600 * 8_000, 1), np.int16), 8_000, format="FLAC")
    assert len(out.getvalue()) < 200_000
    with pytest.raises(FileError, match="longer than 2 s"):
        decode_audio(out.getvalue(), 2.0)


def test_damaged_files_are_refused_or_read_but_never_more() -> None:
    draw = random.Random(0)
    files = [file_bytes(), file_bytes(format="FLAC", subtype="PCM_16"), file_bytes(format="OGG", subtype="VORBIS")]
    for _ in range(300):
        data = bytearray(draw.choice(files))
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
        try:
            samples, rate_hz = decode_audio(bytes(data), 2.0)
        except FileError:
            continue
        assert samples.shape[1] <= 2.0 * rate_hz
        assert np.isfinite(samples).all()
