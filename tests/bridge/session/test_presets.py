"""A set in a file: what was captured comes back, plugins' own states included; a morph gets there without a step."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from bridge import disk
from bridge.audio.catalogue import Catalogue
from bridge.audio.effect import Effect
from bridge.audio.plugins.engine import Reference
from bridge.errors import FileError
from bridge.session import preset_files, presets
from bridge.session.commands import Command, EditRack, RackAction, Set
from bridge.session.events import Changed
from bridge.session.live_session import LiveSession
from bridge.session.preset_files import Preset, SlotPreset
from streamgen.errors import CapacityError, ConfigError

from .live import RATE_HZ, Listening, ill_catalogue, ill_host, play


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return ill_catalogue(tmp_path, ill_host(tmp_path))


SET = Preset(
    {"temperature": 0.5, "prompt/1/text": 'a "quoted"\nπ 🎹 \x7f text', "top_k": 7, "master": "gentle"},
    (
        SlotPreset("equalizer", {"band1_db": -3.5, "bypass": True}),
        SlotPreset("ill", {"gain": 1.25}, bytes(range(256)), 7),
    ),
)


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    path = preset_files.path_of(tmp_path / "new folder", "My set no. 1")
    preset_files.write(path, SET)
    assert preset_files.read(path) == SET
    assert preset_files.names(path.parent) == ["My set no. 1"]
    preset_files.write(path, Preset())
    assert preset_files.read(path) == Preset()


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "/etc/passwd", ".hidden", "a" * 65, "𝔸" * 60, "x\n", "CON", "lpt1.x", "Aux "]
)
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileError, match="no name of a preset"):
        preset_files.path_of(tmp_path, name)


@pytest.mark.parametrize(
    "text",
    ["", "version = 2", "version = 1", "nonsense", "version = 1\n[parameters]\na = [1]", "version = 1\nparameters = 3",
     'version = 1\n[parameters]\n[[slots]]\neffect = "x"\nstate = "?"', "version = 1\n[parameters]\n[[slots]]\n"],
)  # fmt: skip
def test_what_is_no_preset_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(FileError, match="no preset"):
        preset_files.read(tmp_path / "x.toml")
    with pytest.raises(FileError, match="cannot be read"):
        preset_files.read(tmp_path / "y.toml")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "says no version, must be version = 1"),
        ("version = 2\n[parameters]", "says version = 2, must be version = 1"),
        ("version = 1", r"neither \[parameters\] nor \[\[slots\]\]"),
        ('version = 1\n[[slots]]\neffect = "x"\nstate = "AAA"', "the state of slot 1, 'x', is damaged: .*padding"),
        ("version = 1\n[[slots]]\n[slots.parameters]\n", "slot 1 has no effect"),
        ('version = 1\n[[slots]]\neffect = "x"\nnumber = 17', "the number of slot 1 is 17, must be within 1 … 16"),
        ("version = 1\n" + 2 * '[[slots]]\neffect = "x"\nnumber = 2\n', "two slots have one number"),
        ("version = 1\n[parameters]\nday = 2026-11-29", "day is .*must be a number, a text, true or false"),
        ("version = 1\na = " + "[" * 5_000, "nested too deeply|is no preset"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(FileError, match=why) as caught:
        preset_files.read(tmp_path / "x.toml")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_of_text_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "bytes.toml").write_bytes(bytes(range(256)))
    for name, why in (("pipe", "is no file"), ("folder", "is no file"), ("bytes", "no text in UTF-8")):
        for read in (preset_files.read, preset_files.plugins_in):
            with pytest.raises(FileError, match=why):
                read(tmp_path / f"{name}.toml")
    monkeypatch.setattr(disk, "MOST_MB", 0.0001)
    (tmp_path / "huge.toml").write_text(" " * 1_000)
    with pytest.raises(FileError, match=r"cannot be read: .* MB, the limit is"):
        preset_files.read(tmp_path / "huge.toml")
    monkeypatch.setattr(preset_files, "MOST_MB", 0.0001)
    with pytest.raises(FileError, match="a preset has at most"):
        preset_files.write(tmp_path / "written.toml", Preset({}, (SlotPreset("x", {}, bytes(1_000)),)))
    assert not (tmp_path / "written.toml").exists()


def test_rack_files_need_no_parameters(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('version = 1\n[[slots]]\neffect = "tilt"\n')
    assert preset_files.read(tmp_path / "x.toml") == Preset({}, (SlotPreset("tilt"),))


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    preset_files.write(path, SET)
    with pytest.raises(FileError, match=r"'\\ud800' is no character"):
        preset_files.write(path, Preset({"prompt/1/text": "\ud800"}))
    assert preset_files.read(path) == SET
    assert list(tmp_path.iterdir()) == [path]


def test_an_operators_rack_file_names_its_plugins(tmp_path: Path) -> None:
    path = tmp_path / "rack.toml"
    path.write_text(
        """
