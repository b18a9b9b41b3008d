"""Layouts parse as their programs' formats, have every parameter, and name no address that is not there."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from bridge.doors.osc.codec import Message, OscError
from bridge.doors.osc.door import OscDoor
from bridge.doors.osc.layouts import LAYOUTS
from bridge.doors.osc.layouts.panels import open_stage_control, touchosc
from bridge.doors.osc.layouts.patches import max_patcher, pure_data
from bridge.doors.osc.layouts.scripts import csound
from bridge.doors.osc.layouts.surface import Surface
from bridge.doors.osc.namespace import Namespace
from bridge.session.parameters import session_table
from streamgen.config import number

from .test_osc_device import free_port, needs, played, until

TABLE = session_table()
ON = Surface(TABLE)


def text_of(name: str, on: Surface = ON) -> str:
    made = LAYOUTS[name](on)
    return (zlib.decompress(made) if name.endswith(".tosc") else made).decode()


def addresses(text: str) -> set[str]:
    found = {word.replace("@", "1").rstrip("/") for word in re.findall(r"/streamgen/[\w/@]*", text)}
    found |= {f"/streamgen/{words.replace(' ', '/')}" for words in re.findall(r"oscformat streamgen ([\w ]+);", text)}
    found |= {f"/streamgen/{name}" for name in re.findall(r"'([\w/]+)': ControlSpec", text)}
    return found - {"/streamgen"}  # a prefix, to which a script adds a name


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_address_is_there(name: str) -> None:
    there, unknown = Namespace(TABLE), list[str]()
    found = addresses(text_of(name))
    assert len(found) > 5
    for address in found:
        try:
            there.interpret(Message(address))
        except OscError as error:
            unknown += [address] * (error.reason == "unknown_address")
    assert unknown == []


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "streamgen.ReaperOSC"])
def test_what_is_added_to_the_table_is_in_every_layout(name: str) -> None:
    on = Surface({**TABLE, "shimmer": replace(number(0, 7, 3, "dB", "more of it"), name="shimmer")})
    assert "shimmer" in text_of(name, on).replace("sgShimmer", "shimmer")
    for row in ON.knobs:
        assert row.name in text_of(name)


def test_touchosc_s_page() -> None:
    root = Xml.fromstring(zlib.decompress(touchosc(ON)).decode())
    (page,) = root
    nodes = page.findall("children/node")
    assert (root.tag, page.get("type")) == ("lexml", "GROUP")
    assert len({node.get("ID") for node in nodes}) == len(nodes)
    kinds = [node.get("type") for node in nodes]
    assert (kinds.count("FADER"), kinds.count("RADIAL")) == (8, len(ON.knobs))
    captions = [str(node.findtext("values/value/default")) for node in nodes if node.get("type") == "LABEL"]
    touched = [node for node in nodes if node.get("type") != "LABEL"]
    names = [node.findtext("properties/property[key='name']/value") for node in touched]
    assert captions == names, "each says what it is"
    for node in touched:
        (osc,) = node.findall("messages/osc")
        assert (osc.findtext("send") == "0") == (node.get("type") == "TEXT"), "it shows texts, and has no keyboard"
        assert (osc.find("triggers") is None) == (node.get("type") == "TEXT")
    frames = [
        tuple(int(str(one.findtext(letter))) for letter in "xywh")
        for node in nodes
        for one in node.findall("properties/property[@type='r']/value")
    ]
    assert len(set(frames)) == len(nodes), "each has its own place"
    height = int(str(page.findtext("properties/property[@type='r']/value/h")))
    assert all(x + w <= 960 and y + h <= height for x, y, w, h in frames)


def test_open_stage_control_s_session() -> None:
    session = json.loads(open_stage_control(Surface(TABLE, "10.0.0.7", 8_800, 9_100)))
    widgets = {one["address"]: one for one in session["content"]["widgets"]}
    assert len({one["id"] for one in widgets.values()}) == len(session["content"]["widgets"])
    temperature = widgets["/streamgen/temperature"]
    row = TABLE["temperature"]
    assert (temperature["range"], temperature["target"]) == ({"min": row.low, "max": row.high}, "10.0.0.7:8800")
    assert widgets["/streamgen/quantize"]["values"] == list(TABLE["quantize"].choices)
    assert (temperature["decimals"], widgets["/streamgen/top_k"]["decimals"]) == (4, 0), "it sends two by itself"
    at_once = "send('10.0.0.7:8800', '/streamgen/subscribe', {type: 'i', value: 9100});"
    assert session["content"]["onCreate"].startswith(at_once)


def test_what_is_pressed_is_what_the_service_takes() -> None:
    """A press of "keep" keeps all that there is, not one second of it."""
    there = Namespace(TABLE)
    for node in Xml.fromstring(zlib.decompress(touchosc(ON)).decode()).iter("osc"):
        constant = node.find("arguments/partial[type='CONSTANT']")
        if constant is not None:
            said, whole = str(constant.findtext("value")), constant.findtext("conversion") == "INTEGER"
            there.interpret(Message(str(node.findtext("path/partial/value")), (int(said) if whole else said,)))
    widgets = json.loads(open_stage_control(ON))["content"]["widgets"]
    sent = [f"{one['address']} {one['on']}" for one in widgets if "on" in one]
    for text in (text_of("streamgen.maxpat"), text_of("streamgen.pd"), *sent):
        assert "keep 1" not in text
    assert "/streamgen/keep 30" in sent
    assert "/streamgen/keep 30" in text_of("streamgen.maxpat")


def test_reaper_s_file_has_words_that_reaper_knows() -> None:
    """One that it does not know makes it ignore the whole file."""
    known = {
        "DEVICE_TRACK_COUNT", "REAPER_TRACK_FOLLOWS", "DEVICE_TRACK_FOLLOWS", "DEVICE_TRACK_BANK_FOLLOWS", "TRACK_NAME",
        "TRACK_VOLUME", "TRACK_MUTE", "MASTER_VOLUME", "PLAY", "PAUSE", "STOP", "TEMPO",
    }  # fmt: skip
    rows = [line.split() for line in text_of("streamgen.ReaperOSC").splitlines() if line and not line.startswith("#")]
    assert {row[0] for row in rows} == known
    for word, *patterns in rows:
        for pattern in patterns:
            assert re.fullmatch(r"[nfbtrsi]/[\w/@]+|REAPER|DEVICE|\d+", pattern), (word, pattern)


def test_the_max_patcher_is_wired() -> None:
    patcher = json.loads(max_patcher(ON))["patcher"]
    names = {one["box"]["id"] for one in patcher["boxes"]}
    assert len(names) == len(patcher["boxes"])
    ends = [one["patchline"] for one in patcher["lines"]]
    assert {end["source"][0] for end in ends} | {end["destination"][0] for end in ends} == names
    outlets = {one["box"]["id"]: one["box"]["numoutlets"] for one in patcher["boxes"]}
    assert all(end["source"][1] < outlets[end["source"][0]] for end in ends)


def test_scripts_balance_their_brackets() -> None:
    for name in ("streamgen.scd", "streamgen.tidal", "sonic-pi.rb", "streamgen.csd"):
        code = re.sub(r'"[^"]*"|(//|--|;|#).*', "", text_of(name))
        for opens, closes in ("()", "[]", "{}"):
            assert code.count(opens) == code.count(closes), (name, opens)
    Xml.fromstring(re.sub(r"<Cs(Instruments|Score)>.*?</Cs\1>", "", csound(ON).decode(), flags=re.DOTALL))


def test_csound_s_score_turns_no_knob_of_a_checkpoint_that_has_defaults_of_its_own() -> None:
    score = text_of("streamgen.csd").split("<CsScore>")[1].split("</CsScore>")[0].split("\n")
    assert [line for line in score if line and not line.startswith(";")] == [
        'i "Say" 0 0.1 "/streamgen/prompt" "solo piano, 94 bpm"',
        "e 1",
    ]
    assert sum(line.startswith('; i "Turn"') for line in score) == len(ON.knobs)


def test_supercollider_s_sliders_follow_at_once_and_not_after_its_first_twenty_seconds() -> None:
    """Its SkipJack waits before the first time, as after each."""
    assert text_of("streamgen.scd").endswith("~follow.value;\n)\n")


@pytest.mark.device
@needs("pd", "puredata-core")
def test_pd_plays_its_patch(sine_session, tmp_path: Path) -> None:
    async def test(session: Any, door: OscDoor) -> None:
        patch = pure_data(Surface(TABLE, port=door.port or 0, listen=free_port())).decode()
        objects = re.findall(r"^#X (?:obj|msg) .*;$", patch, re.MULTILINE)
        slider = next(at for at, line in enumerate(objects) if " hsl " in line and " temperature " in line)
        count = len(objects)
        patch += "#X obj 700 20 loadbang;\n#X obj 700 40 delay 400;\n#X msg 700 60 0.25;\n"
        patch += f"#X connect {count} 0 {count + 1} 0;\n#X connect {count + 1} 0 {count + 2} 0;\n"
        patch += f"#X connect {count + 2} 0 {slider} 0;\n"
        (tmp_path / "x.pd").write_text(patch)
        pd = await asyncio.create_subprocess_exec(
            "pd", "-nogui", "-noaudio", "-stderr", str(tmp_path / "x.pd"), stderr=subprocess.PIPE
        )
        assert pd.stderr is not None
        await until(lambda: session.values()["temperature"] == TABLE["temperature"].from_unit(0.25))
        await until(lambda: door.stats()["listeners"] == 1)
        await asyncio.sleep(0.3)
        pd.terminate()
        said = (await pd.stderr.read()).decode()
        await pd.wait()
        assert "streamgen" in said
        assert "error" not in said
        assert "couldn't create" not in said
        assert door.counters.refused == {}

    played(sine_session, test)
