"""The rack from one start to the next: an operator's file, what was kept, what is missing, and a kill −9."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.audio.catalogue import Catalogue
from bridge.audio.plugins.engine import PluginInfo, Reference
from bridge.audio.plugins.scan import ScannedPlugin, save_cache
from bridge.audio.plugins.spawn import HostSettings
from bridge.errors import UsageError
from bridge.session import preset_files, rack_keeper
from bridge.session.commands import EditRack, RackAction, Set
from bridge.session.live_session import LiveSession
from bridge.session.preset_files import Preset, SlotPreset
from bridge.session.rack_keeper import Beginning, RackKeeper, keep_aside, kept_file, kept_rack, put_in
from streamgen.errors import ConfigError

from .live import ILL, ill_catalogue, ill_host, play


@pytest.fixture
def host(tmp_path: Path) -> HostSettings:
    return ill_host(tmp_path)


@pytest.fixture
def catalogue(host: HostSettings, tmp_path: Path) -> Catalogue:
    return ill_catalogue(tmp_path, host)


# -- what it begins with -----------------------------------------------------------------------------------------------


def test_names_come_from_the_scan_and_from_the_operators_file(host: HostSettings, tmp_path: Path) -> None:
    info = PluginInfo("Scanned", "tests", "VST3", 0, 2, 2, ())
    save_cache(tmp_path / "found.json", [ScannedPlugin(Reference("/x/scanned.vst3"), "1", info)])
    assert Beginning.of(None, host, tmp_path / "nothing.json").catalogue.plugins == {}
    rack = tmp_path / "rack.toml"
    rack.write_text(
        'version = 1\n[plugins]\nmine = "/x/mine.vst3"\n[parameters]\nwidth = 0.5\n[[slots]]\neffect = "mine"\n'
    )
    found = Beginning.of(rack, host, tmp_path / "found.json")
    assert found.catalogue.plugins == {"Scanned": Reference("/x/scanned.vst3"), "mine": Reference("/x/mine.vst3")}
    assert found.preset == Preset({"width": 0.5}, (SlotPreset("mine"),))
    assert str(rack) in found.origin
    rack.write_text('version = 1\n[plugins]\nreverb = "/x/mine.vst3"\n[parameters]\n')
    with pytest.raises(UsageError, match=r"--rack .* reverb is the name of a built-in effect: choose another"):
        Beginning.of(rack, host, tmp_path / "found.json")
    rack.write_text('version = 1\n[parameters]\n[[slots]]\neffect = "x"\n')
    with pytest.raises(UsageError, match=r"--rack .* there is no effect 'x'; there are high-pass.*plugins scan"):
        Beginning.of(rack, host, tmp_path / "found.json")
    with pytest.raises(UsageError, match=r"--rack .*cannot be read"):
        Beginning.of(tmp_path / "nowhere.toml", host)


def test_what_was_kept_wins_until_the_file_is_another(tmp_path: Path) -> None:
    path = kept_file(tmp_path / "live-1.json")
    assert path.name == "live-1.rack.toml"
    assert kept_rack(path, "") is None
    kept = Preset({}, (SlotPreset("reverb", {"wet": 0.5}),), "/a/rack.toml 1")
    preset_files.write(path, kept)
    assert kept_rack(path, "/a/rack.toml 1") == kept
    assert kept_rack(path, "") == kept, "no file is named: what was kept goes on"
    assert kept_rack(path, "/a/rack.toml 2") is None
    assert kept_rack(path, "/b/rack.toml 1") is None
    path.write_text("nonsense")
    assert kept_rack(path, "") is None
    assert path.with_name("live-1.rack.toml.damaged").read_text() == "nonsense", "perhaps a newer version's"


def test_an_effect_that_is_missing_is_an_error_of_the_file_and_left_out_of_what_was_kept(tmp_path: Path) -> None:
    preset = Preset({}, (SlotPreset("gone"), SlotPreset("reverb", {"wet": 0.5}), SlotPreset("tilt", {"nothing": 1.0})))

    async def strict(session: LiveSession) -> None:
        with pytest.raises(ConfigError, match="there is no effect 'gone'"):
            await put_in(session, preset, "rack", strict=True)
        assert session.slots() == []

    async def lenient(session: LiveSession) -> None:
        left_out = await put_in(session, preset, "state", strict=False)
        assert [slot.name for slot in session.slots()] == ["reverb", "tilt"]
        assert session.values()["plugin/2/wet"] == 0.5, "its number is as if nothing were missing"
        assert left_out[0].startswith("gone: there is no effect")
        assert "plugin/3/nothing" in left_out[1]

    play(strict)
    play(lenient)
    (tmp_path / "live.rack.toml").write_text("before")
    keep_aside(tmp_path / "live.rack.toml", ["gone: it is not here"])
    assert (tmp_path / "live.rack.toml.before").read_text() == "before"


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_every_edit_and_every_knob_is_kept_soon_and_nothing_where_nothing_was(tmp_path: Path) -> None:
    path = tmp_path / "kept.toml"

    async def scene(session: LiveSession) -> None:
        keeper = RackKeeper(path, session, "/a/rack.toml 1")
        await asyncio.sleep(0.1)
        await session.do(Set({"temperature": 0.7}, "page"))
        await asyncio.sleep(0.5)
        assert not path.exists(), "nobody ever put anything into the rack"
        await session.do(EditRack(RackAction.ADD, "page", effect="reverb"))
        await session.do(Set({"plugin/1/wet": 0.75}, "page"))
        async with asyncio.timeout(5):
            while not (path.exists() and preset_files.read(path).slots[0].values.get("wet") == 0.75):
                await asyncio.sleep(0.02)
        kept = preset_files.read(path)
        assert (kept.origin, kept.values) == ("/a/rack.toml 1", {})
        await session.do(EditRack(RackAction.REMOVE, "page", 1))
        await keeper.close()
        assert preset_files.read(path).slots == ()
        assert session._listeners == []

    play(scene)


def test_a_plugin_that_fails_over_its_state_once_is_kept_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing was kept ever after: a kill took what was turned since."""
    path, right, failed = tmp_path / "kept.toml", rack_keeper.rack_of, []

    async def once(session: LiveSession) -> Preset:
        if session.slots() and not failed:
            failed.append(True)
            raise ValueError("no state today")
        return await right(session)

    monkeypatch.setattr(rack_keeper, "rack_of", once)

    async def scene(session: LiveSession) -> None:
        keeper = RackKeeper(path, session)
        await session.do(EditRack(RackAction.ADD, "page", effect="reverb"))
        await asyncio.sleep(0.5)
        await session.do(Set({"plugin/1/wet": 0.75}, "page"))
        async with asyncio.timeout(5):
            while not (path.exists() and preset_files.read(path).slots[0].values.get("wet") == 0.75):
                await asyncio.sleep(0.02)
        await keeper.close()

    play(scene)
    assert failed
    assert "no state today" in caplog.text


