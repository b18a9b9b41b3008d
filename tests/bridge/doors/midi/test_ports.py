"""Real ports, of a JACK of our own; a system without MIDI, and one without python-rtmidi."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge.doors.access import Access
from bridge.doors.door import Service
from bridge.doors.midi.door import MidiDoor
from bridge.doors.midi.ports import Ports
from bridge.errors import DeviceError, UsageError
from bridge.metrics import Metrics
from bridge.settings import Settings

from ....real_parts.jack import Jack, running_jack
from ....service.running import Service as RunningService
from ..web_session import SineSession

needs_rtmidi = pytest.mark.skipif(
    importlib.util.find_spec("rtmidi") is None, reason="needs python-rtmidi, of the extra `midi`"
)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtmidi", None)
    with pytest.raises(UsageError, match="--midi needs python-rtmidi: `pip install python-rtmidi`"):
        Ports(["all"])


@needs_rtmidi
def test_a_system_without_midi_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import rtmidi

    from bridge.doors.midi import ports

    monkeypatch.setattr(rtmidi, "get_compiled_api", lambda: [rtmidi.API_LINUX_ALSA])
    monkeypatch.setattr(ports, "_SEQUENCER", Path("/no/such/sequencer"))
    ports_wanted = Ports(["all"])
    with pytest.raises(
        DeviceError, match=r"no MIDI on this system \(no ALSA sequencer\): .modprobe snd-seq. or start JACK"
    ):
        ports_wanted.scan()
    monkeypatch.setattr(ports, "_SEQUENCER", Path("/"))

    def refuse(*_: object, **__: object) -> None:
        raise rtmidi.SystemError("no sequencer")

    monkeypatch.setattr(rtmidi, "MidiIn", refuse)
    with pytest.raises(DeviceError, match=r"no MIDI on this system \(no sequencer\)"):
        ports_wanted.scan()
    monkeypatch.setattr(rtmidi, "get_compiled_api", list)
    with pytest.raises(DeviceError, match=r"no MIDI on this system \(python-rtmidi was built for none\)"):
        ports_wanted.scan()
    assert ports_wanted.names == []
    ports_wanted.close()


@needs_rtmidi
@pytest.mark.device
def test_a_knob_is_heard_within_milliseconds_and_comes_back_when_it_is_plugged_in_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import rtmidi

    async def go() -> None:
        session = SineSession()
        session.now["midi/map"] = "cc 1/74=top_p"
        door = MidiDoor(Service(Settings(midi=("KNOB",)), Access(), Metrics()))
        box = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name="knobs")
        box.open_virtual_port("knob box")
        await door.open(SimpleNamespace(live=session))
        assert door.places()["midi"] == "streamgen, knobs:knob box"
        took = []
        for value in range(100):
            count, sent = len(session.commands), time.monotonic()
            box.send_message([0xB0, 74, value])
            while len(session.commands) == count and time.monotonic() < sent + 0.2:
                await asyncio.sleep(0.0005)
            took.append(time.monotonic() - sent)
        assert sorted(took)[94] < 0.010, "95 of 100"
        box.close_port()
        box.delete()
        async with asyncio.timeout(8):
            while "knob" in str(door.places()["midi"]):
                await asyncio.sleep(0.05)
            box = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name="knobs")
            box.open_virtual_port("knob box")
            while "knob" not in str(door.places()["midi"]):
                await asyncio.sleep(0.05)
        count = len(session.commands)
        box.send_message([0xB0, 74, 20])
        box.send_message([0xB0, 74, 127])
        async with asyncio.timeout(20):
            while len(session.commands) == count:
                await asyncio.sleep(0.01)
        await door.close("the test is over")
        box.delete()

    with running_jack(period_frames=128) as jack:
        join(jack, monkeypatch)
        asyncio.run(go())


def join(jack: Jack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process find a JACK of the test's own."""
    for name, value in jack.environment.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)


@needs_rtmidi
@pytest.mark.device
def test_what_a_controller_learned_it_knows_when_the_service_is_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import rtmidi

    async def asked(service: RunningService, name: str, **values: object) -> object:
        """Set parameters, if any are given; returns one of them."""
        async with service.connect("?enabled=false") as client:
            await client.recv()
            if values:
                await client.send(json.dumps({"type": "set", "values": values}))
            await client.send(json.dumps({"type": "get", "name": name, "id": 1}))
            while (told := json.loads(await client.recv())).get("id") != 1:
                pass
            return told["values"][name]

    def until(service: RunningService, name: str, wanted: object, *turn: int) -> None:
        """Turn the controller until a parameter is as wanted: JACK has to connect the ports first."""
        end = time.monotonic() + 20
        while (found := asyncio.run(asked(service, name))) != wanted:
            assert time.monotonic() < end, (found, service.log())
            box.send_message([0xB0, 74, *turn])
            time.sleep(0.1)

    options = ("--midi", "KNOB", "--state", str(tmp_path / "live.json"))
    with running_jack() as jack:
        join(jack, monkeypatch)
        box = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name="knobs")
        box.open_virtual_port("knob box")
        with RunningService(tmp_path, *options) as service:
            asyncio.run(asked(service, "mute", **{"midi/learn": "mute"}))
            until(service, "midi/map", "cc 1/74=mute", 0)
            assert service.stop() == 0, service.log()
        with RunningService(tmp_path, *options) as again:
            assert asyncio.run(asked(again, "midi/map")) == "cc 1/74=mute"
            until(again, "mute", True, 127)
            until(again, "mute", False, 0)
            assert again.stop() == 0, again.log()
        box.close_port()
        box.delete()
