"""How many threads torch computes with.

Rules: decided before the model is loaded, by its size alone, so that the same command gives the same bits every time:
sums depend on how they are split. A library must not set this for its caller; a command line may.

Measured on 2 cores that other programs used too, a step's products with two threads: OpenMP's default of spinning while
it waits 171 ms (small: 37), sleeping at once 54 ms (small: 10); one thread 53 ms (small: 9). A spinning thread uses up
its share of the processor, and is then not scheduled when there is work.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["SMALL_BYTES", "set_threads"]

SMALL_BYTES = 200_000_000  # its products fit into one core's cache: a second core gains less than its waiting costs


def set_threads(wanted: int | None, folder: Path) -> int:
    """Set torch's threads; returns how many there are now.

    Args:
        wanted: what the user said; None decides by size: one for a small checkpoint, else torch's own choice.
        folder: where the checkpoint lies.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "0")  # read when torch loads its OpenMP library, so before the import
    import torch

    if wanted is None and _size_bytes(folder) < SMALL_BYTES:
        wanted = 1
    if wanted is not None:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
