"""Every plugin in a child of its own: what it is, or why not; what has not changed is not looked at again."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from bridge.audio.plugins import scan as scan_module
from bridge.audio.plugins.engine import PluginInfo, Reference
from bridge.audio.plugins.scan import ScannedPlugin, catalogue_names, folders, load_cache, save_cache, scan
from bridge.audio.plugins.spawn import HostSettings


@pytest.fixture
def three(tmp_path: Path) -> Path:
    folder = tmp_path / "vst3"
    (folder / "maker").mkdir(parents=True)
    (folder / "well.vst3").write_text("")
    (folder / "maker" / "dies.vst3").write_text("on-load segfault")
    (folder / "maker" / "hangs.vst3").write_text("on-load hang")
    (folder / "readme.txt").write_text("no plugin")
    return folder


@pytest.mark.slow
def test_what_dies_or_hangs_is_listed_with_its_reason(settings: HostSettings, three: Path) -> None:
    told: list[ScannedPlugin] = []
    began = time.monotonic()
    found = scan(replace(settings, load_seconds=5.0), [three, three / "nowhere"], tell=told.append)
    assert time.monotonic() - began < 30
    by_name = {Path(one.reference.path).stem: one for one in found}
    assert by_name["well"].info is not None
    assert (by_name["well"].name, by_name["well"].reason) == ("Ill", "")
    assert "signal 11" in by_name["dies"].reason
    assert "not loaded within 5 s" in by_name["hangs"].reason
    assert len(found) == len(told) == 3
    assert list(catalogue_names(found)) == ["Ill"]


def test_only_what_changed_is_looked_at_again(settings: HostSettings, three: Path, tmp_path: Path) -> None:
    (three / "maker" / "hangs.vst3").unlink()
    cache = tmp_path / "cache" / "plugins.json"
    assert load_cache(cache) == []
    first = scan(settings, [three])
    save_cache(cache, first)
    blind = replace(settings, engine="nowhere:Engine")  # whoever is looked at now fails
    assert scan(blind, [three], load_cache(cache)) == first
    os.utime(three / "well.vst3", (1, 1))
    again = {Path(one.reference.path).stem: one for one in scan(blind, [three], load_cache(cache))}
    assert "nowhere" in again["well"].reason
    assert again["dies"] in first
    cache.write_text('[{"other": "version"}]')
    assert load_cache(cache) == []


def test_no_two_have_one_name_nor_a_built_in_effects() -> None:
    def found(name: str, kind: str, path: str) -> ScannedPlugin:
        return ScannedPlugin(Reference(path), "1", PluginInfo(name, "", kind, 0, 2, 2))

    names = catalogue_names(
        [found("A", "VST3", "1"), found("A", "LV2", "2"), found("A", "LV2", "3"), found("reverb", "LV2", "4")]
    )
    assert {name: reference.path for name, reference in names.items()} == {
        "A": "1",
        "A (LV2)": "2",
        "A (LV2 2)": "3",
        "reverb (LV2)": "4",
    }


def test_what_is_not_ours_to_read_is_listed_and_ends_no_scan(
    settings: HostSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked.lv2").mkdir()

    def locked(_bundle: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(scan_module, "plugin_uris", locked)
    (found,) = scan(replace(settings, engine="nowhere:Engine"), [tmp_path])
    assert (found.name, found.info, bool(found.reason)) == ("locked", None, True)
    found = ScannedPlugin(Reference("/x/midi.lv2", "http://x/midi#filter"), "1", None, "it has no inputs")
    assert found.name == "midi filter", "which of a bundle's many"


def test_a_link_in_a_circle_ends(settings: HostSettings, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path)
    assert scan(settings, [tmp_path]) == []


def test_folders_are_the_users_and_the_systems() -> None:
    assert any("vst3" in str(one).lower() for one in folders())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("minihost") is None, reason="needs the extra 'plugins'")
def test_every_plugin_of_the_system_is_looked_at_and_none_hangs_the_scan(tmp_path: Path) -> None:
    where = [Path("/usr/lib/vst3"), Path("/usr/lib/lv2/mda.lv2").parent / "mda.lv2"]
    if not where[0].exists():
        pytest.skip("zam-plugins is not installed")
    found = scan(HostSettings(tmp_path, load_seconds=60.0), [where[0]])
    assert len(found) >= 17
    assert [one for one in found if one.info is None and not one.reason] == []
    assert {"ZamCompX2", "ZamVerb"} <= set(catalogue_names(found))
