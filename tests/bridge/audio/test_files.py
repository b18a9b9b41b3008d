"""Files written as a stream, read back by soundfile."""

from __future__ import annotations

import gc
import io
import os
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from bridge.audio.files import AudioFile, WavPipe, check_output
from bridge.errors import FileError, UsageError


def tone(frames: int) -> np.ndarray:
    time = np.arange(frames) / 32_000
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.25 * np.sin(2 * np.pi * 660 * time)]).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [(".wav", 1 / 32_000), (".flac", 1 / 32_000), (".ogg", 0.05), (".WAV", 1 / 32_000), (".mp3", 0.1)],
)
def test_what_was_written_in_pieces_is_read_back(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path, source = tmp_path / f"a{suffix}", tone(40_000)
    with AudioFile(path, 32_000) as file:
        for start in range(0, 40_000, 3_200):
            file.write(source[:, start : start + 3_200])
        assert (file.frames, file.seconds) == (40_000, 1.25)
    read, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert (rate_hz, read.shape) == (32_000, (40_000, 2))
    np.testing.assert_allclose(read.T, source, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "bits"), [("a.wav", 16), ("a.flac", 16), ("a.wav", 24), ("a.flac", 24), ("a.wav", 32)]
)
def test_a_file_has_as_many_bits_as_asked_and_no_other_rounding(tmp_path: Path, name: str, bits: int) -> None:
    source = tone(3_200)
    with AudioFile(tmp_path / name, 32_000, bits=bits) as file:
        file.write(source)
    read, _ = soundfile.read(tmp_path / name, dtype="float32")
    assert soundfile.info(tmp_path / name).subtype == ("FLOAT" if bits == 32 else f"PCM_{bits}")
    expected = source.T if bits == 32 else np.rint(source.T * 2.0 ** (bits - 1)) / 2.0 ** (bits - 1)
    assert np.array_equal(read, expected.astype(np.float32))


def test_what_a_format_lacks_is_refused(tmp_path: Path) -> None:
    for name, bits, there in (("a.flac", 32, "16, 24"), ("a.ogg", 16, "none, for it is lossy")):
        with pytest.raises(UsageError, match=f"--bits is {bits}, which .* does not have: {there}"):
            check_output(tmp_path / name, 1.0, 32_000, bits=bits)
    with pytest.raises(UsageError, match="no mp3 of 96000 Hz can be written here"):
        check_output(tmp_path / "a.mp3", 1.0, 96_000)


def test_too_loud_is_clipped_and_does_not_wrap_around(tmp_path: Path) -> None:
    with AudioFile(tmp_path / "a.wav", 32_000) as file:
        file.write(np.array([[1.5, -1.5, 1.0], [0.0, 0.0, 0.0]], np.float32))
    read, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert read[:, 0].tolist() == [32767, -32768, 32767]


def test_no_audio_leaves_no_file_and_no_other_file_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"kept")
    with AudioFile(path, 32_000):
        assert path.read_bytes() == b"kept"
    assert path.read_bytes() == b"kept"


def test_a_folder_that_goes_away_is_a_file_error_with_its_reason(tmp_path: Path) -> None:
    with (
        AudioFile(tmp_path / "gone" / "a.wav", 32_000) as file,
        pytest.raises(FileError, match=r"a\.wav. cannot be written: "),
    ):
        file.write(tone(10))


def test_a_full_disk_is_a_file_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    link = Path("/dev/full")

    class Full(AudioFile):
        def _open(self) -> object:
            return soundfile.SoundFile(str(link), "w", samplerate=32_000, channels=2, format="WAV", subtype="PCM_16")

    with pytest.raises(FileError, match=r"/dev/full. cannot be written"):
        Full(link, 32_000).write(tone(100_000))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.aac", "suffix must be"),
        ("a", "suffix must be"),
        ("no/a.wav", "there is no folder"),
        ("folder.wav", "that is a folder"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_any_work(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(UsageError, match=says):
        check_output(tmp_path / name, 1.0, 32_000)


def test_a_wav_longer_than_its_format_is_refused_and_flac_is_not(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"4 GiB; use \.flac"):
        check_output(tmp_path / "a.wav", 10 * 3_600, 32_000)
    check_output(tmp_path / "a.flac", 10 * 3_600, 32_000)
    check_output(tmp_path / "a.wav", 6 * 3_600, 32_000)


def test_wav_and_flac_hold_the_same_samples_those_nearest_to_what_was_written(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1.1, 1.1, (2, 9_600)).astype(np.float32)
    held = []
    for suffix in (".wav", ".flac"):
        with AudioFile(tmp_path / f"a{suffix}", 48_000) as file:
            file.write(noise)
        held.append(soundfile.read(tmp_path / f"a{suffix}", dtype="int32", always_2d=True)[0].T >> 8)
    np.testing.assert_array_equal(*held)
    exact = np.clip(noise.astype(np.float64), -1, 1 - 2.0**-23) * 2**23
    assert np.abs(held[0] - exact).max() <= 0.5


def test_a_pipe_has_the_head_that_the_standard_library_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, file = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=pipe))
    written = WavPipe(44_100, 300, bits=24)
    for _ in range(3):
        written.write(np.zeros((2, 100), np.float32))
    with wave.open(file, "wb") as twin:
        twin.setparams((2, 3, 44_100, 300, "NONE", ""))
        twin.writeframes(bytes(300 * 6))
    assert pipe.getvalue() == file.getvalue()


def test_a_pipe_that_nobody_reads_any_more_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=pipe))
        with pytest.raises(FileError, match="standard output cannot be written: Broken pipe"):
            WavPipe(48_000, 4_800).write(np.zeros((2, 480), np.float32))
        gc.collect()  # where it complained of what it could not put right
