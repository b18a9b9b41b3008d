"""What is open is found by multicast DNS on the interface it listens at, and gone when it closes."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import cast

import pytest
from zeroconf import DNSOutgoing, ServiceInfo
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from bridge.doors.access import Access
from bridge.doors.discovery.door import DiscoveryDoor, _info
from bridge.doors.door import Service, Sessions
from bridge.errors import UsageError
from bridge.metrics import Metrics
from bridge.settings import Settings

from ..web_session import TABLE, serving

KINDS = {"_http._tcp.local.": 8711, "_oscjson._tcp.local.": 8711, "_osc._udp.local.": 8712}
NOBODY = cast(Sessions, None)


def service(page: str = "http://127.0.0.1:8711/", osc_port: int | None = 8712) -> Service:
    return Service(Settings(), Access(), Metrics(), {"page": page, "osc_port": osc_port})


async def found(kinds: dict[str, int], name: str, milliseconds: int) -> dict[str, tuple[int, list[str]]]:
    """Ask for a name as another program does, for so long at most."""
    other = AsyncZeroconf(interfaces=["127.0.0.1"])
    asked = {kind: AsyncServiceInfo(kind, f"{name}.{kind}") for kind in kinds}
    came = await asyncio.gather(*(info.async_request(other.zeroconf, milliseconds) for info in asked.values()))
    await other.async_close()
    told = {kind: (info.port or 0, info.parsed_addresses()) for kind, info in asked.items()}
    return {kind: one for (kind, one), here in zip(told.items(), came, strict=True) if here}


@pytest.mark.slow
def test_a_library_of_oscquery_finds_every_parameter_with_its_range() -> None:
    client_of = pytest.importorskip("pythonoscquery.osc_query_client", reason="needs `pip install python-oscquery`")

    from pythonoscquery.shared.oscquery_spec import OSCQueryAttribute

    async def go() -> None:
        async with serving() as web:
            told = service(f"http://127.0.0.1:{web.web.port}/")
            door = DiscoveryDoor(told)
            await door.open(NOBODY)
            assert door._telling is not None
            await door._telling
            other = AsyncZeroconf(interfaces=["127.0.0.1"])
            info = ServiceInfo(kind := "_oscjson._tcp.local.", f"{door.places()['announced']}.{kind}")
            assert await asyncio.to_thread(info.request, other.zeroconf, 30_000)
            client = client_of.OSCQueryClient(info)
            host = await asyncio.to_thread(client.get_host_info)
            assert (host.name, host.osc_port) == ("streamgen", 8712)
            for row in TABLE.values():
                node = await asyncio.to_thread(client.query_node, f"/streamgen/{row.name}")
                assert node.attributes[OSCQueryAttribute.VALUE] == [web.session.now[row.name]], row.name
                ranges = client.last_json.get("RANGE")
                if row.has_range and row.type != "bool":
                    assert ranges == [{"MIN": row.low, "MAX": row.high}]
                elif row.choices:
                    assert ranges == [{"VALS": list(row.choices)}]
            await other.async_close()
            await door.close("the test is over")

    asyncio.run(go())


@pytest.mark.slow
def test_page_osc_and_oscquery_are_found_and_say_goodbye() -> None:
    async def go() -> None:
        door = DiscoveryDoor(service())
        await door.open(NOBODY)
        assert door._telling is not None
        await door._telling
        name = str(door.places()["announced"])
        assert name.startswith("streamgen on ")
        assert await found(KINDS, name, 30_000) == {kind: (port, ["127.0.0.1"]) for kind, port in KINDS.items()}
        assert door.stats() == {"services": 3}
        await door.close("the test is over")
        assert await found(KINDS, name, 3_000) == {}

    asyncio.run(go())


def test_oscquery_is_not_offered_behind_tls_and_osc_not_where_there_is_none() -> None:
    assert DiscoveryDoor(service("https://127.0.0.1:8711/", None))._kinds() == [("_https._tcp.local.", 8711)]


def test_without_zeroconf_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install zeroconf"):
        DiscoveryDoor(service())


@pytest.mark.parametrize("host", ["a" * 63, "é" * 40, "\x1b[2J", "音楽" * 20, "", " ", "a_b", "\ud800"])
def test_whatever_this_machine_is_called_it_can_be_announced(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    info = _info("_http._tcp.local.", 8711, ["127.0.0.1"])
    out = DNSOutgoing(0x8400)
    for record in (info.dns_service(), info.dns_pointer(), *info.dns_addresses()):
        out.add_answer_at_time(record, 0)
    assert out.packets()
    assert info.name.startswith("streamgen on ")
