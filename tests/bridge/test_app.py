"""The application: doors in order, ports told beforehand, state that lasts; with doors that only take notes."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge import app
from bridge.app import (
    App,
    Running,
    check_ports,
    make_doors,
    service_of,
)
from bridge.doors.door import Place, Service, Sessions
from bridge.errors import BridgeError, UsageError
from bridge.session.capacity import FixedCapacity
from bridge.session.commands import Action, EditRack, RackAction, Set, Transport
from bridge.session.events import Block, Event, PlayerState, Transported
from bridge.session.parameters import prompts_of
from bridge.session.state import held
from bridge.settings import Settings
from streamgen.config import Value
from streamgen.testing import FakeModel

Scene = Callable[[Running], Any]


class Notebook:
    """A door that takes notes."""

    name = "notebook"

    def __init__(self, service: Service) -> None:
        self.service = service
        self.notes: list[str] = []
        self.heard: list[Block] = []
        self.told: list[Event] = []
        self.places_before: dict[str, Place] = {}

    async def open(self, sessions: Sessions) -> None:
        self.places_before = dict(self.service.places)
        self.sessions = sessions
        self.heard.extend(sessions.live.add(self))
        self.notes.append("open")

    async def close(self, reason: str) -> None:
        self.notes.append(f"close: {reason}")

    def places(self) -> Mapping[str, Place]:
        return {"notebook": len(self.notes)}

    def stats(self) -> Mapping[str, float]:
        return {"blocks_total": len(self.heard)}

    def audio(self, block: Block) -> None:
        self.heard.append(block)

    def event(self, event: Event) -> None:
        self.told.append(event)


class Jammed(Notebook):
    name = "jammed"

    async def open(self, sessions: Sessions) -> None:
        raise BridgeError("it does not open; push harder")


async def at_once(_running: Running) -> None:
    """A scene that is over when everything is open."""


def run_app(
    scene: Scene = at_once,
    *,
    values: Mapping[str, Value] | None = None,
    state: Path | None = None,
    makers: Any = (Notebook,),
    model: FakeModel | None = None,
    **said: Any,
) -> list[Any]:
    """Run an application; returns its doors."""
    service = service_of(Settings.of(said))
    doors = make_doors(service, makers)
    first = {"prompt/1/text": service.settings.prompt, "seed": 5, **service.settings.music, **(values or {})}
    App(service, doors, first, state=state).run(model or FakeModel(), 5.0, scene)
    return doors


# -- doors -------------------------------------------------------------------------------------------------------------


def test_a_door_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "DOORS", [])
    app.DOORS.append(Notebook)  # the line
    service = service_of(Settings())
    (door,) = make_doors(service)

    async def listen(running: Running) -> None:
        assert running.places() == {"notebook": 1, "recording": None}
        while len(door.heard) < 5:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        assert b"streamgen_notebook_blocks_total" in service.metrics.text().encode()

    App(service, [door], {"prompt/1/text": "a"}).run(FakeModel(), 5.0, listen)
    assert door.notes == ["open", "close: the server is stopping"]  # type: ignore[attr-defined]


def test_a_maker_may_want_no_door() -> None:
    assert make_doors(service_of(Settings()), [lambda _service: None]) == []


def test_doors_open_in_order_know_who_is_open_and_close_in_reverse() -> None:
    order: list[str] = []

    class Second(Notebook):
        name = "second"

        async def close(self, reason: str) -> None:
            order.append("second")

    class First(Notebook):
        async def close(self, reason: str) -> None:
            order.append("first")

    first, second = run_app(makers=(First, Second))
    assert (first.places_before, second.places_before) == ({}, {"notebook": 1})
    assert order == ["second", "first"]


def test_where_one_door_does_not_open_all_are_closed_and_the_error_is_told() -> None:
    doors: list[Notebook] = []

    def kept(kind: type[Notebook]) -> Callable[[Service], Notebook]:
        return lambda service: doors.append(kind(service)) or doors[-1]  # type: ignore[func-returns-value]

    with pytest.raises(BridgeError, match="push harder"):
        run_app(makers=(kept(Notebook), kept(Jammed)))
    assert doors[0].notes == ["open", "close: the server is stopping"]
    assert doors[1].notes == ["close: the server is stopping"], "one that never opened is closed too"


def test_a_door_that_fails_to_close_keeps_no_other_open() -> None:
    class Stuck(Notebook):
        async def close(self, reason: str) -> None:
            raise BridgeError("it does not close")

    doors: list[Notebook] = []
    with pytest.raises(BridgeError, match="it does not close"):
        run_app(makers=(lambda service: doors.append(Notebook(service)) or doors[-1], Stuck))
    assert doors[0].notes[-1] == "close: the server is stopping"


def test_importing_it_imports_neither_torch_nor_a_door() -> None:
    code = "import sys, bridge.app; print([m for m in ('torch', 'websockets', 'sounddevice') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_what_is_here_to_stay_is_looked_through_once_and_given_back_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    names = ("collect", "freeze", "unfreeze")
    monkeypatch.setattr(app, "gc", SimpleNamespace(**{name: partial(done.append, name) for name in names}))
    run_app()
    assert done == ["collect", "freeze", "freeze", "unfreeze"]


# -- ports -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[Callable[[socket.SocketKind], int]]:
    """Take a port."""
    sockets: list[socket.socket] = []

    def take(kind: socket.SocketKind) -> int:
        one = socket.socket(socket.AF_INET, kind)
        sockets.append(one)
        one.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            one.listen()
        return int(one.getsockname()[1])

    yield take
    for one in sockets:
        one.close()


@pytest.mark.parametrize(
    ("name", "kind", "door", "option"),
    [
        ("port", socket.SOCK_STREAM, "the page", "--port"),
        ("osc_port", socket.SOCK_STREAM, "OSC", "--osc-port"),
        ("osc_port", socket.SOCK_DGRAM, "OSC", "--osc-port"),
    ],
)
def test_a_port_in_use_is_told_with_its_door_and_option(
    taken: Callable[[socket.SocketKind], int], name: str, kind: socket.SocketKind, door: str, option: str
) -> None:
    port = taken(kind)
    settings = Settings.of({"port": 0, "osc_port": 0, name: port})
    words = f"{door} cannot listen at 127.0.0.1:{port}: Address already in use; choose another with {option}"
    with pytest.raises(BridgeError) as error:
        check_ports(settings)
    assert str(error.value) == words


def test_free_ports_are_free_afterwards_and_one_for_udp_does_not_take_tcps() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    for _ in range(2):
        check_ports(Settings.of({"port": port, "osc_port": 0}))
    socket.create_server(("127.0.0.1", port)).close()


def test_two_doors_at_one_port_are_told() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    words = f"OSC cannot listen at 127.0.0.1:{port}: the page listens there; choose another with --osc-port"
    with pytest.raises(BridgeError, match=words):
        check_ports(Settings.of({"port": port, "osc_port": port}))


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_the_hosts_fault(host: str) -> None:
    with pytest.raises(BridgeError, match=f"the page cannot listen at {host}:8711: .*; choose another with --host"):
        check_ports(Settings.of({"host": host}))


def test_a_host_that_others_reach_wants_a_token() -> None:
    with pytest.raises(UsageError, match="set --token SECRET"):
        service_of(Settings.of({"host": "0.0.0.0"}))


# -- the session -------------------------------------------------------------------------------------------------------


def test_live_runs_at_the_session_rate_and_is_recorded_from_its_first_sample(tmp_path: Path) -> None:
    import soundfile

    async def listen(running: Running) -> None:
        assert running.live.rate_hz == 44_100
        assert running.places()["recording"] == str(tmp_path / "take.wav")
        while running.live.position_samples() < 44_100:
            await asyncio.sleep(0.02)

    (door,) = run_app(listen, record=tmp_path / "take.wav", session_rate=44_100)
    recorded, rate_hz = soundfile.read(tmp_path / "take.wav", dtype="float32")
    assert rate_hz == 44_100
    first = door.heard[0]
    piece = recorded[first.start_sample : first.end_sample]
    assert abs(piece.T - first.samples).max() < 2**-22


def test_other_sessions_are_opened_and_admission_is_by_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MeasuredCapacity", lambda _cost: FixedCapacity(4))
    from streamgen.errors import CapacityError

    async def scene(running: Running) -> None:
        sessions = running.doors[0].sessions  # type: ignore[attr-defined]
        own = await sessions.get("new")
        assert own.rate_hz == running.live.rate_hz
        for _ in range(2):
            await sessions.get("new")
        with pytest.raises(CapacityError, match="4 sessions play"):
            await sessions.get("new")

    run_app(scene)


def test_a_dead_engine_is_no_good_health() -> None:
    service = service_of(Settings())
    one = App(service, [], {})
    for alive, health in ((True, ""), (False, "the engine's thread has ended: start the service again")):
        one._note_health(SimpleNamespace(alive=alive), [1, 2])  # type: ignore[arg-type]
        assert (service.metrics.unhealthy, service.metrics.sessions) == (health, 2)


# -- what lasts --------------------------------------------------------------------------------------------------------


def kept(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def starts(
    path: Path, *, model: FakeModel | None = None, values: Any = None, **said: Any
) -> tuple[dict[str, Any], str, PlayerState]:
    """Start once; returns the session's values, what was restored, and the transport."""
    found: list[Any] = []

    async def look(running: Running) -> None:
        found.extend([dict(running.live.values()), running.restored, running.live.state()])

    run_app(look, state=path, model=model, values=values, **said)
    return found[0], found[1], found[2]


