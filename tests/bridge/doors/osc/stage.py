"""A session, its door on real sockets, and clients, for the tests of this door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.osc.admission import OscLimits
from bridge.doors.osc.codec import Message, decode, encode
from bridge.doors.osc.door import OscDoor
from bridge.metrics import Metrics
from bridge.session.session import Session
from bridge.settings import Settings


@dataclass
class OneSession:
    """`bridge.doors.door.Sessions` with `live` alone."""

    live: Session

    async def get(self, name: str) -> Session:
        raise NotImplementedError


def made(
    host: str = "127.0.0.1",
    port: int = 0,
    limits: OscLimits | None = None,
    token: str = "",
    osc_target: tuple[str, ...] = (),
) -> OscDoor:
    """Return a door that is not open yet."""
    settings = Settings(host=host, osc_port=port, token=token, osc_target=osc_target)
    return OscDoor(Service(settings, Access(host, token=token), Metrics()), limits)


async def opened(session: Session, **options: Any) -> OscDoor:
    """Return an open door on a session; see `made` for the options."""
    door = made(**options)
    await door.open(OneSession(session))
    return door


class Udp(asyncio.DatagramProtocol):
    """A client's socket: everything that came, with its time."""

    def __init__(self) -> None:
        self.got: list[tuple[float, Message]] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got += [(time.time(), message) for message in decode(data)]

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])

    def of(self, address: str) -> list[tuple[Any, ...]]:
        return [message.arguments for _, message in self.got if message.address == address]


@dataclass
class Stage:
    """A session, its door, and clients."""

    session: Any
    door: OscDoor
    clients: list[Udp] = field(default_factory=list)

    async def client(self) -> Udp:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_datagram_endpoint(Udp, local_addr=("127.0.0.1", 0))
        self.clients.append(client)
        return client

    def send(self, client: Udp, address: str, *arguments: object) -> None:
        self.packet(client, encode(address, *arguments))

    def packet(self, client: Udp, packet: bytes) -> None:
        client.transport.sendto(packet, ("127.0.0.1", self.door.port))


def on_stage(
    sine_session: Callable[..., Any], test: Callable[[Stage], Awaitable[None]], limits: OscLimits | None = None,
    **session: Any,
) -> None:  # fmt: skip
    async def main() -> None:
        playing = sine_session(**session)
        run = asyncio.create_task(playing.run())
        stage = Stage(playing, await opened(playing, limits=limits))
        await asyncio.sleep(0)
        try:
            await test(stage)
        finally:
            await stage.door.close("the test is over")
            run.cancel()
            for client in stage.clients:
                client.transport.close()
            await asyncio.sleep(0.01)
        assert playing.listeners == []

    asyncio.run(main())


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)
