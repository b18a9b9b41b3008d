"""Spectrograms as PNG files, with nothing but zlib.

Rules: arrays in, files out. Low frequencies at the bottom, time to the right, one grey line between stacked pictures.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from streamgen.pocket.training.mel import log_mel

Picture = npt.NDArray[np.uint8]
FLOOR_DB, TOP_DB = -90.0, -10.0


def spectrogram(audio: npt.NDArray[np.float32]) -> Picture:
    """A log-mel picture uint8 [128, frames, 3] of mono samples at 32 kHz."""
    mel = 20 * log_mel(torch.from_numpy(audio)[None], 2048, 128)[0].numpy()[::-1]
    level = np.clip((mel - FLOOR_DB) / (TOP_DB - FLOOR_DB), 0.0, 1.0)
    return _colours(level[:, ::2])


def _colours(level: npt.NDArray[np.floating]) -> Picture:
    """Black, violet, orange, white for 0 … 1."""
    stops = np.array([[0, 0, 0], [80, 20, 110], [230, 110, 40], [255, 255, 240]], dtype=np.float32)
    place = level * (len(stops) - 1)
    below = np.minimum(place.astype(int), len(stops) - 2)
    mixed = stops[below] + (stops[below + 1] - stops[below]) * (place - below)[..., None]
    return np.asarray(mixed, dtype=np.uint8)


def stack(pictures: list[Picture]) -> Picture:
    """Pictures one above the other, cut to the narrowest."""
    width = min(picture.shape[1] for picture in pictures)
    line = np.full((2, width, 3), 128, dtype=np.uint8)
    rows = [part for picture in pictures for part in (picture[:, :width], line)]
    return np.concatenate(rows[:-1])


def write_png(path: Path, picture: Picture) -> None:
    """Write an 8-bit RGB picture [height, width, 3]."""
    height, width, _ = picture.shape
    raw = b"".join(b"\0" + row.tobytes() for row in picture)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, 9)) + _chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