def test_prompts_knobs_and_transport_last(tmp_path: Path) -> None:
    path = tmp_path / "live.json"

    async def turn(running: Running) -> None:
        values = {"prompt/1/text": "techno, dark", "prompt/2/text": "strings", "prompt/2/weight": 0.5, "tempo": 128.0}
        await running.live.do(Set({**values, "gain_db": -6.0}, "test"))
        await running.live.do(Transport(Action.PAUSE, "test"))

    run_app(turn, state=path)
    values, restored, state = starts(path)
    assert prompts_of(values) == [("techno, dark, 128 bpm", 1.0), ("strings, 128 bpm", 0.5)]
    assert (values["gain_db"], state) == (-6.0, PlayerState.PAUSED)
    assert restored == "'techno, dark', 1 more, 128 bpm, paused"
    values, restored, state = starts(path, fresh=True)
    assert (values["tempo"], restored, state.plays) == (0, "", True)
    values, _, state = starts(path)
    assert (values["tempo"], state.plays) == (0, True), "it goes on with the fresh one, not with the one before"


def test_a_slot_that_was_emptied_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "live.json"

    async def turn(running: Running) -> None:
        await running.live.do(Set({"prompt/1/text": "", "prompt/2/text": "harp", "prompt/2/weight": 1.0}, "test"))

    run_app(turn, state=path)
    assert prompts_of(starts(path)[0]) == [("harp", 1.0)]


