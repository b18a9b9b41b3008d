"""Which plugins an LV2 bundle has: the subjects of `a lv2:Plugin` in its manifest.

Rules: reads Turtle as manifests use it: prefixes, statements, comments. What it cannot read has no plugins.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["plugin_uris"]

_TOKEN = re.compile(
    r'"""(?:.|\n)*?"""|"(?:\\.|[^"\\])*"|<([^>]*)>|#[^\n]*|[^\s;,.\[\]()<>"#]+(?:\.[^\s;,.\[\]()<>"#]+)*|[;,.\[\]()]'
)
_PLUGIN = "http://lv2plug.in/ns/lv2core#Plugin"


def plugin_uris(bundle: Path) -> list[str]:
    """Return the addresses of a bundle's plugins, in the manifest's order.

    Raises:
        OSError: it is not ours to read.
    """
    manifest = bundle / "manifest.ttl"
    if not manifest.is_file():
        return []
    return _subjects(manifest.read_text(errors="replace"))


def _subjects(turtle: str) -> list[str]:
    prefixes: dict[str, str] = {}
    found: list[str] = []
    for statement in _statements(turtle):
        if len(statement) >= 3 and statement[0].lower() in ("@prefix", "prefix"):
            prefixes[statement[1]] = statement[2].strip("<>")
        elif len(statement) >= 3 and _is_plugin(statement, prefixes):
            found.append(_address(statement[0], prefixes))
    return list(dict.fromkeys(found))


def _statements(turtle: str) -> list[list[str]]:
    """Cut at full stops that stand alone; comments are gone."""
    statements: list[list[str]] = [[]]
    for match in _TOKEN.finditer(turtle):
        token = match[0]
        if token.startswith("#"):
            continue
        if token == ".":
            statements.append([])
        else:
            statements[-1].append(token)
    return statements


def _is_plugin(statement: list[str], prefixes: dict[str, str]) -> bool:
    """Whether a statement says that its subject is a plugin: `a x , lv2:Plugin ; …`."""
    kinds, listing = [], False
    for token in statement[1:]:
        if token in ("a", "<http://www.w3.org/1999/02/22-rdf-syntax-ns#type>", "rdf:type"):
            listing = True
        elif token == ";":
            listing = False
        elif listing:
            kinds.append(_address(token, prefixes))
    return _PLUGIN in kinds


def _address(token: str, prefixes: dict[str, str]) -> str:
    if token.startswith("<"):
        return token[1:-1]
    prefix, colon, name = token.partition(":")
    return prefixes.get(prefix + colon, prefix + colon) + name
