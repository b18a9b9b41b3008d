from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from streamgen.pocket.training.curves import HEIGHT, MARGIN, WIDTH, Curve, draw, scale

SVG = "{http://www.w3.org/2000/svg}"


def test_a_run_that_goes_on_adds_to_its_curve(tmp_path: Path) -> None:
    Curve(tmp_path, "lm").add(10, {"first": 3.0, "later": 0.5})
    Curve(tmp_path, "lm").add(20, {"first": 2.0, "later": 0.25})
    assert Curve(tmp_path, "lm").read() == {"first": [(10, 3.0), (20, 2.0)], "later": [(10, 0.5), (20, 0.25)]}
    picture = ElementTree.parse(tmp_path / "lm.svg").getroot()
    assert [text.text for text in picture.iter(f"{SVG}text")][-2:] == ["first", "later"]


def test_lines_lie_where_their_values_are() -> None:
    picture = ElementTree.fromstring(draw({"loss": [(0, 4.0), (50, 2.0), (100, 0.0)]}))
    (line,) = picture.iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert points == [(MARGIN, MARGIN), (WIDTH / 2, HEIGHT / 2), (WIDTH - MARGIN, HEIGHT - MARGIN)]


@pytest.mark.parametrize("largest", [1e-4, 0.19, 1.0, 3.3, 6.93, 120.0])
def test_a_scale_has_a_few_round_steps_and_room_for_all(largest: float) -> None:
    ticks = scale(largest)
    assert 3 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-2] < largest <= ticks[-1] * (1 + 1e-9)
