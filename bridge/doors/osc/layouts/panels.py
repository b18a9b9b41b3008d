"""Panels for fingers and faders: TouchOSC, Open Stage Control, REAPER.

Faders send and show `…/norm`, 0 … 1, where the program knows no ranges, and the parameter's own values where it does.

Rules: returns bytes; no file, no socket.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as Xml

from bridge.doors.osc.layouts.surface import DEEDS, Surface, lines, pressed
from bridge.session.commands import Action
from streamgen.checkpoint import ANY_MODELS_PROMPTS

__all__ = ["open_stage_control", "reaper", "touchosc"]

_COLUMNS, _CELL, _GAP, _CAPTION = 8, 120, 4, 18

Frame = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True)
class _Touched:
    """A control of TouchOSC's.

    Attributes:
        kind: its word for it.
        name: what stands above it.
        address: of what it sends and shows.
        tag: of its value, s, f or i.
        says: what a press sends instead of its value; it shows nothing then.
        toggles: whether a button stays down.
    """

    kind: str
    name: str
    address: str
    tag: str = "f"
    says: str = ""
    toggles: bool = False

    @property
    def variable(self) -> str:
        return "text" if self.kind == "TEXT" else "x"


def _touched(on: Surface) -> Iterator[_Touched]:
    """Yield all controls, in rows of eight: it can show texts and send those of its buttons, but has no keyboard."""
    said = dict(zip(on.slots, ANY_MODELS_PROMPTS, strict=True))
    for slot in on.slots:
        yield _Touched("TEXT", f"prompt {slot}", on.at(f"prompt/{slot}/text"), "s")
    for slot, text in said.items():
        yield _Touched("BUTTON", text, on.at(f"prompt/{slot}/text"), "s", says=text)
    for slot in on.slots:
        yield _Touched("FADER", f"weight {slot}", on.at(f"prompt/{slot}/weight/norm"))
    for row in on.knobs:
        yield _Touched("RADIAL", row.name, on.at(f"{row.name}/norm"))
    for row in on.switches:
        yield _Touched("BUTTON", row.name, on.at(row.name), "i", toggles=True)
    for row in on.choices:
        for choice in row.choices:
            yield _Touched("BUTTON", f"{row.name} {choice}", on.at(row.name), "s", says=choice)
    for word in (*Action, "refresh"):
        yield _Touched("BUTTON", word, on.at(word), "i")
    for word, tag, says in (("keep", "i", pressed("keep")), ("subscribe", "i", on.listen), ("token", "s", "TOKEN")):
        yield _Touched("BUTTON", word, on.at(word), tag, says=str(says))
    for word in ("negative_prompt", "state", "heard", "error", "kept"):
        yield _Touched("TEXT", word, on.at(word), "s")


def touchosc(on: Surface) -> bytes:
    """A page for TouchOSC (mk2): zlib over XML; its Connection 1 is the service."""
    nodes: list[Xml.Element] = []
    for place, control in enumerate(_touched(on)):
        x, y = place % _COLUMNS * _CELL + _GAP, place // _COLUMNS * _CELL + _GAP
        width, height = _CELL - 2 * _GAP, _CELL - 2 * _GAP - _CAPTION
        nodes += [
            _tosc_caption(control.name, (x, y, width, _CAPTION)),
            _tosc_control(control, (x, y + _CAPTION, width, height)),
        ]
    rows = -(-len(nodes) // 2 // _COLUMNS)
    root = Xml.Element("lexml", version="3")
    page = _tosc_box("GROUP", "streamgen", (0, 0, _COLUMNS * _CELL, rows * _CELL))
    Xml.SubElement(page, "children").extend(nodes)
    root.append(page)
    return zlib.compress(Xml.tostring(root, encoding="utf-8", xml_declaration=True))


def _tosc_box(kind: str, name: str, frame: Frame, **whole: int) -> Xml.Element:
    node = Xml.Element("node", ID=str(uuid.uuid5(uuid.NAMESPACE_URL, f"streamgen/{kind}/{name}")), type=kind)
    properties = Xml.SubElement(node, "properties")
    written: dict[str, tuple[str, str | Frame]] = {"frame": ("r", frame), "name": ("s", name)}
    written |= {key: ("b" if key == "interactive" else "i", str(value)) for key, value in whole.items()}
    for key, (type_, value) in sorted(written.items()):
        one = Xml.SubElement(properties, "property", type=type_)
        Xml.SubElement(one, "key").text = key
        holder = Xml.SubElement(one, "value")
        if isinstance(value, str):
            holder.text = value
        else:
            for letter, number in zip("xywh", value, strict=True):
                Xml.SubElement(holder, letter).text = str(number)
    return node


def _tosc_caption(name: str, frame: Frame) -> Xml.Element:
    """What stands above a control, which itself shows no name."""
    node = _tosc_box("LABEL", f"{name} caption", frame, interactive=0, textSize=11)
    _tosc_values(node, {"text": name}, keeps=1)
    return node


def _tosc_values(node: Xml.Element, values: Mapping[str, str], keeps: int = 0) -> None:
    holder = Xml.SubElement(node, "values")
    for key, default in {**values, "touch": "false"}.items():
        value = Xml.SubElement(holder, "value")
        told = {"key": key, "locked": "0", "lockedDefaultCurrent": str(keeps if key in values else 0)}
        for tag, text in {**told, "default": default, "defaultPull": "0"}.items():
            Xml.SubElement(value, tag).text = text


def _tosc_control(control: _Touched, frame: Frame) -> Xml.Element:
    """A control that sends its value, or what it says, and shows what comes back."""
    buttons = {"buttonType": 2 * control.toggles} if control.kind == "BUTTON" else {}
    node, variable = _tosc_box(control.kind, control.name, frame, **buttons), control.variable
    _tosc_values(node, {variable: "" if variable == "text" else "0"})
    osc = Xml.SubElement(Xml.SubElement(node, "messages"), "osc")
    sends, shows = control.kind != "TEXT", not control.says
    flags = {"enabled": "1", "send": str(int(sends)), "receive": str(int(shows)), "feedback": "0"}
    for tag, text in {**flags, "connections": "00001"}.items():
        Xml.SubElement(osc, tag).text = text
    if sends:
        trigger = Xml.SubElement(Xml.SubElement(osc, "triggers"), "trigger")
        Xml.SubElement(trigger, "var").text = variable
        Xml.SubElement(trigger, "condition").text = "ANY" if shows else "RISE"
    _tosc_partial(Xml.SubElement(osc, "path"), "CONSTANT", "STRING", control.address)
    conversion = {"s": "STRING", "i": "INTEGER", "f": "FLOAT"}[control.tag]
    source = ("VALUE", conversion, variable) if shows else ("CONSTANT", conversion, control.says)
    _tosc_partial(Xml.SubElement(osc, "arguments"), *source)
    return node


def _tosc_partial(parent: Xml.Element, kind: str, conversion: str, value: str) -> None:
    partial = Xml.SubElement(parent, "partial")
    told = {"type": kind, "conversion": conversion, "value": value, "scaleMin": "0", "scaleMax": "1"}
    for tag, text in told.items():
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
        whole = row.type == "int"
        more = {"range": limits, "default": row.default, "decimals": 0 if whole else 4, "horizontal": True}
        widgets.append(widget("fader", row.name, "i" if whole else "f", **more))
    widgets += [widget("dropdown", row.name, "s", values=list(row.choices), default=row.default) for row in on.choices]
    widgets += [widget("button", row.name, "i", mode="toggle", on=1, off=0) for row in on.switches]
    widgets += [widget("button", word, "i", mode="tap", on=pressed(word)) for word in DEEDS]
    ask = f"send('{target}', '{on.at('subscribe')}', {{type: 'i', value: {on.listen}}})"
    again = f"{ask}; setInterval(() => {ask}, 30000)"
    root = {"type": "root", "id": "root", "layout": "grid", "gridTemplate": 4, "scroll": True, "onCreate": again}
    session = {"createdWith": "Open Stage Control", "version": "1.27.0", "type": "session"}
    return json.dumps({**session, "content": {**root, "widgets": widgets, "tabs": []}}, indent=1).encode()


def reaper(on: Surface) -> bytes:
    """REAPER's pattern file: n/ sends and expects 0 … 1, t/ is a trigger, of which 0 is ignored.

    A word that REAPER does not know makes it ignore the whole file, so only those stand here that every version has:
    TRACK_MUTE without a number is that of the device's track, which is the master while no other is chosen. Its
    transport is told in lights, each when it changes, and a packet may have one of them alone. It hears none of them:
    what comes there is a press, and a press of pause while it is held goes on.
    """
    again = f"oscsend {on.host} {on.port} {on.at('subscribe')} i {on.listen}"
    slot = f"{on.at('prompt/1/text')} {on.at('prompt/1/weight/norm')}".replace("/1/", "/@/").split()
    return lines(
        [
            "# streamgen from REAPER: tracks 1 to 8 are the prompts, names their texts, faders their weights; master",
            "# fader, mute and tempo go both ways; the music plays, holds and stops with REAPER's transport. Put this",
            "# file into REAPER's resource folder, OSC (Options > Show REAPER resource path), then: Preferences >",
            "# Control/OSC/web > Add > OSC; pattern config: streamgen;",
            f"# mode: Configure device IP+local port; device port {on.port}, device IP {on.host},",
            f"# local listen port {on.listen}. What others change is shown while it is subscribed, a minute each:",
            f"#   while true; do {again}; sleep 30; done",
            "",
            f"DEVICE_TRACK_COUNT {len(on.slots)}",
            "",
            "REAPER_TRACK_FOLLOWS REAPER",
            "DEVICE_TRACK_FOLLOWS DEVICE",
            "DEVICE_TRACK_BANK_FOLLOWS DEVICE",
            "",
            f"TRACK_NAME s{slot[0]}",
            f"TRACK_VOLUME n{slot[1]}",
            "",
            f"MASTER_VOLUME n{on.at('gain_db/norm')}",
            f"TRACK_MUTE b{on.at('mute')}",
            "",
            *(f"{light.upper()} t{on.at(f'transport/{light}')}" for light in (Action.PLAY, Action.PAUSE, Action.STOP)),
            f"TEMPO f{on.at('tempo')}",
        ]
    )
