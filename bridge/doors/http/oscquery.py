"""OSCQuery: the OSC namespace as JSON, generated from a session's table. No I/O.

    GET /streamgen                    the tree            GET /streamgen/temperature?VALUE   one attribute
    GET /streamgen/prompt/1           a branch            GET /?HOST_INFO                    where OSC is
    WebSocket, same port: {"COMMAND": "LISTEN", "DATA": "/streamgen/temperature"} → its changes as OSC packets
    meter, bands and onset likewise, when they sound; nothing is computed while nobody listens to them
    heard, what the model understands of the prompts, is read like a parameter and listened to like one
    a switch is T or F, what only happens (play, reset) is I, a text with choices has VALS
    another rack: {"COMMAND": "PATH_CHANGED", "DATA": "/streamgen"} → read the tree again

Rules: knows no socket and no session; table and values come as mappings. Whoever asks here knows T, F and I, which the
OSC door never sends; it takes them.
Source: github.com/Vidvox/OSCQueryProposal.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pythonosc.osc_message_builder import OscMessageBuilder

from bridge.audio.spectra import BANDS_HZ
from bridge.doors.visuals import METER_SECONDS, Levels, Visuals
from bridge.errors import WireError
from bridge.session.commands import Action
from bridge.session.events import Block, Changed, Event, Notice, TableChanged
from streamgen.config import ControlSpec, Value

__all__ = ["ROOT", "ParameterListener", "attribute", "find", "host_info", "packet", "tree"]

ROOT = "/streamgen"
_TYPES = {"string": "s", "float": "f", "int": "i"}
_READ, _WRITE, _BOTH = 1, 2, 3
_SHOWN = ("VALUE", "DEFAULT_VALUE", "RANGE", "DESCRIPTION", "UNIT", "CLIPMODE")
_ATTRIBUTES = ("FULL_PATH", "CONTENTS", "TYPE", "ACCESS", *_SHOWN)
_OTHERS = ("TAGS", "EXTENDED_TYPE", "CRITICAL", "OVERLOADS", "HTML")  # of the specification, and not here
_EXTENSIONS = dict.fromkeys((*_ATTRIBUTES[3:], "LISTEN", "PATH_CHANGED"), True)  # the first three are not optional

_COMMANDS = (
    ("rack/add", "si", "an effect's name, its place in the order"),
    ("rack/remove", "i", "a slot's number"),
    ("rack/replace", "is", "a slot's number, an effect's name"),
    ("rack/move", "ii", "a slot's number, its place in the order"),
    ("rack/save", "is", "a slot's number, a preset's name: of its plugin alone"),
    ("rack/load", "is", "the same, back"),
    ("preset/save", "s", "a preset's name"),
    ("keep", "f", "seconds of what was heard last, kept as a file"),
    ("preset/recall", "sf", "a preset's name, seconds over which to go there"),
)

_LOOKS = {
    "meter": ("ff", "peak, left and right", "dB"),
    "bands": ("f" * len(BANDS_HZ), "octaves from 63 Hz to 8 kHz", "dB"),
    "onset": ("f", "struck: how strong", ""),
}
"""What is shown of the music: types, description, unit."""
_HEARD = "heard"

Node = dict[str, Any]


def tree(table: Mapping[str, ControlSpec], values: Mapping[str, Value], heard: str = "") -> Node:
    """Return the whole namespace, from "/" down; `heard` is what the model understands of the prompts."""
    root: Node = {"FULL_PATH": "/", "DESCRIPTION": "streamgen", "ACCESS": 0, "CONTENTS": {}}
    for row in table.values():
        _place(root, f"{ROOT}/{row.name}", _parameter(row, values[row.name]))
    for action in Action:
        _place(root, f"{ROOT}/{action}", {"TYPE": "I", "ACCESS": _WRITE, "DESCRIPTION": str(action)})
    about = "what the model understands of the prompts; empty where it reads them as they are typed"
    _place(root, f"{ROOT}/{_HEARD}", {"TYPE": "s", "ACCESS": _READ, "DESCRIPTION": about, "VALUE": [heard]})
    about = "what slot 1 plays, alone"
    _place(root, f"{ROOT}/prompt", {"TYPE": "s", "ACCESS": _WRITE, "DESCRIPTION": about})
    for path, kinds, about in _COMMANDS:
        _place(root, f"{ROOT}/{path}", {"TYPE": kinds, "ACCESS": _WRITE, "DESCRIPTION": about})
    for path, (kinds, about, unit) in _LOOKS.items():
        units = {"UNIT": [unit] * len(kinds)} if unit else {}
        _place(root, f"{ROOT}/{path}", {"TYPE": kinds, "ACCESS": _READ, "DESCRIPTION": about, **units})
    return root


def _parameter(row: ControlSpec, value: Value) -> Node:
    about = row.description if row.supported else f"{row.description} (this model was not made for it)"
    node: Node = {"TYPE": _type(row, value), "ACCESS": _BOTH, "DESCRIPTION": about}
    node |= {"VALUE": [value], "DEFAULT_VALUE": [row.default]}
    if row.has_range and row.type != "bool":
        node |= {"RANGE": [{"MIN": row.low, "MAX": row.high}], "CLIPMODE": ["none"]}
    elif row.choices:
        node |= {"RANGE": [{"VALS": list(row.choices)}]}
    return node | ({"UNIT": [row.unit]} if row.unit else {})


def _type(row: ControlSpec, value: Value) -> str:
    return ("T" if value else "F") if row.type == "bool" else _TYPES[row.type]


def _place(root: Node, path: str, leaf: Node) -> None:
    node = root
    for word in path.strip("/").split("/"):
        below = node["FULL_PATH"].rstrip("/") + "/" + word
        node = node.setdefault("CONTENTS", {}).setdefault(word, {"FULL_PATH": below, "ACCESS": 0})
    node |= leaf


def find(root: Node, path: str) -> Node | None:
    """Return the node at a path, or None."""
    node: Node | None = root
    for word in path.strip("/").split("/") if path.strip("/") else []:
        node = None if node is None else node.get("CONTENTS", {}).get(word)
    return node


def attribute(node: Node, name: str) -> tuple[int, str]:
    """Return HTTP status and body for one attribute: 400 for none of the specification's, 204 where there is none."""
    if name not in _ATTRIBUTES + _OTHERS:
        return 400, ""
    return (200, json.dumps({name: node[name]})) if name in node else (204, "")


