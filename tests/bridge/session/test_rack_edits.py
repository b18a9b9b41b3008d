"""The rack in a session: the table follows every edit, every listener hears the same, and no sample is missing."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.catalogue import Catalogue
from bridge.audio.effect import Effect
from bridge.audio.faults import SlotFault
from bridge.audio.gain import Gain
from bridge.audio.plugins.engine import Reference
from bridge.audio.plugins.spawn import HostSettings
from bridge.audio.rack import Rack
from bridge.session.commands import Action, EditRack, RackAction, Set, Transport
from bridge.session.events import Block, Changed, Gap, PlayerState, TableChanged
from bridge.session.live_session import LiveSession
from bridge.session.parameters import Parameters, session_table
from bridge.session.player import Player
from bridge.session.rack_edits import edited
from bridge.session.timeline import AT_ONCE, Moment, Timeline
from streamgen.errors import CapacityError, ConfigError
from streamgen.testing import FakeModel

from .live import RATE_HZ, Listening, ill_catalogue, ill_host, play

HOST = HostSettings(Path("nowhere"))


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    host = ill_host(tmp_path, deadline_seconds=0.15, memory_bytes=1 << 30, strikes=1_000, forgiven_seconds=0.0)
    return ill_catalogue(tmp_path, host)


def slot_names(table: object) -> set[str]:
    return {name for name in table if name.startswith("plugin/")}  # type: ignore[attr-defined]


def test_the_table_follows_and_values_stay_where_their_effect_stays() -> None:
    rack, parameters = Rack(), Parameters(session_table(), {"temperature": 0.5})
    rack.prepare(RATE_HZ, 2, 4_096)
    catalogue = Catalogue()

    def do(action: RackAction, slot: int = 0, effect: str = "", index: int | None = None) -> TableChanged:
        made = catalogue.make(effect, RATE_HZ) if effect else None
        return edited(rack, parameters, EditRack(action, "test", slot, effect, index, made))

    told = do(RackAction.ADD, effect="reverb")
    assert told.values["plugin/1/wet"] == 0.25
    assert (told.values["temperature"], told.by) == (0.5, "test")
    assert [(slot.slot, slot.name) for slot in told.slots] == [(1, "reverb")]
    parameters.values.update({"plugin/1/decay_seconds": 5.0, "plugin/1/wet": 0.5})
    told = do(RackAction.ADD, effect="tilt", index=0)
    assert [slot.slot for slot in told.slots] == [2, 1]
    assert told.values["plugin/1/decay_seconds"] == 5.0
    told = do(RackAction.MOVE, slot=2)
    assert [slot.slot for slot in told.slots] == [1, 2]
    told = do(RackAction.REPLACE, slot=1, effect="compressor")
    assert told.values["plugin/1/ratio"] == 2
    assert told.values["plugin/1/wet"] == 0.5
    assert "plugin/1/decay_seconds" not in told.table
    told = do(RackAction.REMOVE, slot=1)
    assert {name.split("/")[1] for name in slot_names(told.table)} == {"2"}
    with pytest.raises(ConfigError):
        do(RackAction.REMOVE, slot=1)


@pytest.mark.parametrize("edits", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_every_listener_is_told_and_hears_the_same_through_many_edits(edits: int) -> None:
    async def scene(session: LiveSession) -> None:
        three = [Listening() for _ in range(3)]
        for listener in three:
            session.add(listener)
        await until(lambda: len(three[0].blocks) > 10)
        rng = np.random.default_rng(1)
        for _ in range(edits):
            slots = [slot.slot for slot in session.slots()]
            action = RackAction(rng.choice(["add", "remove", "replace", "move"])) if slots else RackAction.ADD
            action = RackAction.MOVE if action is RackAction.ADD and len(slots) > 5 else action
            effect = str(rng.choice(session.effects())) if action in (RackAction.ADD, RackAction.REPLACE) else ""
            slot = int(rng.choice(slots)) if action is not RackAction.ADD else 0
            await session.do(EditRack(action, "page", slot, effect, 0 if action is RackAction.MOVE else None))
            await asyncio.sleep(0.02)
        await until(lambda: three[0].told(TableChanged)[-1] is not None)
        await asyncio.sleep(0.3)
        for listener in three:
            listener.assert_unbroken()
            assert len(listener.told(TableChanged)) == edits
            np.testing.assert_array_equal(
                listener.audio_so_far, three[0].audio_so_far[:, : listener.audio_so_far.shape[1]]
            )
            steps = np.abs(np.diff(listener.audio_so_far, 2, axis=1)).max()
            assert steps < 0.1
        assert (
            slot_names(session.table)
            == slot_names(session.values())
            == slot_names(three[0].told(TableChanged)[-1].table)
        )

    play(scene)


class Late(Gain):
    """An effect that is late, by more than all that is committed ahead of the listeners."""

    def __init__(self, latency_samples: int) -> None:
        self.latency_samples = latency_samples

    def prepare(self, rate_hz: int, channels: int, max_block: int) -> None:
        super().prepare(rate_hz, channels, max_block)
        self.reset()

    def reset(self) -> None:
        self._held = np.zeros((2, self.latency_samples), np.float32)

    def process(self, block: np.ndarray, start_sample: int, changes: object) -> np.ndarray:
        audio = np.concatenate((self._held, block), axis=1)
        self._held = audio[:, block.shape[1] :]
        return audio[:, : block.shape[1]]


def test_effects_that_are_late_come_and_go_and_the_player_is_never_late() -> None:
    """On a clock of its own, so that only the rack could make it late; half a second is what is made ahead at most."""
    now, told = [100.0], list[object]()
    timeline = Timeline(RATE_HZ, lambda: now[0], lambda: 1e9 + now[0])
    player = Player(FakeModel(), told.append, timeline, values={"prompt/1/text": "piano", "lead_seconds": 2.0})
    player.playback.wanted = True

    def run(seconds: float) -> None:
        end = now[0] + seconds
        while now[0] < end:
            player.tick()
            if player.playback.needs_audio:
                player.make()
            now[0] += 0.005

    run(1.0)
    rng = np.random.default_rng(2)
    for _ in range(60):
        numbers = [slot.slot for slot in player.output.rack.state()]
        if numbers and (len(numbers) > 1 or rng.random() < 0.5):
            player.do(EditRack(RackAction.REMOVE, "test", int(rng.choice(numbers))))
        else:
            player.do(EditRack(RackAction.ADD, "test", effect="late", made=Late(int(rng.choice([0, 4_800, 23_000])))))
        run(0.3)
        if rng.random() < 0.1:
            player.do(Transport(Action.PAUSE, "test"))
            run(0.1)
            player.do(Transport(Action.PLAY, "test"))
            run(0.5)
    blocks = [item for item in told if isinstance(item, Block)]
    for before, after in itertools.pairwise(blocks):
        assert after.start_sample == before.end_sample
    assert player.playback.underruns == 0
    assert [item for item in told if isinstance(item, Gap)] == []
    assert player.playback.state is PlayerState.PLAYING


def test_a_short_lead_gets_through_a_long_rack() -> None:
    now, told = [100.0], list[object]()
    timeline = Timeline(RATE_HZ, lambda: now[0], lambda: 1e9 + now[0])
    player = Player(FakeModel(), told.append, timeline, values={"prompt/1/text": "piano", "lead_seconds": 0.2})
    player.playback.wanted = True
    player.do(EditRack(RackAction.ADD, "test", effect="late", made=Late(40_000)))
    for _ in range(600):
        player.tick()
        if player.playback.needs_audio:
            player.make()
        now[0] += 0.005
    assert (player.playback.state, player.playback.underruns) == (PlayerState.PLAYING, 0)
    assert player.output.position > 2 * RATE_HZ


def test_a_parameter_of_a_slot_is_set_scheduled_checked_and_told() -> None:
    async def scene(session: LiveSession) -> None:
        listener = Listening()
        session.add(listener)
        await session.do(EditRack(RackAction.ADD, "page", effect="equalizer"))
        await until(lambda: len(listener.blocks) > 5)
        at = session.position_samples() + RATE_HZ // 2
        assert await session.do(Set({"plugin/1/gain_db": -60.0}, "osc", Moment(sample=at))) == at
        await until(lambda: session.position_samples() > at + RATE_HZ // 4)
        audio, start = listener.audio_so_far, listener.blocks[0].start_sample
        assert np.abs(audio[:, at - start - 480 : at - start]).max() > 0.05
        assert np.abs(audio[:, at - start + 4_800 :]).max() < 1e-3
        (changed,) = [event for event in listener.told(Changed) if "plugin/1/gain_db" in event.values]
        assert (changed.applied_at_sample, changed.by) == (at, "osc")
        with pytest.raises(ConfigError, match="must be within"):
            await session.do(Set({"plugin/1/gain_db": 100.0}, "osc"))

    play(scene)


def test_names_of_the_network_are_names_of_the_catalogue_never_paths(tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        for name in ("/usr/lib/vst3/ZamCompX2.vst3", "../x", "", "nothing"):
            with pytest.raises(ConfigError, match="there is no effect"):
                await session.do(EditRack(RackAction.ADD, "websocket 1", effect=name))
        assert session.slots() == []

    play(scene)


def test_of_hundreds_of_names_the_nearest_are_told() -> None:
    many = Catalogue({f"Plugin {number}": Reference("x") for number in range(300)} | {"ZamVerb": Reference("y")}, HOST)
    with pytest.raises(ConfigError, match=r"no effect 'zamverb'; the nearest: ZamVerb.*; there are 307, and `streamg"):
        many.check("zamverb")
    with pytest.raises(ConfigError, match=r"no effect '/usr/lib/vst3/ZamCompX2.vst3'; there are 307, and"):
        many.check("/usr/lib/vst3/ZamCompX2.vst3")


def test_what_cannot_be_loaded_is_said_and_nothing_is_changed(catalogue: Catalogue, tmp_path: Path) -> None:
    async def scene(session: LiveSession) -> None:
        (tmp_path / "orders").write_text("on-load segfault")
        with pytest.raises(ConfigError, match="ill could not be loaded: it ended"):
            await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
        assert session.slots() == []

    play(scene, catalogue)


def test_where_there_is_no_place_nothing_is_loaded(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(session: LiveSession) -> None:
        session.add(Listening())
        monkeypatch.setattr(Catalogue, "make", lambda *_: 1 / 0)  # whoever loads fails
        with pytest.raises(ConfigError, match="there is no slot 3 in the rack; there are none"):
            await session.do(EditRack(RackAction.REPLACE, "osc", 3, effect="ill"))
        with pytest.raises(ConfigError, match="there is no effect 'no'"):
            await session.do(EditRack(RackAction.ADD, "osc", effect="no"))
        monkeypatch.undo()
        for _ in range(16):
            await session.do(EditRack(RackAction.ADD, "osc", effect="tilt", at=Moment(sample=100_000_000)))
        monkeypatch.setattr(Catalogue, "make", lambda *_: 1 / 0)
        with pytest.raises(CapacityError, match="16 edits of the rack wait for their time already"):
            await session.do(EditRack(RackAction.ADD, "osc", effect="ill", at=Moment(sample=100_000_000)))
        monkeypatch.undo()
        await session.do(EditRack(RackAction.ADD, "osc", effect="tilt", at=AT_ONCE))

    async def full(session: LiveSession) -> None:
        for _ in range(16):
            await session.do(EditRack(RackAction.ADD, "osc", effect="tilt"))
        monkeypatch.setattr(Catalogue, "make", lambda *_: 1 / 0)
        with pytest.raises(CapacityError, match="the rack has 16 slots"):
            await session.do(EditRack(RackAction.ADD, "osc", effect="ill"))

    play(scene, catalogue)
    monkeypatch.undo()
    play(full, catalogue)


class Held:
    """Makes effects when it is allowed to, and notes how many are being made."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.closed: list[object] = []
        self.going_on = threading.Event()

    def make(self) -> Effect:
        self.now += 1
        self.most = max(self.most, self.now)
        assert self.going_on.wait(20)
        self.now -= 1
        return FallibleGain(self)