def test_a_disk_that_is_full_is_said_once_and_the_music_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "no folder").write_text("")

    async def scene(session: LiveSession) -> None:
        keeper = RackKeeper(tmp_path / "no folder" / "kept.toml", session)
        await session.do(EditRack(RackAction.ADD, "page", effect="reverb"))
        await asyncio.sleep(0.6)
        await session.do(Set({"plugin/1/wet": 0.75}, "page"))
        await keeper.close()

    play(scene)
    assert len([record for record in caplog.records if "the rack is not kept" in record.message]) == 1


def test_states_of_plugins_are_kept_though_nobody_turned_a_knob_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rack_keeper, "_STATES_EVERY_SECONDS", 0.05)
    state = [b"first"]

    async def rack_of(_session: object) -> Preset:
        return Preset({}, (SlotPreset("ill", {}, state[0]),))

    monkeypatch.setattr(rack_keeper, "rack_of", rack_of)
    path = tmp_path / "kept.toml"

    async def scene(session: LiveSession) -> None:
        keeper = RackKeeper(path, session)
        for one in (b"first", b"second"):
            state[0] = one
            async with asyncio.timeout(5):
                while not path.exists() or preset_files.read(path).slots[0].state != one:
                    await asyncio.sleep(0.01)
        await keeper.close()

    play(scene)


SERVICE = """
import asyncio, sys
from pathlib import Path
from bridge.audio.catalogue import Catalogue
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.spawn import HostSettings
from bridge.session.capacity import FixedCapacity
from bridge.session.engine_thread import EngineThread
from bridge.session.live_session import LiveSession
from bridge.session.commands import RackAction, EditRack, Set
from bridge.session.rack_keeper import RackKeeper
from streamgen.testing import FakeModel

class Listening:
    def audio(self, block): pass
    def event(self, event): pass

async def main(folder, engine_folder):
    settings = HostSettings(folder / "states", engine="ill_engine:IllEngine", python_path=(engine_folder,))
    catalogue = Catalogue({"ill": Reference(str(folder / "orders"))}, settings)
    engine = EngineThread(FakeModel(), asyncio.get_running_loop(), FixedCapacity(5))
    session = await LiveSession.open("live", engine, 48_000, catalogue=catalogue)
    session.add(Listening())
    keeper = RackKeeper(folder / "kept.toml", session)
    await session.do(EditRack(RackAction.ADD, "page", effect="reverb"))
    await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
    await session.do(Set({"plugin/1/decay_seconds": 7.0, "plugin/2/gain": 1.0}, "page"))
    await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.slow
def test_a_service_that_is_killed_leaves_its_rack_and_its_states(catalogue: Catalogue, tmp_path: Path) -> None:
    kept = tmp_path / "kept.toml"
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path), str(ILL)], env=os.environ)
    end = time.monotonic() + 60
    while not (kept.exists() and [slot.state for slot in preset_files.read(kept).slots] == [b"", b'{"gain": 0.25}']):
        assert time.monotonic() < end
        time.sleep(0.05)
    service.kill()
    service.wait()

    async def scene(session: LiveSession) -> None:
        before = kept_rack(kept, "")
        assert before is not None
        assert await put_in(session, before, "state", strict=False) == []
        assert [slot.name for slot in session.slots()] == ["reverb", "ill"]
        values = session.values()
        assert (values["plugin/1/decay_seconds"], values["plugin/2/gain"]) == (7.0, pytest.approx(1.0))

    play(scene, catalogue)
