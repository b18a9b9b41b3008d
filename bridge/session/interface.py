"""The session as doors see it (asyncio side). `engine_thread.LiveSession` is the real one.

Rules: an interface, so that doors are tested against a small in-test session; everything here is called on the event
loop and never blocks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bridge.session.messages import Block, Command, Listener, Stats
from bridge.session.parameters import Value

__all__ = ["Session"]


class Session(Protocol):
    """One endless stream that any number of doors listen to and steer.

    Attributes:
        name: "live" for the shared one.
        model: name of the checkpoint.
        sample_rate_hz: of all blocks.
    """

    name: str
    model: str
    sample_rate_hz: int

    def values(self) -> Mapping[str, Value]:
        """Every parameter's value, as last set."""
        ...

    def playing(self) -> bool:
        """Whether the transport plays."""
        ...

    def position_samples(self) -> int:
        """First sample that is not final yet."""
        ...

    async def do(self, command: Command) -> int:
        """Carry a command out.

        Returns:
            The sample at which it applies.

        Raises:
            StreamgenError: it cannot be done; one line says why. Nothing is changed then.
        """
        ...

    def add(self, listener: Listener) -> Sequence[Block]:
        """Start telling a listener everything; returns the final blocks that are not yet due, its first burst."""
        ...

    def remove(self, listener: Listener) -> None:
        """Stop telling a listener; unknown ones are ignored."""
        ...

    def stats(self) -> Stats:
        """How the session is doing now."""
        ...

    async def record(self, path: Path | None) -> None:
        """Write the output to a file from now on; None ends it.

        Raises:
            StreamgenError: the file cannot be written.
        """
        ...