class FallibleGain(Late):
    reserve_samples, strikes, given_up = 0, 0, False

    def __init__(self, maker: Held) -> None:
        super().__init__(0)
        self.maker = maker

    def recovered(self) -> bool:
        return False

    forgive = give_up = recovered

    def close(self) -> None:
        self.maker.closed.append(self)


def test_few_plugins_load_at_once_and_who_hangs_up_meanwhile_leaves_no_child() -> None:
    async def scene(session: LiveSession) -> None:
        held = Held()
        asked = [asyncio.create_task(session.load(f"p{number}", held.make)) for number in range(5)]
        await until(lambda: held.now == 2)
        asked[0].cancel()
        await asyncio.sleep(0.05)
        assert held.now == 2, "the next waits for a thread, not for whoever asked"
        assert (await session.load("tilt", session.catalogue.make("tilt", RATE_HZ).__class__)).latency_samples == 0
        held.going_on.set()
        made = await asyncio.gather(*asked[1:])
        assert len(set(made)) == 4
        await until(lambda: len(held.closed) == 1)
        assert held.closed[0] not in made
        assert held.most == 2

    play(scene, Catalogue({f"p{number}": Reference("x") for number in range(5)}, HOST))


def test_who_waits_for_one_that_hangs_is_told_with_the_first_and_others_do_not_wait() -> None:
    def hang() -> Effect:
        tried.append(time.monotonic())
        assert going_on.wait(20)
        raise ConfigError("hang could not be loaded: it was not loaded within 30 s")

    tried: list[float] = []
    going_on = threading.Event()

    async def scene(session: LiveSession) -> None:
        asked = [asyncio.create_task(session.load("hang", hang)) for _ in range(9)]
        await until(lambda: len(tried) == 1)
        assert isinstance(await session.load("well", lambda: Late(0)), Late)
        going_on.set()
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert len({str(one) for one in told}) == 1
        assert len(tried) == 1
        with pytest.raises(ConfigError, match="not loaded within 30 s"):
            await session.load("hang", hang)
        assert len(tried) == 2, "who asks later is not answered with what was"

    play(scene, Catalogue({"hang": Reference("x"), "well": Reference("x")}, HOST))


