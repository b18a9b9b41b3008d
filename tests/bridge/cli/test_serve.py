"""The service as a user runs it: in this process with doors that take notes, and as a process with the real ones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import ClientConnection

import bridge.threads
from bridge import app, speed
from bridge.cli.serve import _ready_line
from bridge.doors.door import Place, Sessions
from bridge.doors.door import Service as DoorService
from bridge.settings import Settings

from ...service.running import Service
from ..conftest import ToyModel

Run = Callable[..., Any]
HEADER = struct.Struct("<BBBBIQQII")
RATE_HZ = 48_000


# -- with a door that takes notes --------------------------------------------------------------------------------------


class Bell:
    """A door that ends the service a moment after it opened, as an operator does."""

    name = "bell"
    seconds = 0.3

    def __init__(self, service: DoorService) -> None:
        self.service = service

    async def open(self, sessions: Sessions) -> None:
        asyncio.get_running_loop().call_later(self.seconds, os.kill, os.getpid(), signal.SIGTERM)

    async def close(self, reason: str) -> None:
        pass

    def places(self) -> Mapping[str, Place]:
        return {"page": "http://127.0.0.1:8711/", "osc_port": 8712, "sound": None}

    def stats(self) -> Mapping[str, float]:
        return {}


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch, toy_model: ToyModel, tmp_path: Path) -> ToyModel:
    """`serve` with this door alone."""
    monkeypatch.setattr(app, "DOORS", [Bell])
    monkeypatch.setattr(bridge.threads, "go_first", lambda: None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return toy_model


NO_PORTS = ("--port", "0", "--osc-port", "0")


def test_it_says_when_it_is_ready_and_ends_as_it_is_told(run: Run, bell: ToyModel, tmp_path: Path) -> None:
    answer = run("serve", *NO_PORTS, "--record", tmp_path / "take.wav", "--json")
    assert answer.code == 0, answer.err
    factor = answer.fields.pop("realtime_factor")
    assert factor > 1
    assert {name: value for name, value in answer.fields.items() if name != "realtime_factor"} == {
        "event": "ready", "page": "http://127.0.0.1:8711/", "osc_port": 8712, "sound": None,
        "recording": str(tmp_path / "take.wav"), "model": "toy", "precision": "fp32",
    }  # fmt: skip
    lines = answer.err.splitlines()
    assert lines[-3].startswith("toy plays at ")
    assert lines[-2] == (
        f"ready: page http://127.0.0.1:8711/ · osc port 8712 · sound none · recording to {tmp_path / 'take.wav'}"
    )
    assert lines[-1] == "stopping: saying goodbye to clients, finishing the recording"
    assert bell.all_closed
    recorded, rate_hz = soundfile.read(tmp_path / "take.wav")
    assert rate_hz == RATE_HZ
    assert len(recorded) > 0.2 * RATE_HZ


def test_a_setting_on_the_command_line_or_in_the_file_reaches_the_session(
    run: Run, bell: ToyModel, tmp_path: Path
) -> None:
    (tmp_path / "a.toml").write_text('prompt = "techno"\ntop_k = 7\nport = 0\nosc_port = 0\n')
    assert run("serve", "--config", tmp_path / "a.toml", "--top-p", "0.5", "--seed", "4").code == 0
    live = bell.opened[-1][0].controls  # those before it measured the speed
    assert (live.top_k, live.top_p, live.seed) == (7, 0.5, 4)
    assert live.mix.prompts == (("techno", 1.0),)


@pytest.mark.slow
def test_state_is_restored_and_said_in_one_line(run: Run, bell: ToyModel, tmp_path: Path) -> None:
    state = tmp_path / "live.json"
    state.write_text(
        json.dumps({"values": {"prompt/1/text": "techno", "tempo": 128}, "transport": "paused"}), encoding="utf-8"
    )
    told = f"restored 'techno', 128 bpm, paused, from {state}; --fresh starts anew"
    assert told in run("serve", *NO_PORTS, "--state", state).err.splitlines()
    said = run("serve", *NO_PORTS, "--state", state, "--prompt", "waltz").err
    assert f"restored 'waltz', paused, from {state}; --fresh starts anew" in said.splitlines()
    assert "restored" not in run("serve", *NO_PORTS, "--state", state, "--fresh").err
    assert "paused" not in run("serve", *NO_PORTS, "--state", state).err, "what began anew is gone on with"


@pytest.mark.slow
def test_it_is_kept_in_the_operators_folder_by_default_but_for_a_port_of_the_systems_choice(
    run: Run, bell: ToyModel, tmp_path: Path
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    run("serve", "--port", port, "--osc-port", "0", "--prompt", "waltz")
    (file,) = (tmp_path / "state").rglob("*.json")
    assert file == tmp_path / "state" / "streamgen" / f"live-{port}.json"
    assert "restored 'waltz', playing" in run("serve", "--port", port, "--osc-port", "0").err
    run("serve", *NO_PORTS, "--prompt", "waltz")
    assert list((tmp_path / "state").rglob("*.json")) == [file]


@pytest.mark.parametrize(("option", "door"), [("--port", "the page"), ("--osc-port", "OSC")])
def test_a_port_in_use_is_told_before_the_model_is_loaded(run: Run, bell: ToyModel, option: str, door: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        answer = run("serve", *NO_PORTS, option, port)
    assert answer.code == 1
    assert answer.error_line == (
        f"streamgen: {door} cannot listen at 127.0.0.1:{port}: Address already in use; choose another with {option}"
    )
    assert bell.loaded_with == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "set --token SECRET, or --insecure"),
        (["--config", "/nowhere.toml"], "--config '/nowhere.toml' cannot be read"),
        (["--scene", "/nowhere.toml"], "the scene '/nowhere.toml' cannot be read: No such file or directory"),
        (["--record", "take.mp3"], "--record: recording 'take.mp3': its suffix must be .flac or .wav"),
        (["--record", "/nowhere/a.wav"], "there is no folder '/nowhere'; make it first"),
        (["--session-rate", "8000"], "argument --session-rate: it is 8000, must be within 32000 … 96000 Hz"),
        (["--volume", "3"], "unrecognized arguments: --volume 3"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(run: Run, bell: ToyModel, options: list[str], words: str) -> None:
    answer = run("serve", *options)
    assert answer.code == 2
    assert words in answer.error_line
    assert bell.loaded_with == {}


def test_a_machine_that_is_too_slow_is_told_what_to_choose(
    run: Run, bell: ToyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "measure", lambda *_: 0.5)
    assert (
        "toy plays at 0.50 × real time here: there will be pauses. Choose --model pocket" in run("serve", *NO_PORTS).err
    )


def test_a_token_of_any_characters_can_be_clicked_and_is_in_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"page": "http://127.0.0.1:8711/", "sound": None}
    assert _ready_line(places, Settings(token="secret")) == "ready: page http://127.0.0.1:8711/ · sound none"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    line = _ready_line(places, Settings(token="a&b c#"))
    assert line == "ready: page http://127.0.0.1:8711/#token=a%26b%20c%23 · sound none"


def test_a_device_that_plays_is_named() -> None:
    mixed = {"osc_port": 8712, "page": "http://a/", "sound": None, "page_for_others": "http://b/"}
    assert (
        _ready_line(mixed, Settings())
        == "ready: page http://a/ · page for others http://b/ · osc port 8712 · sound none"
    )
    assert _ready_line({"sound": "ALSA: Speakers"}, Settings()) == "ready: sound ALSA: Speakers"


# -- as a process, with the real doors ---------------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "take.flac").write_text("the take of yesterday, which must not be written over")
    with Service(tmp_path, "--record", str(tmp_path / "take.flac")) as one:
        yield one


async def listen(client: ClientConnection, seconds: float) -> tuple[int, np.ndarray, list[dict[str, Any]]]:
    """Read so much audio: its first position, int16 [n, 2], and the messages in between."""
    pieces, messages, start, count = [], [], None, 0
    async with asyncio.timeout(20):
        while count < seconds * RATE_HZ:
            message = await client.recv()
            if isinstance(message, str):
                messages.append(json.loads(message))
                continue
            version, codec, channels, _, _, position, _, rate, frames = HEADER.unpack(message[: HEADER.size])
            assert (version, codec, channels, rate) == (1, 0, 2, RATE_HZ)
            start = position if start is None else start
            assert position == start + count, "no sample is missing"
            pieces.append(np.frombuffer(message[HEADER.size :], "<i2").reshape(-1, 2))
            count += frames
    assert start is not None
    return start, np.concatenate(pieces), messages


async def rest(client: ClientConnection) -> list[dict[str, Any]]:
    """The messages until the server closes."""
    return [json.loads(message) async for message in client if isinstance(message, str)]


def test_listeners_hear_what_is_recorded_a_change_reaches_all_and_sigterm_says_goodbye(
    service: Service, tmp_path: Path
) -> None:
    async def scene() -> tuple[int, np.ndarray]:
        async with service.connect() as one, service.connect() as two:
            hellos = [json.loads(await client.recv()) for client in (one, two)]
            assert [hello["type"] for hello in hellos] == ["hello", "hello"]
            assert {row["name"] for row in hellos[0]["parameters"]} >= {"prompt/1/text", "guidance_scale", "gain_db"}
            start, first, _ = await listen(one, 0.5)
            await one.send(json.dumps({"type": "set", "id": 7, "values": {"temperature": 0.5}}))
            (_, more, told), (_, _, others) = await asyncio.gather(listen(one, 1.0), listen(two, 1.5))
            assert [m for m in told if m["type"] == "ack" and m["id"] == 7]
            for messages in (told, others):
                (changed,) = [m for m in messages if m["type"] == "changed"]
                assert changed["values"] == {"temperature": 0.5}
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as osc:
                osc.sendto(
                    b"/streamgen/top_k\0\0\0\0,i\0\0" + struct.pack(">i", 9), ("127.0.0.1", service.ready["osc_port"])
                )
            _, _, told = await listen(one, 0.5)
            assert [m["values"] for m in told if m["type"] == "changed"] == [{"top_k": 9}]
            assert json.loads(service.get("/healthz"))["status"] == "ok"
            counted = service.metrics()
            assert counted['step_seconds{quantile="0.5"}'] > 0
            assert counted["lead_seconds"] > 0
            assert counted['listeners{door="websocket"}'] == 2
            assert counted['commands_total{door="osc"}'] == 1
            assert counted['commands_total{door="websocket"}'] == 1
            assert counted["sessions"] == 1
            assert "sound_playing" not in counted
            assert "<html" in service.get("/index.html")
            service.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):  # both read on: who does not would not see that the server has closed
                ends = await asyncio.gather(rest(one), rest(two))
            assert [messages[-1]["type"] for messages in ends] == ["goaway", "goaway"]
            return start, np.concatenate([first, more])

    start, heard = asyncio.run(scene())
    service.process.communicate(timeout=20)
    assert service.process.returncode == 0
    assert service.ready["recording"] == str(tmp_path / "take-2.flac")
    recorded = soundfile.read(service.ready["recording"], dtype="int16", always_2d=True)[0]
    assert np.abs(recorded[start : start + len(heard)].astype(int) - heard).max() <= 1


@pytest.mark.slow
def test_a_private_session_is_another_music(service: Service) -> None:
    async def scene() -> None:
        async with service.connect() as live, service.connect("?session=new") as own:
            hello = json.loads(await own.recv())
            await live.recv()
            assert hello["session"] != "live"
            (_, a, _), (start, b, _) = await asyncio.gather(listen(live, 0.5), listen(own, 0.5))
            assert np.abs(a[: len(b)].astype(int) - b[: len(a)]).max() > 300
            own.transport.abort()  # as when a phone leaves the room
        async with service.connect(f"?session={hello['session']}") as own:
            again = json.loads(await own.recv())
            assert again["session"] == hello["session"]
            assert start < (await listen(own, 0.2))[0] <= start + len(b) + RATE_HZ, "it goes on where it was"

    asyncio.run(scene())
    assert service.stop() == 0


@pytest.mark.slow
def test_killed_it_goes_on_with_what_was_set_a_second_before(tmp_path: Path) -> None:
    async def turn(one: Service) -> None:
        async with one.connect("?enabled=0") as client:
            values = {"prompt/1/text": "waltz", "tempo": 99, "plugin/1/wet": 0.75}
            asked = [{"type": "rack", "action": "add", "effect": "reverb"}, {"type": "set", "values": values}]
            for number, message in enumerate([*asked, {"type": "preset", "action": "save", "name": "mine"}]):
                await client.send(json.dumps(message | {"id": number}))
                async with asyncio.timeout(20):
                    while (answer := json.loads(await client.recv())).get("id") != number:
                        pass
                assert answer["type"] == "ack", answer

    async def see(one: Service) -> None:
        async with one.connect("?enabled=0") as client:
            hello = json.loads(await client.recv())
            assert hello["state"]["values"]["plugin/1/wet"] == 0.75
            assert ([slot["name"] for slot in hello["state"]["slots"]], hello["presets"]) == (["reverb"], ["mine"])

    options = ("--state", str(tmp_path / "live.json"), "--presets", str(tmp_path / "presets"))
    with Service(tmp_path, *options) as one:
        asyncio.run(turn(one))
        time.sleep(1.0)
        one.process.kill()
    with Service(tmp_path, *options) as again:
        restored = (
            f"restored 'waltz', 99 bpm, playing, rack of reverb, from {tmp_path / 'live.json'}; --fresh starts anew"
        )
        assert restored in again.log()
        asyncio.run(see(again))
        assert again.stop() == 0
