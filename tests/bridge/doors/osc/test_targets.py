"""Who never subscribes is told everything, where the operator says so (`--osc-target`)."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import BridgeError, UsageError
from bridge.session.commands import Set

from .stage import Udp, made, opened, until


def test_a_target_is_shown_everything_once_and_then_every_change(sine_session: type) -> None:
    async def go() -> None:
        session = sine_session()
        _, target = await asyncio.get_running_loop().create_datagram_endpoint(Udp, local_addr=("127.0.0.1", 0))
        door = await opened(session, osc_target=(f"localhost:{target.port}",))
        await until(lambda: target.of("/streamgen/temperature") and target.of("/streamgen/heartbeat"))
        await session.do(Set({"temperature": 0.25}, "page"))
        await until(lambda: target.of("/streamgen/temperature")[-1] == (0.25,))
        await door.close("the test is over")
        await until(lambda: target.of("/streamgen/goaway"))
        target.transport.close()

    asyncio.run(go())


@pytest.mark.parametrize("target", ["9000", "host", "host:0", ":9000", "host:99999", "host:x"])
def test_what_is_no_place_is_told_before_anything_opens(target: str) -> None:
    with pytest.raises(UsageError, match="must be a host and a port"):
        made(osc_target=(target,))


def test_a_host_that_is_not_there_is_told(sine_session: type) -> None:
    async def go() -> None:
        with pytest.raises(BridgeError, match=r"--osc-target is 'no\.such\.invalid:9000'"):
            await opened(sine_session(), osc_target=("no.such.invalid:9000",))

    asyncio.run(go())
