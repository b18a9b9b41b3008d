"""Audio prompts and melodies from files.

Rules: float32 [channels, samples] at the file's own rate; the engine resamples.
A file is checked before a model is loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.errors import UsageError

__all__ = ["read_audio"]

# A prompt longer than the model's window (30 s) is cut to its newest part anyway; this only keeps hours out of memory.
_MAX_SECONDS = 600


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
