"""Patches for Max and Pure Data: a number or a slider for each parameter; what comes back is printed.

Rules: returns bytes; no file, no socket.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from bridge.doors.osc.layouts.surface import DEEDS, Surface, lines, pressed

__all__ = ["max_patcher", "pure_data"]

_MAX_ENDS: dict[str, tuple[int, list[str]]] = {
    "message": (2, [""]), "number": (1, ["", "bang"]), "flonum": (1, ["", "bang"]), "toggle": (1, ["int"]),
    "udpsend": (1, []), "udpreceive": (1, [""]), "print": (1, []), "loadbang": (1, ["bang"]), "metro": (2, ["bang"]),
    "prepend": (1, [""]),
}  # fmt: skip
"""How many inlets each of Max's boxes has, and what comes out of its outlets."""


def max_patcher(on: Surface) -> bytes:
    """A patcher for Max: numbers with their ranges, toggles, messages; what comes back is printed."""
    boxes: list[dict[str, Any]] = []
    wires: list[dict[str, Any]] = []

    def box(kind: str, text: str, x: int, y: int, **more: Any) -> str:
        name = f"obj-{len(boxes) + 1}"
        words = {"text": text} if text else {}
        inlets, outlets = _MAX_ENDS[text.split()[0] if kind == "newobj" else kind]
        ends = {"numinlets": inlets, "numoutlets": len(outlets), "outlettype": outlets}
        size = {"patching_rect": [x, y, 22 + 7 * max(len(text), 6), 22]}
        boxes.append({"box": {"id": name, "maxclass": kind, **words, **ends, **size, **more}})
        return name

    def wire(source: str, target: str) -> None:
        wires.append({"patchline": {"source": [source, 0], "destination": [target, 0]}})

    send = box("newobj", f"udpsend {on.host} {on.port}", 40, 1_000)
    wire(box("newobj", f"udpreceive {on.listen}", 600, 1_000), box("newobj", "print streamgen", 600, 1_040))
    wire(box("newobj", "loadbang", 40, 10), every := box("newobj", "metro 30000 @active 1", 40, 40))
    wire(every, ask := box("message", f"{on.at('subscribe')} {on.listen}", 40, 70))
    wire(ask, send)
    for slot in on.slots:
        text = box("message", f"{on.at(f'prompt/{slot}/text')} solo piano", 300, 100 + 30 * slot)
        wire(text, send)
    for place, row in enumerate([*(on.table[f"prompt/{slot}/weight"] for slot in on.slots), *on.knobs]):
        x, y = 40 + place % 2 * 130, 120 + place // 2 * 60
        number = box("number" if row.type == "int" else "flonum", "", x, y, minimum=row.low, maximum=row.high)
        wire(number, name := box("newobj", f"prepend {on.at(row.name)}", x, y + 28))
        wire(name, send)
    for place, row in enumerate(on.switches):
        wire(
            box("toggle", "", 640, 130 + 60 * place),
            name := box("newobj", f"prepend {on.at(row.name)}", 640, 158 + 60 * place),
        )
        wire(name, send)
    for place, word in enumerate(DEEDS):
        wire(box("message", f"{on.at(word)} {pressed(word)}", 840, 130 + 30 * place), send)
    choices = [f"{on.at(row.name)} {choice}" for row in on.choices for choice in row.choices]
    for place, text in enumerate(choices):
        wire(box("message", text, 840, 330 + 30 * place), send)
    app = {"major": 8, "minor": 0, "revision": 0, "architecture": "x64", "modernui": 1}
    head = {"fileversion": 1, "appversion": app, "classnamespace": "box", "rect": [60, 60, 1_100, 900]}
    patcher = {**head, "boxes": boxes, "lines": wires}
    return json.dumps({"patcher": patcher}, indent=1).encode()


def pure_data(on: Surface) -> bytes:
    """A patch for vanilla Pd: sliders, toggles, bangs; what comes back is printed."""
    objects: list[str] = []
    wires: list[tuple[int, int]] = []

    def put(text: str, x: int, y: int) -> int:
        kind, _, rest = text.partition(" ")
        objects.append(f"#X {kind} {x} {y} {rest};")
        return len(objects) - 1

    def address(word: str) -> str:
        return f"obj oscformat {on.at(word).strip('/').replace('/', ' ')}"

    trim = put("obj list prepend send", 20, 900), put("obj list trim", 20, 925), put("obj netsend -u -b", 20, 950)
    wires += [(trim[0], trim[1]), (trim[1], trim[2])]
    start, both = put("obj loadbang", 20, 10), put("obj trigger bang bang", 20, 32)
    where, wait, every = (
        put(f"msg connect {on.host} {on.port}", 200, 54),
        put("obj delay 200", 20, 54),
        put("obj metro 30000", 20, 76),
    )
    port, ask = put(f"msg {on.listen}", 20, 98), put(address("subscribe"), 20, 120)
    wires += [(start, both), (both, wait), (wait, every), (every, port), (port, ask), (ask, trim[0]), (where, trim[2])]
    heard = [
        put(f"obj netreceive -u -b {on.listen}", 500, 900),
        put("obj oscparse", 500, 925),
        put("obj list trim", 500, 950),
    ]
    heard.append(put("obj print streamgen", 500, 975))
    wires += [*pairwise(heard)]
    rows = [*(on.table[f"prompt/{slot}/weight"] for slot in on.slots), *on.knobs]
    for place, row in enumerate(rows):
        x, y, label = 20 + place % 3 * 280, 160 + place // 3 * 50, row.name.replace("/", "_")
        slider = put(f"obj hsl 128 15 0 1 0 0 empty empty {label} -2 -8 0 10 #fcfcfc #000000 #000000 0 1", x, y)
        wires += [(slider, name := put(address(f"{row.name}/norm"), x, y + 20)), (name, trim[0])]
    for place, row in enumerate(on.switches):
        x = 20 + place % 4 * 210
        toggle = put(
            f"obj tgl 15 0 empty empty {row.name} 17 7 0 10 #fcfcfc #000000 #000000 0 1", x, 780 + place // 4 * 44
        )
        wires += [(toggle, name := put(address(row.name), x, 800 + place // 4 * 44)), (name, trim[0])]
    for place, word in enumerate(DEEDS):
        one = put(f"msg {pressed(word)}", 500 + 90 * place, 54)
        wires += [(one, name := put(address(word), 500 + 90 * place, 76)), (name, trim[0])]
    for place, (word, choice) in enumerate((row.name, choice) for row in on.choices for choice in row.choices):
        one = put(f"msg list {choice}", 500 + 65 * place, 98)
        wires += [(one, name := put(address(word), 500 + 65 * place, 120)), (name, trim[0])]
    connects = [f"#X connect {source} 0 {target} 0;" for source, target in wires]
    return lines(["#N canvas 40 40 900 1000 10;", *objects, *connects, f"#X connect {both} 1 {where} 0;"])
