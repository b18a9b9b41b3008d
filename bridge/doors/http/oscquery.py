"""OSCQuery: the OSC namespace as JSON, generated from parameters.TABLE. No I/O.

    GET /streamgen                    the tree            GET /streamgen/temperature?VALUE   one attribute
    GET /streamgen/prompt/1           a branch            GET /?HOST_INFO                    where OSC is
    WebSocket, same port: {"COMMAND": "LISTEN", "DATA": "/streamgen/temperature"} → its changes as OSC packets

Rules: knows no socket and no session; values come as a mapping. Only the types s, i and f are used, as in the OSC door.
Source: github.com/Vidvox/OSCQueryProposal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bridge.doors.osc.codec import encode
from bridge.errors import WireError
from bridge.session.messages import ACTIONS
from bridge.session.parameters import TABLE, Parameter, Value

__all__ = ["ROOT", "Listening", "attribute", "find", "host_info", "packet", "tree"]

ROOT = "/streamgen"
_TYPES = {"string": "s", "float": "f", "int": "i", "bool": "i"}
_READ, _WRITE, _BOTH = 1, 2, 3
_ATTRIBUTES = ("FULL_PATH", "CONTENTS", "TYPE", "ACCESS", "VALUE", "RANGE", "DESCRIPTION", "UNIT", "CLIPMODE")
_EXTENSIONS = dict.fromkeys((*_ATTRIBUTES[3:], "LISTEN"), True)  # the first three are not optional
_MAX_LISTENED = 256

Node = dict[str, Any]


def tree(values: Mapping[str, Value]) -> Node:
    """Return the whole namespace, from "/" down."""
    root: Node = {"FULL_PATH": "/", "DESCRIPTION": "streamgen", "ACCESS": 0, "CONTENTS": {}}
    for row in TABLE.values():
        _place(root, f"{ROOT}/{row.name}", _parameter(row, values[row.name]))
    for name in ACTIONS:
        text = f"{name}; 0 is a button's release, ignored"
        _place(root, f"{ROOT}/{name}", {"TYPE": "i", "ACCESS": _WRITE, "DESCRIPTION": text})
    about = "what slot 1 plays, alone"
    _place(root, f"{ROOT}/prompt", {"TYPE": "s", "ACCESS": _WRITE, "DESCRIPTION": about})
    meter = {"TYPE": "ff", "ACCESS": _READ, "DESCRIPTION": "peak, left and right", "UNIT": ["dB", "dB"]}
    _place(root, f"{ROOT}/meter", meter)
    return root


def _parameter(row: Parameter, value: Value) -> Node:
    node: Node = {"TYPE": _TYPES[row.type], "ACCESS": _BOTH, "DESCRIPTION": row.description}
    node["VALUE"] = [int(value) if row.type == "bool" else value]
    if row.min is not None:
        node |= {"RANGE": [{"MIN": row.min, "MAX": row.max}], "CLIPMODE": ["none"]}
    return node | ({"UNIT": [row.unit]} if row.unit else {})


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
    """Return HTTP status and body for one attribute: 400 for none of the specification's, 204 where it has no value."""
    if name not in _ATTRIBUTES:
        return 400, ""
    return (200, json.dumps({name: node[name]})) if name in node else (204, "")


def host_info(host: str, port: int, osc_port: int | None) -> Node:
    """Return what `?HOST_INFO` answers; `host` is an address that the asker reaches, so never 0.0.0.0."""
    info: Node = {"NAME": "streamgen", "EXTENSIONS": _EXTENSIONS, "WS_IP": host, "WS_PORT": port}
    return info | ({"OSC_IP": host, "OSC_PORT": osc_port, "OSC_TRANSPORT": "UDP"} if osc_port else {})


def packet(name: str, value: Value) -> bytes:
    """Return the OSC message that tells a parameter's value."""
    return encode(f"{ROOT}/{name}", int(value) if isinstance(value, bool) else value)


class Listening:
    """The parameters that one OSCQuery client wants to hear of."""

    def __init__(self) -> None:
        self.names: set[str] = set()

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
        if command not in ("LISTEN", "IGNORE") or name not in TABLE or len(self.names) >= _MAX_LISTENED:
            raise WireError("bad_value", f"{str(command)[:20]!a} of {str(path)[:60]!a}: there is no such thing to hear")
        (self.names.add if command == "LISTEN" else self.names.discard)(name)