@pytest.mark.parametrize(
    ("ill", "times"),
    [
        ("segfault", 2),
        *(pytest.param(ill, 20, marks=pytest.mark.slow) for ill in ("raise", "segfault", "hang", "memory", "nan")),
    ],
)
def test_a_plugin_falls_ill_while_three_listen(catalogue: Catalogue, tmp_path: Path, ill: str, times: int) -> None:
    async def scene(session: LiveSession) -> None:
        three = [Listening() for _ in range(3)]
        for listener in three:
            session.add(listener)
        await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
        await session.do(Set({"plugin/1/gain": 0.5}, "page"))
        await until(lambda: len(three[0].blocks) > 20)
        for time_ in range(1, times + 1):
            (tmp_path / "new").write_text(ill)
            (tmp_path / "new").rename(tmp_path / "orders")
            await until(lambda time_=time_: len(three[0].told(SlotFault)) == 2 * time_)  # type: ignore[misc]
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 0.3)
        for listener in three:
            listener.assert_unbroken()
            faults = listener.told(SlotFault)
            assert [bool(fault.reason) for fault in faults] == [True, False] * times
        assert session.stats().rack_faults == times
        assert not session.slots()[0].failed
        last = three[0].blocks[-3].samples
        assert np.abs(last).max() < 0.6 * np.abs(three[0].audio_so_far).max(), "its gain of a half is back"

    play(scene, catalogue)


def test_closing_the_session_ends_its_children(catalogue: Catalogue) -> None:
    pids: list[int] = []

    async def scene(session: LiveSession) -> None:
        await session.do(EditRack(RackAction.ADD, "page", effect="ill"))
        effect = session.player.output.rack.effect(1)
        pids.append(effect._process.pid)  # type: ignore[attr-defined]

    play(scene, catalogue)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pids[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pids[0]}").exists()
