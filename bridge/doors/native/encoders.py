"""A session's blocks as the audio frames of one listener: resampled, cut to its chunk length, coded, with headers.

    Block ─► resampler (soxr, the listener's rate) ─► pending ─► chunks ─► codec ─► header + payload

Rules: no I/O; a Packer belongs to one listener, Opus packets to a session (opus.py). Samples are neither lost nor
doubled at chunk edges; where blocks do not follow on, what is pending goes out first and the next frame says
DISCONTINUITY. The position at another rate is round(start · rate / session rate) where audio starts or breaks, plus the
frames since: it never drifts.

Opus frames hold 20 ms. A decoder's output lags by the codec's pre-skip (6.5 ms), which `Packer.pre_skip` tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.audio.resample import Resampler, resampler
from bridge.doors.native import opus
from bridge.doors.native.frames import CODECS, DISCONTINUITY, PROMPT_CHANGE, AudioFormat, AudioHeader
from bridge.doors.native.opus import OpusDecoder, OpusPackets
from bridge.errors import WireError
from bridge.session.messages import Block

__all__ = ["Decoder", "Packer", "available", "decoder", "fitting", "from_s16", "to_s16"]

Pcm = NDArray[np.float32]


def available() -> list[str]:
    """Return the codecs this machine can send."""
    return [name for name in CODECS if name != "opus" or opus.installed()]


def fitting(audio: AudioFormat, rate_given: bool) -> AudioFormat:
    """Return the format with a rate its codec has.

    Args:
        audio: what was asked.
        rate_given: whether the rate was asked for, or is only the session's.

    Raises:
        WireError: a codec that is not installed here, or a rate that Opus does not have.
    """
    if audio.codec not in available():
        raise WireError("codec_unavailable", opus.INSTALL)
    if audio.codec != "opus" or audio.sample_rate_hz in opus.RATES_HZ:
        return audio
    if rate_given:
        rates = ", ".join(map(str, opus.RATES_HZ))
        raise WireError("bad_value", f"sample_rate_hz is {audio.sample_rate_hz}, Opus has {rates}")
    return AudioFormat(audio.codec, 48_000, audio.chunk_ms, audio.rewind, audio.enabled)


# -- codecs ---------------------------------------------------------------------------------------------------------


def to_s16(samples: Pcm) -> NDArray[np.int16]:
    """Round float32 to 16 bits: full scale is 32,768, beyond it is clipped, NaN is silence. Same shape."""
    finite = samples if np.isfinite(samples).all() else np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    scaled = np.rint(finite * np.float32(32_768.0))
    clipped: NDArray[np.int16] = np.clip(scaled, -32_768, 32_767).astype(np.int16)
    return clipped


def from_s16(samples: NDArray[np.int16]) -> Pcm:
    """Undo `to_s16`, to within half a step."""
    return samples.astype(np.float32) / np.float32(32_768.0)


class Encoder(Protocol):
    """Turns frames, float32 [2, n], into a payload."""

    pre_skip: int

    def encode(self, samples: Pcm, position: int, final: bool) -> bytes:
        """Return the payload of one frame.

        Args:
            samples: float32 [2, n].
            position: of the first, at the listener's rate.
            final: whether they end a stretch of audio; the resampler then knows nothing of what follows.
        """
        ...


class _S16:
    pre_skip = 0

    def encode(self, samples: Pcm, position: int, final: bool) -> bytes:  # noqa: ARG002 - PCM is the same anywhere
        return to_s16(samples).T.astype("<i2").tobytes()


class _F32:
    pre_skip = 0

    def encode(self, samples: Pcm, position: int, final: bool) -> bytes:  # noqa: ARG002
        return samples.T.astype("<f4").tobytes()


class _Opus:
    def __init__(self, rate_hz: int, packets: OpusPackets) -> None:
        self._rate_hz, self._packets = rate_hz, packets
        self.pre_skip = opus.pre_skip(rate_hz)

    def encode(self, samples: Pcm, position: int, final: bool) -> bytes:
        take = self._packets.last if final else self._packets.packet
        return take(self._rate_hz, position, samples)


def _encoder(audio: AudioFormat, packets: OpusPackets | None) -> Encoder:
    if audio.codec == "opus":
        return _Opus(audio.sample_rate_hz, packets or OpusPackets())
    return _S16() if audio.codec == "s16le" else _F32()


# -- blocks to frames -----------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """Audio without a break, at the listener's rate."""

    convert: Resampler
    expected_sample: int
    position: int
    pending: Pcm
    flags: int