version = 1
[plugins]
"My Comp" = "/usr/lib/vst3/ZamCompX2.vst3"
drive = { path = "/usr/lib/lv2/mda.lv2", uri = "http://drobilla.net/plugins/mda/Overdrive" }
[parameters]
[[slots]]
effect = "My Comp"
"""
    )
    assert preset_files.plugins_in(path) == {
        "My Comp": Reference("/usr/lib/vst3/ZamCompX2.vst3"),
        "drive": Reference("/usr/lib/lv2/mda.lv2", "http://drobilla.net/plugins/mda/Overdrive"),
    }
    assert preset_files.read(path) == Preset({}, (SlotPreset("My Comp"),))
    path.write_text("[plugins]\nx = 3")
    with pytest.raises(FileError, match="no rack file"):
        preset_files.plugins_in(path)


def test_the_example_is_a_rack() -> None:
    path = Path(__file__).parents[3] / "examples" / "rack.toml"

    async def scene(session: LiveSession) -> None:
        await presets.recall(session, preset_files.read(path), "operator")
        assert [slot.name for slot in session.slots()] == [
            "high-pass",
            "equalizer",
            "saturation",
            "compressor",
            "reverb",
        ]
        assert session.values()["plugin/5/wet"] == 0.15
        assert {name for slot in preset_files.read(path).slots for name in slot.values} <= {
            name.split("/")[2] for name in session.table if name.startswith("plugin/")
        }

    assert preset_files.plugins_in(path) == {}
    play(scene)


def test_what_was_captured_comes_back_in_another_session(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "set.toml"

    async def first(session: LiveSession) -> None:
        session.add(Listening())
        await session.do(EditRack(RackAction.ADD, "page", effect="reverb"))
        await session.do(EditRack(RackAction.ADD, "page", effect="ill", index=0))
        await session.do(Set({"plugin/1/decay_seconds": 5.0, "plugin/2/gain": 3.0, "temperature": 0.3}, "page"))
        await session.do(Set({"lead_seconds": 1.0, "mute": True}, "page"))
        await asyncio.sleep(0.3)
        preset_files.write(path, await presets.captured(session))

    async def second(session: LiveSession) -> None:
        session.add(Listening())
        await session.do(EditRack(RackAction.ADD, "page", effect="tilt"))
        for _ in range(2):  # a second time it is there already, and nothing is put anew
            await presets.recall(session, preset_files.read(path), "page")
            assert [slot.name for slot in session.slots()] == ["ill", "reverb"]
            values = session.values()
            numbers = [slot.slot for slot in session.slots()]
            assert values[f"plugin/{numbers[0]}/gain"] == pytest.approx(3.0)
            assert values[f"plugin/{numbers[1]}/decay_seconds"] == 5.0
            assert (values["temperature"], values["lead_seconds"], values["mute"]) == (0.3, 2.0, False)
        again = await presets.captured(session)
        assert again.slots[0].state == preset_files.read(path).slots[0].state

    play(first, catalogue)
    assert preset_files.read(path).slots[0].state == b'{"gain": 0.75}'
    play(second, catalogue)


def test_numbers_come_back_with_their_effects_so_that_a_controller_keeps_its_knobs() -> None:
    preset = Preset({}, (SlotPreset("tilt", {}, number=3), SlotPreset("reverb", {"wet": 0.5}, number=1)))

    def rack(session: LiveSession) -> list[tuple[int, str]]:
        return [(slot.slot, slot.name) for slot in session.slots()]

    async def scene(session: LiveSession) -> None:
        for name in ("reverb", "equalizer", "tilt"):
            await session.do(EditRack(RackAction.ADD, "page", effect=name))
        first = [slot.effect for slot in await session.racked()]
        await session.do(EditRack(RackAction.MOVE, "page", 3, index=0))
        await session.do(EditRack(RackAction.REMOVE, "page", 2))
        kept = await presets.rack_of(session)
        assert [(slot.number, slot.effect) for slot in kept.slots] == [(3, "tilt"), (1, "reverb")]
        await presets.recall(session, preset, "osc")
        assert [slot.effect for slot in await session.racked()] == [first[2], first[0]], "they are as they were"
        await session.do(EditRack(RackAction.MOVE, "page", 3, index=1))
        await session.do(EditRack(RackAction.REMOVE, "page", 1))
        await session.do(EditRack(RackAction.ADD, "page", effect="compressor", index=0))
        await presets.recall(session, preset, "osc")
        assert rack(session) == [(3, "tilt"), (1, "reverb")]
        assert session.values()["plugin/1/wet"] == 0.5
        await presets.recall(session, Preset({}, tuple(SlotPreset(one) for one in ("reverb", "tilt", "tilt"))), "osc")
        assert rack(session) == [(3, "reverb"), (1, "tilt"), (2, "tilt")], "without numbers it goes by place"
        with pytest.raises(CapacityError, match="17 slots are wanted"):
            await presets.recall(session, Preset({}, (SlotPreset("tilt"),) * 17), "osc")

    async def anew(session: LiveSession) -> None:
        for step in presets.commands(preset, lambda slot: session.catalogue.make(slot.effect, RATE_HZ), "state"):
            await session.do(step)
        assert rack(session) == [(3, "tilt"), (1, "reverb")]
        assert session.values()["plugin/1/wet"] == 0.5

    play(scene)
    play(anew)


def test_a_state_stays_with_its_effect_whoever_edits_meanwhile(catalogue: Catalogue) -> None:
    """Else another effect would be kept with it, or what was taken out would be missed for ever."""

    async def scene(session: LiveSession) -> None:
        await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
        await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
        saved_states = session.saved_states

        async def meanwhile(seconds: float = 5.0) -> dict[Effect, bytes]:
            states = await saved_states(seconds)
            assert list(states.values()) == [b'{"gain": 0.5}'] * 2
            await session.do(EditRack(RackAction.REMOVE, "osc", 1))
            await session.do(EditRack(RackAction.ADD, "osc", effect="ill", index=0))
            return states

        session.saved_states = meanwhile  # type: ignore[method-assign]
        rack = await presets.rack_of(session)
        assert [(slot.effect, slot.state) for slot in rack.slots] == [("ill", b""), ("ill", b'{"gain": 0.5}')]
        files = [slot.effect.state_path for slot in await session.racked()]  # type: ignore[attr-defined]
        files[1].unlink()
        assert list((await saved_states(0.0)).values())[1:] in ([], [b'{"gain": 0.5}']), "one that is gone is no error"

    play(scene, catalogue)


def test_an_effect_that_is_not_here_is_said(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        with pytest.raises(ConfigError, match="there is no effect 'ill'"):
            await presets.recall(session, SET, "page")

    play(scene)


@pytest.mark.slow
def test_a_morph_gets_there_in_its_time_and_no_step_is_heard() -> None:
    async def scene(session: LiveSession) -> None:
        listener = Listening()
        session.add(listener)
        await session.do(EditRack(RackAction.ADD, "page", effect="equalizer"))
        await asyncio.sleep(0.3)
        preset = Preset(
            {"temperature": 2.0, "master": "off"},
            (SlotPreset("equalizer", {"gain_db": -24.0, "band1_db": 6.0, "bypass": False}),),
        )
        began = asyncio.get_running_loop().time()
        await presets.morph(session, preset, 1.5, "osc")
        assert asyncio.get_running_loop().time() - began >= 1.4
        values = session.values()
        assert (values["plugin/1/gain_db"], values["plugin/1/band1_db"], values["temperature"]) == (-24.0, 6.0, 2.0)
        told = [event.values["plugin/1/gain_db"] for event in listener.events
                if isinstance(event, Changed) and "plugin/1/gain_db" in event.values]  # fmt: skip
        assert len(told) > 10
        assert all(np.diff(np.array(told, float)) <= 0)
        await asyncio.sleep(0.5)
        audio = np.concatenate([block.samples for block in listener.blocks], axis=1)
        assert np.abs(np.diff(audio[:, 4_800:], 2)).max() < 0.01
        assert np.abs(audio[:, -2_400:]).max() < 0.1 * np.abs(audio).max()

    play(scene)


def test_a_morph_goes_on_without_a_slot_that_somebody_takes_out() -> None:
    async def scene(session: LiveSession) -> None:
        for _ in range(2):
            await session.do(EditRack(RackAction.ADD, "page", effect="equalizer"))
        quiet = {"gain_db": -24.0}
        preset = Preset({"temperature": 2.0}, (SlotPreset("equalizer", quiet), SlotPreset("equalizer", quiet)))
        way = asyncio.create_task(presets.morph(session, preset, 1.0, "osc"))
        await asyncio.sleep(0.2)
        await session.do(EditRack(RackAction.REMOVE, "page", 1))
        await way
        values = session.values()
        assert (values["temperature"], values["plugin/2/gain_db"]) == (2.0, -24.0)
        assert len(session.slots()) == 2, "it is as the preset says"

    play(scene)


def test_a_slot_that_is_taken_out_between_a_morphs_question_and_its_answer_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(session: LiveSession) -> None:
        await session.do(EditRack(RackAction.ADD, "page", effect="equalizer"))
        do, taken = session.do, []

        async def late(command: Command) -> int:
            if isinstance(command, Set) and not taken:
                taken.append(await do(EditRack(RackAction.REMOVE, "page", 1)))
            return await do(command)

        monkeypatch.setattr(session, "do", late)
        preset = Preset({"temperature": 2.0}, (SlotPreset("equalizer", {"gain_db": -24.0}),))
        await presets.morph(session, preset, 0.5, "osc")
        assert taken
        assert [slot.name for slot in session.slots()] == ["equalizer"], "it is as the preset says"
        assert (session.values()["temperature"], session.values()["plugin/1/gain_db"]) == (2.0, -24.0)

    play(scene)


def test_a_morph_to_other_effects_recalls_them_half_way(catalogue: Catalogue) -> None:
    async def scene(session: LiveSession) -> None:
        session.add(Listening())
        await session.do(EditRack(RackAction.ADD, "page", effect="equalizer"))
        preset = Preset({}, (SlotPreset("reverb", {"decay_seconds": 3.0}), SlotPreset("ill", {"gain": 1.0})))
        await presets.morph(session, preset, 0.5, "osc")
        assert [slot.name for slot in session.slots()] == ["reverb", "ill"]
        assert session.values()["plugin/1/decay_seconds"] == 3.0

    play(scene, catalogue)


def test_a_plugins_own_preset_file_goes_out_and_in(catalogue: Catalogue, tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        session.add(Listening())
        await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
        await session.do(Set({"plugin/1/gain": 1.0}, "page"))
        await asyncio.sleep(0.3)
        await session.saved_states()
        _, plugin = presets.plugin_of(await session.racked(), 1)
        await asyncio.to_thread(plugin.save_preset, tmp_path / "a.preset")
        assert (tmp_path / "a.preset").read_bytes() == b'{"gain": 0.25}'
        (tmp_path / "b.preset").write_text('{"gain": 0.5}')
        made = await asyncio.to_thread(catalogue.make, "ill", RATE_HZ, None, tmp_path / "b.preset")
        await session.do(EditRack(RackAction.REPLACE, "page", 1, "ill", made=made))
        assert session.values()["plugin/1/gain"] == pytest.approx(2.0)
        with pytest.raises(FileError, match="has no plugin"):
            presets.plugin_of(await session.racked(), 2)

    play(scene, catalogue)
