"""OSC's clients: what each may still be answered, what waits for it and what it is told of its changes. Event loop.

    Client ─ waiting: requests, in its order ─► RequestQueue ─► carried out
           ◄ echo: addresses that changed, each at most 30 times a second ◄─

Rules: clients do not wait for each other, and what waits is bounded. Nothing here decides: what a request means, what
an address shows and how a packet leaves are given as functions.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.doors.door import Tasks
from bridge.doors.limits import Bucket, Turns
from bridge.doors.osc.namespace import Assign, Ignored, Light, Request
from bridge.session.commands import Action

__all__ = ["ECHO_SECONDS", "Client", "Clients", "Echo", "Lights", "Read", "RequestQueue"]

ECHO_SECONDS = 1 / 30
_MOST_CREDIT = 65_536.0
_SET_SECONDS = 0.02  # between two changes by one client: what comes meanwhile becomes one
_TURN_SECONDS = 0.001  # of one client's queries, before others have their turn

Send = Callable[[bytes], object]
Read = Callable[[str], bytes | None]
CarryOut = Callable[["Client", Request], Coroutine[Any, Any, None]]


class Echo:
    """Tells one client what addresses show, each at most once an interval and the last value always.

    Nothing is queued but the names of what changed.

    Args:
        send: takes a packet.
        read: encodes what an address shows now; None if there is no such address any more.
        turns: with other clients, who are told of the same change.
        interval_seconds: between two echoes.
    """

    def __init__(self, send: Send, read: Read, turns: Turns, interval_seconds: float = ECHO_SECONDS) -> None:
        self.send, self._read, self._turns, self._interval = send, read, turns, interval_seconds
        self._changed: dict[str, None] = {}
        self._timer: asyncio.Handle | None = None
        self._last = -1e9

    def mark(self, addresses: Iterable[str]) -> None:
        """Tell these: now if the last time is long enough ago, else as soon as it is."""
        self._changed.update(dict.fromkeys(addresses))
        if self._timer is None and self._changed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, self._last + self._interval - loop.time()), self._flush)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        if self._turns.spent:
            self._timer = loop.call_soon(self._flush)
            return
        self._timer, self._last = None, loop.time()
        changed, self._changed = self._changed, {}
        for packet in map(self._read, changed):
            if packet is not None:
                self.send(packet)

    def close(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None


class Lights:
    """What a program shows of its transport: a message a light, only where one changes, and each may come alone.

    While the transport changes, stop and play are both on or both off for a moment. Only where they differ it is known
    what the program does, so that one which is held is not taken for one that has stopped:

        play → pause   stop 1, pause 1, play 0        pause → play   stop 0, pause 0, play 1
        play → stop    stop 1, play 0                 pause → stop   pause 0

    A program that has said nothing yet has stopped: opening it, when it shows all, changes nothing.
    """

    def __init__(self) -> None:
        self._on = {Action.STOP: True, Action.PAUSE: False, Action.PLAY: False}
        self._does = Action.STOP

    def show(self, light: Light) -> Action | None:
        """Take a light; returns what the program does now, if that is something else."""
        self._on[light.action] = light.on
        if self._on[Action.STOP] is self._on[Action.PLAY]:
            return None
        before, halted = self._does, Action.PAUSE if self._on[Action.PAUSE] else Action.STOP
        self._does = Action.PLAY if self._on[Action.PLAY] and halted is Action.STOP else halted
        return None if self._does is before else self._does


@dataclass(eq=False)
class Client:
    """What the door remembers of a client.

    Attributes:
        key: (host, port) over UDP; anything else of its own over TCP.
        address: its socket address.
        send: takes a packet, gives False if it could not leave.
        connected: True over TCP: it is where it says it is.
        errors: limits error replies.
        credit: bytes it may be answered before it has proved that it is there.
        used: addresses by which it has set parameters: those are echoed to it.
        waiting: its requests that are not carried out yet, in order.
        worker: the task that carries them out.
        echo: tells it what it changed.
        next_set: earliest time of its next change, loop seconds.
        lights: of its own transport.
    """

    key: Hashable
    address: tuple[str, int]
    send: Callable[[bytes], bool]
    connected: bool
    errors: Bucket
    credit: float = 0.0
    used: set[str] = field(default_factory=set)
    waiting: deque[Request] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None
    echo: Echo = field(init=False)
    next_set: float = 0.0
    lights: Lights = field(default_factory=Lights)

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

    def append(self, request: Request, most: int) -> bool:
        """Let a request wait; changes that follow each other become one. False if too much waits."""
        last = self.waiting[-1] if self.waiting else None
        if isinstance(request, Assign) and isinstance(last, Assign) and last.goes_with(request):
            self.waiting[-1] = last.merged(request)
            return True
        if len(self.waiting) >= most:
            return False
        self.waiting.append(request)
        return True


class Clients:
    """All that the door remembers.

    Args:
        most: how many; of those over UDP, the one silent for longest is forgotten first.
        errors_per_second: error replies to one.
        reply: answers one.
        read: encodes what an address shows.
        turns: with all else that this door does.
    """

    def __init__(
        self, most: int, errors_per_second: float, reply: Callable[[Client, bytes], None], read: Read, turns: Turns
    ) -> None:
        self._most, self._errors = most, errors_per_second
        self._reply, self._read, self._turns = reply, read, turns
        self._known: OrderedDict[Hashable, Client] = OrderedDict()

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._known.values()))

    def get(self, key: Hashable) -> Client | None:
        """Return the client of a key, which speaks now."""
        client = self._known.get(key)
        if client is not None:
            self._known.move_to_end(key)
        return client

    def meet(
        self, key: Hashable, address: tuple[str, int], send: Callable[[bytes], bool], *, connected: bool
    ) -> Client:
        """Remember a client."""
        client = Client(key, address, send, connected, Bucket(self._errors, self._errors))
        client.echo = Echo(lambda packet: self._reply(client, packet), self._read, self._turns)
        self._known[key] = client
        if len(self._known) > self._most:
            self.forget(next(client for client in self if not client.connected))
        return client

    def forget(self, client: Client) -> None:
        """Forget a client."""
        if self._known.get(client.key) is client:
            del self._known[client.key]
        client.echo.close()


class RequestQueue:
    """Carries requests out in each client's order, as soon as can be.

    Args:
        carry_out: does what a request wants; raises nothing.
        turns: with all else that this door does: a hundred clients may ask at once.
        pending: how many may wait for one client.
    """

    def __init__(self, carry_out: CarryOut, turns: Turns, pending: int) -> None:
        self._carry_out, self._turns, self._pending = carry_out, turns, pending
        self._tasks = Tasks("osc")

    def put(self, client: Client, requests: Sequence[Request]) -> int:
        """Let requests wait for their turn; returns how many were lost because too many do."""
        wanted = [request for request in requests if not isinstance(request, Ignored)]
        lost = sum(not client.append(request, self._pending) for request in wanted)
        if client.waiting and client.worker is None:
            client.worker = self.spawn(self._work(client))
        return lost

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside all clients until it ends or the queue is closed."""
        return self._tasks.spawn(work)

    async def _work(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + _TURN_SECONDS
        try:
            while client.waiting:
                wait = self._too_early(client, loop.time())
                if wait or loop.time() > turn_ends:  # answers do not yield by themselves
                    await asyncio.sleep(wait)
                    turn_ends = loop.time() + _TURN_SECONDS
                await self._turns.take()
                await self._carry_out(client, client.waiting.popleft())
        finally:
            client.worker = None

    def _too_early(self, client: Client, now: float) -> float:
        """Return the seconds to wait with the change that is next: it may still grow meanwhile."""
        if not isinstance(client.waiting[0], Assign):
            return 0.0
        wait, client.next_set = max(0.0, client.next_set - now), max(now, client.next_set) + _SET_SECONDS
        return wait

    async def close(self) -> None:
        """Forget what waits, end what runs."""
        await self._tasks.close()