class Packer:
    """Makes one listener's audio frames.

    Args:
        session_rate_hz: of the blocks.
        audio: how the listener wants them.
        sequence: number of the first frame.
        packets: the session's Opus packets, shared with its other listeners.

    Attributes:
        pre_skip: frames by which a decoder's output lags.
        sequence: number of the next frame.

    Raises:
        WireError: the codec is not installed.
    """

    def __init__(
        self, session_rate_hz: int, audio: AudioFormat, sequence: int = 0, packets: OpusPackets | None = None
    ) -> None:
        self._audio, self._from_hz, self._to_hz = audio, session_rate_hz, audio.sample_rate_hz
        self._encoder = _encoder(audio, packets)
        self.pre_skip, self.sequence = self._encoder.pre_skip, sequence
        seconds = opus.SECONDS if audio.codec == "opus" else audio.chunk_ms / 1000
        self._chunk_frames = round(seconds * self._to_hz)
        self._run: _Run | None = None
        self._newest: Block | None = None

    def pack(self, block: Block) -> list[bytes]:
        """Take a block, float32 [2, n]; return the frames that became whole."""
        frames = [] if self._follows(block) else self._begin(block)
        run = self._run
        assert run is not None, block.start_sample
        self._newest = block
        run.expected_sample = block.end_sample
        run.flags |= PROMPT_CHANGE if block.prompt_change else 0
        run.pending = np.concatenate([run.pending, run.convert.process(block.samples)], axis=1)
        return frames + self._whole_chunks(run)

    def flush(self) -> list[bytes]:
        """Return what is pending, the resampler's rest included, as a last short frame; the next block starts anew."""
        run, self._run = self._run, None
        if run is None:
            return []
        rest = run.convert.process(np.zeros((2, 0), np.float32), last=True)
        run.pending = np.concatenate([run.pending, rest], axis=1)
        frames = self._whole_chunks(run, final=True)
        return [*frames, self._frame(run, run.pending.shape[1], final=True)] if run.pending.shape[1] else frames

    def _follows(self, block: Block) -> bool:
        return self._run is not None and not block.discontinuity and block.start_sample == self._run.expected_sample

    def _begin(self, block: Block) -> list[bytes]:
        broken = self._newest is not None and (block.discontinuity or block.start_sample != self._newest.end_sample)
        frames = self.flush()
        position = round(block.start_sample * self._to_hz / self._from_hz)
        convert = resampler(self._from_hz, self._to_hz)
        flags = DISCONTINUITY if broken else 0
        self._run = _Run(convert, block.start_sample, position, np.zeros((2, 0), np.float32), flags)
        return frames

    def _whole_chunks(self, run: _Run, final: bool = False) -> list[bytes]:
        return [self._frame(run, self._chunk_frames, final) for _ in range(run.pending.shape[1] // self._chunk_frames)]

    def _frame(self, run: _Run, count: int, final: bool) -> bytes:
        samples, run.pending = run.pending[:, :count], run.pending[:, count:]
        header = AudioHeader(
            CODECS[self._audio.codec], 2, run.flags, self.sequence, run.position, self._time_us(run), self._to_hz, count
        )
        payload = self._encoder.encode(samples, run.position, final)
        run.position, run.flags, self.sequence = run.position + count, 0, self.sequence + 1
        return header.pack() + payload

    def _time_us(self, run: _Run) -> int:
        assert self._newest is not None
        ahead = run.position * self._from_hz / self._to_hz - self._newest.start_sample
        return max(0, round(self._newest.time_us + ahead * 1e6 / self._from_hz))


# -- the other way, for clients -------------------------------------------------------------------------------------


class Decoder(Protocol):
    """Turns payloads into float32 [channels, n]."""

    def decode(self, payload: bytes, header: AudioHeader) -> Pcm:
        """Return one frame's samples."""
        ...


class _Pcm:
    def decode(self, payload: bytes, header: AudioHeader) -> Pcm:
        kind = "<i2" if header.codec == CODECS["s16le"] else "<f4"
        if len(payload) != header.frame_count * header.channels * int(kind[-1]):
            raise WireError("bad_audio", f"{len(payload)} bytes for {header.frame_count} frames of {kind}")
        frames = np.frombuffer(payload, kind).reshape(header.frame_count, header.channels).T
        return from_s16(frames) if kind == "<i2" else frames.astype(np.float32)


class _FromOpus:
    def __init__(self, rate_hz: int) -> None:
        self._decoder = OpusDecoder(rate_hz)

    def decode(self, payload: bytes, header: AudioHeader) -> Pcm:
        return self._decoder.decode(payload, header.frame_count)


def decoder(header: AudioHeader) -> Decoder:
    """Make the decoder for a stream that begins with this header.

    Raises:
        WireError: Opus, and it is not installed.
    """
    return _FromOpus(header.sample_rate_hz) if header.codec == CODECS["opus"] else _Pcm()
