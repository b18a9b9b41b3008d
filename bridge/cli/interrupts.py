"""Ctrl-C and SIGTERM as a flag, so that a loop ends between two chunks and its file is closed whole.

Rules: main thread only (signal handlers are); the second signal falls through to Python's own handling.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopFlag", "stop_on_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """True once a signal has come."""

    def __init__(self) -> None:
        self._signal: int | None = None

    def __bool__(self) -> bool:
        """Whether to stop now."""
        return self._signal is not None

    def set(self, number: int, _frame: FrameType | None) -> None:
        """Take note of a signal; a second one interrupts at once."""
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Turn SIGINT and SIGTERM into a flag while the block runs, then put back what was there."""
    flag = StopFlag()
    before = {number: signal.signal(number, flag.set) for number in _SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
