"""The namespace as JSON."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from pythonosc.osc_message import OscMessage
from websockets.asyncio.client import connect

from bridge.doors.http.oscquery import ParameterListener, attribute, find, host_info, packet, tree
from bridge.errors import WireError
from bridge.session.commands import EditRack, RackAction
from bridge.session.events import Changed, Notice
from streamgen.config import text

from ..web_session import TABLE, SineSession, serving

DEFAULTS = {name: row.default for name, row in TABLE.items()}
ROOT = tree(TABLE, DEFAULTS | {"temperature": 0.5})


def test_every_parameter_is_a_node_with_its_range() -> None:
    for row in TABLE.values():
        node = find(ROOT, f"/streamgen/{row.name}")
        assert node is not None, row.name
        assert (node["FULL_PATH"], node["ACCESS"]) == (f"/streamgen/{row.name}", 3)
        assert node["DESCRIPTION"] == row.description
        assert node["DEFAULT_VALUE"] == [row.default]
        types = {"string": "s", "float": "f", "int": "i", "bool": "T" if row.default else "F"}
        assert node["TYPE"] == types[row.type]
        choices = [{"VALS": list(row.choices)}] if row.choices else None
        ranged = row.has_range and row.type != "bool"  # T and F have none
        assert node.get("RANGE") == ([{"MIN": row.low, "MAX": row.high}] if ranged else choices)


def test_branches_leaves_and_attributes() -> None:
    slot = find(ROOT, "/streamgen/prompt/1")
    assert slot is not None
    assert set(slot["CONTENTS"]) == {"text", "weight"}
    leaf = find(ROOT, "/streamgen/temperature/")
    assert leaf is not None
    assert attribute(leaf, "VALUE") == (200, '{"VALUE": [0.5]}')
    assert attribute(leaf, "UNIT") == (204, "")
    assert attribute(leaf, "HTML") == (204, "")
    assert attribute(leaf, "__class__") == (400, "")
    assert find(ROOT, "/streamgen/none/such") is None
    play = find(ROOT, "/streamgen/play")
    assert play is not None
    assert (play["TYPE"], play["ACCESS"]) == ("I", 2), "a trigger"


def test_values_become_osc_of_the_types_that_the_tree_tells() -> None:
    for name, value in (("temperature", 0.5), ("mute", True), ("top_k", 9), ("negative_prompt", "drums")):
        message = OscMessage(packet(TABLE[name], value))
        assert (message.address, message.params) == (f"/streamgen/{name}", [value])
        assert [type(param) for param in message.params] == [type(value)]


def test_a_text_with_choices_tells_them() -> None:
    table = {"mode": replace(text("how", "a", ("a", "b")), name="mode")}
    node = find(tree(table, {"mode": "b"}), "/streamgen/mode")
    assert node is not None
    assert (node["TYPE"], node["RANGE"], node["VALUE"]) == ("s", [{"VALS": ["a", "b"]}], ["b"])


def test_what_is_heard_is_read_and_listened_to() -> None:
    node = find(tree(TABLE, DEFAULTS, "house, 125 bpm; left out: fast"), "/streamgen/heard")
    assert node is not None
    assert (node["TYPE"], node["ACCESS"], node["VALUE"]) == ("s", 1, ["house, 125 bpm; left out: fast"])
    listener = ParameterListener(TABLE, 48_000, lambda: None)
    listener.event(Notice("heard", "rock", 0))
    listener.command('{"COMMAND": "LISTEN", "DATA": "/streamgen/heard"}')
    listener.event(Notice("heard", "jazz", 0))
    listener.event(Notice("part", "break", 0))
    (told,) = listener.take()
    assert (OscMessage(told).address, OscMessage(told).params) == ("/streamgen/heard", ["jazz"])  # type: ignore[arg-type]


def test_what_the_checkpoint_was_not_made_for_is_told() -> None:
    table = {"top_p": replace(TABLE["top_p"], supported=False)}
    node = find(tree(table, {"top_p": 0.0}), "/streamgen/top_p")
    assert node is not None
    assert node["DESCRIPTION"].endswith("(this model was not made for it)")


def test_listen_and_ignore() -> None:
    listener = ParameterListener(TABLE, 48_000, lambda: None)
    listener.command('{"COMMAND": "LISTEN", "DATA": "/streamgen/seed"}')
    assert listener.names == {"seed"}
    listener.command('{"COMMAND": "IGNORE", "DATA": "/streamgen/seed"}')
    assert listener.names == set()
    for words in ("", "[]", "3", '{"COMMAND": "LISTEN"}', '{"COMMAND": "LISTEN", "DATA": "/x"}', "[" * 50_000):
        with pytest.raises(WireError):
            listener.command(words)


def test_another_rack_is_another_tree() -> None:
    session, ready = SineSession(), list[bool]()
    listener = ParameterListener(session.table, 48_000, lambda: ready.append(True))
    session.add(listener)

    async def edit() -> None:
        await session.do(EditRack(RackAction.ADD, "page", effect="reverb"))
        listener.command('{"COMMAND": "LISTEN", "DATA": "/streamgen/plugin/1/wet"}')
        await session.do(EditRack(RackAction.REMOVE, "page", 1))

    before = find(tree(session.table, session.values()), "/streamgen/plugin/1/wet")
    asyncio.run(edit())
    assert before is None
    assert listener.names == set(), "it is gone, and so is who listens to it"
    assert listener.take() == ['{"COMMAND": "PATH_CHANGED", "DATA": "/streamgen"}']
    assert len(ready) == 2
    assert find(tree(session.table, session.values()), "/streamgen/rack/add") is not None


def test_the_newest_value_of_each_is_told() -> None:
    ready: list[bool] = []
    listener = ParameterListener(TABLE, 48_000, lambda: ready.append(True))
    for name in ("seed", "mute"):
        listener.command(json.dumps({"COMMAND": "LISTEN", "DATA": f"/streamgen/{name}"}))
    for seed in range(3):
        listener.event(Changed({"seed": seed, "top_k": 1}, "x", 0))
    listener.event(Changed({"mute": True}, "x", 0))
    assert len(ready) == 4
    assert listener.take() == [packet(TABLE["seed"], 2), packet(TABLE["mute"], True)]
    assert listener.take() == []


def test_meter_bands_and_onsets_are_listened_to_and_looked_at_only_then() -> None:
    ready: list[bool] = []
    listener, session = ParameterListener(TABLE, 48_000, lambda: ready.append(True)), SineSession()
    session.add(listener)
    session.play(20)
    listener.look(1e10)
    assert (listener.looks, ready, len(listener._levels._peaks)) == (False, [], 0), "nothing is computed for nobody"
    for name in ("meter", "bands", "onset"):
        listener.command(json.dumps({"COMMAND": "LISTEN", "DATA": f"/streamgen/{name}"}))
    session.position = 96_000
    session.play(20)
    listener.look(2e10)
    told = {message.address: message.params for message in map(OscMessage, listener.take())}
    assert told["/streamgen/meter"] == pytest.approx([-6.02, -6.02], abs=0.1)
    assert len(told["/streamgen/bands"]) == 8
    assert told["/streamgen/onset"] == [1.0], "a sine out of silence"
    for name, arguments in told.items():
        node = find(ROOT, name)
        assert node is not None
        assert (node["TYPE"], node["ACCESS"]) == ("f" * len(arguments), 1)
    for name in ("meter", "bands", "onset"):
        listener.command(json.dumps({"COMMAND": "IGNORE", "DATA": f"/streamgen/{name}"}))
    session.play(20)
    listener.look(3e10)
    assert listener.take() == []


def test_bands_come_over_the_websocket_while_they_sound() -> None:
    async def go() -> None:
        async with serving() as door:
            playing = asyncio.create_task(door.session.run())
            async with connect(f"ws://127.0.0.1:{door.web.port}/") as client:
                await client.send('{"COMMAND": "LISTEN", "DATA": "/streamgen/bands"}')
                packets = [await asyncio.wait_for(client.recv(), 5) for _ in range(5)]
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        bands = OscMessage(packets[-1]).params  # type: ignore[arg-type]
        assert bands[3] == max(bands) == pytest.approx(-9, abs=3), "440 Hz left, 660 Hz right"

    asyncio.run(go())


def test_host_info_names_the_ports() -> None:
    info = host_info("127.0.0.1", 8711, 8712)
    assert (info["OSC_PORT"], info["OSC_TRANSPORT"], info["WS_PORT"]) == (8712, "UDP", 8711)
    assert "OSC_PORT" not in host_info("127.0.0.1", 8711, None)
    optional = {name for row in TABLE for name in (find(ROOT, f"/streamgen/{row}") or {})} - {"FULL_PATH", "TYPE"}
    assert set(info["EXTENSIONS"]) == {*optional, "LISTEN", "PATH_CHANGED"}


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


def test_the_models_own_defaults_are_told() -> None:
    table = {**TABLE, "guidance_scale": replace(TABLE["guidance_scale"], default=1.0, high=5)}

    async def go() -> None:
        async with serving(session=SineSession(table=table)) as door:
            node = json.loads((await door.http("/streamgen/guidance_scale"))[2])
            assert (node["VALUE"], node["DEFAULT_VALUE"], node["RANGE"]) == ([1.0], [1.0], [{"MIN": 0, "MAX": 5}])

    asyncio.run(go())
