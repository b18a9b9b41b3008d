"""Opus, by PyAV: packets of 20 ms, encoded once for all listeners of a session whose chunks lie on the same grid.

    position   0      960    1920   2880   3840        lane: one encoder, the packets of the newest seconds
    lane 0     ├──────┼──────┼──────┼──────┤           two listeners here share every packet
    lane 480      ├──────┼──────┼──────┤               a third, whose audio began elsewhere

An encoder costs 1.5 % of a core, fifty of them more than the event loop has; a packet that is there already costs
nothing. Who joins a lane later hears its packets from the middle, as with any broadcast: a decoder has caught up after
about 50 ms. What would disturb the others is encoded apart: the end before a pause, a gap or a change of format.

Rules: no I/O; imports PyAV when first asked, for it may be missing (`load` does it before there are listeners: a cold
disk takes seconds, and importing holds the interpreter).
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bridge.errors import WireError

__all__ = [
    "INSTALL",
    "RATES_HZ",
    "SECONDS",
    "OpusDecoder",
    "OpusEncoder",
    "OpusPackets",
    "installed",
    "load",
    "pre_skip",
]

RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
SECONDS = 0.02
INSTALL = "there is no Opus here: `pip install av`, or use s16le"
_BITS_A_SECOND = 128_000
_KEPT_PACKETS = 150  # 3 s: twice what any listener may be behind
_LANES, _KEPT_LAST = 8, 8

Pcm = NDArray[np.float32]
K = TypeVar("K")
V = TypeVar("V")


def installed() -> bool:
    """Tell whether PyAV is here, without importing it."""
    return importlib.util.find_spec("av") is not None


def load() -> None:
    """Load the libraries now, if they are here."""
    if installed():
        OpusEncoder(48_000)


def pre_skip(rate_hz: int) -> int:
    """Return the frames by which a decoder's output lags: libopus' look-ahead, 312 at 48 kHz."""
    return round(0.0065 * rate_hz)


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise WireError("codec_unavailable", INSTALL) from None
    return av


class OpusEncoder:
    """One stream of packets; what it encodes depends on what it encoded before.

    Args:
        rate_hz: one of RATES_HZ.

    Raises:
        WireError: PyAV is not installed.
    """

    def __init__(self, rate_hz: int) -> None:
        self._av = _pyav()
        self._context = self._av.CodecContext.create("libopus", "w")
        self._context.sample_rate, self._context.format, self._context.layout = rate_hz, "flt", "stereo"
        self._context.bit_rate = _BITS_A_SECOND
        self._context.options = {"compression_level": "5"}  # half the processor of libopus' 10, as good at 128 kbit/s
        self._context.open()
        self._rate_hz, self._frames = rate_hz, round(rate_hz * SECONDS)

    def encode(self, samples: Pcm) -> bytes:
        """Return the packet of float32 [2, n], n at most 20 ms; a shorter one is filled with silence."""
        whole = np.zeros((1, 2 * self._frames), np.float32)
        whole[0, : samples.size] = np.nan_to_num(samples.T).ravel()
        frame = self._av.AudioFrame.from_ndarray(whole, format="flt", layout="stereo")
        frame.sample_rate = self._rate_hz
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


class _Lane:
    """Packets on one grid."""

    def __init__(self, rate_hz: int) -> None:
        self._encoder, self._rate_hz = OpusEncoder(rate_hz), rate_hz
        self._packets: OrderedDict[int, bytes] = OrderedDict()
        self._newest = -1

    def packet(self, position: int, samples: Pcm) -> bytes:
        if position in self._packets:
            return self._packets[position]
        if position < self._newest:  # everybody skipped it but one: too late for the lane's encoder
            return OpusEncoder(self._rate_hz).encode(samples)
        self._newest = position
        packet = self._encoder.encode(samples)
        _keep(self._packets, position, packet, _KEPT_PACKETS)
        return packet


class OpusPackets:
    """The packets of one session."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[tuple[int, int], _Lane] = OrderedDict()
        self._last: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()

    def packet(self, rate_hz: int, position: int, samples: Pcm) -> bytes:
        """Return the packet of a piece of the session.

        Args:
            rate_hz: one of RATES_HZ.
            position: of its first frame, at that rate.
            samples: float32 [2, 20 ms]; looked at only where nobody asked for the same piece before.
        """
        key = rate_hz, position % samples.shape[1]
        lane = self._lanes.get(key) or _Lane(rate_hz)
        _keep(self._lanes, key, lane, _LANES)
        return lane.packet(position, samples)

    def last(self, rate_hz: int, position: int, samples: Pcm) -> bytes:
        """Return the packet of a piece with which a stretch of audio ends, 20 ms or less; see `packet`."""
        key = rate_hz, position, samples.shape[1]
        packet = self._last.get(key) or OpusEncoder(rate_hz).encode(samples)
        _keep(self._last, key, packet, _KEPT_LAST)
        return packet


def _keep(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Put it last, and forget what was unused for longest."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


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

    def decode(self, payload: bytes, frame_count: int) -> Pcm:
        """Return a packet's samples, float32 [2, at most frame_count].

        Raises:
            WireError: it is no Opus packet.
        """
        try:
            decoded = self._context.decode(self._av.Packet(payload))
            parts = [part.to_ndarray() for frame in decoded for part in self._resample.resample(frame)]
        except self._av.FFmpegError as problem:
            raise WireError("bad_audio", f"an Opus packet cannot be decoded: {problem}") from None
        whole = np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), np.float32)
        return np.asarray(whole[:, :frame_count], np.float32)
