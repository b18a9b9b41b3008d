"""Pictures: spectrograms as PNG files, and what training measures as it goes, as `NAME.csv` and `NAME.svg`.

Rules: arrays and numbers in, files out; knows no model. In a spectrogram low frequencies are at the bottom, time goes
to the right, one grey line between stacked pictures. Of how alike bars are, the first is at the top left. A curve's
table is the truth: a run that goes on reads it and draws the rest to it.
"""

import csv
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from streamgen.pocket.training.mel import log_mel

Picture = npt.NDArray[np.uint8]
FLOOR_DB, TOP_DB = -90.0, -10.0
UNLIKE = 0.4  # log10-mel L1: bars of two songs are as far apart


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


def similarity(bars: list[Tensor]) -> Picture:
    """How alike the bars of a stream are, each to each: white where equal, black from `UNLIKE` on.

    Args:
        bars: n log10-mel spectra, all [bands, frames].

    Returns:
        uint8 [2 n, 2 n, 3].
    """
    stacked = torch.stack(bars)
    apart = torch.stack([(stacked - bar).abs().mean(dim=(1, 2)) for bar in bars])
    level = (255 * (1 - apart / UNLIKE).clamp(min=0)).round().numpy().astype(np.uint8)
    return level.repeat(2, axis=0).repeat(2, axis=1)[..., None].repeat(3, axis=2)


def write_png(path: Path, picture: Picture) -> None:
    """Write an 8-bit RGB picture [height, width, 3]."""
    Image.fromarray(picture).save(path, optimize=True)


Point = tuple[float, float]


class Curve:
    """Some values by training step."""

    def __init__(self, folder: Path, name: str) -> None:
        """Keep `folder/name.csv`, going on with what is there."""
        self._table, self._picture = folder / f"{name}.csv", folder / f"{name}.svg"

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add one step's values, always under the same names, and draw everything so far."""
        fresh = not self._table.exists()
        with self._table.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{value:.4f}" for value in values.values())])
        draw(self.read()).savefig(self._picture)

    def read(self) -> dict[str, list[Point]]:
        """(step, value) pairs by name."""
        with self._table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name != "step"]
        return {name: [(float(row["step"]), float(row[name])) for row in rows] for name in names}


def draw(series: dict[str, list[Point]]) -> Figure:
    """Lines over the step, from zero up, with their names."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step")
    for name, line in series.items():
        axes.plot(*zip(*line, strict=True), label=name)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
