"""Audio prompts and melodies: the operator's files, and bytes that came from the network.

Rules: float32 [channels, samples] at the file's own rate; the engine resamples. A file is checked before a model is
loaded, and no more of it is held than a model can hear: of ten minutes the last minute, or the first. Bytes are read
from memory only, no path is ever opened for them; their format, channels and rate are checked before samples are read.
No more are read than allowed, whatever the header claims: 32 MiB of FLAC can hold a day of silence, and who writes into
a pipe cannot know a length and leaves 0, all ones or 2⁶³ − 1 there. What does not begin as one of these formats is not
shown to libsndfile: it takes it for MP3, whose decoder writes a dozen lines about it to our terminal.
"""

from __future__ import annotations

import io
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.errors import FileError, UsageError
from streamgen.audio import check_rate
from streamgen.errors import PromptError

__all__ = ["decode_audio", "read_audio"]

_MAX_SECONDS = 600  # of a file that is read to its end
_HELD_SECONDS = 60  # a model goes on from 30 s at most, and follows so much
_MAX_CHANNELS = 8
_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG")
_BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS")
_MIN_RATE_HZ, _MAX_RATE_HZ = 8_000, 192_000
_MIN_SECONDS = 0.1
_HEAD_BYTES = 65_536  # in which a WAV's data begins, behind whatever else it tells
_ID3, _ID3_BYTES = b"ID3", 10


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A file that is read from its beginning to its end.

    soundfile otherwise seeks to where it is after each read, which libsndfile refuses at the end of a FLAC of unknown
    length.
    """

    def seekable(self) -> bool:
        return False


def read_audio(path: Path, option: str, *, newest: bool = False) -> tuple[NDArray[np.float32], int]:
    """Read what counts of a file, a minute at most: float32 [channels, samples] and its rate in Hz.

    Args:
        path: the operator's.
        option: that names it, for messages.
        newest: the end of it, for music to go on from; else its beginning.

    Raises:
        UsageError: missing, not audio that libsndfile reads, empty, of too many channels or an impossible rate, or read
            to its end and longer than ten minutes.
    """
    if not path.is_file():
        raise UsageError(f"{option} is {str(path)!r}: there is no such file")
    try:
        with path.open("rb") as raw, _Sequential(_with_its_length(raw)) as file:
            rate_hz = check_rate(f"{option} {path.name}", int(file.samplerate))
            if file.channels > _MAX_CHANNELS:
                many = f"it has {file.channels} channels: mix it to {_MAX_CHANNELS} or fewer"
                raise UsageError(f"{option} is {str(path)!r}: {many}")
            pieces = deque[NDArray[np.float32]](maxlen=_HELD_SECONDS)
            for second, piece in enumerate(_seconds(file)):
                if second >= _MAX_SECONDS:
                    long = f"longer than the {_MAX_SECONDS} s that are read, cut it first"
                    raise UsageError(f"{option} is {str(path)!r}: {long}")
                pieces.append(piece)
                if len(pieces) == _HELD_SECONDS and not newest:
                    break
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(". ")
        raise UsageError(f"{option} is {str(path)!r}: {reason}; wav, flac, ogg and mp3 are read") from error
    except PromptError as error:
        raise UsageError(str(error)) from None
    if not pieces:
        raise UsageError(f"{option} is {str(path)!r}: the file holds no audio")
    return np.concatenate([piece.T for piece in pieces], axis=1), rate_hz


def _seconds(file: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    """Read a file second by second: float32 [samples, channels], none of them empty."""
    while len(piece := file.read(file.samplerate, dtype="float32", always_2d=True)):
        yield piece


def _with_its_length(raw: BinaryIO) -> BinaryIO:
    """Return what libsndfile can read: a WAV whose data is said to be 0 bytes long gets its length, in memory."""
    head = raw.read(_HEAD_BYTES)
    raw.seek(0)
    at = _unsized_data(head)
    if at is None:
        return raw
    data = bytearray(raw.read())
    struct.pack_into("<I", data, at, min(len(data) - at - 4, 0xFFFFFFFF))
    return io.BytesIO(data)


def _unsized_data(head: bytes) -> int | None:
    """Return where a WAV tells its data's length, if it says 0 and something follows."""
    if not head.startswith(b"RIFF"):
        return None
    at = 12
    while at + 8 < len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        if name == b"data":
            return at + 4 if size == 0 else None
        at += 8 + size + size % 2
    return None


def _first(file: soundfile.SoundFile, seconds: float) -> NDArray[np.float32]:
    """Read so many seconds and one sample, or all there is if that is less: float32 [samples, channels]."""
    left, pieces = int(seconds * file.samplerate) + 1, [np.empty((0, file.channels), np.float32)]
    while left > 0:
        wanted = min(left, file.samplerate)
        pieces.append(file.read(wanted, dtype="float32", always_2d=True))
        left -= wanted
        if len(pieces[-1]) < wanted:
            break
    return np.concatenate(pieces)


def decode_audio(data: bytes, max_seconds: float, what: str = "audio prompt") -> tuple[NDArray[np.float32], int]:
    """Read the bytes of a WAV, FLAC or Ogg file. Runs in any thread.

    Args:
        data: the file's.
        max_seconds: how long it may be.
        what: it is, for messages.

    Returns:
        float32 [1 or 2, samples] and the rate in Hz.

    Raises:
        FileError: not such a file, damaged, too short or long, or of a rate or number of channels we do not take.
    """
    audio = _behind_tag(data)
    if not audio.startswith(_BEGINNINGS):
        raise FileError(f"the {what} is no WAV, FLAC or Ogg file: it begins with {audio[:4]!r}")
    try:
        with _Sequential(_with_its_length(io.BytesIO(audio))) as file:
            _check_kind(what, file.format, file.channels, file.samplerate)
            samples, rate_hz = _first(file, max_seconds), int(file.samplerate)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError) as problem:
        text = " ".join(str(getattr(problem, "error_string", problem)).split())
        raise FileError(f"the {what} is no WAV, FLAC or Ogg file that can be read: {text}") from None
    return _checked(what, samples, rate_hz, max_seconds), rate_hz


def _behind_tag(data: bytes) -> bytes:
    """Leave out an ID3v2 tag, which taggers put in front of FLAC too; its size has seven bits a byte."""
    if not data.startswith(_ID3) or len(data) < _ID3_BYTES:
        return data
    size = 0
    for byte in data[6:_ID3_BYTES]:
        size = size << 7 | byte & 0x7F
    return data[_ID3_BYTES + size :]


def _check_kind(what: str, kind: str, channels: int, rate_hz: int) -> None:
    if kind not in _FORMATS:
        raise FileError(f"the {what} is a {kind} file: send WAV, FLAC or Ogg")
    if channels not in (1, 2):
        raise FileError(f"the {what} has {channels} channels: mix it to 1 or 2")
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        limits = f"{_MIN_RATE_HZ} … {_MAX_RATE_HZ} Hz"
        raise FileError(f"the {what} has {rate_hz} Hz, must be within {limits}")


def _checked(what: str, samples: NDArray[np.float32], rate_hz: int, max_seconds: float) -> NDArray[np.float32]:
    if len(samples) > max_seconds * rate_hz:
        raise FileError(f"the {what} is longer than {max_seconds:g} s: cut it")
    if len(samples) < _MIN_SECONDS * rate_hz:
        raise FileError(f"the {what} is shorter than {_MIN_SECONDS:g} s")
    if not np.isfinite(samples).all():
        raise FileError(f"the {what} has samples that are no numbers")
    return np.ascontiguousarray(samples.T)
