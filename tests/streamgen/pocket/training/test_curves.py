from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from streamgen.pocket.training.curves import Curve, draw


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
