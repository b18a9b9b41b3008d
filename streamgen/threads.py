"""On how many threads torch computes while a model plays.

A small checkpoint's products fit into one core's cache: a second thread gains less than waiting for it costs, and where
other programs use that core it costs everything. On two busy cores 16 seconds of pocket took 278 s on two threads, 9 on
one.

Rules: torch's number of threads is the caller's; it is set around the work and put back. torch keeps one for each
thread, and starts a new thread with what was set last: one that first computes while another plays begins with that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["computing_on"]


@contextmanager
def computing_on(threads: int | None) -> Iterator[None]:
    """Compute on so many threads within the block; None leaves torch as it is."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
