"""The door with ports of this test's own; test_ports.py has real ones, and a service started twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.midi import door as midi
from bridge.errors import DeviceError
from bridge.metrics import Metrics
from bridge.session.commands import Action, EditRack, KeepTake, RackAction, RecallPreset, Set, Transport
from bridge.session.events import Block, Changed, Event
from bridge.session.live_session import LiveSession
from bridge.session.timeline import AT_ONCE, Moment
from bridge.settings import Settings

from ...session.live import RATE_HZ, ill_catalogue, ill_host, play
from ..web_session import SineSession


class TestPorts:
    """Ports without a system: `message` comes in, `sent` went out."""

    __test__ = False

    def __init__(self, wanted: Sequence[str]) -> None:
        self.receive: Callable[[str, Sequence[int]], object] | None = None
        self.sent: list[list[int]] = []
        self.names = ["knobs"]

    def scan(self) -> None:
        """Find nothing else."""

    def message(self, *data: int) -> None:
        assert self.receive is not None
        self.receive("knobs", data)

    def send(self, message: Sequence[int]) -> None:
        self.sent.append(list(message))

    def close(self) -> None:
        self.names = []


def on_stage(
    monkeypatch: pytest.MonkeyPatch,
    scene: Callable[[SineSession, TestPorts, midi.MidiDoor], Awaitable[None]],
    clock: str = "off",
    **values: str,
) -> None:
    async def go() -> None:
        monkeypatch.setattr(midi, "Ports", TestPorts)
        session = SineSession()
        session.now.update({"midi/map": "", **{name.replace("_", "/"): value for name, value in values.items()}})
        session.timeline.start(0)
        door = midi.MidiDoor(Service(Settings(midi=("knobs",), midi_clock=clock), Access(), Metrics()))
        await door.open(SimpleNamespace(live=session))
        ports = door._ports
        assert isinstance(ports, TestPorts)
        try:
            await scene(session, ports, door)
        finally:
            await door.close("the test is over")
        assert (session.listeners, ports.names) == ([], [])

    asyncio.run(go())


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def test_without_ports_it_is_no_door() -> None:
    async def go() -> None:
        door = midi.MidiDoor(Service(Settings(), Access(), Metrics()))
        await door.open(SimpleNamespace(live=SineSession()))
        counted = {"midi_ports": 0, "midi_messages_total": 0, "midi_lost_messages_total": 0}
        assert (door.places(), door.stats()) == ({}, counted)
        await door.close("the test is over")

    asyncio.run(go())


def test_learning_without_a_port_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        session = SineSession()
        door = midi.MidiDoor(Service(Settings(), Access(), Metrics()))
        await door.open(SimpleNamespace(live=session))
        for values in ({"gain_db": -6.0}, {"midi/learn": "gain_db"}, {"midi/learn": ""}, {"midi/map": ""}):
            await session.do(Set(values, "osc"))
        await door.close("the test is over")
        assert session.listeners == []

    asyncio.run(go())
    assert caplog.messages == ["midi/learn: no MIDI port is heard, nothing is learned: start with --midi all"]


def test_a_system_without_midi_is_told_once_and_midi_that_comes_later_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As JACK's door waits for its server: what else the service does goes on."""
    monkeypatch.setattr(midi, "_SCAN_SECONDS", 0.01)
    looks = []

    class LatePorts(TestPorts):
        def __init__(self, wanted: Sequence[str]) -> None:
            super().__init__(wanted)
            self.names = []

        def scan(self) -> None:
            looks.append(1)
            if len(looks) < 4:
                raise DeviceError("there is no MIDI on this system")
            self.names = ["knobs"]

    async def go() -> None:
        monkeypatch.setattr(midi, "Ports", LatePorts)
        session = SineSession()
        session.now["midi/map"] = "cc 1/74=mute"
        door = midi.MidiDoor(Service(Settings(midi=("knobs",)), Access(), Metrics()))
        await door.open(SimpleNamespace(live=session))
        assert door.places() == {"midi": None}
        await until(lambda: door.places() == {"midi": "knobs"})
        door._ports.message(0xB0, 74, 127)
        await until(lambda: session.now["mute"])
        await door.close("the test is over")

    asyncio.run(go())
    told = [record.getMessage() for record in caplog.records]
    assert told == ["there is no MIDI on this system; it is looked for every 0.01 s", "MIDI is here: knobs"]


