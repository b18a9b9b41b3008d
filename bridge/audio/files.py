"""A stream's audio into a wav, flac or ogg file, as it comes.

Rules: memory stays flat whatever the length; the file exists from the first audio on, so a failure before it leaves
nothing behind; close() leaves a valid file, also of a part.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.errors import FileError, UsageError

__all__ = ["FORMATS", "AudioFile", "check_output", "in_24_bits"]

# as the recorder's, so that one prompt and seed leave equal files whichever command wrote them
FORMATS = {".wav": ("WAV", "PCM_24"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}

_WAV_LIMIT_BYTES = 2**32 - 4096


def in_24_bits(samples: NDArray[np.float32]) -> NDArray[np.int32]:
    """Round to 24 bits, in the upper part of 32; beyond full scale is clipped.

    libsndfile's own rounding differs between wav and flac in the last bit.
    """
    whole = np.rint(np.clip(samples, -1.0, 1.0 - 2.0**-23) * np.float32(2**23))
    return np.asarray(whole, np.int32) << np.int32(8)


def check_output(path: Path, seconds: float, rate_hz: int, channels: int = 2) -> None:
    """Check a file's name and place before any work is done for it.

    Raises:
        UsageError: unknown suffix, no such folder, a folder itself, no right to write, or longer than wav can hold.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out is {str(path)!r}: its suffix must be .wav, .flac or .ogg")
    if not path.parent.is_dir():
        raise UsageError(f"--out is {str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    if path.is_dir():
        raise UsageError(f"--out is {str(path)!r}: that is a folder; name a file in it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"--out is {str(path)!r}: no right to write there; choose another folder")
    if path.suffix.lower() == ".wav" and seconds * rate_hz * channels * 3 > _WAV_LIMIT_BYTES:
        raise UsageError(f"--seconds is {seconds:g}: a wav file ends at 4 GiB; use .flac or .ogg")


class AudioFile:
    """A file that grows; use it as a context manager."""

    def __init__(self, path: Path, rate_hz: int, channels: int = 2) -> None:
        self.path = path
        self.frames = 0
        self._rate_hz = rate_hz
        self._channels = channels
        self._file: Any = None

    @property
    def seconds(self) -> float:
        """Length so far, in seconds."""
        return self.frames / self._rate_hz

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append float32 [channels, n]; beyond ±1 is clipped.

        Raises:
            FileError: the file could not be made or written (a full disk, a rate the format lacks).
        """
        try:
            self._file = self._file or self._open()
            self._file.write(samples.T if self._file.format == "OGG" else in_24_bits(samples.T))
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            raise FileError(f"cannot write {str(self.path)!r}: {_reason(error)}") from error
        self.frames += samples.shape[1]

    def close(self) -> None:
        """Finish the header; the file is valid from here on."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> Any:
        kind, subtype = FORMATS[self.path.suffix.lower()]
        return soundfile.SoundFile(
            self.path, "w", samplerate=self._rate_hz, channels=self._channels, format=kind, subtype=subtype
        )

    def __enter__(self) -> Self:
        """Use as a context manager: the file is closed at the end."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(". ").replace("\n", " ")