@pytest.mark.slow
def test_an_explicit_prompt_beats_the_kept_mix_and_leaves_the_knobs(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    kept_values = {"prompt/1/text": "techno", "prompt/2/text": "harp", "prompt/2/weight": 1.0, "tempo": 128, "top_k": 9}
    path.write_text(json.dumps({"values": kept_values, "transport": "playing"}))
    values, restored, _ = starts(path, prompt="waltz")
    assert prompts_of(values) == [("waltz", 1.0)]
    assert (values["top_k"], restored) == (9, "'waltz', playing")
    assert starts(path)[0]["prompt/1/text"] == "waltz", "what was said is kept in its turn"
    assert starts(path, top_k=11)[0]["top_k"] == 11


@pytest.mark.slow
def test_what_was_kept_beats_the_file(tmp_path: Path) -> None:
    config, path = tmp_path / "stage.toml", tmp_path / "live.json"
    config.write_text('prompt = "house"\ntemperature = 0.5\n')
    settings = Settings.of({}, config)

    async def turn(running: Running) -> None:
        assert running.live.values()["temperature"] == 0.5
        await running.live.do(Set({"temperature": 1.0, "prompt/1/text": "jazz"}, "test"))

    async def look(running: Running) -> None:
        values = running.live.values()
        assert (values["temperature"], values["prompt/1/text"]) == (1.0, "jazz")

    for scene in (turn, look):
        first = {"prompt/1/text": settings.prompt, "seed": 5, **settings.music}
        App(service_of(settings), [], first, state=path).run(FakeModel(), 5.0, scene)


@pytest.mark.slow
def test_a_seed_that_was_drawn_is_drawn_again_and_one_that_was_set_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "live.json"

    async def other(running: Running) -> None:
        await running.live.do(Set({"top_k": 3}, "test"))

    run_app(other, state=path)
    assert "seed" not in kept(path)["values"]
    assert starts(path, values={"seed": 6})[0]["seed"] == 6

    async def seed(running: Running) -> None:
        await running.live.do(Set({"seed": 99}, "test"))

    run_app(seed, state=path)
    assert starts(path, values={"seed": 6})[0]["seed"] == 99
    assert starts(path, values={"seed": 7})[0]["seed"] == 99


def test_a_start_that_changes_nothing_leaves_nothing_to_restore(tmp_path: Path) -> None:
    run_app(state=tmp_path / "live.json")
    assert [file.name for file in tmp_path.iterdir()] == [".live.json.lock"]


def test_a_second_service_on_one_state_file_plays_and_leaves_it_to_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "live.json"

    async def turn(running: Running) -> None:
        await running.live.do(Set({"tempo": 128.0}, "test"))
        await running.live.do(EditRack(RackAction.ADD, "test", effect="reverb"))

    with held(path):
        run_app(turn, state=path)
        assert [file.name for file in tmp_path.iterdir()] == [".live.json.lock"]
    run_app(turn, state=path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with held(path):
        values, restored, _ = starts(path)
    assert (values["tempo"], restored) == (0, "")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert len([line for line in caplog.messages if "another service that runs keeps its state there" in line]) == 2


def test_what_can_no_longer_be_played_does_not_keep_the_service_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "live.json"
    path.write_text(json.dumps({"values": {"prompt/1/text": "no \0 text"}, "transport": "playing"}))
    with caplog.at_level(logging.WARNING):
        values, restored, _ = starts(path)
    assert (values["prompt/1/text"], restored) == (Settings().prompt, "")
    assert any("cannot be played" in line and line.endswith("; starting anew") for line in caplog.messages)


def test_another_model_takes_what_fits_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "live.json"
    path.write_text(json.dumps({"values": {"context_seconds": 12.0, "top_k": 9}, "transport": "stopped"}))
    values, _, state = starts(path, model=FakeModel(max_positions=753))
    assert (values["context_seconds"], values["top_k"], state) == (7.52, 9, PlayerState.STOPPED)
    (line,) = [line for line in caplog.messages if "left out" in line]
    assert "context_seconds is 12.0, must be within 0.02 … 7.52 s" in line


def test_the_transport_is_told_before_any_door_opens(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    path.write_text(json.dumps({"values": {}, "transport": "paused"}))

    async def look(running: Running) -> None:
        await asyncio.sleep(0.2)

    (door,) = run_app(look, state=path)
    assert door.heard == []
    assert not [event for event in door.told if isinstance(event, Transported)]
