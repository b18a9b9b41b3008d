"""Audio prompts and melodies: the operator's files, and bytes that came from the network.

Rules: float32 [channels, samples] at the file's own rate; the engine resamples. A file is checked before a model is
loaded. Bytes are read from memory only, no path is ever opened for them; their format, channels, rate and length are
checked before samples are read, and no more are read than allowed, whatever the header claims (32 MiB of FLAC can hold
a day of silence). What does not begin as one of these formats is not shown to libsndfile: it takes it for MP3, whose
decoder writes a dozen lines about it to our terminal.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.errors import FileError, UsageError

__all__ = ["decode_audio", "read_audio"]

# A prompt longer than the model's window (30 s) is cut to its newest part anyway; this only keeps hours out of memory.
_MAX_SECONDS = 600
_FORMATS, _BEGINNINGS = ("WAV", "WAVEX", "FLAC", "OGG"), (b"RIFF", b"RIFX", b"fLaC", b"OggS")
_MIN_RATE_HZ, _MAX_RATE_HZ = 8_000, 192_000
_MIN_SECONDS = 0.1


def read_audio(path: Path, option: str) -> tuple[NDArray[np.float32], int]:
    """Read a whole file: float32 [channels, samples] and its rate in Hz.

    Raises:
        UsageError: missing, not audio that libsndfile reads, empty, or longer than ten minutes.
    """
    if not path.is_file():
        raise UsageError(f"{option} is {str(path)!r}: there is no such file")
    try:
        with soundfile.SoundFile(path) as file:
            _check_length(file.frames / file.samplerate, path, option)
            return np.ascontiguousarray(file.read(dtype="float32", always_2d=True).T), int(file.samplerate)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(". ")
        raise UsageError(f"{option} is {str(path)!r}: {reason}; wav, flac, ogg and mp3 are read") from error


def _check_length(seconds: float, path: Path, option: str) -> None:
    if seconds == 0:
        raise UsageError(f"{option} is {str(path)!r}: the file holds no audio")
    if seconds > _MAX_SECONDS:
        raise UsageError(
            f"{option} is {str(path)!r}: {seconds:.0f} s long; at most {_MAX_SECONDS} s are read, cut it first"
        )


def decode_audio(data: bytes, max_seconds: float) -> tuple[NDArray[np.float32], int]:
    """Read the bytes of a WAV, FLAC or Ogg file. Runs in any thread.

    Returns:
        float32 [1 or 2, samples] and the rate in Hz.

    Raises:
        FileError: not such a file, damaged, too short or long, or of a rate or number of channels we do not take.
    """
    if not data.startswith(_BEGINNINGS):
        raise FileError(f"the audio prompt is no WAV, FLAC or Ogg file: it begins with {data[:4]!r}")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_kind(file.format, file.channels, file.samplerate)
            most = int(max_seconds * file.samplerate)
            samples = file.read(most + 1, dtype="float32", always_2d=True)
            rate_hz = int(file.samplerate)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError) as problem:
        text = " ".join(str(getattr(problem, "error_string", problem)).split())
        raise FileError(f"the audio prompt is no WAV, FLAC or Ogg file that can be read: {text}") from None
    return _checked(samples, rate_hz, max_seconds), rate_hz


def _check_kind(kind: str, channels: int, rate_hz: int) -> None:
    if kind not in _FORMATS:
        raise FileError(f"the audio prompt is a {kind} file: send WAV, FLAC or Ogg")
    if channels not in (1, 2):
        raise FileError(f"the audio prompt has {channels} channels: mix it to 1 or 2")
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        limits = f"{_MIN_RATE_HZ} … {_MAX_RATE_HZ} Hz"
        raise FileError(f"the audio prompt has {rate_hz} Hz, must be within {limits}")


def _checked(samples: NDArray[np.float32], rate_hz: int, max_seconds: float) -> NDArray[np.float32]:
    if len(samples) > max_seconds * rate_hz:
        raise FileError(f"the audio prompt is longer than {max_seconds:g} s: cut it")
    if len(samples) < _MIN_SECONDS * rate_hz:
        raise FileError(f"the audio prompt is shorter than {_MIN_SECONDS:g} s")
    if not np.isfinite(samples).all():
        raise FileError("the audio prompt has samples that are no numbers")
    return np.ascontiguousarray(samples.T)
