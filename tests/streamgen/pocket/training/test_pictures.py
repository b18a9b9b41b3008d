from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from streamgen.pocket.training.pictures import spectrogram, stack, write_png


def test_a_sine_is_one_bright_line(tmp_path: Path) -> None:
    sine = np.sin(np.arange(64000) * 2 * np.pi * 440 / 32000).astype(np.float32)
    picture = spectrogram(sine)
    bright = picture.sum(axis=2).mean(axis=1)
    assert bright.argmax() > 64  # low notes are at the bottom
    assert (bright > 0.5 * bright.max()).sum() < 16


def test_png_holds_the_pixels(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert (np.asarray(image) == picture).all()


def test_stacked_pictures_are_cut_to_the_narrowest() -> None:
    assert stack([np.zeros((4, 9, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]).shape == (10, 6, 3)
