"""What training measures as it goes, kept in a table and drawn: `NAME.csv` and `NAME.svg` in the run's folder.

Rules: knows numbers and names, no model. The table is the truth: a run that goes on reads it and draws the rest to it.
"""

import csv
from pathlib import Path

from matplotlib.figure import Figure

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
