from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

from streamgen.pocket.training.pictures import UNLIKE, Curve, draw, similarity, spectrogram, stack, write_png


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


def test_bars_that_are_alike_are_white_and_strangers_black() -> None:
    bars = [torch.zeros(3, 5), torch.full((3, 5), 0.4 * UNLIKE), torch.zeros(3, 5), torch.full((3, 5), 2 * UNLIKE)]
    picture = similarity(bars)
    assert picture.shape == (8, 8, 3)
    assert picture[::2, ::2, 0].tolist() == [
        [255, 153, 255, 0],
        [153, 255, 153, 0],
        [255, 153, 255, 0],
        [0, 0, 0, 255],
    ]


def test_a_run_that_goes_on_adds_to_its_curve(tmp_path: Path) -> None:
    Curve(tmp_path, "lm").add(10, {"first": 3.0, "later": 0.5})
    Curve(tmp_path, "lm").add(20, {"first": 2.0, "later": 0.25})
    assert Curve(tmp_path, "lm").read() == {"first": [(10, 3.0), (20, 2.0)], "later": [(10, 0.5), (20, 0.25)]}
    assert ElementTree.parse(tmp_path / "lm.svg").getroot().tag.endswith("svg")


def test_lines_are_the_values_and_start_from_zero() -> None:
    (axes,) = draw({"loss": [(0, 4.0), (50, 2.0)], "other": [(0, 1.0)]}).axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 4], [50, 2]], [[0, 1]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "other"]
    assert axes.get_ylim()[0] == 0
