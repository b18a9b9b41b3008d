"""What people read: lines and progress bars on stderr, and the one JSON object on stdout.

Rules: knows no model and no audio; stdout carries nothing but the JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

__all__ = ["Progress", "kept_terminal", "on_terminal", "print_json", "say", "table", "typed_lines"]

_FIRST_AFTER_SECONDS = 2.0
_BAR_EVERY_SECONDS = 0.1
_LINE_EVERY_SECONDS = 10.0
_BAR_WIDTH = 24


def say(line: str) -> None:
    """Print one line for a person."""
    print(line, file=sys.stderr, flush=True)


def print_json(fields: dict[str, Any]) -> None:
    """Print the command's result as one JSON object, on one line."""
    print(json.dumps(fields, ensure_ascii=False, allow_nan=False), flush=True)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lay out rows in columns as wide as their widest cell; the last column runs free."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]


def on_terminal() -> bool:
    """Tell whether a person types and reads here."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


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
        self._drawn = False

    def update(self, audio_seconds: float) -> None:
        """Show how much audio there is, if it is time to."""
        elapsed = time.monotonic() - self._began
        if elapsed < self._next:
            return
        self._next = elapsed + (_BAR_EVERY_SECONDS if self._bar else _LINE_EVERY_SECONDS)
        self._draw(self._text(audio_seconds, elapsed))

    def close(self) -> None:
        """Clear the bar, so that the next line starts clean."""
        if self._drawn and self._bar:
            self._file.write("\r\x1b[K")
            self._file.flush()

    def _draw(self, text: str) -> None:
        self._file.write(f"\r{text}\x1b[K" if self._bar else f"{text}\n")
        self._file.flush()
        self._drawn = True

    def _text(self, audio_seconds: float, elapsed: float) -> str:
        factor = audio_seconds / elapsed
        remaining = max(0.0, self._total_seconds - audio_seconds)
        left = f"{remaining / factor:.0f} s left" if factor > 0 else "starting"
        figures = f"{audio_seconds:.1f} of {self._total_seconds:g} s  {factor:.2f} × real time  {left}"
        if not self._bar:
            return figures
        filled = int(_BAR_WIDTH * min(1.0, audio_seconds / self._total_seconds))
        return "█" * filled + "░" * (_BAR_WIDTH - filled) + "  " + figures