def host_info(host: str, port: int, osc_port: int | None) -> Node:
    """Return what `?HOST_INFO` answers; `host` is an address that the asker reaches, so never 0.0.0.0."""
    info: Node = {"NAME": "streamgen", "EXTENSIONS": _EXTENSIONS, "WS_IP": host, "WS_PORT": port}
    return info | ({"OSC_IP": host, "OSC_PORT": osc_port, "OSC_TRANSPORT": "UDP"} if osc_port else {})


def packet(row: ControlSpec, value: Value) -> bytes:
    """Return the OSC message that tells a parameter's value."""
    message = OscMessageBuilder(f"{ROOT}/{row.name}")
    message.add_arg(value, _type(row, value))
    return bytes(message.build().dgram)


def _heard(line: str) -> bytes:
    message = OscMessageBuilder(f"{ROOT}/{_HEARD}")
    message.add_arg(line, "s")
    return bytes(message.build().dgram)


def _look(name: str, values: Sequence[float]) -> bytes:
    message = OscMessageBuilder(f"{ROOT}/{name}")
    for value in values:
        message.add_arg(value, "f")
    return bytes(message.build().dgram)


class ParameterListener:
    """A listener (`session.Listener`) that passes on the parameters asked for; the newest value of each.

    Args:
        table: the session's parameters.
        rate_hz: of its blocks.
        ready: called when there is news.

    Attributes:
        names: of the parameters, and of what is shown of the music, that were asked for.
    """

    wants_audio = False

    def __init__(self, table: Mapping[str, ControlSpec], rate_hz: int, ready: Callable[[], None]) -> None:
        self._table, self._ready = table, ready
        self.names: set[str] = set()
        self._levels, self._visuals = Levels(rate_hz), Visuals(rate_hz)
        self._onsets: deque[tuple[float, float]] = deque(maxlen=100)
        self._next_meter = 0.0
        self._news: dict[str, bytes | str] = {}  # one a parameter, so never many

    @property
    def looks(self) -> bool:
        """Whether anything that is shown of the music was asked for."""
        return not self.names.isdisjoint(_LOOKS)

    def audio(self, block: Block) -> None:
        """Take a block, if its looks were asked for."""
        if self.looks:
            self._levels.add(block)
            self._onsets.extend(self._visuals.add(block))

    def look(self, now: float) -> None:
        """Make news of what sounds at a time, Unix seconds."""
        seen: dict[str, Sequence[float] | None] = {}
        if now >= self._next_meter:
            self._next_meter = now + METER_SECONDS
            seen = {"meter": self._levels.due(now), "bands": self._visuals.due(now)}
        while self._onsets and self._onsets[0][0] <= now:
            seen["onset"] = self._onsets.popleft()[1:]
        news = {name: _look(name, values) for name, values in seen.items() if values and name in self.names}
        if news:
            self._news |= news
            self._ready()

    def event(self, event: Event) -> None:
        """Keep what changed."""
        if isinstance(event, Changed):
            asked = {name: value for name, value in event.values.items() if name in self.names}
            self._news |= {name: packet(self._table[name], value) for name, value in asked.items()}
            self._ready()
        elif isinstance(event, Notice) and event.topic == _HEARD and _HEARD in self.names:
            self._news[_HEARD] = _heard(event.text)
            self._ready()
        elif isinstance(event, TableChanged):
            self._table = event.table
            self.names &= event.table.keys() | _LOOKS.keys() | {_HEARD}
            self._news[ROOT] = json.dumps({"COMMAND": "PATH_CHANGED", "DATA": ROOT})
            self._ready()

    def take(self) -> list[bytes | str]:
        """Remove and return the news, as OSC packets, and as JSON where the tree is another."""
        news, self._news = self._news, {}
        return list(news.values())

    def command(self, text: str) -> None:
        """Take LISTEN or IGNORE.

        Raises:
            WireError: anything else.
        """
        try:
            message = json.loads(text)
            command, path = message["COMMAND"], message["DATA"]
        except (ValueError, RecursionError, TypeError, KeyError):
            example = '{"COMMAND": "LISTEN", "DATA": "/streamgen/temperature"}'
            raise WireError("bad_json", f"an OSCQuery message is like {example}") from None
        name = path.removeprefix(ROOT + "/") if isinstance(path, str) else ""
        if command not in ("LISTEN", "IGNORE") or name not in {**self._table, **_LOOKS, _HEARD: None}:
            raise WireError("bad_value", f"{str(command)[:20]!a} of {str(path)[:60]!a}: there is no such thing to hear")
        (self.names.add if command == "LISTEN" else self.names.discard)(name)
