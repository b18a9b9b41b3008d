"""One OSC client, as the door knows it. Event loop.

Rules: owns what is remembered of a client: what it may still be answered, what it used, what it waits for. It decides
nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from bridge.doors.osc.feedback import Echo
from bridge.doors.limits import Bucket
from bridge.doors.osc.namespace import Assign, Wish, addresses_of

__all__ = ["Peer"]

_MOST_CREDIT = 65_536.0


@dataclass(eq=False)
class Peer:
    """One client.

    Attributes:
        key: (host, port) over UDP; anything else of its own over TCP.
        address: its socket address.
        send: takes a packet, gives False if it could not leave.
        connected: True over TCP: it is where it says it is.
        errors: limits error replies.
        credit: bytes it may be answered before it has proved that it is there.
        used: addresses it has set, by parameter: those are echoed to it.
        wishes: what it waits for, in order.
        worker: the task that carries them out.
        next_set: earliest time of its next change, loop seconds.
    """

    key: Hashable
    address: tuple[str, int]
    send: Callable[[bytes], bool]
    connected: bool
    errors: Bucket
    credit: float = 0.0
    used: dict[str, dict[str, None]] = field(default_factory=dict)
    wishes: deque[Wish] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None
    echo: Echo | None = None
    next_set: float = 0.0

    @property
    def host(self) -> str:
        """Its IP address."""
        return self.address[0]

    @property
    def by(self) -> str:
        """Its name in `Changed`."""
        return f"osc {self.address[0]}:{self.address[1]}"

    def earn(self, amount: float) -> None:
        """Be entitled to more bytes."""
        self.credit = min(_MOST_CREDIT, self.credit + amount)

    def spend(self, amount: int) -> bool:
        """Use that up; False if there is not enough."""
        if self.credit < amount:
            return False
        self.credit -= amount
        return True

    def uses(self, wish: Assign) -> None:
        """Remember the addresses by which it sets parameters."""
        for name in wish.values:
            shown = addresses_of(name)
            self.used.setdefault(name, {}).update(dict.fromkeys(a for a in wish.addresses if a in shown))

    def used_for(self, names: Iterable[str]) -> list[str]:
        """Return the addresses by which it set these parameters."""
        return [address for name in names for address in self.used.get(name, ())]

    def wait_for(self, wish: Wish, most: int) -> bool:
        """Queue a wish; changes that follow each other become one. False if too much waits."""
        last = self.wishes[-1] if self.wishes else None
        if isinstance(wish, Assign) and isinstance(last, Assign):
            self.wishes[-1] = last.merged(wish)
            return True
        if len(self.wishes) >= most:
            return False
        self.wishes.append(wish)
        return True
