"""What a controller does: bytes in, what to turn out. No I/O.

    cc 1/74      channel 1, controller 74; of 14 bits where its finer half (106) follows at once
    nrpn 1/300   a parameter number, by controllers 99, 98, 6, 38
    note 10/36   a key or a pad           pc 1/5  a program          bend 1  the wheel

A knob that stands elsewhere than its parameter turns nothing until it has come past it.

Rules: knows no port and no session. Channels count from 1, as on the instruments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MidiParser", "Moved", "Pickup"]

_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM, _BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0
_LSB, _DATA, _DATA_LSB = 32, 6, 38
_NRPN_LSB, _NRPN, _RPN_LSB, _RPN = 98, 99, 100, 101
_NULL = 0x3FFF
_COARSE = 128


@dataclass(frozen=True)
class Moved:
    """Something was turned or struck.

    Attributes:
        source: what, as in the map.
        value: how far, 0 … 1; of a key how hard, 0 when it is let go.
        steps: how many values it has.
    """

    source: str
    value: float
    steps: int = _COARSE

    @property
    def is_struck(self) -> bool:
        """Whether it is a key, a pad or a program, and no knob."""
        return self.source.startswith(("note ", "pc "))


class MidiParser:
    """Reads one port's messages."""

    def __init__(self) -> None:
        self._last: tuple[int, int, int] | None = None  # channel, controller, value of the message before
        self._fine: set[tuple[int, int]] = set()  # controllers that have a finer half
        self._selected: dict[int, int] = {}  # parameter number of each channel
        self._high: dict[int, int] = {}  # its coarse half

    def feed(self, message: Sequence[int]) -> Moved | None:
        """Take a message; returns what it means, if that is anything to us."""
        if len(message) < 2:
            return None
        kind, channel, first = message[0] & 0xF0, (message[0] & 0x0F) + 1, message[1] & 0x7F
        second = message[2] & 0x7F if len(message) > 2 else 0
        if kind == _CONTROL:
            return self._control(channel, first, second)
        if kind in (_NOTE_ON, _NOTE_OFF):
            return Moved(f"note {channel}/{first}", second / 127 if kind == _NOTE_ON else 0.0)
        if kind == _PROGRAM:
            return Moved(f"pc {channel}/{first}", 1.0)
        if kind == _BEND:
            return Moved(f"bend {channel}", (second << 7 | first) / _NULL, _NULL + 1)
        return None

    def _control(self, channel: int, number: int, value: int) -> Moved | None:
        before, self._last = self._last, (channel, number, value)
        if number in (_NRPN, _NRPN_LSB, _RPN, _RPN_LSB):
            self._select(channel, number, value)
            return None
        selected = self._selected.get(channel, _NULL)
        if number in (_DATA, _DATA_LSB) and selected != _NULL:
            return self._data(channel, number, value, selected)
        coarse = number - _LSB
        if 0 <= coarse < _LSB and before is not None and before[:2] == (channel, coarse):
            self._fine.add((channel, coarse))
            return Moved(f"cc {channel}/{coarse}", (before[2] << 7 | value) / _NULL, _NULL + 1)
        if (channel, number) in self._fine:
            return None  # its finer half follows
        return Moved(f"cc {channel}/{number}", value / 127)

    def _select(self, channel: int, number: int, value: int) -> None:
        if number in (_RPN, _RPN_LSB):
            self._selected.pop(channel, None)
            return
        now = self._selected.get(channel, 0)
        self._selected[channel] = value << 7 | now & 0x7F if number == _NRPN else now & 0x3F80 | value

    def _data(self, channel: int, number: int, value: int, selected: int) -> Moved:
        source = f"nrpn {channel}/{selected}"
        if number == _DATA:
            self._high[channel] = value
            return Moved(source, value / 127)
        return Moved(source, (self._high.get(channel, 0) << 7 | value) / _NULL, _NULL + 1)


class Pickup:
    """Which knobs have got hold of their parameters."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}  # where each knob was last
        self._put: dict[str, float] = {}  # what each set last

    def takes(self, moved: Moved, present: float) -> bool:
        """Tell whether a knob turns its parameter, which stands at `present`, 0 … 1: if it is there or comes past."""
        near = 1.5 / min(moved.steps, _COARSE)
        before = self._seen.get(moved.source)
        self._seen[moved.source] = moved.value
        held = abs(self._put.get(moved.source, -1.0) - present) < near
        passed = before is not None and (before - present) * (moved.value - present) <= 0
        if not (held or passed or abs(moved.value - present) <= near):
            return False
        self._put[moved.source] = moved.value
        return True
