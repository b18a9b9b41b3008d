"""Panels for fingers and faders: TouchOSC, Open Stage Control, REAPER.

Faders send and show `…/norm`, 0 … 1, where the program knows no ranges, and the parameter's own values where it does.

Rules: returns bytes; no file, no socket.
"""

from __future__ import annotations

import json
import uuid
import zlib
from typing import Any
from xml.etree import ElementTree as Xml

from bridge.doors.osc.layouts.surface import DEEDS, Surface, lines
from bridge.session.commands import Action

__all__ = ["open_stage_control", "reaper", "touchosc"]

_COLUMNS, _CELL = 8, 120


def touchosc(on: Surface) -> bytes:
    """A page for TouchOSC (mk2): zlib over XML; its Connection 1 is the service."""
    nodes = []
    for slot in on.slots:
        nodes.append(_tosc_node("TEXT", f"prompt {slot}", slot - 1, on.at(f"prompt/{slot}/text"), "text", "s"))
        nodes.append(_tosc_node("FADER", f"weight {slot}", 7 + slot, on.at(f"prompt/{slot}/weight/norm"), "x", "f"))
    texts = [("TEXT", word, on.at(word)) for word in ("prompt", "negative_prompt", "token")]
    texts += [("LABEL", word, on.at(word)) for word in ("state", "heard", "error", "kept")]
    cells = [("RADIAL", row.name, on.at(f"{row.name}/norm")) for row in on.knobs]
    cells += [("BUTTON", row.name, on.at(row.name)) for row in on.switches]
    cells += [("BUTTON", word, on.at(word)) for word in (*DEEDS, "refresh", "subscribe")]
    for place, (kind, name, address) in enumerate(cells, 2 * _COLUMNS):
        toggles = int(kind == "BUTTON" and name in on.table)
        constant = str(on.listen) if name == "subscribe" else ""
        nodes.append(_tosc_node(kind, name, place, address, "x", "i" if kind == "BUTTON" else "f", toggles, constant))
    for place, (kind, name, address) in enumerate(texts, 2 * _COLUMNS + len(cells)):
        nodes.append(_tosc_node(kind, name, place, address, "text", "s"))
    rows = 2 + -(-(len(cells) + len(texts)) // _COLUMNS)
    root = Xml.Element("lexml", version="3")
    page = _tosc_box("GROUP", "streamgen", (0, 0, _COLUMNS * _CELL, rows * _CELL))
    Xml.SubElement(page, "children").extend(nodes)
    root.append(page)
    return zlib.compress(Xml.tostring(root, encoding="utf-8", xml_declaration=True))


def _tosc_box(kind: str, name: str, frame: tuple[int, int, int, int]) -> Xml.Element:
    node = Xml.Element("node", ID=str(uuid.uuid5(uuid.NAMESPACE_URL, f"streamgen/{kind}/{name}")), type=kind)
    properties = Xml.SubElement(node, "properties")
    for key, kind_, value in (("name", "s", name), ("frame", "r", frame)):
        one = Xml.SubElement(properties, "property", type=kind_)
        Xml.SubElement(one, "key").text = key
        holder = Xml.SubElement(one, "value")
        if isinstance(value, str):
            holder.text = value
        else:
            for letter, number in zip("xywh", value, strict=True):
                Xml.SubElement(holder, letter).text = str(number)
    return node


def _tosc_node(
    kind: str, name: str, place: int, address: str, variable: str, osc_type: str, toggles: int = 0, constant: str = ""
) -> Xml.Element:
    """A control in a cell of the page, that sends its value and shows what comes back."""
    column, row = place % _COLUMNS, place // _COLUMNS
    node = _tosc_box(kind, name, (column * _CELL + 4, row * _CELL + 4, _CELL - 8, _CELL - 8))
    if kind == "BUTTON":
        one = Xml.SubElement(node[0], "property", type="i")
        Xml.SubElement(one, "key").text, Xml.SubElement(one, "value").text = "buttonType", str(2 * toggles)
    values = Xml.SubElement(node, "values")
    for key, default in ((variable, "" if variable == "text" else "0"), ("touch", "false")):
        value = Xml.SubElement(values, "value")
        for tag, text in zip(
            ("key", "locked", "lockedDefaultCurrent", "default", "defaultPull"),
            (key, "0", "0", default, "0"),
            strict=True,
        ):
            Xml.SubElement(value, tag).text = text
    osc = Xml.SubElement(Xml.SubElement(node, "messages"), "osc")
    for tag, text in (("enabled", "1"), ("send", "1"), ("receive", "1"), ("feedback", "0"), ("connections", "00001")):
        Xml.SubElement(osc, tag).text = text
    trigger = Xml.SubElement(Xml.SubElement(osc, "triggers"), "trigger")
    Xml.SubElement(trigger, "var").text = variable
    Xml.SubElement(trigger, "condition").text = "RISE" if constant else "ANY"
    _tosc_partial(Xml.SubElement(osc, "path"), "CONSTANT", "STRING", address)
    conversion = {"s": "STRING", "i": "INTEGER", "f": "FLOAT"}[osc_type]
    source = ("CONSTANT", conversion, constant) if constant else ("VALUE", conversion, variable)
    _tosc_partial(Xml.SubElement(osc, "arguments"), *source)
    return node


def _tosc_partial(parent: Xml.Element, kind: str, conversion: str, value: str) -> None:
    partial = Xml.SubElement(parent, "partial")
    for tag, text in (
        ("type", kind),
        ("conversion", conversion),
        ("value", value),
        ("scaleMin", "0"),
        ("scaleMax", "1"),
    ):
        Xml.SubElement(partial, tag).text = text


def open_stage_control(on: Surface) -> bytes:
    """A session for Open Stage Control, that keeps its subscription up by itself."""
    target = f"{on.host}:{on.port}"

    def widget(kind: str, word: str, tags: str, **more: Any) -> dict[str, Any]:
        own = {"type": kind, "id": word.replace("/", "_"), "address": on.at(word), "target": target, "typeTags": tags}
        return {**own, "label": word, "ignoreDefaults": True, **more}

    widgets = [widget("input", f"prompt/{slot}/text", "s", default="") for slot in on.slots]
    weights = [on.table[f"prompt/{slot}/weight"] for slot in on.slots]
    for row in (*weights, *on.knobs):
        limits = {"min": row.low, "max": row.high}
        tags = "i" if row.type == "int" else "f"
        widgets.append(widget("fader", row.name, tags, range=limits, default=row.default, horizontal=True))
    widgets += [widget("dropdown", row.name, "s", values=list(row.choices), default=row.default) for row in on.choices]
    widgets += [widget("button", row.name, "i", mode="toggle", on=1, off=0) for row in on.switches]
    widgets += [widget("button", word, "i", mode="tap", on=1) for word in DEEDS]
    again = f"setInterval(()=>send('{target}', '{on.at('subscribe')}', {{type: 'i', value: {on.listen}}}), 30000)"
    root = {"type": "root", "id": "root", "layout": "grid", "gridTemplate": 4, "scroll": True, "onCreate": again}
    session = {"createdWith": "Open Stage Control", "version": "1.27.0", "type": "session"}
    return json.dumps({**session, "content": {**root, "widgets": widgets, "tabs": []}}, indent=1).encode()


def reaper(on: Surface) -> bytes:
    """REAPER's pattern file: n/ sends and expects 0 … 1, t/ is a trigger, of which 0 is ignored."""
    again = f"oscsend {on.host} {on.port} {on.at('subscribe')} i {on.listen}"
    counts = ("SEND", "RECEIVE", "FX", "FX_PARAM", "FX_INST_PARAM", "MARKER", "REGION")
    slot = f"{on.at('prompt/1/text')} {on.at('prompt/1/weight/norm')}".replace("/1/", "/@/").split()
    return lines(
        [
            "# streamgen from REAPER: tracks 1 to 8 are the prompts, names their texts, faders their weights; master",
            "# fader, mute, transport and tempo follow. Put this file into REAPER's resource folder, OSC (Options >",
            "# Show REAPER resource path), then: Preferences > Control/OSC/web > Add > OSC; pattern config: streamgen;",
            f"# mode: Configure device IP+local port; device port {on.port}, device IP {on.host},",
            f"# local listen port {on.listen}. What others change is shown while it is subscribed, a minute each:",
            f"#   while true; do {again}; sleep 30; done",
            "",
            f"DEVICE_TRACK_COUNT {len(on.slots)}",
            *(f"DEVICE_{name}_COUNT 0" for name in counts),
            "",
            "REAPER_TRACK_FOLLOWS REAPER",
            "DEVICE_TRACK_FOLLOWS DEVICE",
            "DEVICE_TRACK_BANK_FOLLOWS DEVICE",
            "",
            f"TRACK_NAME s{slot[0]}",
            f"TRACK_VOLUME n{slot[1]}",
            "",
            f"MASTER_VOLUME n{on.at('gain_db/norm')}",
            f"MASTER_MUTE b{on.at('mute')}",
            "",
            *(f"{action.upper()} t{on.at(action)}" for action in (Action.PLAY, Action.PAUSE, Action.STOP)),
            f"TEMPO f{on.at('tempo')}",
        ]
    )
