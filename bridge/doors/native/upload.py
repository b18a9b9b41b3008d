"""An audio prompt that came as the bytes of a file. Runs in a worker thread.

Rules: from memory only, no path is ever opened; formats, channels, rate and length are checked before samples are
read, and no more are read than allowed, whatever the header claims (32 MiB of FLAC can hold a day of silence). What
does not begin as one of these formats is not shown to libsndfile: it takes it for MP3, whose decoder writes a dozen
lines about it to our terminal.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from bridge.errors import WireError

__all__ = ["decode"]

_FORMATS, _BEGINNINGS = ("WAV", "WAVEX", "FLAC", "OGG"), (b"RIFF", b"RIFX", b"fLaC", b"OggS")
_MIN_RATE_HZ, _MAX_RATE_HZ = 8_000, 192_000
_MIN_SECONDS = 0.1


def decode(data: bytes, max_seconds: float) -> tuple[NDArray[np.float32], int]:
    """Read a WAV, FLAC or Ogg file.

    Returns:
        float32 [1 or 2, samples] and the rate in Hz.

    Raises:
        WireError: not such a file, damaged, too short or long, or of a rate or number of channels we do not take.
    """
    if not data.startswith(_BEGINNINGS):
        raise WireError("bad_audio", f"the audio prompt is no WAV, FLAC or Ogg file: it begins with {data[:4]!r}")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check(file.format, file.channels, file.samplerate)
            most = int(max_seconds * file.samplerate)
            samples = file.read(most + 1, dtype="float32", always_2d=True)
            rate_hz = int(file.samplerate)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError) as problem:
        text = " ".join(str(getattr(problem, "error_string", problem)).split())
        raise WireError("bad_audio", f"the audio prompt is no WAV, FLAC or Ogg file that can be read: {text}") from None
    return _fine(samples, rate_hz, max_seconds), rate_hz


def _check(kind: str, channels: int, rate_hz: int) -> None:
    if kind not in _FORMATS:
        raise WireError("bad_audio", f"the audio prompt is a {kind} file: send WAV, FLAC or Ogg")
    if channels not in (1, 2):
        raise WireError("bad_audio", f"the audio prompt has {channels} channels: mix it to 1 or 2")
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        limits = f"{_MIN_RATE_HZ} … {_MAX_RATE_HZ} Hz"
        raise WireError("bad_audio", f"the audio prompt has {rate_hz} Hz, must be within {limits}")


def _fine(samples: NDArray[np.float32], rate_hz: int, max_seconds: float) -> NDArray[np.float32]:
    if len(samples) > max_seconds * rate_hz:
        raise WireError("bad_audio", f"the audio prompt is longer than {max_seconds:g} s: cut it")
    if len(samples) < _MIN_SECONDS * rate_hz:
        raise WireError("bad_audio", f"the audio prompt is shorter than {_MIN_SECONDS:g} s")
    if not np.isfinite(samples).all():
        raise WireError("bad_audio", "the audio prompt has samples that are no numbers")
    return np.ascontiguousarray(samples.T)
