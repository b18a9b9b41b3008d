"""Manifests as bundles have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.audio.plugins.lv2 import plugin_uris

MANIFEST = """
@prefix lv2:  <http://lv2plug.in/ns/lv2core#> . # a comment. With <http://angles> and "quotes"
@prefix ui: <http://lv2plug.in/ns/extensions/ui#> .
@prefix mda: <http://example.org/mda/> .
PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#> .

mda:Loud
    a lv2:Plugin ;
    lv2:binary <Loud.so> ;
    rdfs:comment "a lv2:Plugin . that is not one; \\"no\\"" ;
    rdfs:seeAlso <Loud.ttl> .
<http://example.org/x#stereo> a lv2:EQPlugin , lv2:Plugin ; lv2:minorVersion 2.5 .
mda:Panel a ui:X11UI ; ui:binary <panel.so> .
<urn:a:b> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <http://lv2plug.in/ns/lv2core#Plugin> .
mda:Loud rdfs:label "twice" ; a lv2:Plugin .
"""


def bundle(folder: Path, manifest: str) -> Path:
    (folder / "manifest.ttl").write_text(manifest)
    return folder


def test_plugins_are_found_and_nothing_else(tmp_path: Path) -> None:
    found = plugin_uris(bundle(tmp_path, MANIFEST))
    assert found == ["http://example.org/mda/Loud", "http://example.org/x#stereo", "urn:a:b"]


@pytest.mark.parametrize("manifest", ["", "nonsense", "a a a a", '"""', "\x00\xff <", "@prefix . . ."])
def test_what_cannot_be_read_has_none(tmp_path: Path, manifest: str) -> None:
    assert plugin_uris(bundle(tmp_path, manifest)) == []


def test_no_manifest_has_none(tmp_path: Path) -> None:
    assert plugin_uris(tmp_path) == []
