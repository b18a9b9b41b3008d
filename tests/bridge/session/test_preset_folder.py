"""Presets by name in the operator's folder, through the session's own commands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.audio.catalogue import Catalogue
from bridge.session import preset_folder
from bridge.session.commands import EditRack, RackAction, RecallPreset, SavePreset, Set
from bridge.session.events import Changed, PresetsChanged, TableChanged
from bridge.session.live_session import LiveSession
from bridge.session.timeline import quantized
from streamgen.errors import CapacityError, ConfigError, StreamgenError

from .live import Listening, ill_catalogue, ill_host, play


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return ill_catalogue(tmp_path, ill_host(tmp_path))


def test_a_set_is_saved_told_and_recalled_by_name(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        listener = Listening()
        session.add(listener)
        await session.do(EditRack(RackAction.ADD, "page", effect="reverb"))
        await session.do(Set({"plugin/1/wet": 0.75, "temperature": 0.5}, "page"))
        await session.do(SavePreset("My set", "page"))
        assert session.presets() == ["My set"]
        assert [event for event in listener.events if isinstance(event, PresetsChanged)] == [
            PresetsChanged(["My set"], "page")
        ]
        await session.do(Set({"plugin/1/wet": 0.1, "temperature": 1.5}, "page"))
        await session.do(EditRack(RackAction.ADD, "page", effect="tilt"))
        await session.do(RecallPreset("My set", "osc"))
        values = session.values()
        assert (values["plugin/1/wet"], values["temperature"]) == (0.75, 0.5)
        assert [slot.name for slot in session.slots()] == ["reverb"]

    play(scene, presets=tmp_path / "presets")


def test_a_recall_waits_for_the_bar_its_words_to_the_sample_and_the_next_one_ends_it(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        listener = Listening()
        session.add(listener)
        await session.do(Set({"tempo": 240.0}, "page"))  # a bar is a second
        await session.do(EditRack(RackAction.ADD, "page", effect="tilt"))
        await session.do(Set({"top_k": 9}, "page"))
        await session.do(SavePreset("one", "page"))
        await session.do(Set({"top_k": 5}, "page"))
        await session.do(EditRack(RackAction.REMOVE, "page", 1))
        await session.do(SavePreset("two", "page"))
        async with asyncio.timeout(5):
            while not session.timeline.running:
                await asyncio.sleep(0.01)
        await session.do(RecallPreset("one", "a", at=quantized(32)))
        await session.do(RecallPreset("one", "b", at=quantized(4)))
        assert session.slots() == []
        async with asyncio.timeout(5):
            while not session.slots() or session.values()["top_k"] != 9:
                await asyncio.sleep(0.01)
        by_b = [event for event in listener.events if isinstance(event, Changed) and event.by == "b"]
        (recalled,) = [event for event in by_b if "top_k" in event.values]  # the rack's own follow when it is there
        bar = session.timeline.beats.sample(4 * round(session.timeline.beat(recalled.applied_at_sample) / 4))
        assert abs(recalled.applied_at_sample - bar) <= 961 / 2
        edited = [event for event in listener.events if isinstance(event, TableChanged)]
        assert edited[-1].by == "b"

    play(scene, presets=tmp_path / "presets")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", ".hidden", "a/b"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    async def scene(session: LiveSession) -> None:
        for command in (SavePreset(name, "osc"), RecallPreset(name, "osc"), RecallPreset(name, "osc", slot=1)):
            with pytest.raises(ConfigError, match="no name of a preset"):
                await session.do(command)
        assert not (tmp_path / "presets").exists()

    play(scene, presets=tmp_path / "presets")


def test_what_cannot_be_is_said_and_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(session: LiveSession) -> None:
        with pytest.raises(ConfigError, match="there is no preset 'nothing'; there are none"):
            await session.do(RecallPreset("nothing", "osc"))
        with pytest.raises(ConfigError, match="slot 1 has no plugin"):
            await session.do(SavePreset("a", "osc", slot=1))
        with pytest.raises(ConfigError, match="there is no preset 'a' of a plugin"):
            await session.do(RecallPreset("a", "osc", slot=1))
        (tmp_path / "bad.toml").write_text('version = 1\n[parameters]\n[[slots]]\neffect = "nothing"\n')
        (tmp_path / "wild.toml").write_text("version = 1\n[parameters]\ntemperature = 99.0\n")
        before = dict(session.values())
        for seconds in (0.0, 5.0):
            with pytest.raises(ConfigError, match="there is no effect 'nothing'"):
                await session.do(RecallPreset("bad", "osc", seconds))
            with pytest.raises(StreamgenError, match="temperature is"):
                await session.do(RecallPreset("wild", "osc", seconds))
        (tmp_path / "torn.toml").write_text("version = [")
        with pytest.raises(ConfigError, match=r"torn\.toml is no preset") as torn:
            await session.do(RecallPreset("torn", "osc"))
        assert str(tmp_path) not in str(torn.value), "where the folder lies is the operator's business"
        assert session.values() == before
        monkeypatch.setattr(preset_folder, "_MOST_FILES", 3)
        with pytest.raises(CapacityError, match="the folder of presets holds 3, the limit"):
            await session.do(SavePreset("third", "osc"))
        await session.do(SavePreset("bad", "osc"))  # one that is there may be written over

    async def nowhere(session: LiveSession) -> None:
        with pytest.raises(ConfigError, match="no folder here: start with --presets FOLDER"):
            await session.do(SavePreset("a", "osc"))
        assert session.presets() == []

    play(scene, presets=tmp_path)
    play(nowhere, presets=None)


def test_a_set_that_cannot_be_whole_changes_nothing(tmp_path: Path) -> None:
    """Neither half of it nor a folder that is none ends the connection of who asked."""
    many = "version = 1\n" + 17 * '[[slots]]\neffect = "tilt"\n'

    async def scene(session: LiveSession) -> None:
        await session.do(EditRack(RackAction.ADD, "page", effect="reverb"))
        (tmp_path / "half.toml").write_text('version = 1\n[[slots]]\neffect = "tilt"\n[[slots]]\neffect = "gone"\n')
        (tmp_path / "many.toml").write_text(many)
        for name, why in (("half", "there is no effect 'gone'"), ("many", "17 slots, the rack has 16")):
            with pytest.raises(StreamgenError, match=why):
                await session.do(RecallPreset(name, "osc"))
            assert [slot.name for slot in session.slots()] == ["reverb"]

    async def none(session: LiveSession) -> None:
        with pytest.raises(ConfigError, match="Not a directory"):
            await session.do(SavePreset("a", "osc"))

    play(scene, presets=tmp_path)
    play(none, presets=tmp_path / "many.toml" / "presets")


def test_a_morph_goes_on_by_itself_and_the_next_recall_ends_it(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        await session.do(EditRack(RackAction.ADD, "page", effect="equalizer"))
        await session.do(SavePreset("here", "page"))
        await session.do(Set({"plugin/1/gain_db": -24.0}, "page"))
        await session.do(SavePreset("there", "page"))
        began = asyncio.get_running_loop().time()
        await session.do(RecallPreset("here", "osc", 60.0))
        assert asyncio.get_running_loop().time() - began < 2
        async with asyncio.timeout(5):
            while session.values()["plugin/1/gain_db"] == -24.0:
                await asyncio.sleep(0.01)
        await session.do(RecallPreset("there", "osc"))
        await asyncio.sleep(0.2)
        assert session.values()["plugin/1/gain_db"] == -24.0
        await session.do(RecallPreset("here", "osc", 60.0))  # closing ends this one

    play(scene, presets=tmp_path)


@pytest.mark.slow
def test_a_plugins_own_preset_goes_out_and_in_by_name(catalogue: Catalogue, tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        session.add(Listening())
        await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
        await session.do(Set({"plugin/1/gain": 1.0}, "page"))
        await asyncio.sleep(0.3)
        await session.do(SavePreset("Loud", "page", slot=1))
        assert (tmp_path / "presets" / "Loud.vstpreset").read_bytes() == b'{"gain": 0.25}'
        assert session.presets() == [], "it is no set"
        await session.do(Set({"plugin/1/gain": 3.0}, "page"))
        await session.do(RecallPreset("Loud", "page", slot=1))
        assert session.values()["plugin/1/gain"] == pytest.approx(1.0)

    play(scene, catalogue, tmp_path / "presets")
