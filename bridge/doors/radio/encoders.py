"""Samples as a stream that players open: MP3, Ogg Opus, FLAC (in Ogg too), AAC and WAV, by PyAV. No I/O.

    samples [2, n] ─► frames of the codec's length ─► codec ─► container ─► head, then pieces that may be joined at any

A piece is what one call gave: whole frames or pages. Who comes later gets the head and goes on with the newest pieces.

Rules: any one thread at a time. PyAV may be missing, and is imported when first asked for.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.conversion import resampler
from bridge.errors import WireError

__all__ = ["CODECS", "Codec", "StreamEncoder", "missing"]

Pcm = NDArray[np.float32]
_INSTALL = "streams need PyAV, which is not installed here: `pip install av`"


@dataclass(frozen=True)
class Codec:
    """How a stream is coded.

    Attributes:
        suffix: of its path, and its name.
        kind: content type.
        container, encoder, sample_format: as FFmpeg calls them.
        rates_hz: that it has; () is any.
        kilobits: a second; 0 where the music decides.
        options: of the container.
        titles: players look for ICY titles in it.
    """

    suffix: str
    kind: str
    container: str
    encoder: str
    sample_format: str
    rates_hz: tuple[int, ...] = ()
    kilobits: int = 0
    options: dict[str, str] = field(default_factory=dict)
    titles: bool = False

    def rate_hz(self, session_hz: int) -> int:
        """Return the rate it is sent at: the session's own if the codec has it."""
        return session_hz if not self.rates_hz or session_hz in self.rates_hz else 48_000


_PLAIN_RATES_HZ = (32_000, 44_100, 48_000)
# No Xing frame, which tells a length; no ID3 tag; Ogg pages of 0.2 s, where a second would make it that much later, and
# of one frame of FLAC, which is 0.1 s: a page waits for the next one.
_MP3 = {"write_xing": "0", "id3v2_version": "0"}
CODECS = {
    codec.suffix: codec
    for codec in (
        Codec("mp3", "audio/mpeg", "mp3", "libmp3lame", "fltp", _PLAIN_RATES_HZ, 192, _MP3, titles=True),
        Codec("ogg", "audio/ogg", "ogg", "libopus", "flt", (48_000,), 128, {"page_duration": "200000"}),
        Codec("flac", "audio/flac", "flac", "flac", "s16"),
        Codec("oga", "audio/ogg", "ogg", "flac", "s16", options={"page_duration": "1"}),
        Codec("aac", "audio/aac", "adts", "aac", "fltp", _PLAIN_RATES_HZ, 160, titles=True),
        Codec("wav", "audio/wav", "wav", "pcm_s16le", "s16"),
    )
}
"""Every stream there is, by suffix."""


def missing() -> str:
    """Return what to do before there are streams; "" where nothing is to be done."""
    return "" if importlib.util.find_spec("av") is not None else _INSTALL


class StreamEncoder:
    """One endless stream.

    Args:
        codec: how.
        session_hz: rate of what it will be given.
        title: what players show of a stream without ICY titles.

    Attributes:
        head: what every listener gets first.
        rate_hz: of the stream.

    Raises:
        WireError: PyAV is not installed.
    """

    def __init__(self, codec: Codec, session_hz: int, title: str) -> None:
        if what := missing():
            raise WireError("codec_unavailable", what)
        import av

        self.codec, self.rate_hz = codec, codec.rate_hz(session_hz)
        self._av: Any = av
        self._out = _Out()
        self._convert = resampler(session_hz, self.rate_hz)
        self._container: Any = av.open(
            self._out, "w", format=codec.container, options={"flush_packets": "1", **codec.options}
        )
        self._stream: Any = self._container.add_stream(codec.encoder, rate=self.rate_hz)
        context: Any = self._stream.codec_context
        context.layout, context.format = "stereo", codec.sample_format
        if codec.kilobits:
            context.bit_rate = codec.kilobits * 1000
        self._container.metadata["title"] = title
        self._container.start_encoding()
        self.head = self._out.take()
        self._cut: Any = av.AudioResampler(
            format=codec.sample_format, layout="stereo", rate=self.rate_hz, frame_size=context.frame_size or None
        )
        self._position = 0

    def encode(self, samples: Pcm) -> bytes:
        """Return what float32 [2, n] adds to the stream: nothing while a frame or a page is not full.

        Beyond full scale is clipped, NaN is silence.
        """
        samples = self._convert.process(np.clip(np.nan_to_num(samples), -1, 1))
        if samples.shape[1]:
            frame = self._av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = self.rate_hz, self._position
            self._position += samples.shape[1]
            for part in self._cut.resample(frame):
                self._container.mux(self._stream.encode(part))
        return self._out.take()

    def close(self) -> None:
        """Let go of the codec; what was not a full frame is lost."""
        self._container.close()


class _Out:
    """What a container writes to, as it comes: it cannot be gone back in, so no length is ever filled in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
