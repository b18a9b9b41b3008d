"""What people read and do at a terminal: lines, tables and progress on stderr, typed lines, Ctrl-C.

Rules: knows no model and no audio; stdout carries nothing but the one JSON object. rich is imported where it draws: it
would take a tenth of a second from every `--help`.
"""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from bridge.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = [
    "Progress",
    "StopFlag",
    "kept_terminal",
    "lenient_output",
    "may_write",
    "on_terminal",
    "print_json",
    "say",
    "stop_on_signals",
    "table",
    "typed_lines",
    "warnings_as_lines",
]

_FIRST_AFTER_SECONDS = 2.0
_BAR_EVERY_SECONDS = 0.1
_LINE_EVERY_SECONDS = 10.0
_BAR_WIDTH = 24
_UNWRAPPED = 10_000  # columns of what is no terminal: a log's lines are broken by whoever reads them
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # but lines' ends and tabs
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


# -- what is said ------------------------------------------------------------------------------------------------------


def lenient_output() -> None:
    """Let what a console's code page lacks (cp850: …, ×) be shown as ?, and not end the command with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(line: str) -> None:
    """Print one line for a person; what would steer the terminal, in words that came from elsewhere, is spelled out."""
    print(_STEERING.sub(lambda found: ascii(found[0])[1:-1], line), file=sys.stderr, flush=True)


def print_json(fields: dict[str, Any]) -> None:
    """Print the command's result as one JSON object, on one line, in UTF-8 whatever the console's code page is."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    print(json.dumps(fields, ensure_ascii=False, allow_nan=False), flush=True)


class _Lines(logging.Handler):
    """Says what is logged, without ornament; of an unexpected error with its trace."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Say what the libraries of this house warn of while the block runs: they log, they do not print."""
    handler, loggers = _Lines(logging.WARNING), [logging.getLogger(name) for name in ("bridge", "streamgen")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lay rows out in columns; on a terminal the last column is folded to its width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in rows[0][:-1]:
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))  # as it is: a device's name may hold what rich takes for markup
    console = Console(stderr=True, width=None if sys.stderr.isatty() else _UNWRAPPED, color_system=None)
    with console.capture() as drawn:
        console.print(grid)
    return [line.rstrip() for line in drawn.get().splitlines()]


class Progress:
    """Audio made so far against the audio wanted, with the realtime factor.

    Silent for the first two seconds; then a bar on a terminal, or a plain line every ten seconds elsewhere.
    """

    def __init__(self, total_seconds: float, file: TextIO | None = None) -> None:
        self._total_seconds = total_seconds
        self._file = sys.stderr if file is None else file
        self._bar = self._file.isatty()
        self._began = time.monotonic()
        self._next = _FIRST_AFTER_SECONDS
        self._drawn: RichProgress | None = None

    def update(self, audio_seconds: float) -> None:
        """Show how much audio there is, if it is time to."""
        elapsed = time.monotonic() - self._began
        if elapsed < self._next:
            return
        self._next = elapsed + (_BAR_EVERY_SECONDS if self._bar else _LINE_EVERY_SECONDS)
        if self._bar:
            self._draw(audio_seconds, self._text(audio_seconds, elapsed))
        else:
            print(self._text(audio_seconds, elapsed), file=self._file, flush=True)

    def close(self) -> None:
        """Clear the bar, so that the next line starts clean."""
        if self._drawn is not None:
            self._drawn.stop()

    def _draw(self, audio_seconds: float, text: str) -> None:
        bar = self._drawn or self._rich_bar()
        bar.update(bar.task_ids[0], completed=audio_seconds, description=text, refresh=self._drawn is not None)
        bar.start()  # draws too; of no effect from the second time on
        self._drawn = bar

    def _rich_bar(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = (BarColumn(_BAR_WIDTH), TextColumn("{task.description}", markup=False))
        bar = RichProgress(*columns, console=Console(file=self._file), transient=True, auto_refresh=False)
        bar.add_task("", total=self._total_seconds)
        return bar

    def _text(self, audio_seconds: float, elapsed: float) -> str:
        factor = audio_seconds / elapsed
        remaining = max(0.0, self._total_seconds - audio_seconds)
        left = f"{remaining / factor:.0f} s left" if factor > 0 else "starting"
        return f"{audio_seconds:.1f} of {self._total_seconds:g} s  {factor:.2f} × real time  {left}"


# -- what is typed -----------------------------------------------------------------------------------------------------


def on_terminal() -> bool:
    """Tell whether a person types and reads here."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def may_write(*paths: Path, force: bool, instead: str = "another --out") -> None:
    """Ask before what is there is written over.

    Args:
        paths: what would be written.
        force: nobody is asked.
        instead: what else there is to choose.

    Raises:
        UsageError: there is something, and nobody said yes.
    """
    for path in paths:
        if not path.exists() or force:
            continue
        if not on_terminal():
            raise UsageError(f"{str(path)!r} is there already: choose {instead}, or --force to write over it")
        if input(f"{path} is there already: write over it? [y/N] ").strip().lower() not in ("y", "yes"):
            raise UsageError(f"{str(path)!r} stays as it is")


def typed_lines() -> Iterator[str]:
    """Give the lines a person types, with history and editing where readline exists, until Ctrl-D."""
    with suppress(ImportError):  # Windows has none: its console edits lines itself
        import readline  # noqa: F401 - its import is what gives input() editing
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


@contextmanager
def kept_terminal(terminal: bool) -> Iterator[None]:
    """Put the terminal's settings back at the end: a thread still waiting in input() would leave it without echo."""
    if not terminal or sys.platform == "win32":
        yield
        return
    import termios

    settings = termios.tcgetattr(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, settings)


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
    """Turn SIGINT and SIGTERM into a flag while the block runs, so that a loop ends where its file is whole.

    Main thread only, as signal handlers are. What handled them before is put back.
    """
    flag = StopFlag()
    before = {number: signal.signal(number, flag.set) for number in _SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