def test_a_control_is_learned_from_any_door_and_turns_what_it_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(session: SineSession, ports: TestPorts, door: midi.MidiDoor) -> None:
        session.now["midi/learn"] = "gain_db"
        ports.message(0xB0, 74, 10)
        await until(lambda: session.now["midi/learn"] == "")
        assert session.now["midi/map"] == "cc 1/74=gain_db"
        spec = session.table["gain_db"]
        for value in range(10, 128):  # past where it stands
            ports.message(0xB0, 74, value)
        await until(lambda: session.now["gain_db"] == spec.high)
        assert len(session.sets) < 60, "many turns become one"
        session.now["midi/learn"] = "no such thing"
        ports.message(0xB0, 75, 10)
        await until(lambda: session.now["midi/learn"] == "")
        assert session.now["midi/map"] == "cc 1/74=gain_db"

    on_stage(monkeypatch, scene)


def test_pads_play_prompts_presets_and_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(session: SineSession, ports: TestPorts, door: midi.MidiDoor) -> None:
        ports.message(0x90, 36, 100)
        await until(lambda: session.now["prompt/2/weight"] == 1.0)
        assert session.now["prompt/1/weight"] == 0.0
        ports.message(0x80, 36, 0)
        ports.message(0xC0, 5)
        ports.message(0x90, 37, 127)
        ports.message(0x90, 38, 127)
        await until(lambda: session.now["mute"])
        ports.message(0x90, 39, 127)
        await until(lambda: len(session.commands) == 5)
        assert RecallPreset("dawn", "midi") in session.commands
        assert Transport(Action.PAUSE, "midi") in session.commands
        assert KeepTake("midi") in session.commands
        ports.message(0x90, 38, 127)
        await until(lambda: not session.now["mute"])

    on_stage(
        monkeypatch,
        scene,
        midi_map="note 1/36=prompt 2; pc 1/5=preset dawn; note 1/37=pause; note 1/38=mute; note 1/39=keep",
    )


def test_lights_show_what_others_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(session: SineSession, ports: TestPorts, door: midi.MidiDoor) -> None:
        await session.do(Set({"top_p": 0.5, "mute": True}, "page"))
        assert ports.sent == [[0xB2, 7, 64], [0x90, 38, 127]]
        await session.do(Set({"midi/map": "cc 1/1=top_p"}, "page"))
        await session.do(Set({"top_p": 1.0}, "midi"))
        assert len(ports.sent) == 2, "what was turned there stands there already"
        await session.do(Set({"top_p": 0.0}, "page"))
        assert ports.sent[-1] == [0xB0, 1, 0]

    on_stage(monkeypatch, scene, midi_map="cc 3/7=top_p; note 1/38=mute; pc 1/1=top_k")


def test_a_clock_leads_the_beats_and_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(session: SineSession, ports: TestPorts, door: midi.MidiDoor) -> None:
        began, pace = time.monotonic(), 60 / 150 / 24
        ports.message(0xFA)
        for number in range(60):
            await asyncio.sleep(max(0.0, began + number * pace - time.monotonic()))
            ports.message(0xF8)
        await until(lambda: session.timeline.source == "midi")
        assert session.timeline.bpm(0) == pytest.approx(150, rel=0.03), "a busy loop sent it"
        beat = (time.monotonic() - began) / pace / 24
        assert session.timeline.beat(session.timeline.due()) == pytest.approx(beat, abs=0.15)
        assert session.commands[0] == Transport(Action.PLAY, "midi", session.commands[0].at)
        assert session.commands[0].at.every == 4
        ports.message(0xFC)
        await until(lambda: session.commands[-1].action is Action.PAUSE)
        await until(lambda: session.timeline.source == "internal")

    on_stage(monkeypatch, scene, clock="in")


