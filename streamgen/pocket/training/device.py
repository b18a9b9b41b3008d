"""What training runs on: the GPU where there is one, else the processor, whose cores it may share.

On a shared machine all cores are used while the neighbours are quiet, one thread while they are not: with a neighbour
on one of two cores, a two-thread step waits at every barrier for the thread that got no core: measured four to ten
times slower than the same step on one thread.

Rules: knows no model; the stages do not change. Lessons and segments are drawn on the CPU and moved; heads are written,
weights exported there.
"""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch


def training_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bfloat16(device: torch.device) -> AbstractContextManager[object]:
    """Multiply matrices in bfloat16 where a device does that."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if device.type in ("cpu", "cuda") else nullcontext()


Result = TypeVar("Result")
BUSY_NEIGHBOUR = 0.35  # cores that others use; more than that, and our second thread would wait


class Pace:
    """Runs steps on as many threads as there are quiet cores, judged anew after every step."""

    def __init__(self) -> None:
        """Start with every core."""
        self._cores = os.cpu_count() or 1
        self._others = 0.0
        self._last = self._clocks()

    def run(self, step: Callable[[], Result]) -> Result:
        """Do one step."""
        torch.set_num_threads(self._cores if self._others < BUSY_NEIGHBOUR else 1)
        result = step()
        self._look_around()
        return result

    def _look_around(self) -> None:
        now, last = self._clocks(), self._last
        wall = now[0] - last[0]
        if wall > 0.3:  # the kernel counts in hundredths of a second
            others = ((now[1] - last[1]) - (now[2] - last[2])) / wall
            self._others, self._last = 0.5 * self._others + 0.5 * others, now

    @staticmethod
    def _clocks() -> tuple[float, float, float]:
        """Seconds: wall, all cores' work by anyone, this process's work."""
        stat = Path("/proc/stat")
        if not stat.exists():  # not Linux: believe in quiet neighbours
            return time.monotonic(), time.process_time(), time.process_time()
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, stat.read_text().split(None, 9)[1:9])
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy, time.process_time()
