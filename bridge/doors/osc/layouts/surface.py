"""What every layout is made from: the table's rows by kind, and addresses that are there.

Rules: no file, no socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.doors.osc.codec import Message, OscError
from bridge.doors.osc.namespace import PREFIX, Namespace
from bridge.session.commands import KEEP_SECONDS, Action
from streamgen.config import MAX_PROMPTS, ControlSpec

__all__ = ["DEEDS", "Surface", "lines", "pressed"]

DEEDS = (*Action, "keep")
"""What a button does."""


@dataclass(frozen=True)
class Surface:
    """What a layout is made from.

    Attributes:
        table: the session's parameters.
        host: where the service is.
        port: of its OSC.
        listen: the port that the program listens at.
    """

    table: Mapping[str, ControlSpec]
    host: str = "127.0.0.1"
    port: int = 8712
    listen: int = 9000

    def at(self, word: str) -> str:
        """Return an address.

        Raises:
            OscError: there is none such.
        """
        try:
            Namespace(self.table).interpret(Message(PREFIX + word))
        except OscError as error:  # it is asked without its arguments
            if error.reason == "unknown_address":
                raise
        return PREFIX + word

    @property
    def knobs(self) -> list[ControlSpec]:
        """What goes over a range, but for the prompts' weights."""
        return [row for row in self._own if row.has_range and row.type != "bool"]

    @property
    def switches(self) -> list[ControlSpec]:
        """What is on or off."""
        return [row for row in self._own if row.type == "bool"]

    @property
    def choices(self) -> list[ControlSpec]:
        """What is one of some words."""
        return [row for row in self._own if row.choices]

    @property
    def _own(self) -> list[ControlSpec]:
        return [row for name, row in self.table.items() if "/" not in name]

    @property
    def slots(self) -> range:
        """The numbers of the prompts."""
        return range(1, MAX_PROMPTS + 1)


def pressed(deed: str) -> int:
    """Return what a press of a deed's button sends: 1, but for the one that takes seconds."""
    return int(KEEP_SECONDS.default) if deed == "keep" else 1


def lines(text: Iterable[str]) -> bytes:
    """Return lines as a file has them."""
    return "\n".join([*text, ""]).encode()
