"""What training measures as it goes, kept in a table and drawn: `NAME.csv` and `NAME.svg` in the run's folder.

Rules: knows numbers and names, no model. The table is the truth: a run that goes on reads it and draws the rest to it.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 640, 320, 46
COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#e377c2")

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
        self._picture.write_text(draw(self.read()))

    def read(self) -> dict[str, list[Point]]:
        """(step, value) pairs by name."""
        with self._table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name != "step"]
        return {name: [(float(row["step"]), float(row[name])) for row in rows] for name in names}


def draw(series: dict[str, list[Point]]) -> str:
    """Lines over the step, from zero up, as an SVG picture with its scale and its names."""
    points = [point for line in series.values() for point in line]
    last = max((step for step, _ in points), default=1) or 1
    ticks = scale(max((value for _, value in points), default=1))

    def place(step: float, value: float) -> Point:
        across = MARGIN + step / last * (WIDTH - 2 * MARGIN)
        return round(across, 1), round(HEIGHT - MARGIN - value / ticks[-1] * (HEIGHT - 2 * MARGIN), 1)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">']
    parts.append('<rect width="100%" height="100%" fill="white"/>')
    for tick in ticks:
        (left, at), (right, _) = place(0, tick), place(last, tick)
        parts.append(f'<path d="M{left} {at}H{right}" stroke="#ddd"/>{_text(left - 6, at + 4, f"{tick:g}", "end")}')
    parts.append(_text(WIDTH - MARGIN, HEIGHT - MARGIN + 16, f"step {last:g}", "end"))
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(MARGIN + 8, MARGIN - 26 + 14 * number, name, "start", colour))
    return "\n".join([*parts, "</svg>\n"])


def scale(largest: float) -> Sequence[float]:
    """Three to six round numbers from zero to at least `largest`."""
    step = 10.0 ** math.floor(math.log10(max(largest, 1e-9) / 2))
    step *= next(times for times in (1, 2, 5, 10) if largest / (step * times) <= 5)
    return [step * number for number in range(math.ceil(largest / step - 1e-9) + 1)]


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#444") -> str:
    return f'<text x="{x}" y="{y}" font-size="12" text-anchor="{anchor}" fill="{colour}">{words}</text>'
