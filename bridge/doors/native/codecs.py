"""Samples as bytes and back: s16le, f32le, and Opus by PyAV. No I/O.

Opus packets hold 20 ms, and a decoder's output lags by the codec's pre-skip (6.5 ms), which `pre_skip` tells.

Rules: float32 [2, n] on one side, bytes on the other; knows no block and no listener. PyAV may be missing, and is
imported when first asked for (`load` does it before there are listeners: a cold disk takes seconds, and importing holds
the interpreter).
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.audio.conversion import from_s16, to_s16
from bridge.doors.native.frames import CODECS, AudioFormat, AudioHeader
from bridge.errors import WireError

__all__ = [
    "OPUS_RATES_HZ",
    "OPUS_SECONDS",
    "PayloadDecoder",
    "Encoder",
    "OpusDecoder",
    "OpusEncoder",
    "available",
    "decoder",
    "encoder",
    "fitting",
    "load",
    "pre_skip",
]

OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
OPUS_SECONDS = 0.02
_INSTALL = "there is no Opus here: `pip install av`, or use s16le"
_BITS_A_SECOND = 128_000

Pcm = NDArray[np.float32]


# -- what there is --------------------------------------------------------------------------------------------------


def available() -> list[str]:
    """Return the codecs this machine can send."""
    return [name for name in CODECS if name != "opus" or importlib.util.find_spec("av") is not None]


def load() -> None:
    """Load the libraries now, if they are here."""
    if "opus" in available():
        OpusEncoder(48_000)


def fitting(audio: AudioFormat, rate_given: bool) -> AudioFormat:
    """Return the format with a rate its codec has.

    Args:
        audio: what was asked.
        rate_given: whether the rate was asked for, or is only the session's.

    Raises:
        WireError: a codec that is not installed here, or a rate that Opus does not have.
    """
    if audio.codec not in available():
        raise WireError("codec_unavailable", _INSTALL)
    if audio.codec != "opus" or audio.sample_rate_hz in OPUS_RATES_HZ:
        return audio
    if rate_given:
        rates = ", ".join(map(str, OPUS_RATES_HZ))
        raise WireError("bad_value", f"sample_rate_hz is {audio.sample_rate_hz}, Opus has {rates}")
    return replace(audio, sample_rate_hz=48_000)


def pre_skip(audio: AudioFormat) -> int:
    """Return the frames by which a decoder's output lags: libopus' look-ahead, 312 at 48 kHz; none for PCM."""
    return round(0.0065 * audio.sample_rate_hz) if audio.codec == "opus" else 0


# -- samples to bytes -----------------------------------------------------------------------------------------------


class Encoder(Protocol):
    """Turns frames into payloads, one after another."""

    def encode(self, samples: Pcm) -> bytes:
        """Return the payload of float32 [2, n]."""
        ...


def encoder(audio: AudioFormat) -> Encoder:
    """Make an encoder.

    Raises:
        WireError: Opus, and it is not installed.
    """
    if audio.codec == "opus":
        return OpusEncoder(audio.sample_rate_hz)
    return _S16() if audio.codec == "s16le" else _F32()


class _S16:
    def encode(self, samples: Pcm) -> bytes:
        return to_s16(samples).T.astype("<i2").tobytes()


class _F32:
    def encode(self, samples: Pcm) -> bytes:
        return samples.T.astype("<f4").tobytes()


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise WireError("codec_unavailable", _INSTALL) from None
    return av


class OpusEncoder:
    """Turns 20 ms after 20 ms into packets.

    Args:
        rate_hz: one of OPUS_RATES_HZ.

    Raises:
        WireError: PyAV is not installed.
    """

    def __init__(self, rate_hz: int) -> None:
        self._av = _pyav()
        self._context = self._av.CodecContext.create("libopus", "w")
        self._context.sample_rate, self._context.format, self._context.layout = rate_hz, "flt", "stereo"
        self._context.bit_rate = _BITS_A_SECOND
        self._context.options = {"compression_level": "5"}  # of 10: as good at this bit rate, for less work
        self._context.open()
        self._rate_hz, self._frames = rate_hz, round(rate_hz * OPUS_SECONDS)

    def encode(self, samples: Pcm) -> bytes:
        """Return the packet of float32 [2, n], n at most 20 ms; a shorter one is filled with silence."""
        filled = np.zeros((1, 2 * self._frames), np.float32)
        filled[0, : samples.size] = np.nan_to_num(samples.T).ravel()
        frame = self._av.AudioFrame.from_ndarray(filled, format="flt", layout="stereo")
        frame.sample_rate = self._rate_hz
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


# -- bytes to samples, for clients ----------------------------------------------------------------------------------


class PayloadDecoder(Protocol):
    """Turns payloads into float32 [channels, n]."""

    def decode(self, payload: bytes, header: AudioHeader) -> Pcm:
        """Return one frame's samples.

        Raises:
            WireError: the payload is not what the header says.
        """
        ...


def decoder(header: AudioHeader) -> PayloadDecoder:
    """Make the decoder for a stream that begins with this header.

    Raises:
        WireError: Opus, and it is not installed.
    """
    return OpusDecoder(header.sample_rate_hz) if header.codec == CODECS["opus"] else _Pcm()


class _Pcm:
    def decode(self, payload: bytes, header: AudioHeader) -> Pcm:
        kind = "<i2" if header.codec == CODECS["s16le"] else "<f4"
        if len(payload) != header.frame_count * header.channels * int(kind[-1]):
            raise WireError("bad_audio", f"{len(payload)} bytes for {header.frame_count} frames of {kind}")
        frames = np.frombuffer(payload, kind).reshape(header.frame_count, header.channels).T
        return from_s16(frames) if kind == "<i2" else frames.astype(np.float32)


class OpusDecoder:
    """Turns packets into samples.

    Args:
        rate_hz: at which they come out.

    Raises:
        WireError: PyAV is not installed.
    """

    def __init__(self, rate_hz: int) -> None:
        self._av = _pyav()
        self._context = self._av.CodecContext.create("libopus", "r")
        self._context.sample_rate, self._context.layout = rate_hz, "stereo"
        self._resample = self._av.AudioResampler(format="fltp", layout="stereo", rate=rate_hz)

    def decode(self, payload: bytes, header: AudioHeader) -> Pcm:
        """Return a packet's samples, float32 [2, at most the header's count].

        Raises:
            WireError: it is no Opus packet.
        """
        try:
            decoded = self._context.decode(self._av.Packet(payload))
            parts = [part.to_ndarray() for frame in decoded for part in self._resample.resample(frame)]
        except self._av.FFmpegError as problem:
            raise WireError("bad_audio", f"an Opus packet cannot be decoded: {problem}") from None
        samples = np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), np.float32)
        return np.asarray(samples[:, : header.frame_count], np.float32)
