"""What the listeners of one session share, so that fifty of them cost little more than one. No I/O.

Rules: lives as long as one of them does; knows neither sockets nor who listens.
"""

from __future__ import annotations

from bridge.doors.native import protocol as wire
from bridge.doors.native.opus import OpusPackets
from bridge.session.messages import Changed, Discard, Gap, Goaway, Stats, Transported

__all__ = ["Broadcast"]

Told = Changed | Transported | Gap | Discard | Stats | Goaway


class Broadcast:
    """One session's.

    Attributes:
        packets: its sound as Opus.
    """

    def __init__(self) -> None:
        self.packets = OpusPackets()
        self._newest: tuple[Told, str] | None = None

    def text(self, event: Told) -> str:
        """Return the message for an event; the session tells every listener the same object, one after another."""
        if self._newest is None or self._newest[0] is not event:
            self._newest = event, wire.event(event)
        return self._newest[1]