def test_its_own_clock_goes_out_at_the_session_s_tempo(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(session: SineSession, ports: TestPorts, door: midi.MidiDoor) -> None:
        session.timeline.follow("link", time.monotonic() + 0.1, 8.0, 240.0)
        await until(lambda: [0xFB] in ports.sent)
        at = ports.sent.index([0xFB])
        assert ports.sent[at - 1] == [0xF2, 32, 0], "beat 8"
        session.timeline.stop()
        await until(lambda: [0xFC] in ports.sent)
        began, count = time.monotonic(), ports.sent.count([0xF8])
        await asyncio.sleep(0.5)
        sent = (ports.sent.count([0xF8]) - count) / (time.monotonic() - began)
        assert sent == pytest.approx(240 * 24 / 60, rel=0.1)

    on_stage(monkeypatch, scene, clock="out")


class InOrder:
    """A listener that keeps blocks and changes in the order in which they came."""

    def __init__(self) -> None:
        self.told: list[Block | Changed] = []

    def audio(self, block: Block) -> None:
        self.told.append(block)

    def event(self, event: Event) -> None:
        if isinstance(event, Changed):
            self.told.append(event)

    def turned(self, name: str) -> list[tuple[int, float, Block]]:
        """Of each change of a parameter: its sample, what it was set to, and the block that came next."""
        told = self.told
        blocks = {at: item for at, item in enumerate(told) if isinstance(item, Block)}
        return [
            (item.applied_at_sample, float(item.values[name]), blocks[min(later for later in blocks if later > at)])
            for at, item in enumerate(told)
            if isinstance(item, Changed) and name in item.values and any(later > at for later in blocks)
        ]

    def heard(self, start: int, stop: int) -> np.ndarray:
        """The music between two samples."""
        blocks = [item for item in self.told if isinstance(item, Block)]
        audio = np.concatenate([block.samples for block in blocks], axis=1)
        return audio[:, start - blocks[0].start_sample : stop - blocks[0].start_sample]


def test_a_plugin_s_knob_turned_by_a_learned_controller_reaches_its_child_within_a_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A gain of 0, in the plugin's own process, makes zeros: they begin where the change says that it applies."""
    gain = "plugin/1/gain"

    async def scene(session: LiveSession) -> None:
        monkeypatch.setattr(midi, "Ports", TestPorts)
        door = midi.MidiDoor(Service(Settings(midi=("knobs",)), Access(), Metrics()))
        await door.open(SimpleNamespace(live=session))
        ports, ear = door._ports, InOrder()
        assert isinstance(ports, TestPorts)
        session.add(ear)
        await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
        await session.do(Set({gain: 1.0, "midi/learn": gain}, "page"))
        ports.message(0xB0, 74, 64)
        await until(lambda: session.values()["midi/map"] == f"cc 1/74={gain}")
        added = session.position_samples()  # from here on it fades in
        await until(lambda: session.position_samples() > added + RATE_HZ // 2, 20.0)
        for value in (40, 20, 0):  # past where it stands, down to nothing
            ports.message(0xB0, 74, value)
        await until(lambda: [value for _, value, _ in ear.turned(gain)][-1:] == [0], 20.0)
        applied, _, block = ear.turned(gain)[-1]
        assert block.start_sample <= applied < block.end_sample, "the next block that is made has it"
        await until(lambda: session.position_samples() > applied + 4_800, 20.0)
        assert np.abs(ear.heard(applied - 480, applied)).max() > 1e-3
        assert not ear.heard(applied, applied + 4_800).any()
        # a door that says when is obeyed to the sample, in the child too
        at = session.position_samples() + RATE_HZ // 2
        assert await session.do(Set({gain: 1.0}, "osc", Moment(sample=at))) == at
        await until(lambda: session.position_samples() > at + 4_800, 20.0)
        assert not ear.heard(at - 4_800, at).any()
        assert np.abs(ear.heard(at, at + 480)).max() > 1e-3
        await door.close("the test is over")

    play(scene, ill_catalogue(tmp_path, ill_host(tmp_path, deadline_seconds=5.0)))


def test_a_storm_of_notes_and_clocks_lets_the_loop_go_on_and_ends_with_its_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(session: SineSession, ports: TestPorts, door: midi.MidiDoor) -> None:
        for number in range(5_000):
            ports.message(0xF8)
            ports.message(0x90, 37 + number % 2, 127)
        most = len(door._incoming._waiting)
        turns = 0
        while door._incoming._waiting:
            await asyncio.sleep(0)
            turns += 1
            assert len(door._tasks._running) < 50, "what is asked for at once is bounded"
        assert most <= midi._MOST_WAITING
        assert turns > most / midi._IN_A_TURN / 2, "others have their turns between"
        assert door.stats()["midi_lost_messages_total"] > 1_000
        ports.message(0xFC)
        await until(lambda: session.commands and session.commands[-1] == Transport(Action.PAUSE, "midi", AT_ONCE))

    on_stage(monkeypatch, scene, clock="in", midi_map="note 1/37=play; note 1/38=pause")
