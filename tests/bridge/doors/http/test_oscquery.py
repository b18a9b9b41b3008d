"""The namespace as JSON."""

from __future__ import annotations

import asyncio
import json

import pytest

from bridge.doors.http.oscquery import Listening, attribute, find, host_info, packet, tree
from bridge.doors.osc.codec import decode
from bridge.errors import WireError
from bridge.session.parameters import TABLE, defaults

from ..web_session import serving

ROOT = tree(defaults() | {"temperature": 0.5})


def test_every_parameter_is_a_node_with_its_range() -> None:
    for row in TABLE.values():
        node = find(ROOT, f"/streamgen/{row.name}")
        assert node is not None, row.name
        assert (node["FULL_PATH"], node["ACCESS"]) == (f"/streamgen/{row.name}", 3)
        assert node["DESCRIPTION"] == row.description
        assert node["TYPE"] == {"string": "s", "float": "f"}.get(row.type, "i")
        assert node.get("RANGE") == (None if row.min is None else [{"MIN": row.min, "MAX": row.max}])


def test_branches_leaves_and_attributes() -> None:
    slot = find(ROOT, "/streamgen/prompt/1")
    assert slot is not None
    assert set(slot["CONTENTS"]) == {"text", "weight"}
    leaf = find(ROOT, "/streamgen/temperature/")
    assert leaf is not None
    assert attribute(leaf, "VALUE") == (200, '{"VALUE": [0.5]}')
    assert attribute(leaf, "UNIT") == (204, "")
    assert attribute(leaf, "__class__") == (400, "")
    assert find(ROOT, "/streamgen/none/such") is None
    play = find(ROOT, "/streamgen/play")
    assert play is not None
    assert (play["TYPE"], play["ACCESS"]) == ("i", 2)


def test_values_become_osc_of_the_types_that_the_tree_tells() -> None:
    for name, value in (("temperature", 0.5), ("mute", True), ("top_k", 9), ("negative_prompt", "drums")):
        (message,) = decode(packet(name, value))
        assert (message.address, message.arguments) == (f"/streamgen/{name}", (value,))


def test_listen_and_ignore() -> None:
    ears = Listening()
    ears.command('{"COMMAND": "LISTEN", "DATA": "/streamgen/seed"}')
    assert ears.names == {"seed"}
    ears.command('{"COMMAND": "IGNORE", "DATA": "/streamgen/seed"}')
    assert ears.names == set()
    for text in ("", "[]", "3", '{"COMMAND": "LISTEN"}', '{"COMMAND": "LISTEN", "DATA": "/x"}', "[" * 50_000):
        with pytest.raises(WireError):
            ears.command(text)


def test_host_info_names_the_ports() -> None:
    info = host_info("127.0.0.1", 8711, 8712)
    assert (info["OSC_PORT"], info["OSC_TRANSPORT"], info["WS_PORT"]) == (8712, "UDP", 8711)
    assert "OSC_PORT" not in host_info("127.0.0.1", 8711, None)
    optional = {name for row in TABLE for name in (find(ROOT, f"/streamgen/{row}") or {})} - {"FULL_PATH", "TYPE"}
    assert set(info["EXTENSIONS"]) == {*optional, "LISTEN"}


def test_host_info_names_the_address_that_was_reached_not_the_one_that_means_all() -> None:
    async def go() -> None:
        async with serving(host="0.0.0.0", token="secret") as door:
            info = json.loads((await door.http("/?HOST_INFO&token=secret"))[2])
            assert (info["OSC_IP"], info["WS_IP"]) == ("127.0.0.1", "127.0.0.1")

    asyncio.run(go())


def test_over_http() -> None:
    async def go() -> None:
        async with serving() as door:
            info = json.loads((await door.http("/?HOST_INFO"))[2])
            assert (info["OSC_PORT"], info["WS_PORT"]) == (8712, door.web.port)
            assert (info["OSC_IP"], info["WS_IP"]) == ("127.0.0.1", "127.0.0.1")
            door.session.now["temperature"] = 2.0
            status, headers, body = await door.http("/streamgen/temperature?VALUE")
            assert (status, headers["Content-Type"], json.loads(body)) == (200, "application/json", {"VALUE": [2.0]})
            node = json.loads((await door.http("/streamgen"))[2])
            assert node["CONTENTS"]["temperature"]["VALUE"] == [2.0]
            whole = json.loads((await door.http("/", Accept="application/json"))[2])
            assert list(whole["CONTENTS"]) == ["streamgen"]
            statuses = [(await door.http(path))[0] for path in ("/streamgen/x", "/streamgen/seed?UNIT", "/streamgen?X")]
            assert statuses == [404, 204, 400]

    asyncio.run(go())
