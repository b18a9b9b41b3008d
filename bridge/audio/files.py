"""A stream's audio into a wav, flac, ogg or mp3 file, or a wav into a pipe, as it comes.

Rules: memory stays flat whatever the length; the file exists from the first audio on, so a failure before it leaves
nothing behind; close() leaves a valid file, also of a part.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.errors import FileError, UsageError, cannot_be

__all__ = ["BITS", "FORMATS", "PIPE", "AudioFile", "WavPipe", "check_output", "in_bits"]

BITS = (16, 24, 32)  # 32 are floats
PIPE = Path("-")
# 24 bits first, as the recorder's, so that one prompt and seed leave equal files whichever command wrote them; 0: lossy
FORMATS: dict[str, tuple[str, dict[int, str]]] = {
    ".wav": ("WAV", {24: "PCM_24", 16: "PCM_16", 32: "FLOAT"}),
    ".flac": ("FLAC", {24: "PCM_24", 16: "PCM_16"}),
    ".ogg": ("OGG", {0: "VORBIS"}),
    ".mp3": ("MP3", {0: "MPEG_LAYER_III"}),
}
_MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_WAV_LIMIT_BYTES = 2**32 - 4096
_MOST_RIFF_BYTES = 2**32 - 1 - 36  # what its head can say


def in_bits(samples: NDArray[np.float32], bits: int = 24) -> NDArray[np.int32]:
    """Round to so many bits, in the upper part of 32; beyond full scale is clipped.

    libsndfile's own rounding differs between wav and flac in the last bit.
    """
    scale = 2.0 ** (bits - 1)
    whole = np.rint(np.clip(samples, -1.0, 1.0 - 1 / scale) * np.float32(scale))
    return np.asarray(whole, np.int32) << np.int32(32 - bits)


def check_output(path: Path, seconds: float, rate_hz: int, channels: int = 2, bits: int | None = None) -> None:
    """Check a file's name and place before any work is done for it.

    Raises:
        UsageError: unknown suffix, no such folder, a folder itself, no right to write, longer than wav can hold, or a
            rate or number of bits that the format lacks.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"--out is {str(path)!r}: its suffix must be .wav, .flac, .ogg or .mp3")
    if suffix == ".mp3" and (rate_hz not in _MP3_RATES_HZ or "MP3" not in soundfile.available_formats()):
        raise UsageError(f"--out is {str(path)!r}: no mp3 of {rate_hz} Hz can be written here; use .ogg, or 48000 Hz")
    if bits is not None and bits not in FORMATS[suffix][1]:
        there = ", ".join(str(one) for one in sorted(FORMATS[suffix][1]) if one) or "none, for it is lossy"
        raise UsageError(f"--bits is {bits}, which {suffix} does not have: {there}")
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

    def __init__(self, path: Path, rate_hz: int, channels: int = 2, bits: int | None = None) -> None:
        self.path = path
        self._bits = bits
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
            bits = int(self._file.subtype.removeprefix("PCM_")) if self._file.subtype.startswith("PCM_") else 0
            self._file.write(in_bits(samples.T, bits) if bits else np.clip(samples.T, -1.0, 1.0))
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            raise FileError(cannot_be("written", self.path, error)) from error
        self.frames += samples.shape[1]

    def close(self) -> None:
        """Finish the header; the file is valid from here on."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> Any:
        kind, subtypes = FORMATS[self.path.suffix.lower()]
        subtype = subtypes[next(iter(subtypes)) if self._bits is None else self._bits]
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


class WavPipe:
    """A wav into standard output, of a length that is known before: nothing can be written into its head later."""

    def __init__(self, rate_hz: int, frames: int, bits: int = 24, channels: int = 2) -> None:
        self.frames, self._rate_hz, self._bytes = 0, rate_hz, bits // 8
        self._head = _wav_head(rate_hz, frames, channels, self._bytes)

    @property
    def seconds(self) -> float:
        """Length so far, in seconds."""
        return self.frames / self._rate_hz

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append float32 [channels, n]; beyond ±1 is clipped.

        Raises:
            FileError: nobody reads any more.
        """
        whole = in_bits(samples.T, 8 * self._bytes).astype("<i4", order="C")
        try:
            sys.stdout.buffer.write(self._head + whole.view(np.uint8).reshape(-1, 4)[:, 4 - self._bytes :].tobytes())
            sys.stdout.buffer.flush()
        except OSError as error:
            raise FileError(cannot_be("written", "standard output", error)) from error
        self._head = b""
        self.frames += samples.shape[1]

    def __enter__(self) -> Self:
        """Use as a context manager, as `AudioFile`."""
        return self

    def __exit__(self, *_: object) -> None:
        """All is written."""


def _wav_head(rate_hz: int, frames: int, channels: int, sample_bytes: int) -> bytes:
    """A head of RIFF; the standard library's writer would seek in the pipe to correct it where the music ends early."""
    frame_bytes = channels * sample_bytes
    size = min(frames * frame_bytes, _MOST_RIFF_BYTES)
    about = (16, 1, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, 8 * sample_bytes)
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", *about, b"data", size)
