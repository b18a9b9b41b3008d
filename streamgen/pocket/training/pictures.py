"""Spectrograms as PNG files.

Rules: arrays in, files out. Low frequencies at the bottom, time to the right, one grey line between stacked pictures.
"""

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from streamgen.pocket.training.mel import log_mel

Picture = npt.NDArray[np.uint8]
FLOOR_DB, TOP_DB = -90.0, -10.0


def spectrogram(audio: npt.NDArray[np.float32]) -> Picture:
    """A log-mel picture uint8 [128, frames, 3] of mono samples at 32 kHz."""
    mel = 20 * log_mel(torch.from_numpy(audio)[None], 2048, 128)[0].numpy()[::-1]
    level = np.clip((mel - FLOOR_DB) / (TOP_DB - FLOOR_DB), 0.0, 1.0)
    return np.asarray(matplotlib.colormaps["inferno"](level[:, ::2], bytes=True)[..., :3])


def stack(pictures: list[Picture]) -> Picture:
    """Pictures one above the other, cut to the narrowest."""
    width = min(picture.shape[1] for picture in pictures)
    line = np.full((2, width, 3), 128, dtype=np.uint8)
    rows = [part for picture in pictures for part in (picture[:, :width], line)]
    return np.concatenate(rows[:-1])


def write_png(path: Path, picture: Picture) -> None:
    """Write an 8-bit RGB picture [height, width, 3]."""
    Image.fromarray(picture).save(path, optimize=True)
