"""HTTP on the WebSocket's port."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bridge.doors.http.site import WEB_ROOT, address_of, read_page

from ..web_session import serving


def test_addresses_are_taken_apart_whatever_they_are() -> None:
    assert address_of("/a%20b?x=1&x=2&y").query == {"x": "2", "y": ""}
    assert address_of("/a%20b?x").path == "/a b"
    assert address_of("//[?" + "&".join("abcdefgh" * 100)).query == {}
    assert address_of("/%ff").path == "/\ufffd"


def test_the_page_of_this_installation_is_whole() -> None:
    page = read_page(WEB_ROOT)
    assert page["/"] == page["/index.html"]
    assert page["/"][1].startswith("text/html")
    assert page["/app.js"][1].startswith("text/javascript")
    assert not [path for path in page if path.endswith(".py")]


def test_links_out_of_the_folder_are_read_by_the_operator_only(tmp_path: Path) -> None:
    assert read_page(tmp_path) == {}


def test_health_and_what_makes_it_ill() -> None:
    async def go() -> None:
        async with serving() as door:
            status, headers, body = await door.http("/healthz")
            assert (status, headers["Content-Type"], json.loads(body)["status"]) == (200, "application/json", "ok")
            door.metrics.unhealthy = "the engine stopped"
            status, _, body = await door.http("/healthz")
            assert (status, json.loads(body)["status"]) == (503, "the engine stopped")

    asyncio.run(go())


def test_metrics_are_there_for_prometheus() -> None:
    async def go() -> None:
        async with serving() as door:
            door.metrics.commands["osc"] += 3
            door.session.realtime_factor = float("inf")
            status, headers, body = await door.http("/metrics")
            assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
            lines = body.decode().splitlines()
            found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            assert float(found['streamgen_commands_total{door="osc"}']) == 3
            assert float(found["streamgen_lead_seconds"]) == 1.25
            assert found["streamgen_realtime_factor"] == "+Inf"

    asyncio.run(go())


def test_every_answer_is_safe_to_show() -> None:
    async def go() -> None:
        async with serving() as door:
            for target in ("/", "/healthz", "/nothing", "/streamgen"):
                _, headers, body = await door.http(target)
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
                assert int(headers["Content-Length"]) == len(body)
                _, head, body = await door.http(target, "HEAD")
                assert (body, head["Content-Length"]) == (b"", headers["Content-Length"])
            assert (await door.http("/", "POST"))[0] == 405

    asyncio.run(go())


def test_secrets_need_the_token_and_pages_do_not() -> None:
    async def go() -> None:
        async with serving(token="secret") as door:
            paths = ("/", "/healthz", "/metrics", "/streamgen")
            statuses = {target: (await door.http(target, Accept="text/html,*/*"))[0] for target in paths}
            assert statuses == {"/": 200, "/healthz": 200, "/metrics": 401, "/streamgen": 401}
            assert (await door.http("/?HOST_INFO"))[0] == 401
            assert (await door.http("/streamgen/"))[0] == 401
            for accepted in ("application/json", "*/*"):
                assert (await door.http("/", Accept=accepted))[0] == 401
            assert (await door.http("/metrics?token=secret"))[0] == 200
            assert (await door.http("/metrics", Authorization="Bearer secret"))[0] == 200
            assert (await door.http("/streamgen/top_k?VALUE&token=secret"))[2] == b'{"VALUE": [250]}'
            statuses = [(await door.http("/metrics?token=guess"))[0] for _ in range(8)]
            assert statuses == [401] * 5 + [429] * 3
            assert door.metrics.refused["guesses"] == 3
            assert (await door.http("/metrics?token=guess"))[1]["Retry-After"] == "1"

    asyncio.run(go())


def test_a_hostile_name_for_this_machine_reads_nothing() -> None:
    async def go() -> None:
        async with serving() as door:
            for target in ("/", "/metrics", "/streamgen", "/healthz"):
                assert (await door.http(target, Host="evil.example:8711"))[0] == 403
                assert (await door.http(target, Origin="http://evil.example"))[0] == 403
            assert dict(door.metrics.refused) == {"host": 4, "origin": 4}

    asyncio.run(go())


def test_the_client_module_is_for_pages_from_allowed_origins_and_the_page_for_none() -> None:
    async def go() -> None:
        async with serving(allowed_origins=["https://stage.example"]) as door:
            for path, shared in (("/client.js", True), ("/protocol.js", True), ("/app.js", False), ("/", False)):
                _, headers, _ = await door.http(path, Origin="https://stage.example", Accept="text/html")
                assert headers.get("Access-Control-Allow-Origin") == ("https://stage.example" if shared else None)
                assert headers["Cross-Origin-Resource-Policy"] == ("cross-origin" if shared else "same-origin")
            assert "Access-Control-Allow-Origin" not in (await door.http("/client.js"))[1]
            assert (await door.http("/client.js", Origin="https://evil.example"))[0] == 403

    asyncio.run(go())


def test_a_websocket_elsewhere_is_not_found() -> None:
    async def go() -> None:
        async with serving() as door:
            answer = await door.http("/v2/stream", Upgrade="websocket", Connection="Upgrade")
            assert answer[0] == 404

    asyncio.run(go())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET\r\n\r\n", b"\x00" * 500, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n", b"GET /" + b"a" * 20_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Origin: a\r\nOrigin: b\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_harms_nobody(request_bytes: bytes) -> None:
    async def go() -> None:
        async with serving() as door:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.web.port)
            writer.write(request_bytes)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
            assert (await door.http("/healthz"))[0] == 200

    asyncio.run(go())
