"""What the shipped checkpoint makes of three prompts, as one picture: this is how the README's was made.

python examples/spectrograms.py --seconds 8 --out pictures/spectrograms.png
"""

from __future__ import annotations

import argparse
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

import streamgen

PROMPTS = (
    "house, 125 bpm, drums and synth bass",
    "rock, 150 bpm, distorted guitar, bass, drums",
    "jazz trio, 125 bpm, piano, double bass, drums",
)
WINDOW, HOP, ROWS = 2048, 512, 128
FLOOR_DB, TOP_DB = -90.0, -10.0
STOPS = np.array([[0, 0, 0], [80, 20, 110], [230, 110, 40], [255, 255, 240]], dtype=float)  # black to nearly white

Picture = npt.NDArray[np.uint8]


def spectrogram(mono: npt.NDArray[np.float32], sample_rate_hz: int) -> Picture:
    """Colours [ROWS, frames, 3]: low notes at the bottom, rows equally wide in mel."""
    frames = np.lib.stride_tricks.sliding_window_view(mono, WINDOW)[::HOP] * np.hanning(WINDOW)
    magnitudes = np.abs(np.fft.rfft(frames)) * 4 / WINDOW
    top_mel = 2595 * np.log10(1 + sample_rate_hz / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top_mel, ROWS + 1) / 2595) - 1)
    edges = np.round(hertz / sample_rate_hz * WINDOW).astype(int)
    rows = [magnitudes[:, low : max(high, low + 1)].max(axis=1) for low, high in pairwise(edges)]
    level = 20 * np.log10(np.maximum(np.array(rows[::-1]), 1e-6))
    place = np.clip((level - FLOOR_DB) / (TOP_DB - FLOOR_DB), 0.0, 1.0) * (len(STOPS) - 1)
    return np.stack([np.interp(place, range(len(STOPS)), stops) for stops in STOPS.T], axis=-1).astype(np.uint8)


def png(picture: Picture) -> bytes:
    """An 8-bit RGB picture [height, width, 3] in PNG's format, which the standard library has all parts of."""
    height, width, _ = picture.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")
    chunks = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("spectrograms.png"))
    args = parser.parse_args()

    model = streamgen.load_model(args.model)
    pictures = []
    for prompt in PROMPTS:
        clip = model.generate([prompt], args.seconds, seed=args.seed)[0]
        pictures.append(np.repeat(spectrogram(clip.samples.mean(axis=0), clip.sample_rate_hz), 3, axis=1))
        pictures.append(np.full((2, pictures[0].shape[1], 3), 128, np.uint8))  # a grey line
        print(prompt)
    args.out.write_bytes(png(np.concatenate(pictures[:-1])))


if __name__ == "__main__":
    main()
